//! Connections, and the way from a request's host to who answers it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::ResponseBody;
use crate::error::Refusal;
use crate::framing::Checked;
use crate::headers::Origin;
use crate::limit::Kind;
use crate::listen::Listeners;
use crate::pool::Pool;
use crate::snapshot::{self, Source};
use crate::table::Routes;
use crate::{Config, dashboard, host, limit, project};

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
}

/// Who is at the other end of a connection.
#[derive(Debug)]
pub(crate) struct Client {
    address: HeaderValue,
    /// Whether it only listens to a stream of events at the moment.
    listens: AtomicBool,
}

impl Client {
    /// Notes the kind of response that begins now. A stream of events that nobody waits for the end
    /// of need not be waited for when the edge stops either: its client comes back.
    pub(crate) fn note_stream(&self, kind: Kind, headers: &HeaderMap) {
        let is_events = headers
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        let listens = kind == Kind::Stream && is_events;
        self.listens.store(listens, Ordering::Relaxed);
    }
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
        })
    }

    /// What upstreams are told about requests of `client`.
    pub(crate) fn origin<'a>(&self, client: &'a Client) -> Origin<'a> {
        Origin {
            address: &client.address,
            scheme: self.scheme,
        }
    }

    /// Answers one request.
    async fn answer(&self, client: &Client, request: Request<Incoming>) -> Response<ResponseBody> {
        client.listens.store(false, Ordering::Relaxed);
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
/// most 30 s, and closes streams on which a client only listens. It serves the routes of an earlier run until the control plane answers.
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
    let places = Arc::new(Semaphore::new(limit::MAX_CONNECTIONS));
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
    places: Arc<Semaphore>,
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
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = serve(stream, peer, Arc::clone(&edge), stop.clone(), kill.clone());
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
    peer: SocketAddr,
    edge: Arc<Edge>,
    stop: CancellationToken,
    kill: CancellationToken,
) {
    // Fails only on a connection that is gone already.
    let _ = stream.set_nodelay(true);
    let address = HeaderValue::try_from(peer.ip().to_canonical().to_string())
        .expect("an address is made of visible characters");
    let client = Arc::new(Client {
        address,
        listens: AtomicBool::new(false),
    });
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
            if listener.listens.load(Ordering::Relaxed) {
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
