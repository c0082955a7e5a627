//! Which TCP ports are listened on inside the instance, as the kernel tells.
//!
//! An instance has a network of its own, so every such port is its server's; only the engine's
//! resolver listens there too.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// State `LISTEN` in `/proc/net/tcp`.
const LISTEN: &str = "0A";
/// The engine's resolver inside a container.
const RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// All of them.
pub fn listening() -> Vec<SocketAddr> {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| parse(&table))
        .filter(|address| address.ip() != RESOLVER)
        .collect()
}

/// Whether a server listens on `port` where others than itself can reach it.
pub fn is_reachable(address: &SocketAddr, port: u16) -> bool {
    address.port() == port && !address.ip().is_loopback()
}

fn parse(table: &str) -> Vec<SocketAddr> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let local = fields.nth(1)?;
            (fields.nth(1)? == LISTEN).then(|| address(local))?
        })
        .collect()
}

/// `0100007F:1F90`: words of the machine's byte order, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Option<Vec<[u8; 4]>> = (0..ip.len() / 8)
        .map(|word| {
            let word = ip.get(word * 8..word * 8 + 8)?;
            Some(u32::from_str_radix(word, 16).ok()?.to_ne_bytes())
        })
        .collect();
    let ip = match words?.concat().as_slice() {
        [a, b, c, d] => IpAddr::V4(Ipv4Addr::new(*a, *b, *c, *d)),
        bytes => {
            let ip = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?);
            ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4)
        }
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let four = "  sl  local_address rem_address   st tx_queue\n\
               0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000\n\
               1: 00000000:1F90 00000000:0000 0A 00000000:00000000\n\
               2: 0200000A:1F90 0300000A:C350 01 00000000:00000000\n";
        let found = parse(four);
        assert_eq!(
            found,
            [
                "127.0.0.1:3000".parse().unwrap(),
                "0.0.0.0:8080".parse().unwrap()
            ]
        );
        assert!(!is_reachable(&found[0], 3000) && is_reachable(&found[1], 8080));
        let six = "header\n 0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A x\n\
             1: 00000000000000000000000001000000:0BB8 00000000000000000000000000000000:0000 0A x\n\
             2: 0000000000000000FFFF00000100007F:0BB9 00000000000000000000000000000000:0000 0A x\n";
        assert_eq!(
            parse(six),
            [
                "[::]:8080".parse().unwrap(),
                "[::1]:3000".parse().unwrap(),
                "127.0.0.1:3001".parse().unwrap()
            ]
        );
        assert!(parse("header\n garbage\n 0: zz:1 0:0 0A\n").is_empty());
    }
}
