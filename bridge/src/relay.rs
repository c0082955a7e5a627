//! Carries connections to a server that listens elsewhere than on `$PORT`: on the loopback
//! address only, or on a port of its own.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// An address that is never reached: it only lets the kernel choose the one to reach it from
/// (RFC 5737, TEST-NET-1).
const NOWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);

/// What the owner is told.
pub fn notice(target: SocketAddr, port: u16) -> String {
    format!(
        "The server listens on {target}, so connections are passed on to it from port {port}; let it listen on 0.0.0.0 and on the port in PORT."
    )
}

/// Listens on the instance's own address: the server may have the port on another one.
pub async fn bind(port: u16) -> anyhow::Result<TcpListener> {
    let own = async {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.connect(NOWHERE).await?;
        socket.local_addr()
    };
    let address = own
        .await
        .map_or(Ipv4Addr::UNSPECIFIED.into(), |own| own.ip());
    TcpListener::bind((address, port))
        .await
        .with_context(|| format!("port {port} cannot be opened"))
}

/// Relays for ever.
pub async fn relay(listener: TcpListener, target: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((mut client, _)) = accepted {
                    connections.spawn(async move {
                        if let Ok(mut server) = TcpStream::connect(reachable(target)).await {
                            let _ = copy_bidirectional(&mut client, &mut server).await;
                        }
                    });
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// "Every address" is reached through the loopback one.
fn reachable(target: SocketAddr) -> SocketAddr {
    if target.ip().is_unspecified() {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), target.port())
    } else {
        target
    }
}
