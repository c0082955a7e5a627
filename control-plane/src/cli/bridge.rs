//! `berth bridge`: what the runner starts inside an instance whose server is a command.

use std::process::ExitCode;

pub use bridge::Arguments;

pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    bridge::run(arguments).await
}
