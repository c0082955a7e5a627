//! What starts a server inside its instance when that is not a Python object: any command.
//!
//! Nobody has to say how the command's server is reached. It is started with pipes and greeted
//! over stdio; whichever comes first decides: an answer (it speaks stdio), or an open port (it
//! serves HTTP). An HTTP server is then left alone; if it listens elsewhere than on `$PORT`, its
//! connections are relayed. A stdio server is served over Streamable HTTP (MCP 2025-11-25,
//! basic/transports): each MCP session gets a process of its own, because a stdio server has one
//! client. Messages pass byte for byte: the server and its client see each other's requests,
//! notifications, progress and cancellations as they were written.
//!
//! The SDK's own server transport is not used for that: it reads every message into its types,
//! drops what it does not know and answers some itself. Its wire types are, for the few messages
//! that are the bridge's own.
//!
//! Two more programs for containers whose image may hold anything: [`guard`] is their first
//! process, [`step`] does one step of a repository's Dockerfile.

mod ask;
mod child;
pub mod guard;
mod http;
mod limits;
mod lines;
mod listening;
mod message;
mod relay;
mod report;
mod session;
mod sessions;
mod settings;
pub mod step;

use std::process::ExitCode;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use ask::Found;
use child::Child;
pub use settings::Arguments;

/// Runs the command and serves it until SIGTERM or its end; gives the code to end with.
///
/// # Errors
/// One sentence for the log of the instance.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let settings = settings::load(arguments)?;
    let mut stop = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let child = Child::start(&settings)?;
    let asked = tokio::select! {
        found = ask::ask(child, settings.port) => found?,
        _ = stop.recv() => return Ok(ExitCode::SUCCESS),
    };
    match asked {
        Found::Ended(code) => Ok(code),
        Found::Http(child) => {
            report::serving("http", settings.port, None);
            Ok(until_end(child, &mut stop).await)
        }
        Found::Elsewhere(child, target) => {
            let listener = relay::bind(settings.port).await?;
            report::serving(
                "http",
                settings.port,
                Some(&relay::notice(target, settings.port)),
            );
            let relayed = relay::relay(listener, target);
            tokio::select! {
                code = until_end(child, &mut stop) => Ok(code),
                () = relayed => unreachable!("it accepts for ever"),
            }
        }
        Found::Stdio => {
            http::serve(settings, stop).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Passes SIGTERM on and waits for the end of a server that serves itself.
async fn until_end(mut child: Child, stop: &mut Signal) -> ExitCode {
    let output = lines::pass_on(child.take_output());
    tokio::pin!(output);
    let mut is_open = true;
    let mut was_stopped = false;
    loop {
        tokio::select! {
            () = &mut output, if is_open => is_open = false,
            code = child.ended() => {
                if is_open {
                    // What it wrote last says most.
                    let _ = tokio::time::timeout(limits::DRAIN, output).await;
                }
                return if was_stopped { ExitCode::SUCCESS } else { code };
            }
            _ = stop.recv(), if !was_stopped => {
                was_stopped = true;
                child.terminate();
            }
        }
    }
}
