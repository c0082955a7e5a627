//! Where answers may be sent (RFC 6749 section 3.1.2, RFC 8252 sections 7 and 8, RFC 9700
//! section 2.1). An answer carries the code, so this is the check that matters most.

use std::net::Ipv4Addr;

use url::Url;

/// Longest redirect URI; browsers take 2000 and more, no client needs it.
const MAX_LENGTH: usize = 2_000;

/// Schemes that run something, show something or belong to someone else. Private-use schemes
/// (RFC 8252 section 7.1) are any others: a client names its own.
const REFUSED_SCHEMES: &[&str] = &[
    "about",
    "acap",
    "afp",
    "android-app",
    "blob",
    "cid",
    "content",
    "data",
    "dav",
    "davs",
    "dict",
    "edge",
    "feed",
    "file",
    "filesystem",
    "finger",
    "ftp",
    "ftps",
    "geo",
    "git",
    "glob",
    "gopher",
    "hcp",
    "help",
    "imap",
    "imaps",
    "intent",
    "irc",
    "ircs",
    "itms-services",
    "jar",
    "ldap",
    "ldaps",
    "magnet",
    "mailto",
    "market",
    "mhtml",
    "mid",
    "mk",
    "mms",
    "mocha",
    "netdoc",
    "news",
    "nfs",
    "nntp",
    "ogl",
    "opera",
    "phar",
    "php",
    "pop",
    "pops",
    "rdp",
    "res",
    "resource",
    "rsync",
    "rtsp",
    "sftp",
    "shell",
    "sip",
    "sips",
    "skype",
    "smb",
    "sms",
    "snews",
    "ssh",
    "steam",
    "stun",
    "svn",
    "tel",
    "telnet",
    "tftp",
    "turn",
    "udp",
    "urn",
    "view-source",
    "vnc",
    "vnd.ms.radio",
    "wais",
    "webcal",
    "ws",
    "wss",
    "wyciwyg",
    "xmpp",
];

/// Whether a client may register `uri`; the error is the reason.
pub fn check(uri: &str) -> Result<(), &'static str> {
    if uri.is_empty() || uri.len() > MAX_LENGTH {
        return Err("is empty or longer than 2000 characters");
    }
    let odd = |b: u8| {
        !b.is_ascii_graphic()
            || matches!(
                b,
                b'\\' | b'"' | b'\'' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}'
            )
    };
    if uri.bytes().any(odd) {
        return Err("holds a space, a control character or one that must be percent-encoded");
    }
    if uri.contains('#') {
        return Err("has a fragment");
    }
    let (scheme, rest) = uri.split_once(':').ok_or("has no scheme")?;
    if !is_scheme(scheme) || Url::parse(uri).is_err() {
        return Err("is not a URI");
    }
    let authority = rest
        .strip_prefix("//")
        .map(|rest| rest.split(['/', '?']).next().unwrap_or_default());
    if authority.is_some_and(|authority| authority.contains('@')) {
        return Err("holds a user name");
    }
    match scheme {
        "https" => authority
            .is_some_and(|authority| is_host_and_port(authority) && is_what_it_says(authority, uri))
            .then_some(())
            .ok_or("has no plain host name"),
        "http" => loopback(uri)
            .map(|_| ())
            .ok_or("uses http on a host that is not localhost, 127.0.0.1 or [::1]"),
        _ if is_refused(scheme) => Err("has a scheme that is not allowed"),
        _ if rest.is_empty() => Err("has nothing after its scheme"),
        _ if authority.is_some_and(|a| !a.is_empty() && !is_host_and_port(a)) => {
            Err("has no plain host name")
        }
        _ => Ok(()),
    }
}

/// Whether an authorization request with `requested` is answered for a client that registered
/// `registered`: the same string, or on loopback the same but for the port (RFC 8252 section 7.3).
pub fn matches(registered: &str, requested: &str) -> bool {
    if registered == requested {
        return true;
    }
    match (loopback(registered), loopback(requested)) {
        (Some(registered), Some(requested)) => {
            check(registered.uri).is_ok()
                && check(requested.uri).is_ok()
                && registered.host == requested.host
                && registered.rest == requested.rest
        }
        _ => false,
    }
}

/// Whether the answer goes to a program on the person's own machine, which anything there may be.
pub fn is_loopback(uri: &str) -> bool {
    loopback(uri).is_some()
}

/// What a person is shown: the host, or the scheme of an app.
pub fn display(uri: &str) -> String {
    match Url::parse(uri).ok() {
        Some(url) if matches!(url.scheme(), "http" | "https") => {
            let host = url.host_str().unwrap_or_default();
            url.port()
                .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
        }
        Some(url) => format!("{}: (an app on your device)", url.scheme()),
        None => uri.to_owned(),
    }
}

/// What a Content-Security-Policy calls the place: an origin, or the scheme of an app.
pub fn source(uri: &str) -> Option<String> {
    let url = Url::parse(uri).ok()?;
    match url.scheme() {
        "http" | "https" => Some(url.origin().ascii_serialization()),
        scheme => Some(format!("{scheme}:")),
    }
}

/// RFC 3986 section 3.1, lower case as every client writes it.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.')
        })
}

fn is_refused(scheme: &str) -> bool {
    REFUSED_SCHEMES.contains(&scheme)
        || scheme.contains("script")
        || scheme.starts_with("file")
        // Pages of browsers themselves.
        || scheme.starts_with("chrome")
        || scheme.starts_with("moz-")
        || scheme.ends_with("-extension")
        // Handlers of Windows and Office, some of which run what they are given.
        || scheme.starts_with("ms-")
        || scheme.starts_with("microsoft-")
        || scheme.starts_with("search")
}

/// A host name or address as people write it, with or without a port. Keeps out what would read
/// as something else in a header.
fn is_host_and_port(authority: &str) -> bool {
    let (host, port) = split_port(authority);
    let name = !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    let address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    (name || address) && port.is_none_or(is_port)
}

/// Whether a browser goes to the host that is written: not so for `https://2130706433`, which is
/// 127.0.0.1.
fn is_what_it_says(authority: &str, uri: &str) -> bool {
    let (written, _) = split_port(authority);
    let url = Url::parse(uri).ok();
    url.as_ref()
        .and_then(Url::host_str)
        .is_some_and(|host| host.eq_ignore_ascii_case(written))
}

/// A loopback redirect URI in its parts, as written.
struct Loopback<'a> {
    uri: &'a str,
    host: &'a str,
    rest: &'a str,
}

fn loopback(uri: &str) -> Option<Loopback<'_>> {
    let after = uri.strip_prefix("http://")?;
    let end = after.find(['/', '?', '#']).unwrap_or(after.len());
    let (authority, rest) = after.split_at(end);
    let (host, port) = split_port(authority);
    let local = host == "localhost"
        || host == "[::1]"
        || host
            .parse::<Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback());
    (local && port.is_none_or(is_port)).then_some(Loopback { uri, host, rest })
}

/// The last colon outside brackets parts host and port.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests;
