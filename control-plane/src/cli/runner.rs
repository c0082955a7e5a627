//! `berth runner`: a runner on its own.

use std::process::ExitCode;

use crate::shutdown;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    config: runner::Config,
}

pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    runner::run(arguments.config, shutdown::on_signals()?).await?;
    Ok(ExitCode::SUCCESS)
}
