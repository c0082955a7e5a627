//! What the runner starts inside containers: `berth bridge` serves a server that is a command,
//! `berth guard` is the first process where nothing of the image can be relied on, `berth step` does
//! one step of a repository's Dockerfile.

use std::process::ExitCode;

pub use bridge::Arguments;
pub use bridge::guard::Arguments as GuardArguments;

pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    bridge::run(arguments).await
}

pub async fn guard(arguments: GuardArguments) -> anyhow::Result<ExitCode> {
    bridge::guard::run(arguments).await
}

pub fn step() -> anyhow::Result<ExitCode> {
    bridge::step::work()
}
