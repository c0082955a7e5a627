//! `berth all`: every role in one process, for one machine. The roles talk HTTP over loopback as
//! they would between machines; there is no second way.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::data::Data;
use super::serve;
use crate::config::{DEFAULT_URL, Secret, ServeConfig};
use crate::private_postgres::PrivatePostgres;
use crate::shutdown;

const EDGE: &str = "edge";

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Public address to listen on; repeat the flag, or separate addresses by commas in the
    /// variable.
    #[arg(
        long,
        env = "BERTH_LISTEN",
        value_name = "ADDRESS:PORT",
        value_delimiter = ',',
        default_values = ["127.0.0.1:8080", "[::1]:8080"]
    )]
    listen: Vec<SocketAddr>,

    /// Address of the control plane, behind the edge; port 0 takes a free one.
    #[arg(
        long,
        env = "BERTH_CONTROL_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:0"
    )]
    control_listen: SocketAddr,

    #[command(flatten)]
    proxies: edge::TrustedProxies,

    #[command(flatten)]
    threads: edge::Threads,

    #[command(flatten)]
    config: ServeConfig,

    #[command(flatten)]
    runner: runner::Settings,
}

pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let shutdown = shutdown::on_signals()?;
    let Arguments {
        listen,
        control_listen,
        proxies,
        threads,
        mut config,
        runner,
    } = arguments;
    config.allow_file_sources = runner.allow_file_sources;
    follow_port(&mut config, &listen)?;
    let mut config = config.check()?;
    let data = Data::take(&config.data)?;
    data.provide_keys(&mut config)?;
    data.note_url(&config.url)?;

    let listeners = edge::Listeners::bind(&listen).await?;
    let control = serve::bind(control_listen).await?;
    let control_url = Url::parse(&format!("http://{}", control.local_addr()?))
        .context("the control plane's address makes no URL")?;

    let mut roles = JoinSet::new();
    // The edge first: it serves what it served before, whatever happens to the rest.
    let edge = edge_config(&config, listen, proxies, threads, &control_url);
    let stop = shutdown.clone();
    roles.spawn(async move { (EDGE, edge::run_on(listeners, edge, stop).await) });
    let runner = runner_config(&config, runner, control_url);
    let stop = shutdown.clone();
    roles.spawn(async move { ("runner", runner::run(runner, stop).await) });
    let reported = CancellationToken::new();
    let stop = reported.clone();
    // Boxed because it holds all of a start's steps, which is large for a future on the stack.
    roles.spawn(async move {
        (
            "control plane",
            Box::pin(control_plane(config, control, stop)).await,
        )
    });
    wait(roles, shutdown, reported).await?;
    drop(data);
    Ok(ExitCode::SUCCESS)
}

/// Until all have ended. One that ends by itself takes the others with it, and its reason is the
/// process' own: whoever watches the process starts it whole again. The edge's last word is a report;
/// `reported` is cancelled when it has said it, for the control plane to stop then.
async fn wait(
    mut roles: JoinSet<(&'static str, anyhow::Result<()>)>,
    shutdown: CancellationToken,
    reported: CancellationToken,
) -> anyhow::Result<()> {
    let mut reason = None;
    while let Some(ended) = roles.join_next().await {
        // Whoever crashed may have been the edge.
        if ended.as_ref().map_or(true, |(role, _)| *role == EDGE) {
            reported.cancel();
        }
        let wanted = shutdown.is_cancelled();
        let error = match ended {
            Ok((role, Err(error))) => Some(error.context(format!("the {role} cannot go on"))),
            Ok((role, Ok(()))) if !wanted => Some(anyhow!("the {role} ended unexpectedly")),
            Ok((_, Ok(()))) => None,
            Err(panic) => Some(anyhow!(panic).context("a role crashed")),
        };
        if let Some(error) = error {
            tracing::error!(error = format!("{error:#}"), "stopping");
            reason.get_or_insert(error);
            shutdown.cancel();
        }
    }
    reason.map_or(Ok(()), Err)
}

/// The control plane with its database, which is stopped after it.
async fn control_plane(
    mut config: ServeConfig,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    if config.database_url.is_some() {
        return serve::serve(config, listener, shutdown).await;
    }
    let postgres = tokio::select! {
        () = shutdown.cancelled() => {
            // Cut off while starting: what runs already is stopped, as it would be later.
            return match PrivatePostgres::find_running(&config.data)? {
                Some(postgres) => postgres.stop().await,
                None => Ok(()),
            };
        }
        started = PrivatePostgres::start(&config.data) => started?,
    };
    tracing::info!(directory = %postgres.directory().display(), "the private Postgres answers");
    config.private_database = Some(postgres.options());
    let after = CancellationToken::new();
    let supervised = postgres.supervise(after.clone());
    let served = async {
        let served = serve::serve(config, listener, shutdown).await;
        after.cancel();
        served
    };
    let (served, supervised) = tokio::join!(served, supervised);
    served.and(supervised)
}

/// Whoever only moves the port means the URL to move with it.
fn follow_port(config: &mut ServeConfig, listen: &[SocketAddr]) -> anyhow::Result<()> {
    let default = Url::parse(DEFAULT_URL).context("the default URL is one")?;
    let port = listen
        .first()
        .map(SocketAddr::port)
        .filter(|port| *port != 0);
    let elsewhere = listen
        .iter()
        .all(|address| Some(address.port()) != default.port());
    if config.url == default
        && elsewhere
        && let Some(port) = port
    {
        config
            .url
            .set_port(Some(port))
            .map_err(|()| anyhow!("the URL takes no port"))?;
    }
    Ok(())
}

fn edge_config(
    config: &ServeConfig,
    listen: Vec<SocketAddr>,
    proxies: edge::TrustedProxies,
    threads: edge::Threads,
    control_url: &Url,
) -> edge::Config {
    edge::Config {
        listen,
        public_url: config.url.clone(),
        control_url: control_url.clone(),
        apps_domain: config.apps_domain.clone(),
        token: config
            .edge_token
            .as_ref()
            .map(|token| token.expose().to_owned()),
        token_file: None,
        data: config.data.clone(),
        proxies,
        threads,
    }
}

fn runner_config(
    config: &ServeConfig,
    settings: runner::Settings,
    control_url: Url,
) -> runner::Config {
    runner::Config {
        data: config.data.clone(),
        control_url,
        token: config
            .runner_token
            .as_ref()
            .map(|token: &Secret| token.expose().to_owned()),
        token_file: None,
        settings,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn url(arguments: &[&str]) -> String {
        let arguments = std::iter::once(&"berth").chain(arguments);
        let mut arguments = Program::parse_from(arguments).arguments;
        follow_port(&mut arguments.config, &arguments.listen).unwrap();
        arguments.config.issuer()
    }

    #[test]
    fn the_url_follows_the_port_unless_it_is_given() {
        assert_eq!(url(&[]), "http://localhost:8080");
        assert_eq!(
            url(&["--listen", "127.0.0.1:9000"]),
            "http://localhost:9000"
        );
        let both = [
            "--listen",
            "0.0.0.0:9000",
            "--url",
            "https://berth.example.com",
        ];
        assert_eq!(url(&both), "https://berth.example.com");
    }

    #[tokio::test]
    async fn a_role_that_fails_stops_the_others_and_gives_the_reason() {
        let (shutdown, reported) = (CancellationToken::new(), CancellationToken::new());
        let mut roles = JoinSet::new();
        let stop = shutdown.clone();
        roles.spawn(async move {
            stop.cancelled().await;
            (EDGE, Ok(()))
        });
        roles.spawn(async { ("runner", Err(anyhow!("no engine"))) });
        let error = wait(roles, shutdown, reported).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "the runner cannot go on: no engine");
    }

    #[tokio::test]
    async fn the_control_plane_stops_when_the_edge_has_reported() {
        let (shutdown, reported) = (CancellationToken::new(), CancellationToken::new());
        let (last_word, heard) = tokio::sync::oneshot::channel();
        let mut roles = JoinSet::new();
        let stop = shutdown.clone();
        roles.spawn(async move {
            stop.cancelled().await;
            last_word.send("a report").unwrap();
            (EDGE, Ok(()))
        });
        let stop = reported.clone();
        roles.spawn(async move {
            stop.cancelled().await;
            assert_eq!(heard.await.unwrap(), "a report");
            ("control plane", Ok(()))
        });
        shutdown.cancel();
        wait(roles, shutdown, reported).await.unwrap();
    }
}
