//! Which host a request is for (RFC 9112 section 3.2).

use std::borrow::Cow;

use http::header::HOST;
use http::request::Parts;

/// The host of a request in lower case, without port; or why it names none.
///
/// Two `Host` headers, a target in absolute form that names another host, user information and
/// characters that no host has are refused: a server behind the edge might read them otherwise.
pub(crate) fn name(parts: &Parts) -> Result<Cow<'_, str>, &'static str> {
    let mut values = parts.headers.get_all(HOST).iter();
    let value = values
        .next()
        .ok_or("The request has no Host header. Send one.")?;
    if values.next().is_some() {
        return Err("The request has more than one Host header. Send one.");
    }
    let host = value
        .to_str()
        .map_err(|_| "The Host header is not a host name.")?;
    if let Some(authority) = parts.uri.authority()
        && !authority.as_str().eq_ignore_ascii_case(host)
    {
        return Err("The request's target and its Host header name different hosts.");
    }
    without_port(host).ok_or("The Host header is not a host name.")
}

fn without_port(host: &str) -> Option<Cow<'_, str>> {
    let end = match host.rfind(':') {
        // A colon inside the brackets of an IPv6 address is part of it.
        Some(colon) if !host.ends_with(']') => {
            let port = &host[colon + 1..];
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            // An empty one is none (RFC 3986 section 3.2.3).
            if !digits || (!port.is_empty() && port.parse::<u16>().is_err()) {
                return None;
            }
            colon
        }
        _ => host.len(),
    };
    let name = &host[..end];
    let valid = match name.strip_prefix('[') {
        Some(address) => address
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok()),
        None => {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
        }
    };
    if !valid {
        return None;
    }
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Some(Cow::Owned(name.to_ascii_lowercase()))
    } else {
        Some(Cow::Borrowed(name))
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(uri: &str, hosts: &[&str]) -> Parts {
        let mut request = Request::builder().uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn hosts_are_lower_case_without_port() {
        assert_eq!(
            name(&parts("/", &["A.Localhost:8080"])).unwrap(),
            "a.localhost"
        );
        assert_eq!(name(&parts("/", &["[::1]:80"])).unwrap(), "[::1]");
        assert_eq!(name(&parts("/", &["[::1]"])).unwrap(), "[::1]");
        assert_eq!(
            name(&parts("http://a.localhost/mcp", &["a.localhost"])).unwrap(),
            "a.localhost"
        );
    }

    #[test]
    fn ambiguous_hosts_are_refused() {
        for hosts in [
            &[][..],
            &["a", "a"],
            &["user@a"],
            &["a:b"],
            &["a:123456"],
            &["a:65536"],
            &["a:+1"],
            &["a/b"],
            &["[::1"],
            &["[x]"],
            &[":80"],
            &["a b"],
        ] {
            assert!(name(&parts("/", hosts)).is_err(), "{hosts:?}");
        }
        assert!(name(&parts("http://b.localhost/", &["a.localhost"])).is_err());
        assert!(name(&parts("http://u@a.localhost/", &["a.localhost"])).is_err());
    }
}
