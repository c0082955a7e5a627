//! Which network addresses a request may reach: the public internet, and what the operator named.
//! Never by itself: cloud metadata, the control plane, a neighbour's router.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;

/// A private destination the operator allows, for example an own Git host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedAddress {
    /// A host's name, whatever it resolves to; compared without letter case.
    Host(String),
    /// A network or a single address.
    Network(IpNet),
}

impl FromStr for AllowedAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(Self::Network(network));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(address.into()));
        }
        match url::Host::parse(text) {
            Ok(url::Host::Domain(name)) => Ok(Self::Host(name)),
            _ => Err(format!(
                "`{text}` is neither a host name, an address nor a network like 10.0.0.0/8"
            )),
        }
    }
}

/// What may be reached.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    allowed: Arc<[AllowedAddress]>,
}

impl Reach {
    /// The public internet and `allowed`.
    pub fn new(allowed: &[AllowedAddress]) -> Self {
        Self {
            allowed: allowed.into(),
        }
    }

    /// Whether a name may be resolved to anything.
    pub(crate) fn any_address_of(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        self.allowed
            .iter()
            .any(|allowed| matches!(allowed, AllowedAddress::Host(name) if name.eq_ignore_ascii_case(host)))
    }

    /// Whether an address may be connected to.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_global(address)
            || self
                .allowed
                .iter()
                .any(|allowed| matches!(allowed, AllowedAddress::Network(network) if network.contains(&address)))
    }
}

/// Whether an address belongs to the public internet: not in IANA's special-purpose registries
/// (RFC 6890 and its updates), and not an embedding of an IPv4 address, whose target would
/// escape the check.
pub fn is_global(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_global_v4(v4),
        IpAddr::V6(v6) => is_global_v6(v6),
    }
}

/// IPv4 networks that are not the public internet.
const SPECIAL_V4: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::UNSPECIFIED, 8),           // this network
    (Ipv4Addr::new(10, 0, 0, 0), 8),      // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),   // shared, RFC 6598
    (Ipv4Addr::new(127, 0, 0, 0), 8),     // loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16),  // link-local, cloud metadata
    (Ipv4Addr::new(172, 16, 0, 0), 12),   // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),    // protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24),    // documentation
    (Ipv4Addr::new(192, 31, 196, 0), 24), // AS112
    (Ipv4Addr::new(192, 52, 193, 0), 24), // AMT
    (Ipv4Addr::new(192, 88, 99, 0), 24),  // 6to4 relays
    (Ipv4Addr::new(192, 168, 0, 0), 16),  // private
    (Ipv4Addr::new(192, 175, 48, 0), 24), // AS112
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // benchmarking
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 3),     // multicast, reserved, broadcast
];

/// IPv6 networks within 2000::/3 that are not the public internet. All outside of it are not:
/// among them ::/96 (compatible), 64:ff9b::/96 (translated), fc00::/7 (local).
const SPECIAL_V6: &[(Ipv6Addr, u32)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments with Teredo
    (Ipv6Addr::new(0x2001, 0x0db8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4: an IPv4 address inside
    (Ipv6Addr::new(0x2620, 0x004f, 0x8000, 0, 0, 0, 0, 0), 48), // AS112
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation, RFC 9637
];

fn is_global_v4(address: Ipv4Addr) -> bool {
    SPECIAL_V4
        .iter()
        .all(|(network, prefix)| (address.to_bits() ^ network.to_bits()) >> (32 - prefix) != 0)
}

/// The middle of an interface identifier that holds an IPv4 address (ISATAP, RFC 5214 section
/// 6.1), with the bit for globally unique ones cleared. It may stand in any network.
const ISATAP: u128 = 0x5efe;

fn is_global_v6(address: Ipv6Addr) -> bool {
    address.to_bits() >> 125 == 0b001
        && (address.to_bits() >> 32) & 0xfdff_ffff != ISATAP
        && SPECIAL_V6
            .iter()
            .all(|(network, prefix)| (address.to_bits() ^ network.to_bits()) >> (128 - prefix) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("a test address")
    }

    #[test]
    fn public_addresses_are_global() {
        for text in [
            "1.1.1.1",
            "140.82.112.3",
            "192.0.3.1",
            "172.32.0.1",
            "100.128.0.1",
            "2606:50c0:8000::154",
            "2a00:1450::1",
        ] {
            assert!(is_global(ip(text)), "{text}");
        }
    }

    #[test]
    fn special_addresses_are_not() {
        for text in [
            "0.0.0.0",
            "10.0.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "100.64.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.170",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001:0:1::",
            "2001:db8::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "5f00::1",
            "3fff:1::1",
            "2606:50c0::5efe:127.0.0.1",
            "2606:50c0::200:5efe:127.0.0.1",
        ] {
            assert!(!is_global(ip(text)), "{text}");
        }
    }

    #[test]
    fn the_operator_can_name_exceptions() {
        let allowed: Vec<AllowedAddress> = ["10.1.0.0/16", "192.168.7.7", "Git.Internal"]
            .iter()
            .map(|text| text.parse().expect("valid"))
            .collect();
        let reach = Reach::new(&allowed);
        assert!(reach.permits(ip("10.1.2.3")));
        assert!(
            reach.permits(ip("::ffff:10.1.2.3")),
            "the same address spelled otherwise"
        );
        assert!(reach.permits(ip("192.168.7.7")));
        assert!(!reach.permits(ip("10.2.0.1")));
        assert!(reach.any_address_of("git.internal"));
        assert!(!reach.any_address_of("evil.git.internal"));
        assert!("a b".parse::<AllowedAddress>().is_err());
    }
}
