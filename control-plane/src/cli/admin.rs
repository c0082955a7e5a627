//! `berth admin`: for whoever holds the machine, without signing in.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::json;
use sqlx::Connection as _;
use sqlx::PgConnection;

use super::data::{Data, adopt_noted_url};
use super::output::{Output, line, note};
use crate::api_tokens::{self, NewToken};
use crate::audit::Actor;
use crate::clock::Clock;
use crate::config::ServeConfig;
use crate::crypto::KeyEncryptionKey;
use crate::private_postgres::PrivatePostgres;
use crate::signin::new_password;
use crate::{signing_keys, users};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print a new API token of the owner.
    Token {
        /// What the token is for.
        #[arg(long, default_value = "admin")]
        name: String,

        #[command(flatten)]
        config: ServeConfig,
    },
    /// Print a one-time link by which the owner sets the first password.
    SetupLink {
        #[command(flatten)]
        config: ServeConfig,
    },
    /// Take away how someone signs in, and print a one-time link by which they choose a new password:
    /// their password, their account at GitHub and their browser sessions end. API tokens stay.
    ResetPassword {
        /// Their e-mail address, or the placeholder of who signed up by GitHub.
        email: String,

        #[command(flatten)]
        config: ServeConfig,
    },
    /// Make a new key for access tokens. It signs after a minute; tokens of the old one stay good
    /// until they expire.
    RotateKeys {
        #[command(flatten)]
        config: ServeConfig,
    },
    /// Stop what a platform that no longer runs has left: database, instances, networks.
    Down {
        #[command(flatten)]
        config: ServeConfig,

        #[command(flatten)]
        runner: runner::Settings,
    },
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Token { name, config } => token(&here(config)?, &name, output).await?,
        Command::SetupLink { config } => setup_link(&here(config)?, output).await?,
        Command::ResetPassword { email, config } => {
            reset_password(&here(config)?, &email, output).await?;
        }
        Command::RotateKeys { config } => rotate_keys(&here(config)?, output).await?,
        Command::Down { config, runner } => down(&here(config)?, &runner).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The settings as the platform of the data directory runs with them.
fn here(mut config: ServeConfig) -> anyhow::Result<ServeConfig> {
    adopt_noted_url(&mut config);
    config.check()
}

async fn token(config: &ServeConfig, name: &str, output: Output) -> anyhow::Result<()> {
    let mut db = connect(config).await?;
    let owner = users::find_owner(&mut db)
        .await?
        .context("there is no owner yet; start berth first")?;
    let now = Clock::System.now();
    let mut tx = db.begin().await?;
    let new = NewToken::for_everything(owner.id, name, None);
    let (id, token) = api_tokens::create(&mut tx, new, &Actor::System, now).await?;
    tx.commit().await?;
    output.result(&json!({ "id": id, "name": name, "token": token }), || {
        token.clone()
    });
    Ok(())
}

async fn setup_link(config: &ServeConfig, output: Output) -> anyhow::Result<()> {
    let mut db = connect(config).await?;
    let url = config.issuer();
    let Some(token) = users::create_setup_link(&mut db, Clock::System.now()).await? else {
        bail!(
            "the owner has a password already; sign in at {url}, or run `berth admin reset-password EMAIL` if it is lost"
        );
    };
    show_link(config, &token, output);
    Ok(())
}

fn show_link(config: &ServeConfig, token: &str, output: Output) {
    let link = format!("{}/setup/{token}", config.issuer());
    output.result(&json!({ "url": link }), || link.clone());
}

async fn reset_password(config: &ServeConfig, email: &str, output: Output) -> anyhow::Result<()> {
    let mut db = connect(config).await?;
    let user = users::find_by_email(&mut db, email)
        .await?
        .with_context(|| {
            format!("nobody here has the address {email}; the page Members lists those there are")
        })?;
    let mut tx = db.begin().await?;
    let token = new_password::reset(&mut tx, user.id, Clock::System.now()).await?;
    tx.commit().await?;
    note(&format!(
        "{} is signed out of every browser, and signs in again by this link within 24 hours. API tokens and connected apps stay.",
        user.email
    ));
    show_link(config, &token, output);
    Ok(())
}

async fn rotate_keys(config: &ServeConfig, output: Output) -> anyhow::Result<()> {
    let kek = KeyEncryptionKey::new(&config.key_encryption_key()?);
    let mut db = connect(config).await?;
    let mut tx = db.begin().await?;
    let kid = signing_keys::rotate(&mut tx, &kek, &Actor::System, Clock::System.now()).await?;
    tx.commit().await?;
    output.result(&json!({ "kid": kid }), || {
        format!("The new key {kid} signs access tokens within two minutes.")
    });
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
    PgConnection::connect_with(&options)
        .await
        .context("the database does not answer")
}
