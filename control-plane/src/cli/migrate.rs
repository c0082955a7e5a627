//! `berth migrate`: the schema alone, for those who start new versions in steps.

use std::process::ExitCode;

use crate::config::ServeConfig;
use crate::db;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    config: ServeConfig,
}

pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = arguments.config.check()?;
    let pool = db::connect(config.database_options()?).await?;
    db::migrate(&pool).await?;
    pool.close().await;
    super::output::line("The database's schema is up to date.");
    Ok(ExitCode::SUCCESS)
}
