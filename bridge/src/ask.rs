//! Finds out how a server is reached: greeted over stdio, does it answer, or does it open a port?

use std::net::SocketAddr;
use std::process::ExitCode;

use rmcp::model::{ClientCapabilities, Implementation, InitializeRequestParams, ProtocolVersion};
use serde_json::json;
use tokio::time::{Instant, interval, timeout};

use crate::child::Child;
use crate::limits::{DRAIN, LOOK, SETTLE};
use crate::lines::{self, Lines};
use crate::listening::{is_reachable, listening};
use crate::message::{Kind, read};

/// The greeting's id, which no answer to anything else has.
const ID: &str = "berth-greeting";

/// How the server is reached.
pub enum Found {
    /// It serves HTTP on its port.
    Http(Child),
    /// It serves HTTP at another address.
    Elsewhere(Child, SocketAddr),
    /// It speaks stdio. The process that was asked has been ended: it has its greeting behind it.
    Stdio,
    /// It ended before it did either, with this code.
    Ended(ExitCode),
}

/// The `initialize` request of a client that wants nothing.
fn greeting() -> Vec<u8> {
    let params = InitializeRequestParams::new(
        ClientCapabilities::default(),
        Implementation::new("berth", env!("CARGO_PKG_VERSION")),
    )
    .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE);
    let message = json!({"jsonrpc": "2.0", "id": ID, "method": "initialize", "params": params});
    let mut line = message.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// Asks a server that was just started. How long that may take is the runner's to decide.
pub async fn ask(mut child: Child, port: u16) -> anyhow::Result<Found> {
    // One that never reads has room for it in its pipe; one that has ended is noticed below.
    let _ = child.write(&greeting()).await;
    let mut output = Lines::new(child.take_output());
    let mut look = interval(LOOK);
    let mut elsewhere: Option<(SocketAddr, Instant)> = None;
    let mut is_open = true;
    loop {
        tokio::select! {
            line = output.next(), if is_open => match line {
                Ok(Some(line)) if is_answer(&line) => {
                    child.return_output(output.into_inner());
                    child.end().await;
                    return Ok(Found::Stdio);
                }
                Ok(Some(line)) => lines::log(&line),
                Ok(None) | Err(_) => is_open = false,
            },
            code = child.ended() => {
                // What it wrote last says most.
                let rest = async {
                    while let Ok(Some(line)) = output.next().await {
                        lines::log(&line);
                    }
                };
                let _ = timeout(DRAIN, rest).await;
                return Ok(Found::Ended(code));
            }
            now = look.tick() => {
                let open = listening();
                if open.iter().any(|address| is_reachable(address, port)) {
                    child.return_output(output.into_inner());
                    return Ok(Found::Http(child));
                }
                match (open.first(), elsewhere) {
                    (Some(address), Some((seen, since))) if *address == seen => {
                        if now.duration_since(since) >= SETTLE {
                            child.return_output(output.into_inner());
                            return Ok(Found::Elsewhere(child, seen));
                        }
                    }
                    (first, _) => elsewhere = first.map(|address| (*address, now)),
                }
            }
        }
    }
}

fn is_answer(line: &[u8]) -> bool {
    matches!(read(line), Ok(Kind::Response { id: Some(id) }) if id.to_string() == ID)
}
