//! Which headers may pass, and which the edge sets. Header maps are edited in place.

use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, Entry, HOST,
    LOCATION, ORIGIN, SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::access::Passing;
use crate::caller::API_TOKEN_PREFIX;
use crate::target::Target;

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
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

/// Headers that the edge adds to a request, written as they are sent. A client's own of these names
/// are taken out of the request, so none stands there twice.
pub(crate) struct Added(Vec<u8>);

impl Added {
    /// Room for where a request came from and who calls: mostly an assertion of some 450 bytes.
    const ROOM: usize = 1024;

    /// None yet.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// Adds a header.
    pub(crate) fn push(&mut self, name: &HeaderName, value: &HeaderValue) {
        write_line(&mut self.0, name, value);
    }

    /// The lines, each with its end.
    pub(crate) fn lines(&self) -> &[u8] {
        &self.0
    }
}

/// Writes a header as it is sent (RFC 9112 section 5).
pub(crate) fn write_line(to: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    to.extend_from_slice(name.as_str().as_bytes());
    to.extend_from_slice(b": ");
    to.extend_from_slice(value.as_bytes());
    to.extend_from_slice(b"\r\n");
}

/// Removes what must not pass in a request, with the headers whose lower-case names `withheld` picks,
/// and gives the forwarding headers to add. An upstream that knows itself by another host than the
/// client asked at is told that, `known_as`.
pub(crate) fn forward_request(
    headers: &mut HeaderMap,
    origin: &Origin,
    known_as: Option<&HeaderValue>,
    withheld: impl Fn(&str) -> bool,
) -> Added {
    let host = known_as.or_else(|| headers.get(HOST)).cloned();
    let named_any = strip(headers, |name| {
        name == "expect" || is_set_by_proxies(name) || withheld(name)
    });
    let mut added = Added(Vec::with_capacity(Added::ROOM));
    added.push(&X_FORWARDED_FOR, &origin.address);
    added.push(&X_FORWARDED_PROTO, &HeaderValue::from_static(origin.scheme));
    if let Some(host) = host {
        added.push(&X_FORWARDED_HOST, &host);
        // A request may name it in Connection.
        if named_any || known_as.is_some() {
            headers.insert(HOST, host);
        }
    }
    added
}

/// Whether a request's header carries what is the platform's to check and not the project's to see;
/// lower-case name.
pub(crate) fn is_credential(name: &str, passing: Passing) -> bool {
    match passing {
        Passing::Checked => matches!(name, "authorization" | "cookie"),
        // A client may send its token wherever it goes; cookies here are those that the server set.
        Passing::PublicPath => name == "authorization",
        Passing::Public | Passing::Tenant => false,
    }
}

/// Removes an API token of the platform: it may be good for all of it, and came here by mistake.
pub(crate) fn strip_api_token(headers: &mut HeaderMap) {
    if headers.get_all(AUTHORIZATION).iter().any(is_api_token) {
        headers.remove(AUTHORIZATION);
    }
}

fn is_api_token(credentials: &HeaderValue) -> bool {
    const SCHEME: usize = "bearer".len();
    let credentials = credentials.as_bytes().trim_ascii_start();
    credentials
        .split_at_checked(SCHEME)
        .is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case(b"bearer")
                && token
                    .trim_ascii_start()
                    .starts_with(API_TOKEN_PREFIX.as_bytes())
        })
}

/// Tells an instance that knows only `localhost` that it is asked there. `checked` says whether the
/// request's `Origin` is one that may call.
pub(crate) fn tell_local_host(headers: &mut HeaderMap, target: &Target, checked: bool) {
    if let Some(local) = &target.local_host {
        headers.insert(HOST, local.clone());
        // It would refuse even its own public origin. One that was not found good stays, so that
        // the server refuses it.
        if checked {
            headers.remove(ORIGIN);
        }
    }
}

/// Removes the headers of one connection.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    strip(headers, |_| false);
}

/// Removes the headers of one connection, the fixed ones and those that `Connection` names (RFC 9110
/// section 7.6.1), and those whose lower-case names `goes` picks; says whether `Connection` named any.
/// Most messages have none of them: one look at each name costs less than a search for each that
/// might be there.
fn strip(headers: &mut HeaderMap, goes: impl Fn(&str) -> bool) -> bool {
    let mut going: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_hop_by_hop(name.as_str()) || goes(name.as_str()))
        .cloned()
        .collect();
    let fixed = going.len();
    if going.contains(&CONNECTION) {
        going.extend(named_by_connection(headers));
    }
    let named_any = going.len() > fixed;
    for name in going {
        headers.remove(name);
    }
    named_any
}

fn named_by_connection(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        // What nearly every message says names nothing.
        .filter(|name| !matches!(*name, "keep-alive" | "close"))
        .filter_map(|name| name.parse().ok())
}

/// Whether it belongs to one connection whatever `Connection` says; lower-case name.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
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
pub(crate) fn project_response(
    headers: &mut HeaderMap,
    has_events: bool,
    target: &Target,
    passing: Passing,
) {
    strip(headers, |name| {
        reaches_beyond(name) || is_withheld(name, passing)
    });
    // Room for all that is added.
    headers.reserve(5);
    if passing == Passing::Checked {
        if !has_events {
            confine_page(headers);
        }
        keep_from_caches(headers, has_events);
    } else {
        keep_cookies_home(headers);
        if passing != Passing::Tenant
            && let Entry::Vacant(entry) = headers.entry(CACHE_CONTROL)
        {
            entry.insert(HeaderValue::from_static("no-store"));
        }
    }
    if passing != Passing::Tenant {
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    headers.insert(BERTH_DEPLOYMENT, target.deployment_header.clone());
    headers.insert(BERTH_COMMIT, target.commit_header.clone());
}

/// Whether an answer's header would have an effect on other hosts, on the whole browser or on a
/// proxy in front; lower-case name.
fn reaches_beyond(name: &str) -> bool {
    matches!(
        name,
        "strict-transport-security"
            | "alt-svc"
            | "clear-site-data"
            | "service-worker-allowed"
            // With these a server would have a proxy in front answer with the operator's files
            // (nginx, Apache and lighttpd).
            | "x-accel-redirect"
            | "x-sendfile"
    )
}

/// Whether an answer's header is the platform's to send where the request passed by this right;
/// lower-case name.
fn is_withheld(name: &str, passing: Passing) -> bool {
    match passing {
        // Headers that some caches put above `Cache-Control` (RFC 9213; nginx, Varnish) go as well.
        Passing::Checked => {
            matches!(
                name,
                "set-cookie" | "www-authenticate" | "surrogate-control" | "x-accel-expires"
            ) || name.ends_with("cdn-cache-control")
        }
        // Only the platform may send a client to an authorization server.
        Passing::PublicPath => name == "www-authenticate",
        Passing::Public | Passing::Tenant => false,
    }
}

/// A page in answer to a call is nobody's to open: it may run and submit nothing.
fn confine_page(headers: &mut HeaderMap) {
    let is_page = headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if is_page {
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    }
}

/// Whether an answer is a stream of events.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    const EVENTS: &[u8] = b"text/event-stream";
    headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.as_bytes().get(..EVENTS.len()))
        .is_some_and(|kind| kind.eq_ignore_ascii_case(EVENTS))
}

/// Forbids every cache to keep an answer that was given to a token's owner, whatever the server
/// said: caches serve one URL's answer to all.
fn keep_from_caches(headers: &mut HeaderMap, has_events: bool) {
    // A proxy that compresses a stream holds its events back.
    let value = if has_events {
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

/// Gives a redirect to the project itself the scheme and host that the client asked at, for servers
/// that do not read `X-Forwarded-*` or were told another host: clients follow redirects only within
/// one origin. `told` are the other names by which the instance may call itself.
pub(crate) fn lead_home(headers: &mut HeaderMap, told: &[Option<&str>], asked: &str, scheme: &str) {
    let Some(location) = headers.get(LOCATION).and_then(|value| value.to_str().ok()) else {
        return;
    };
    let Some((said, rest)) = location.split_once("://") else {
        return;
    };
    let is = |scheme: &str| said.eq_ignore_ascii_case(scheme);
    if !is("http") && !is("https") {
        return;
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let port = if is("http") { ":80" } else { ":443" };
    let host = authority.strip_suffix(port).unwrap_or(authority);
    let is_home = if host.eq_ignore_ascii_case(asked) {
        is("http") && scheme == "https"
    } else {
        told.iter()
            .flatten()
            .any(|told| authority.eq_ignore_ascii_case(told))
    };
    if is_home && let Ok(location) = HeaderValue::try_from(format!("{scheme}://{asked}{path}")) {
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
        let origin = Origin {
            address: HeaderValue::from_static("1.2.3.4"),
            scheme: "https",
        };
        let added = forward_request(&mut headers, &origin, None, |name| {
            is_credential(name, Passing::Tenant)
        });
        let mut left: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        left.sort();
        assert_eq!(
            left,
            ["host: p.d", "mcp-param-x: kept", "x-forwardedness: kept"]
        );
        assert_eq!(
            String::from_utf8_lossy(added.lines()),
            "x-forwarded-for: 1.2.3.4\r\nx-forwarded-proto: https\r\nx-forwarded-host: p.d\r\n"
        );
    }

    #[test]
    fn an_upstream_may_know_itself_by_another_host() {
        let mut headers = map(&[("host", "p--key.d")]);
        let origin = Origin {
            address: HeaderValue::from_static("1.2.3.4"),
            scheme: "https",
        };
        let known_as = HeaderValue::from_static("p.d");
        let added = forward_request(&mut headers, &origin, Some(&known_as), |_| false);
        assert_eq!(headers[HOST], "p.d");
        let lines = String::from_utf8_lossy(added.lines()).into_owned();
        assert!(lines.contains("x-forwarded-host: p.d\r\n"), "{lines}");
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
    fn only_a_redirect_to_the_own_host_is_led_home() {
        for (from, to) in [
            ("http://p.d/mcp", "https://p.d/mcp"),
            ("http://P.D", "https://p.d"),
            ("http://p.d:80/mcp?a#b", "https://p.d/mcp?a#b"),
            ("https://p.d/mcp", "https://p.d/mcp"),
            ("https://p.d:443/mcp", "https://p.d:443/mcp"),
            ("http://localhost:8000/mcp", "https://p.d/mcp"),
            ("https://LOCALHOST:8000?x", "https://p.d?x"),
            ("http://10.0.0.2:8000/", "https://p.d/"),
            (
                "http://localhost:8001/callback",
                "http://localhost:8001/callback",
            ),
            ("http://localhost/callback", "http://localhost/callback"),
            ("http://u@localhost:8000/", "http://u@localhost:8000/"),
            ("http://p.d.evil/mcp", "http://p.d.evil/mcp"),
            ("http://p.d:81/mcp", "http://p.d:81/mcp"),
            ("http://other/mcp", "http://other/mcp"),
            ("ftp://p.d/", "ftp://p.d/"),
            ("//p.d/mcp", "//p.d/mcp"),
            ("/mcp?to=http://p.d", "/mcp?to=http://p.d"),
            ("/mcp", "/mcp"),
        ] {
            let mut headers = map(&[("location", from)]);
            let told = [None, Some("localhost:8000"), Some("10.0.0.2:8000")];
            lead_home(&mut headers, &told, "p.d", "https");
            assert_eq!(headers[LOCATION], to);
        }
        let mut headers = map(&[("location", "http://p.d:8080/mcp")]);
        lead_home(&mut headers, &[Some("p.d:8080")], "p--key.d:8080", "http");
        assert_eq!(headers[LOCATION], "http://p--key.d:8080/mcp");
    }
}
