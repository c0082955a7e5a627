//! `berth admin`: for whoever holds the machine, without signing in.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::json;
use sqlx::PgConnection;
use sqlx::Connection as _;

use super::data::{Data, noted_url};
use super::output::{Output, line};
use crate::audit::Actor;
use crate::clock::Clock;
use crate::config::{DEFAULT_URL, ServeConfig};
use crate::private_postgres::PrivatePostgres;
use crate::{api_tokens, users};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    config: ServeConfig,

    #[command(flatten)]
    runner: runner::Settings,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print a new API token of the owner.
    Token {
        /// What the token is for.
        #[arg(long, default_value = "admin")]
        name: String,
    },
    /// Print a one-time link by which the owner sets the first password.
    SetupLink,
    /// Stop what a platform that no longer runs has left: database, instances, networks.
    Down,
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let Arguments { command, config, runner } = arguments;
    let config = config.check()?;
    match command {
        Command::Token { name } => token(&config, &name, output).await?,
        Command::SetupLink => setup_link(&config, output).await?,
        Command::Down => down(&config, &runner).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn token(config: &ServeConfig, name: &str, output: Output) -> anyhow::Result<()> {
    let mut db = connect(config).await?;
    let owner = users::find_owner(&mut db).await?.context("there is no owner yet; start berth first")?;
    let now = Clock::System.now();
    let mut tx = db.begin().await?;
    let (row, token) =
        api_tokens::create(&mut tx, owner.id, name, None, &Actor::System, now).await?;
    tx.commit().await?;
    output.result(&json!({ "id": row.id, "name": row.name, "token": token }), || token.clone());
    Ok(())
}

async fn setup_link(config: &ServeConfig, output: Output) -> anyhow::Result<()> {
    let mut db = connect(config).await?;
    let url = issuer(config);
    let Some(token) = users::create_setup_link(&mut db, Clock::System.now()).await? else {
        bail!("the owner has a password already; sign in at {url}");
    };
    let link = format!("{url}/setup/{token}");
    output.result(&json!({ "url": link }), || link.clone());
    Ok(())
}

async fn down(config: &ServeConfig, runner: &runner::Settings) -> anyhow::Result<()> {
    // Taking the directory proves that nothing runs on it, and keeps anything from starting.
    let data = Data::take(&config.data)?;
    if let Some(postgres) = PrivatePostgres::find_running(data.path())? {
        postgres.stop().await?;
        line("Stopped the private Postgres.");
    }
    // Removing asks the control plane nothing, so neither address nor token matter.
    let runner = runner::Config {
        data: data.path().to_owned(),
        control_url: config.url.clone(),
        token: None,
        token_file: None,
        settings: runner.clone(),
    };
    let removed = runner::remove_all(&runner, None).await?;
    line(&format!(
        "Removed {} containers and {} networks; the data is kept.",
        removed.containers, removed.networks
    ));
    Ok(())
}

/// Where people reach it: as set, else as the running platform noted.
fn issuer(config: &ServeConfig) -> String {
    let noted = (config.issuer() == DEFAULT_URL).then(|| noted_url(&config.data)).flatten();
    noted.map_or_else(|| config.issuer(), |url| url.as_str().trim_end_matches('/').to_owned())
}

/// The database that is named, or the private one of the data directory.
async fn connect(config: &ServeConfig) -> anyhow::Result<PgConnection> {
    let options = if config.database_url.is_some() {
        config.database_options()?
    } else {
        let Some(postgres) = PrivatePostgres::find_running(&config.data)? else {
            bail!(
                "no berth runs with the data directory {}: start it, name its directory with \
                 --data, or set BERTH_DATABASE_URL",
                config.data.display()
            );
        };
        postgres.options()
    };
    PgConnection::connect_with(&options).await.context("the database does not answer")
}
