//! `berth`: every role of the platform, and its command line.

use std::process::ExitCode;

use clap::Parser as _;
use control_plane::cli::Program;

#[tokio::main]
async fn main() -> ExitCode {
    Program::parse().run().await
}
