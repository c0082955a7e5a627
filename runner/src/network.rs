//! One bridge network per project: its names, and a subnet of its own.
//!
//! An engine's own address pools end at about thirty networks, so subnets come from a large pool
//! of ours and are named when a network is created.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use uuid::Uuid;

/// Prefix length of a project's subnet: 13 usable addresses, which is room for a build, an old
/// and a new instance, and a few replicas.
pub const SUBNET_BITS: u8 = 28;

/// Where subnets are taken from unless set otherwise: 4,096 projects on one engine.
pub const DEFAULT_POOL: &str = "10.213.0.0/16";

/// An IPv4 network, `a.b.c.d/n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    first: u32,
    bits: u8,
}

impl Subnet {
    /// The network of `bits` prefix bits that holds `address`.
    pub fn new(address: Ipv4Addr, bits: u8) -> Option<Self> {
        (bits <= 32).then(|| Self {
            first: u32::from(address) & mask(bits),
            bits,
        })
    }

    /// Whether the two share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        let bits = self.bits.min(other.bits);
        self.first & mask(bits) == other.first & mask(bits)
    }

    /// The subnets of [`SUBNET_BITS`] inside, in order.
    pub fn subnets(&self) -> impl Iterator<Item = Subnet> + use<> {
        let step = 1_u64 << (32 - SUBNET_BITS);
        let first = u64::from(self.first);
        let count = if self.bits > SUBNET_BITS {
            0
        } else {
            1_u64 << (SUBNET_BITS - self.bits)
        };
        (0..count).filter_map(move |index| {
            let first = u32::try_from(first + index * step).ok()?;
            Some(Subnet {
                first,
                bits: SUBNET_BITS,
            })
        })
    }
}

fn mask(bits: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.first), self.bits)
    }
}

impl FromStr for Subnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || format!("`{text}` is not an IPv4 network such as {DEFAULT_POOL}");
        let (address, bits) = text.split_once('/').ok_or_else(error)?;
        let address = address.parse().map_err(|_| error())?;
        let bits = bits.parse().map_err(|_| error())?;
        Self::new(address, bits).ok_or_else(error)
    }
}

/// The free subnets of `pool`, beginning at a place that depends on the project, so that a
/// project usually gets the same addresses again and two that start at once rarely collide.
pub fn free_subnets(pool: Subnet, taken: &[Subnet], project: Uuid) -> Vec<Subnet> {
    let all: Vec<Subnet> = pool.subnets().collect();
    if all.is_empty() {
        return all;
    }
    let start = usize::try_from(project.as_u128() % (all.len() as u128)).unwrap_or(0);
    all[start..]
        .iter()
        .chain(&all[..start])
        .filter(|subnet| !taken.iter().any(|other| other.overlaps(subnet)))
        .copied()
        .collect()
}

/// The networks this host already has a route to, from the text of `/proc/net/route`. A subnet
/// that overlaps one of them would take its traffic.
pub fn routes(proc_net_route: &str) -> Vec<Subnet> {
    let number = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::swap_bytes);
    proc_net_route
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let first = number(fields.get(1)?)?;
            let bits = u8::try_from(number(fields.get(7)?)?.leading_ones()).ok()?;
            // The default route covers everything and says nothing.
            (bits > 0).then_some(Subnet { first, bits })
        })
        .collect()
}

/// The last 12 hexadecimal digits: in a UUIDv7 the random ones.
fn short(project: Uuid) -> String {
    project.simple().to_string().split_off(20)
}

/// The engine's name for a project's network.
pub fn network_name(project: Uuid) -> String {
    format!("berth-{}", short(project))
}

/// The name of its bridge on the host: at most 15 characters, the kernel's limit.
pub fn bridge_name(project: Uuid) -> String {
    format!("bth{}", short(project))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn a_pool_is_cut_into_subnets() {
        let all: Vec<String> = subnet("10.0.0.0/26")
            .subnets()
            .map(|s| s.to_string())
            .collect();
        assert_eq!(
            all,
            [
                "10.0.0.0/28",
                "10.0.0.16/28",
                "10.0.0.32/28",
                "10.0.0.48/28"
            ]
        );
        assert_eq!(subnet(DEFAULT_POOL).subnets().count(), 4096);
        assert_eq!(subnet("10.0.0.0/30").subnets().count(), 0);
    }

    #[test]
    fn taken_subnets_are_skipped_whatever_their_size() {
        let free = free_subnets(
            subnet("10.0.0.0/26"),
            &[subnet("10.0.0.0/27"), subnet("10.0.0.52/30")],
            Uuid::nil(),
        );
        assert_eq!(free, [subnet("10.0.0.32/28")]);
    }

    #[test]
    fn the_search_starts_at_a_place_of_the_project() {
        let free = free_subnets(subnet("10.0.0.0/26"), &[], Uuid::from_u128(6));
        assert_eq!(free.first(), Some(&subnet("10.0.0.32/28")));
        assert_eq!(free.len(), 4);
    }

    #[test]
    fn routes_of_the_host_are_read() {
        let text = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
            eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\n\
            eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n";
        assert_eq!(routes(text), [subnet("192.168.1.0/24")]);
    }

    #[test]
    fn names_fit_the_kernel() {
        let project = Uuid::parse_str("0192f0c1-2b3c-7def-8abc-0123456789ab").unwrap();
        assert_eq!(network_name(project), "berth-0123456789ab");
        assert_eq!(bridge_name(project), "bth0123456789ab");
        assert!(bridge_name(project).len() <= 15);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "x/8", "::/8"] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
    }
}
