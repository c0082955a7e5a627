//! Whether an instance is healthy: its port is open and it answers as an MCP server.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

mod answer;
mod fit;
mod http;
mod probe;
mod sse;
#[cfg(test)]
mod tests;

pub use probe::{Asked, Found, Liveness, ProbeFailure, Prober};

/// How often a closed port is tried. A connection attempt to a container on this host costs
/// some twenty microseconds, and every wait longer than this would be felt in each deployment.
pub const PORT_INTERVAL: Duration = Duration::from_millis(10);

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
