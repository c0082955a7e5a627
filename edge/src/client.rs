//! Who is at the other end of a connection, and on whose behalf.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use crate::alarm::Alarm;
use crate::auth::Shown;
use crate::headers::{Origin, X_FORWARDED_FOR, X_FORWARDED_PROTO};
use crate::limit::Kind;

/// The other end of a connection.
#[derive(Debug)]
pub(crate) struct Client {
    address: HeaderValue,
    /// Whether it is a proxy of the operator's, whose word on its own clients counts.
    is_proxy: bool,
    /// Whether it only listens to a stream of events at the moment.
    listens: AtomicBool,
    /// The token that came last.
    pub(crate) shown: Shown,
    /// Ends the wait for the instance that answers.
    pub(crate) alarm: Alarm,
}

impl Client {
    /// The client at `peer`, with `proxies` as the networks of the operator's proxies.
    pub(crate) fn new(peer: IpAddr, proxies: &[IpNet]) -> Self {
        let peer = peer.to_canonical();
        Self {
            address: header(peer),
            is_proxy: proxies.iter().any(|network| network.contains(&peer)),
            listens: AtomicBool::new(false),
            shown: Shown::default(),
            alarm: Alarm::default(),
        }
    }

    /// Where a request with `headers` came from; `scheme` is that of the public URL. What a proxy
    /// says comes last in its headers: what stands before it was the client's own claim.
    pub(crate) fn origin(&self, headers: &HeaderMap, scheme: &'static str) -> Origin {
        let stated = |name| self.is_proxy.then(|| last(headers, name)).flatten();
        Origin {
            address: stated(X_FORWARDED_FOR)
                .and_then(address)
                .map_or_else(|| self.address.clone(), header),
            scheme: match stated(X_FORWARDED_PROTO) {
                Some(proto) if proto.eq_ignore_ascii_case("https") => "https",
                Some(proto) if proto.eq_ignore_ascii_case("http") => "http",
                _ => scheme,
            },
        }
    }

    /// Notes that a request begins.
    pub(crate) fn note_request(&self) {
        self.listens.store(false, Ordering::Relaxed);
    }

    /// Notes the kind of response that begins now. A stream of events that nobody waits for the end
    /// of need not be waited for when the edge stops either: its client comes back.
    pub(crate) fn note_stream(&self, kind: Kind, has_events: bool) {
        let listens = kind == Kind::Stream && has_events;
        self.listens.store(listens, Ordering::Relaxed);
    }

    /// Whether it only listens at the moment.
    pub(crate) fn listens(&self) -> bool {
        self.listens.load(Ordering::Relaxed)
    }
}

/// The last entry of a list that may span several headers.
fn last(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    value.rsplit(',').next().map(str::trim)
}

/// An address, which some proxies write with a port.
fn address(text: &str) -> Option<IpAddr> {
    let address = text
        .parse()
        .or_else(|_| text.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

fn header(address: IpAddr) -> HeaderValue {
    HeaderValue::try_from(address.to_string()).expect("an address is made of visible characters")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(peer: &str, headers: &[(&'static str, &'static str)]) -> (String, &'static str) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let proxies = [
            "10.0.0.0/8".parse().unwrap(),
            "fd00::1/128".parse().unwrap(),
        ];
        let client = Client::new(peer.parse().unwrap(), &proxies);
        let origin = client.origin(&map, "https");
        (origin.address.to_str().unwrap().to_owned(), origin.scheme)
    }

    #[test]
    fn only_a_trusted_proxy_is_believed_and_only_its_own_entry() {
        let claims = [
            ("x-forwarded-for", "6.6.6.6, 1.2.3.4"),
            ("x-forwarded-proto", "http"),
        ];
        for (peer, address, scheme) in [
            ("10.1.2.3", "1.2.3.4", "http"),
            ("::ffff:10.1.2.3", "1.2.3.4", "http"),
            ("fd00::1", "1.2.3.4", "http"),
            ("fd00::2", "fd00::2", "https"),
            ("127.0.0.1", "127.0.0.1", "https"),
        ] {
            assert_eq!(
                origin(peer, &claims),
                (address.to_owned(), scheme),
                "{peer}"
            );
        }
    }

    #[test]
    fn what_a_proxy_does_not_say_or_says_wrongly_is_taken_from_the_connection() {
        for (stated, address) in [
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("1.2.3.4:5", "1.2.3.4"),
            ("unknown", "10.1.2.3"),
            ("1.2.3.4, ", "10.1.2.3"),
        ] {
            let (found, scheme) = origin("10.1.2.3", &[("x-forwarded-for", stated)]);
            assert_eq!((found.as_str(), scheme), (address, "https"), "{stated}");
        }
        let twice = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "1.2.3.4"),
        ];
        assert_eq!(origin("10.1.2.3", &twice).0, "1.2.3.4");
    }
}
