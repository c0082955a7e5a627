//! Which headers may pass, and which the edge sets. Header maps are edited in place.

use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE,
    EXPECT, Entry, HOST, LOCATION, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::table::Target;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const ALT_SVC: HeaderName = HeaderName::from_static("alt-svc");
const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");
const SERVICE_WORKER_ALLOWED: HeaderName = HeaderName::from_static("service-worker-allowed");
pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// With it a server would have an nginx in front answer with the operator's files.
const X_ACCEL_REDIRECT: HeaderName = HeaderName::from_static("x-accel-redirect");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const BERTH_DEPLOYMENT: HeaderName = HeaderName::from_static("berth-deployment");
const BERTH_COMMIT: HeaderName = HeaderName::from_static("berth-commit");

/// What the edge tells an upstream about where a request came from.
#[derive(Debug)]
pub(crate) struct Origin {
    /// The client's address.
    pub(crate) address: HeaderValue,
    /// `http` or `https`, as the client sees it.
    pub(crate) scheme: &'static str,
}

/// Removes what must not pass in a request and sets the forwarding headers.
pub(crate) fn forward_request(headers: &mut HeaderMap, origin: Origin) {
    // Taken first: a request may name it in Connection.
    let host = headers.get(HOST).cloned();
    strip_hop_by_hop(headers);
    headers.remove(EXPECT);
    let forged: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_set_by_proxies(name.as_str()))
        .cloned()
        .collect();
    for name in forged {
        headers.remove(name);
    }
    headers.insert(X_FORWARDED_FOR, origin.address);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(origin.scheme));
    if let Some(host) = host {
        headers.insert(X_FORWARDED_HOST, host.clone());
        headers.insert(HOST, host);
    }
}

/// Removes a request's credentials, which are the platform's and not the project's.
pub(crate) fn strip_credentials(headers: &mut HeaderMap) {
    headers.remove(AUTHORIZATION);
    headers.remove(COOKIE);
}

/// Removes the headers of one connection: the fixed ones and those that `Connection` names
/// (RFC 9110 section 7.6.1).
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        headers.remove(name);
    }
}

/// Whether only a proxy may set this header; lower-case name. An underscore counts as a dash,
/// since CGI-like servers cannot tell them apart.
fn is_set_by_proxies(name: &str) -> bool {
    const PREFIXES: [&str; 3] = ["x-forwarded-", "proxy-", "berth-"];
    const NAMES: [&str; 3] = ["forwarded", "x-real-ip", "x-forwarded"];
    let same = |a: u8, b: u8| a == b || (a == b'_' && b == b'-');
    let begins = |with: &str| {
        name.len() >= with.len() && name.bytes().zip(with.bytes()).all(|(a, b)| same(a, b))
    };
    // Most names are let through by their first letter.
    matches!(name.as_bytes().first(), Some(b'x' | b'p' | b'b' | b'f'))
        && (PREFIXES.into_iter().any(begins)
            || NAMES
                .into_iter()
                .any(|known| known.len() == name.len() && begins(known)))
}

/// Edits the head of a project's response: what would reach beyond the project goes, what proves
/// the served version comes.
pub(crate) fn project_response(headers: &mut HeaderMap, target: &Target, guarded: bool) {
    strip_hop_by_hop(headers);
    for name in [
        STRICT_TRANSPORT_SECURITY,
        ALT_SVC,
        CLEAR_SITE_DATA,
        SERVICE_WORKER_ALLOWED,
        X_ACCEL_REDIRECT,
    ] {
        headers.remove(name);
    }
    if guarded {
        // Only the platform may send a client to an authorization server.
        headers.remove(WWW_AUTHENTICATE);
        headers.remove(SET_COOKIE);
        let is_page = headers
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
        if is_page {
            headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
        }
    } else {
        keep_cookies_home(headers);
    }
    if guarded {
        keep_from_caches(headers);
    } else if let Entry::Vacant(entry) = headers.entry(CACHE_CONTROL) {
        entry.insert(HeaderValue::from_static("no-store"));
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(BERTH_DEPLOYMENT, target.deployment_header.clone());
    headers.insert(BERTH_COMMIT, target.commit_header.clone());
}

/// Forbids every cache to keep an answer that was given to a token's owner, whatever the server
/// said: caches serve one URL's answer to all. Headers that some caches put above `Cache-Control`
/// go (RFC 9213; nginx, Varnish).
fn keep_from_caches(headers: &mut HeaderMap) {
    let overriding: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            name.ends_with("cdn-cache-control")
                || matches!(name, "surrogate-control" | "x-accel-expires")
        })
        .cloned()
        .collect();
    for name in overriding {
        headers.remove(name);
    }
    let is_events = headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    // A proxy that compresses a stream holds its events back.
    let value = if is_events {
        "no-store, no-transform"
    } else {
        "no-store"
    };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(value));
}

/// Takes the `Domain` attribute from cookies (RFC 6265 section 4.1.2.3): with it a project could
/// set cookies for all projects of the apps domain.
fn keep_cookies_home(headers: &mut HeaderMap) {
    let Entry::Occupied(mut cookies) = headers.entry(SET_COOKIE) else {
        return;
    };
    for cookie in cookies.iter_mut() {
        let is_domain = |attribute: &[u8]| {
            let name = attribute.split(|&byte| byte == b'=').next();
            name.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"domain"))
        };
        let parts = || cookie.as_bytes().split(|&byte| byte == b';');
        // The first part is the cookie itself, which may be called anything.
        if !parts().skip(1).any(is_domain) {
            continue;
        }
        let kept: Vec<&[u8]> = parts()
            .enumerate()
            .filter(|(position, part)| *position == 0 || !is_domain(part))
            .map(|(_, part)| part)
            .collect();
        *cookie = HeaderValue::from_bytes(&kept.join(&b';'))
            .expect("parts of a header value make a header value");
    }
}

/// Gives a redirect to `http://` of this host the public scheme, for servers that do not read
/// `X-Forwarded-Proto`: clients refuse to go from https to http.
pub(crate) fn keep_scheme(headers: &mut HeaderMap, host: &str, scheme: &str) {
    if scheme == "http" {
        return;
    }
    let Some(location) = headers.get(LOCATION).and_then(|value| value.to_str().ok()) else {
        return;
    };
    let Some(rest) = location.strip_prefix("http://") else {
        return;
    };
    let same_host = rest
        .get(..host.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(host))
        && matches!(
            rest.as_bytes().get(host.len()),
            None | Some(b'/' | b'?' | b'#')
        );
    if same_host && let Ok(location) = HeaderValue::try_from(format!("{scheme}://{rest}")) {
        headers.insert(LOCATION, location);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn forged_headers_go_and_ours_come() {
        let mut headers = map(&[
            ("host", "p.d"),
            ("connection", "close, x-secret, host"),
            ("x-secret", "1"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x_forwarded_user", "root"),
            ("x-forwarded", "1"),
            ("forwarded", "for=6.6.6.6"),
            ("x-real-ip", "6.6.6.6"),
            ("proxy-authorization", "x"),
            ("berth-user", "root"),
            ("upgrade", "websocket"),
            ("te", "trailers"),
            ("expect", "100-continue"),
            ("mcp-param-x", "kept"),
            ("x-forwardedness", "kept"),
        ]);
        forward_request(
            &mut headers,
            Origin {
                address: HeaderValue::from_static("1.2.3.4"),
                scheme: "https",
            },
        );
        let mut left: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        left.sort();
        assert_eq!(
            left,
            [
                "host: p.d",
                "mcp-param-x: kept",
                "x-forwarded-for: 1.2.3.4",
                "x-forwarded-host: p.d",
                "x-forwarded-proto: https",
                "x-forwardedness: kept",
            ]
        );
    }

    #[test]
    fn cookies_stay_on_their_host() {
        let mut headers = map(&[
            ("set-cookie", "a=1; Path=/; DOMAIN = apps.test; Secure"),
            ("set-cookie", "domain=x; Path=/"),
            ("set-cookie", "b=2;domain"),
        ]);
        keep_cookies_home(&mut headers);
        let left: Vec<_> = headers.get_all(SET_COOKIE).iter().collect();
        assert_eq!(left, ["a=1; Path=/; Secure", "domain=x; Path=/", "b=2"]);
    }

    #[test]
    fn only_a_redirect_to_the_own_host_changes_scheme() {
        for (from, to) in [
            ("http://p.d/mcp", "https://p.d/mcp"),
            ("http://P.D", "https://P.D"),
            ("http://p.d.evil/mcp", "http://p.d.evil/mcp"),
            ("http://other/mcp", "http://other/mcp"),
            ("/mcp", "/mcp"),
        ] {
            let mut headers = map(&[("location", from)]);
            keep_scheme(&mut headers, "p.d", "https");
            assert_eq!(headers[LOCATION], to);
        }
    }
}
