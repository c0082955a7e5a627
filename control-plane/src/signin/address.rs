//! Where a request came from. The control plane listens on loopback behind the edge, which drops
//! what clients claim and sets `X-Forwarded-For` itself, to what a trusted proxy in front said or to
//! the peer's address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::HeaderMap;

/// The client's address for counting: IPv6 is cut to /64, the least that one customer gets.
pub fn client_address(headers: &HeaderMap) -> IpAddr {
    let stated = headers
        .get_all("x-forwarded-for")
        .iter()
        .next_back()
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.rsplit(',').next())
        .and_then(|value| value.trim().parse().ok());
    stated.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), network)
}

/// What counts as one client: IPv6 is cut to /64.
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => IpAddr::V4(address),
            None => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        },
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(values: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        client_address(&headers).to_string()
    }

    #[test]
    fn the_last_address_counts_and_ipv6_is_cut_to_its_network() {
        assert_eq!(seen(&[]), "127.0.0.1");
        assert_eq!(seen(&["nonsense"]), "127.0.0.1");
        assert_eq!(seen(&["1.2.3.4, 5.6.7.8"]), "5.6.7.8");
        assert_eq!(seen(&["1.2.3.4", "9.9.9.9"]), "9.9.9.9");
        assert_eq!(seen(&["2001:db8:1:2:3:4:5:6"]), "2001:db8:1:2::");
        assert_eq!(seen(&["::ffff:1.2.3.4"]), "1.2.3.4");
    }
}
