//! Browsers: which web pages may call an MCP server, and what they may read.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, Entry, ORIGIN, OccupiedEntry, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use url::{Host, Url};

use crate::body::ResponseBody;

const METHODS: &str = "GET, POST, DELETE, OPTIONS";
const HEADERS: &str = "Authorization, Content-Type, Accept, MCP-Protocol-Version, Mcp-Session-Id, Mcp-Method, Mcp-Name, Last-Event-ID";
const EXPOSED: &str = "Mcp-Session-Id, WWW-Authenticate, Berth-Deployment, Berth-Commit";

/// Seconds for which a browser may remember a preflight: browsers take two hours at most.
const MAX_AGE: &str = "7200";

/// Whether a page of the request's `Origin` may call a server; `known` are the server's own origins
/// and those that its owner named (MCP, Streamable HTTP, security warning: a page on the web must
/// not reach a local server by DNS rebinding). Programs send no `Origin`; tools on the user's
/// machine have a loopback one.
pub(crate) fn is_allowed(headers: &HeaderMap, known: &[Box<str>]) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return true;
    };
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    origins.next().is_none()
        && (known.iter().any(|known| **known == *origin) || is_loopback(origin))
}

fn is_loopback(origin: &str) -> bool {
    let Ok(url) = Url::parse(origin) else {
        return false;
    };
    if !matches!(url.scheme(), "http" | "https") {
        return false;
    }
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The answer to a preflight: the server behind would answer 405.
pub(crate) fn preflight(request: &HeaderMap) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static(METHODS),
    );
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed_headers(request));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    response
}

/// The known headers and every `Mcp-Param-…` that is asked for.
fn allowed_headers(request: &HeaderMap) -> HeaderValue {
    let mut allowed = HEADERS.to_owned();
    let asked = request
        .get_all(ACCESS_CONTROL_REQUEST_HEADERS)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse::<HeaderName>().ok())
        .filter(|name| name.as_str().starts_with("mcp-param-"));
    for name in asked {
        allowed.push_str(", ");
        allowed.push_str(name.as_str());
    }
    HeaderValue::try_from(allowed).unwrap_or_else(|_| HeaderValue::from_static(HEADERS))
}

/// Lets the page that asked, if one did, read the response; what the server said of it is replaced.
pub(crate) fn expose(origin: Option<HeaderValue>, headers: &mut HeaderMap) {
    // Also where no page asked: a cache must not give this answer to one.
    match headers.entry(VARY) {
        Entry::Vacant(vary) => {
            vary.insert(HeaderValue::from_static("Origin"));
        }
        Entry::Occupied(vary) if varies_by_origin(&vary) => {}
        Entry::Occupied(mut vary) => vary.append(HeaderValue::from_static("Origin")),
    }
    let Some(origin) = origin else { return };
    headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static(EXPOSED),
    );
}

fn varies_by_origin(vary: &OccupiedEntry<'_, HeaderValue>) -> bool {
    vary.iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| matches!(name.trim(), "*") || name.trim().eq_ignore_ascii_case("origin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_named_and_loopback_origins_may_call() {
        let known = ["https://p.d".into(), "https://app.example.com".into()];
        for (origin, allowed) in [
            ("https://p.d", true),
            ("http://p.d", false),
            ("https://q.d", false),
            ("https://app.example.com", true),
            ("https://app.example.com:8443", false),
            ("https://app.example.com.evil", false),
            ("https://APP.example.com", false),
            ("http://localhost:6274", true),
            ("http://127.0.0.1:1", true),
            ("http://[::1]:1", true),
            ("http://evil.localhost", false),
            ("http://localhost.evil", false),
            ("null", false),
            ("file://localhost", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
            assert_eq!(is_allowed(&headers, &known), allowed, "{origin}");
        }
        assert!(is_allowed(&HeaderMap::new(), &known));
        let mut twice = HeaderMap::new();
        twice.append(ORIGIN, HeaderValue::from_static("https://p.d"));
        twice.append(ORIGIN, HeaderValue::from_static("https://p.d"));
        assert!(!is_allowed(&twice, &known));
    }

    #[test]
    fn an_answer_varies_by_origin_and_is_said_to_once() {
        for (said, vary) in [
            (None, &["Origin"][..]),
            (Some("Accept"), &["Accept", "Origin"]),
            (Some("accept, origin"), &["accept, origin"]),
            (Some("*"), &["*"]),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(said) = said {
                headers.insert(VARY, HeaderValue::from_static(said));
            }
            expose(None, &mut headers);
            let values: Vec<_> = headers.get_all(VARY).iter().collect();
            assert_eq!(values, vary);
            assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        }
    }
}
