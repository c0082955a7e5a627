//! Connections, and the way from a request's host to who answers it.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use anyhow::bail;
use http::header::ALLOW;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::alarm::OneTimer;
use crate::body::ResponseBody;
use crate::client::Client;
use crate::connections::{self, Connections};
use crate::control::ControlPlane;
use crate::error::{self, Refusal};
use crate::framing::Checked;
use crate::identity::Identity;
use crate::listen::Listeners;
use crate::pool::Pool;
use crate::snapshot::{self, Source};
use crate::spread::{Passed, Seat, Spread};
use crate::steps::Steps;
use crate::table::Routes;
use crate::usage::Calls;
use crate::wanted::Wanted;
use crate::{Config, Times, dashboard, host, project, report, session_file, worker};

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
    /// The key with which this edge tells instances who calls.
    pub(crate) identity: Identity,
    pub(crate) times: Times,
    /// What is reported of the calls that were answered,
    pub(crate) calls: Calls,
    /// and of clients that connect.
    pub(crate) steps: Steps,
    /// What calls are held for.
    pub(crate) wanted: Wanted,
    /// `http` or `https`, as clients see it.
    pub(crate) scheme: &'static str,
    dashboard_host: String,
    /// `.` and the apps domain.
    apps_suffix: String,
    dashboard_url: String,
    proxies: Vec<IpNet>,
}

impl Edge {
    fn new(config: &Config, times: Times) -> anyhow::Result<Self> {
        Ok(Self {
            routes: Arc::new(Routes::new()),
            control: Pool::new(config.control_address()?),
            identity: Identity::open(&config.data)?,
            times,
            calls: Calls::new(),
            steps: Steps::default(),
            wanted: Wanted::default(),
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

    /// What is said of a host that has no route.
    fn nothing_at(&self, host: &str) -> String {
        let at = &self.dashboard_url;
        if host.contains("--pr-") {
            format!(
                "There is no preview at this address: its pull request is closed, or waits for a member to approve it. The projects are at {at}."
            )
        } else {
            format!("There is no project at this address. Your projects are at {at}.")
        }
    }

    /// Closes connections to instances that nobody has used for a while.
    pub(crate) fn sweep(&self) {
        for site in self.routes.sites() {
            site.targets().for_each(|target| target.pool.sweep());
        }
        self.control.sweep();
    }

    /// Answers one request.
    async fn answer(&self, client: &Client, request: Request<Incoming>) -> Response<ResponseBody> {
        client.note_request();
        let (parts, body) = request.into_parts();
        // Boxed, since it is handed on many times before it is sent.
        let parts = Box::new(parts);
        if parts.method == Method::TRACE {
            return no_trace();
        }
        let host = match host::name(&parts) {
            Ok(host) => host,
            Err(sentence) => {
                let refusal = Refusal::new(StatusCode::BAD_REQUEST, sentence);
                return Box::pin(error::answer(refusal, &parts, body)).await;
            }
        };
        if host == self.dashboard_host {
            drop(host);
            // Boxed, here and below: a call's future would have to hold the room for it.
            return Box::pin(dashboard::answer(self, client, parts, body)).await;
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
            let refusal = Refusal::new(StatusCode::MISDIRECTED_REQUEST, sentence);
            return Box::pin(error::answer(refusal, &parts, body)).await;
        }
        Box::pin(self.routes.changed_from_nothing(FIRST_ROUTES)).await;
        if let Some(site) = self.routes.find(&host) {
            drop(host);
            return Box::pin(project::answer(self, client, site, parts, body)).await;
        }
        let refusal = if self.routes.version().is_none() {
            Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "The platform is starting and does not know its projects yet. Try again in a few seconds.",
            )
            .retry_after(2)
        } else {
            Refusal::new(StatusCode::NOT_FOUND, self.nothing_at(&host))
        };
        error::answer(refusal, &parts, body).await
    }
}

/// An echo of the request would show a web page what its browser adds to it, and what the edge does
/// (RFC 9110 section 9.3.8).
fn no_trace() -> Response<ResponseBody> {
    let mut response = Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "Requests are not echoed here. Use another method than TRACE.",
    )
    .json();
    response.headers_mut().insert(
        ALLOW,
        HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
    );
    response
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
    run_with(listeners, config, Times::default(), shutdown).await
}

/// [`run_on`] with other `times`, for tests that cannot wait.
pub async fn run_with(
    listeners: Listeners,
    config: Config,
    times: Times,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let edge = Arc::new(Edge::new(&config, times)?);
    let control = Arc::new(ControlPlane::new(&config, Arc::clone(&edge.control))?);
    let source = Source::new(&config, Arc::clone(&control));
    let tasks = TaskTracker::new();
    snapshot::restore(&source, &edge.routes).await;
    session_file::restore(&config.session_file(), &edge.routes).await;
    tasks.spawn(snapshot::follow(
        source,
        Arc::clone(&edge.routes),
        tasks.clone(),
        shutdown.clone(),
    ));
    // What follows the clients' tasks ends after them.
    let (followers, served) = (TaskTracker::new(), CancellationToken::new());
    followers.spawn(session_file::follow(
        config.session_file(),
        Arc::clone(&edge.routes),
        followers.clone(),
        served.clone(),
    ));
    followers.spawn(report::follow(Arc::clone(&edge), control, served.clone()));
    let files = connections::raise_open_files();
    let places = Connections::new(files, edge.proxies.clone());
    let (spread, inboxes) = Spread::over(worker::count(config.threads));
    let mut workers = Vec::new();
    for (thread, inbox) in inboxes.into_iter().enumerate() {
        let acceptors = Acceptors {
            thread,
            listeners: listeners.copies()?,
            spread: Arc::clone(&spread),
            inbox,
            edge: Arc::clone(&edge),
            places: Arc::clone(&places),
            // Each thread looks at one of its own with every call.
            stop: shutdown.child_token(),
        };
        // Place 0 is for all other threads.
        workers.push(worker::start(thread + 1, || acceptors.run())?);
    }
    for address in listeners.addresses()? {
        tracing::info!(%address, "the edge listens");
    }
    drop(listeners);
    shutdown.cancelled().await;
    for ended in workers {
        // It ends by being dropped, and with its thread in any case.
        let _ = ended.await;
    }
    tasks.close();
    tasks.wait().await;
    served.cancel();
    followers.close();
    followers.wait().await;
    Ok(())
}

/// What one thread serves.
struct Acceptors {
    thread: usize,
    listeners: Vec<std::net::TcpListener>,
    spread: Arc<Spread>,
    /// What other threads have accepted for this one.
    inbox: UnboundedReceiver<Passed>,
    edge: Arc<Edge>,
    places: Arc<Connections>,
    stop: CancellationToken,
}

impl Acceptors {
    /// Serves until `stop`, then lets requests in progress end, for at most [`DRAIN`].
    async fn run(self) {
        let server = Server {
            edge: self.edge,
            tasks: TaskTracker::new(),
            stop: self.stop,
            kill: CancellationToken::new(),
        };
        server.tasks.spawn(take(server.clone(), self.inbox));
        for listener in self.listeners {
            let listener = match TcpListener::from_std(listener) {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::error!(%error, "a thread cannot listen");
                    continue;
                }
            };
            server.tasks.spawn(accept(Acceptor {
                thread: self.thread,
                listener,
                spread: Arc::clone(&self.spread),
                places: Arc::clone(&self.places),
                server: server.clone(),
            }));
        }
        let Server {
            tasks, stop, kill, ..
        } = server;
        stop.cancelled().await;
        tasks.close();
        if timeout(DRAIN, tasks.wait()).await.is_err() {
            tracing::info!(connections = tasks.len(), "closing what is still open");
            kill.cancel();
            tasks.wait().await;
        }
    }
}

/// What a thread serves its connections with.
#[derive(Clone)]
struct Server {
    edge: Arc<Edge>,
    tasks: TaskTracker,
    /// No new requests.
    stop: CancellationToken,
    /// Nothing any more.
    kill: CancellationToken,
}

impl Server {
    /// Serves a connection in a task of its own.
    fn serve(&self, stream: TcpStream, peer: IpAddr, seat: Seat) {
        let edge = Arc::clone(&self.edge);
        let connection = serve(stream, peer, edge, self.stop.clone(), self.kill.clone());
        self.tasks.spawn(async move {
            connection.await;
            drop(seat);
        });
    }
}

/// One listener and what its connections need.
struct Acceptor {
    thread: usize,
    listener: TcpListener,
    spread: Arc<Spread>,
    places: Arc<Connections>,
    server: Server,
}

async fn accept(acceptor: Acceptor) {
    let Acceptor {
        thread,
        listener,
        spread,
        places,
        server,
    } = acceptor;
    loop {
        let next = async {
            let accepted = listener.accept().await;
            // A client without a place waits here, one for each thread and listener; the others in
            // the kernel's queue. A listener nobody calls holds none.
            (places.vacant().await, accepted)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            () = server.stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let peer = peer.ip();
                let Some(place) = places.give(place, peer) else {
                    connections::turn_away(stream);
                    continue;
                };
                match spread.seat(thread, stream, peer, place) {
                    Ok(Some((stream, seat))) => server.serve(stream, peer, seat),
                    Ok(None) => {}
                    Err(error) => tracing::warn!(%error, "cannot pass a connection on"),
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Serves what other threads pass on.
async fn take(server: Server, mut inbox: UnboundedReceiver<Passed>) {
    loop {
        let passed = tokio::select! {
            passed = inbox.recv() => passed,
            () = server.stop.cancelled() => return,
        };
        match passed.map(Passed::stream) {
            Some(Ok((stream, peer, seat))) => server.serve(stream, peer, seat),
            Some(Err(error)) => tracing::warn!(%error, "cannot take a connection"),
            None => return,
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
        // Boxed, so that it is gone when the head of the answer is there: it is larger than all
        // else that a stream holds, and the library keeps room for it as long as the connection.
        Box::pin(async move { Ok::<_, Infallible>(edge.answer(&client, request).await) })
    });
    let (checked, remains) = Checked::new(stream);
    let ended = {
        let mut connection = pin!(
            http1::Builder::new()
                .timer(OneTimer::default())
                .header_read_timeout(IDLE)
                .max_header_size(MAX_HEAD)
                .serve_connection(TokioIo::new(checked), service)
        );
        match until(&stop, connection.as_mut()).await {
            Some(ended) => ended,
            None if listener.listens() => return,
            None => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = kill.cancelled() => return,
                }
            }
        }
    };
    remains.linger().await;
    if let Err(error) = ended {
        tracing::debug!(%error, "client connection ended");
    }
}

/// What `work` gives, unless `stop` comes first. Waits for `stop` once, not with each of the thousand
/// times that a connection is woken: whatever wakes it, this is the same task.
async fn until<T>(
    stop: &CancellationToken,
    mut work: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    let mut stopped = pin!(stop.cancelled());
    let mut waits = false;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        if waits && !stop.is_cancelled() {
            return Poll::Pending;
        }
        waits = true;
        stopped.as_mut().poll(cx).map(|()| None)
    })
    .await
}
