//! Whether an instance is healthy: its port is open and it answers as an MCP server.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

mod fit;
mod probe;

pub use probe::{ProbeFailure, Prober};

/// How often a closed port is tried. A connection attempt to a container on this host costs
/// microseconds, and every wait longer than this would be felt in each deployment.
pub const PORT_INTERVAL: Duration = Duration::from_millis(50);

/// How long one connection attempt may take: the address is on this host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Resolves when the port accepts a connection; never gives up by itself.
pub async fn port_open(address: SocketAddr) {
    loop {
        if let Ok(Ok(_)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            return;
        }
        tokio::time::sleep(PORT_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "it is awaited below")]
    async fn a_port_that_opens_late_is_noticed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let opened = tokio::spawn(port_open(address));
        let _listener = tokio::net::TcpListener::bind(address).await.unwrap();
        timeout(Duration::from_secs(5), opened)
            .await
            .unwrap()
            .unwrap();
    }
}
