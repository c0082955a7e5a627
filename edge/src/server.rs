//! Connections, and the way from a request's host to who answers it.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::ResponseBody;
use crate::client::Client;
use crate::connections::{self, Connections};
use crate::error::Refusal;
use crate::framing::Checked;
use crate::listen::Listeners;
use crate::pool::Pool;
use crate::snapshot::{self, Source};
use crate::table::Routes;
use crate::{Config, dashboard, host, project};

/// A connection without a request is closed after this long: longer than the proxies and clients
/// that keep one (60 s and less), so that they close it and no request meets the closing. A head
/// that has begun gets less time, see `framing`.
const IDLE: Duration = Duration::from_secs(75);

/// Most bytes of a request's head: a token, session id and cookies fit several times.
const MAX_HEAD: usize = 64 * 1024;

/// When the edge stops, requests in progress may go on for this long.
const DRAIN: Duration = Duration::from_secs(30);

/// Pause after a failed accept, which is mostly a lack of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Right after its first start the edge has no routes yet; a call waits this long for them.
const FIRST_ROUTES: Duration = Duration::from_secs(10);

/// What every request needs.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) routes: Arc<Routes>,
    /// Connections to the control plane.
    pub(crate) control: Arc<Pool>,
    /// `http` or `https`, as clients see it.
    pub(crate) scheme: &'static str,
    dashboard_host: String,
    /// `.` and the apps domain.
    apps_suffix: String,
    dashboard_url: String,
    proxies: Vec<IpNet>,
}

impl Edge {
    fn new(config: &Config, tasks: &TaskTracker) -> anyhow::Result<Self> {
        Ok(Self {
            routes: Arc::new(Routes::new(tasks.clone())),
            control: Pool::new(config.control_address()?, tasks.clone()),
            scheme: match config.public_url.scheme() {
                "http" => "http",
                "https" => "https",
                other => bail!("BERTH_URL must start with http:// or https://, not {other}://"),
            },
            dashboard_host: config.dashboard_host()?,
            apps_suffix: config.apps_suffix(),
            dashboard_url: config.public_url.to_string(),
            proxies: config.proxies.trusted_proxies.clone(),
        })
    }

    /// Answers one request.
    async fn answer(&self, client: &Client, request: Request<Incoming>) -> Response<ResponseBody> {
        client.note_request();
        let (parts, body) = request.into_parts();
        let host = match host::name(&parts) {
            Ok(host) => host,
            Err(sentence) => return Refusal::new(StatusCode::BAD_REQUEST, sentence).json(),
        };
        if host == self.dashboard_host {
            drop(host);
            return dashboard::answer(self, client, parts, body).await;
        }
        if let Some(site) = self.routes.find(&host) {
            drop(host);
            return project::answer(self, client, site, parts, body).await;
        }
        if !host.ends_with(&self.apps_suffix) {
            let sentence = format!(
                "This host is not served here. The dashboard is at {}.",
                self.dashboard_url
            );
            return Refusal::new(StatusCode::MISDIRECTED_REQUEST, sentence).json();
        }
        self.routes.changed_from_nothing(FIRST_ROUTES).await;
        match self.routes.find(&host) {
            Some(site) => {
                drop(host);
                project::answer(self, client, site, parts, body).await
            }
            None if self.routes.version().is_none() => Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "The platform is starting and does not know its projects yet. Try again in a few seconds.",
            )
            .retry_after(2)
            .json(),
            None => {
                let sentence = format!(
                    "There is no project at this address. Your projects are at {}.",
                    self.dashboard_url
                );
                Refusal::new(StatusCode::NOT_FOUND, sentence).json()
            }
        }
    }
}

/// Binds the addresses of `config` and serves until `shutdown`; see [`run_on`].
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listeners = Listeners::bind(&config.listen).await?;
    run_on(listeners, config, shutdown).await
}

/// Serves on `listeners` until `shutdown` is cancelled, then lets requests in progress end, for at
/// most 30 s, and closes streams on which a client only listens. It serves the routes of an earlier
/// run until the control plane answers. Raises the process' limit on open files to what it may be.
///
/// Fails on settings that cannot work; never because the control plane is away.
pub async fn run_on(
    listeners: Listeners,
    config: Config,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    // Apart from the clients' tasks: kept connections have no end to wait for.
    let upstreams = TaskTracker::new();
    let edge = Arc::new(Edge::new(&config, &upstreams)?);
    let source = Source::new(&config, Arc::clone(&edge.control))?;
    let tasks = TaskTracker::new();
    let kill = CancellationToken::new();
    snapshot::restore(&source, &edge.routes).await;
    tasks.spawn(snapshot::follow(
        source,
        Arc::clone(&edge.routes),
        tasks.clone(),
        shutdown.clone(),
    ));
    let files = connections::raise_open_files();
    let places = Connections::new(files, edge.proxies.clone());
    for listener in listeners.0 {
        let address = listener.local_addr().context("a listener has no address")?;
        tracing::info!(%address, "the edge listens");
        tasks.spawn(accept(Acceptor {
            listener,
            edge: Arc::clone(&edge),
            places: Arc::clone(&places),
            tasks: tasks.clone(),
            stop: shutdown.clone(),
            kill: kill.clone(),
        }));
    }
    shutdown.cancelled().await;
    tasks.close();
    if timeout(DRAIN, tasks.wait()).await.is_err() {
        tracing::info!(connections = tasks.len(), "closing what is still open");
        kill.cancel();
        tasks.wait().await;
    }
    Ok(())
}

/// One listener and what its connections need.
struct Acceptor {
    listener: TcpListener,
    edge: Arc<Edge>,
    places: Arc<Connections>,
    tasks: TaskTracker,
    /// No new requests.
    stop: CancellationToken,
    /// Nothing any more.
    kill: CancellationToken,
}

async fn accept(acceptor: Acceptor) {
    let Acceptor {
        listener,
        edge,
        places,
        tasks,
        stop,
        kill,
    } = acceptor;
    loop {
        let next = async {
            let place = places.vacant().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(place) = places.give(place, peer.ip()) else {
                    connections::turn_away(stream);
                    continue;
                };
                let connection = serve(
                    stream,
                    peer.ip(),
                    Arc::clone(&edge),
                    stop.clone(),
                    kill.clone(),
                );
                tasks.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Serves one client connection to its end.
async fn serve(
    stream: TcpStream,
    peer: IpAddr,
    edge: Arc<Edge>,
    stop: CancellationToken,
    kill: CancellationToken,
) {
    // Fails only on a connection that is gone already.
    let _ = stream.set_nodelay(true);
    let client = Arc::new(Client::new(peer, &edge.proxies));
    let listener = Arc::clone(&client);
    let service = service_fn(move |request| {
        let (edge, client) = (Arc::clone(&edge), Arc::clone(&client));
        async move { Ok::<_, Infallible>(edge.answer(&client, request).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .max_header_size(MAX_HEAD)
            .serve_connection(TokioIo::new(Checked::new(stream)), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            if listener.listens() {
                return;
            }
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = kill.cancelled() => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "client connection ended");
    }
}
