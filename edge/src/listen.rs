//! The public addresses.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;

use anyhow::bail;
use tokio::net::{TcpListener, TcpSocket};

/// Connections the kernel may queue before they are accepted.
const BACKLOG: u32 = 1024;

/// Bound public addresses, before anything is served on them.
#[derive(Debug)]
pub struct Listeners(pub(crate) Vec<TcpListener>);

impl Listeners {
    /// Binds every address; port 0 takes a free one. An IPv6 address on a machine without IPv6 is
    /// left out where another address could be bound. Needs a Tokio runtime.
    ///
    /// Fails with a sentence to show to the user, for example because the port is taken.
    #[expect(clippy::unused_async, reason = "says that it needs a runtime")]
    pub async fn bind(addresses: &[SocketAddr]) -> anyhow::Result<Self> {
        let mut listeners = Vec::with_capacity(addresses.len());
        let mut left_out = None;
        for &address in addresses {
            match listen(address) {
                Ok(listener) => listeners.push(listener),
                Err(error) if address.is_ipv6() && is_without_ipv6(&error) => {
                    tracing::info!(%address, %error, "not listening on IPv6: this machine has none");
                    left_out = Some((address, error));
                }
                Err(error) => return Err(sentence(address, &error)),
            }
        }
        match (listeners.is_empty(), left_out) {
            (true, Some((address, error))) => Err(sentence(address, &error)),
            (true, None) => bail!("there is no address to listen on: set BERTH_LISTEN"),
            _ => Ok(Self(listeners)),
        }
    }

    /// The same sockets once more, to be listened on by another event loop as well.
    pub(crate) fn copies(&self) -> io::Result<Vec<std::net::TcpListener>> {
        let copy = |listener: &TcpListener| Ok(listener.as_fd().try_clone_to_owned()?.into());
        self.0.iter().map(copy).collect()
    }

    /// The addresses that were bound, with their real ports.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.0.iter().map(TcpListener::local_addr).collect()
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restart must not wait for the last connections of the run before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn is_without_ipv6(error: &io::Error) -> bool {
    /// EAFNOSUPPORT, for which `ErrorKind` has no name.
    const NO_ADDRESS_FAMILY: i32 = 97;
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(NO_ADDRESS_FAMILY)
}

fn sentence(address: SocketAddr, error: &io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "port {} is taken on {}: stop what uses it, or choose another with --listen",
            address.port(),
            address.ip()
        ),
        io::ErrorKind::PermissionDenied => anyhow::anyhow!(
            "port {} may only be used by root: choose one above 1023 with --listen, or allow this program CAP_NET_BIND_SERVICE",
            address.port()
        ),
        _ => anyhow::anyhow!(
            "cannot listen on {address}: {error}; choose an address of this machine with --listen"
        ),
    }
}
