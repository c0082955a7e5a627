//! `berth serve`: the control plane on its own.

use std::io::{IsTerminal as _, stdout};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::output::line;
use crate::app::App;
use crate::clock::Clock;
use crate::config::ServeConfig;
use crate::{server, shutdown, users};

/// Between two tries to reach the database.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// `cannot_connect_now`: the server is starting up or shutting down (Postgres, appendix A).
const CANNOT_CONNECT_NOW: &str = "57P03";

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Address to listen on, behind the edge.
    #[arg(
        long,
        env = "BERTH_CONTROL_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8081"
    )]
    control_listen: SocketAddr,

    /// Let projects name `file://` repositories of the runners' machines. For trying only:
    /// whoever can deploy can then read every repository there.
    #[arg(long, env = "BERTH_ALLOW_FILE_SOURCES")]
    allow_file_sources: bool,

    #[command(flatten)]
    config: ServeConfig,
}

pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let shutdown = shutdown::on_signals()?;
    let mut config = arguments.config.check()?;
    config.allow_file_sources = arguments.allow_file_sources;
    config.database_options()?;
    config.key_encryption_key()?;
    for (token, variable) in [
        (&config.runner_token, "BERTH_RUNNER_TOKEN_FILE"),
        (&config.edge_token, "BERTH_EDGE_TOKEN_FILE"),
    ] {
        token.as_ref().with_context(|| {
            format!("no role token is set: name a file with a random text in {variable}")
        })?;
    }
    let listener = bind(arguments.control_listen).await?;
    serve(config, listener, shutdown).await?;
    Ok(ExitCode::SUCCESS)
}

/// Binds the control plane's address.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}: stop what does, or set BERTH_CONTROL_LISTEN")
    })
}

/// Waits for the database, then serves until `shutdown`.
pub async fn serve(
    config: ServeConfig,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        reached = wait_for_database(&config) => reached?,
    }
    let app = App::build(config, Clock::System).await?;
    tracing::info!(url = app.config.issuer(), "Berth is up");
    if stdout().is_terminal() {
        welcome(&app).await?;
    }
    server::run(app, listener, shutdown).await
}

/// Tells the person who started it where to go. A log gets no link: whoever reads it could use it.
async fn welcome(app: &App) -> anyhow::Result<()> {
    let url = app.config.issuer();
    line(&format!("Berth is up at {url}"));
    let mut db = app.db.acquire().await?;
    if let Some(token) = users::create_setup_link(&mut db, app.clock.now()).await? {
        line(&format!(
            "Choose the owner's password at {url}/setup/{token}"
        ));
    }
    Ok(())
}

/// A database that is away will come back, so it is waited for; one that refuses us will not.
async fn wait_for_database(config: &ServeConfig) -> anyhow::Result<()> {
    let options = config.database_options()?;
    loop {
        match PgConnection::connect_with(&options).await {
            Ok(connection) => {
                // Whether the farewell arrives does not matter.
                let _ = connection.close().await;
                return Ok(());
            }
            Err(error) if is_away(&error) => {
                let database = options.to_url_lossy();
                tracing::warn!(
                    %error,
                    host = database.host_str().unwrap_or("a socket"),
                    "the database does not answer; trying again"
                );
                sleep(TRY_AGAIN).await;
            }
            Err(error) => {
                return Err(error)
                    .context("the database refuses the connection; check BERTH_DATABASE_URL");
            }
        }
    }
}

fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(error) => error.code().as_deref() == Some(CANNOT_CONNECT_NOW),
        _ => false,
    }
}
