//! How many client connections there may be, in all and from one address. Places run out before
//! the process' file descriptors do, which its other parts need as well.

use std::collections::HashMap;
use std::io::Write;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Client connections open at once where the process may open enough files: some 100 MiB.
const MAX_CONNECTIONS: u64 = 8192;

/// Files that one client connection may take: itself, one to an instance or the control plane, and
/// under `berth all` the control plane's end of that.
const FILES_PER_CONNECTION: u64 = 3;

/// Files kept for all else in the process: listeners, idle connections to instances, and under
/// `berth all` the Postgres pool, the engine's socket, logs and builds.
const RESERVED_FILES: u64 = 512;

/// Connections from one address: an office behind one address, with several windows and clients
/// each. A connection costs a client nothing, so it may not take them all.
const MAX_PER_ADDRESS: usize = 256;

/// One address gets no more than this part of all places, where there are few.
const SHARE: usize = 4;

/// What a client hears that is turned away.
const TURNED_AWAY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncache-control: no-store\r\nretry-after: 5\r\nconnection: close\r\ncontent-length: 135\r\n\r\n{\"error\":\"service_unavailable\",\"error_description\":\"There are too many connections from your address. Close some, or try again later.\"}";

/// The places for client connections.
#[derive(Debug)]
pub(crate) struct Connections {
    all: Arc<Semaphore>,
    per_address: usize,
    /// Peers that speak for many clients.
    proxies: Vec<IpNet>,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// The place of one connection; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    /// Where it is counted.
    counted: Option<(Arc<Connections>, IpAddr)>,
    _permit: OwnedSemaphorePermit,
}

impl Connections {
    /// The places of a process that may open `files` files; `proxies` are the operator's own.
    pub(crate) fn new(files: u64, proxies: Vec<IpNet>) -> Arc<Self> {
        let usable = files - RESERVED_FILES.min(files / 2);
        let all = (usable / FILES_PER_CONNECTION).clamp(1, MAX_CONNECTIONS);
        let all = usize::try_from(all).expect("it is at most MAX_CONNECTIONS");
        Arc::new(Self {
            all: Arc::new(Semaphore::new(all)),
            per_address: MAX_PER_ADDRESS.min(all.div_ceil(SHARE)),
            proxies,
            open: Mutex::default(),
        })
    }

    /// Waits for a place that is not yet anybody's; clients wait in the kernel's queue meanwhile.
    pub(crate) async fn vacant(&self) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.all).acquire_owned().await;
        permit.expect("the semaphore is never closed")
    }

    /// Gives `place` to a client at `peer`, or `None` when that address has all it may.
    ///
    /// Trusted proxies and loopback peers are not counted: a proxy (also one on this machine that
    /// nobody declared) brings everybody's requests from one address, and programs on this machine
    /// are the operator's; instances do not come from loopback.
    pub(crate) fn give(
        self: &Arc<Self>,
        place: OwnedSemaphorePermit,
        peer: IpAddr,
    ) -> Option<Place> {
        let peer = peer.to_canonical();
        if peer.is_loopback() || self.proxies.iter().any(|network| network.contains(&peer)) {
            return Some(Place {
                counted: None,
                _permit: place,
            });
        }
        let customer = customer(peer);
        let mut open = self.lock();
        let count = open.entry(customer).or_default();
        if *count >= self.per_address {
            return None;
        }
        *count += 1;
        drop(open);
        Some(Place {
            counted: Some((Arc::clone(self), customer)),
            _permit: place,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // No code panics while it holds the lock.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((connections, address)) = &self.counted else {
            return;
        };
        let mut open = connections.lock();
        if let Some(count) = open.get_mut(address) {
            *count -= 1;
            if *count == 0 {
                open.remove(address);
            }
        }
    }
}

/// What is counted as one: an IPv4 address, or an IPv6 /64, the least that one customer gets.
pub(crate) fn customer(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        IpAddr::V4(_) => peer,
    }
}

/// Closes a connection that gets no place, with a word where the client has room to hear it. Never
/// waits: it is done between two accepts.
pub(crate) fn turn_away(stream: TcpStream) {
    // A client that has gone already need not be told.
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write(TURNED_AWAY);
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
}

/// Lets the process open as many files as it ever may, and says how many: the usual soft limit of
/// 1024 is for programs that use `select`. Processes it starts inherit that.
pub(crate) fn raise_open_files() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, ?current, ?maximum, "the limit on open files cannot be raised; fewer connections are taken");
            current
        }
    };
    allowed.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn enter(connections: &Arc<Connections>, peer: &str) -> Option<Place> {
        connections.give(connections.vacant().await, peer.parse().unwrap())
    }

    #[tokio::test]
    async fn one_address_gets_its_share_and_gives_it_back() {
        let connections = Connections::new(u64::MAX, vec!["192.0.2.1/32".parse().unwrap()]);
        let mut held = Vec::new();
        for _ in 0..MAX_PER_ADDRESS {
            held.push(enter(&connections, "203.0.113.7").await.expect("a place"));
        }
        assert!(enter(&connections, "203.0.113.7").await.is_none());
        assert!(enter(&connections, "::ffff:203.0.113.7").await.is_none());
        for other in ["203.0.113.8", "127.0.0.1", "::1", "192.0.2.1"] {
            for _ in 0..=MAX_PER_ADDRESS {
                held.extend(enter(&connections, other).await);
            }
        }
        // Only the first of the others is counted; the refused ones took no place.
        assert_eq!(held.len(), 5 * MAX_PER_ADDRESS + 3);
        let left = usize::try_from(MAX_CONNECTIONS).unwrap() - held.len();
        assert_eq!(connections.all.available_permits(), left);
        held.swap_remove(0);
        assert!(enter(&connections, "203.0.113.7").await.is_some());
        held.clear();
        assert!(connections.lock().is_empty());
    }

    #[tokio::test]
    async fn the_addresses_of_one_ipv6_customer_are_one() {
        let connections = Connections::new(u64::MAX, Vec::new());
        let mut held = Vec::new();
        for number in 0..MAX_PER_ADDRESS {
            held.extend(enter(&connections, &format!("2001:db8::{number:x}")).await);
        }
        assert_eq!(held.len(), MAX_PER_ADDRESS);
        assert!(enter(&connections, "2001:db8::ffff:1").await.is_none());
        assert!(enter(&connections, "2001:db8:0:1::1").await.is_some());
    }

    #[test]
    fn places_follow_the_files_and_nobody_gets_them_all() {
        for (files, all, per_address) in [
            (0, 1, 1),
            (256, 42, 11),
            (1024, 170, 43),
            (20_000, 6496, 256),
            (u64::MAX, 8192, 256),
        ] {
            let connections = Connections::new(files, Vec::new());
            assert_eq!(connections.all.available_permits(), all, "{files}");
            assert_eq!(connections.per_address, per_address, "{files}");
        }
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let allowed = raise_open_files();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
        assert_eq!(current.unwrap_or(u64::MAX), allowed);
    }

    #[tokio::test]
    async fn who_is_turned_away_hears_why() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        turn_away(listener.accept().await.unwrap().0);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{head}"
        );
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    }
}
