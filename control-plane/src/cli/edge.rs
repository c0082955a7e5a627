//! `berth edge`: the public listener on its own.

use std::process::ExitCode;

use crate::shutdown;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    config: edge::Config,
}

pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    edge::run(arguments.config, shutdown::on_signals()?).await?;
    Ok(ExitCode::SUCCESS)
}
