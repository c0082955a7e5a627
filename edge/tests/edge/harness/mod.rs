//! An edge between a test's client and servers that live in the test's own process.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use edge::protocol::{
    ApiToken, Callers, EdgeReport, HostHeader, Policy, Route, RouteSnapshot, Upstream, User,
};
use edge::{Config, Listeners, Threads, Times, TrustedProxies};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub const ISSUER: &str = "http://berth.test";
pub const HOST: &str = "hello.apps.test";
/// Its second host, for API tokens.
pub const KEY_HOST: &str = "hello--key.apps.test";
pub const RESOURCE: &str = "http://hello.apps.test/mcp";

/// A person; tokens are hers unless said otherwise.
pub const ADA: Uuid = Uuid::from_u128(0xada);
/// Another.
pub const EVE: Uuid = Uuid::from_u128(0xe7e);
/// A service account.
pub const ROBOT: Uuid = Uuid::from_u128(0x0b07);

/// The organization of the project and of the service account.
pub const ORGANIZATION: Uuid = Uuid::from_u128(0x0126);

/// How long a test waits for what must happen; generous, for a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

pub type Body = BoxBody<Bytes, Infallible>;

pub fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed()
}

/// A server in this process.
pub struct Server {
    pub address: SocketAddr,
    stop: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Server {
    /// Answers every request with `answer`.
    pub async fn start<F, A>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::raw(move |stream| {
            let answer = answer.clone();
            async move {
                let service = service_fn(move |request| {
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                // The edge may close at any time.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        })
        .await
    }

    /// Hands every connection to `serve`.
    pub async fn raw<F, A>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> A + Clone + Send + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, serve)
    }

    pub fn on<F, A>(listener: TcpListener, serve: F) -> Self
    where
        F: Fn(TcpStream) -> A + Clone + Send + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let stopped = stop.clone();
        tasks.clone().spawn(async move {
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (stream, _) = accepted.unwrap();
                        let stopped = stopped.clone();
                        let serving = serve(stream);
                        tasks.spawn(async move {
                            tokio::select! {
                                () = serving => {}
                                () = stopped.cancelled() => {}
                            }
                        });
                    }
                    () = stopped.cancelled() => return,
                }
            }
        });
        Self { address, stop }
    }

    /// Answers with what it was asked: method, target, every header, the body.
    pub async fn echo() -> Self {
        Self::start(|request| async move {
            let (parts, body) = request.into_parts();
            let headers: Vec<(String, String)> = parts
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                .collect();
            let body = body.collect().await.unwrap().to_bytes();
            let said = json!({
                "method": parts.method.as_str(),
                "target": parts.uri.to_string(),
                "headers": headers,
                "body": String::from_utf8_lossy(&body),
            });
            Response::builder()
                .header("content-type", "application/json")
                .body(full(said.to_string()))
                .unwrap()
        })
        .await
    }

    /// Answers `text`.
    pub async fn saying(text: &'static str) -> Self {
        Self::start(move |request| async move {
            request.into_body().collect().await.unwrap();
            Response::new(full(text))
        })
        .await
    }
}

/// The control plane as the edge sees it.
pub struct Control {
    pub server: Server,
    routes: watch::Sender<RouteSnapshot>,
    pub reports: Reports,
}

/// What edges reported.
#[derive(Clone, Default)]
pub struct Reports {
    taken: Arc<Mutex<Vec<EdgeReport>>>,
    /// The status with which reports are refused, 0 for none.
    refused_with: Arc<AtomicU16>,
    /// Whether they are taken, and nobody hears of it.
    mute: Arc<AtomicBool>,
    /// Whether the next one of a call is left without an answer.
    silent: Arc<AtomicBool>,
    refused: Arc<AtomicUsize>,
    came: Arc<Notify>,
}

impl Reports {
    /// Waits until `find` finds something in all reports so far.
    pub async fn until<T>(&self, find: impl Fn(&[EdgeReport]) -> Option<T>) -> T {
        let look = async {
            loop {
                let came = self.came.notified();
                if let Some(found) = find(&self.taken.lock().unwrap()) {
                    return found;
                }
                came.await;
            }
        };
        tokio::time::timeout(PATIENCE, look)
            .await
            .expect("the edge reports as expected in the end")
    }

    /// Forgets the reports so far.
    pub fn clear(&self) {
        self.taken.lock().unwrap().clear();
    }

    /// Answers reports with `status` from now on; 0 takes them.
    pub fn refuse_with(&self, status: u16) {
        self.refused_with.store(status, Ordering::SeqCst);
    }

    /// Takes reports from now on and answers them 503, as when the answer is lost; or no longer.
    pub fn lose_answers(&self, lose: bool) {
        self.mute.store(lose, Ordering::SeqCst);
    }

    /// Takes the next report of a call and never answers it.
    pub fn leave_unanswered(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }

    /// Waits until one more report has been refused.
    pub async fn until_refused(&self) {
        let before = self.refused.load(Ordering::SeqCst);
        self.until(|_| (self.refused.load(Ordering::SeqCst) > before).then_some(()))
            .await;
    }

    async fn answer(&self, report: &[u8]) -> Response<Body> {
        let status = self.refused_with.load(Ordering::SeqCst);
        let mut answers = true;
        if status == 0 {
            let report: EdgeReport = serde_json::from_slice(report).unwrap();
            answers = report.calls.is_empty() || !self.silent.swap(false, Ordering::SeqCst);
            self.taken.lock().unwrap().push(report);
        } else {
            self.refused.fetch_add(1, Ordering::SeqCst);
        }
        // One waits at most, and one that comes later finds this.
        self.came.notify_one();
        if !answers {
            std::future::pending::<()>().await;
        }
        let status = match status {
            0 if self.mute.load(Ordering::SeqCst) => 503,
            0 => 204,
            status => status,
        };
        Response::builder().status(status).body(full("")).unwrap()
    }
}

impl Control {
    pub async fn start(routes: RouteSnapshot) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_on(listener, routes)
    }

    pub fn start_on(listener: TcpListener, routes: RouteSnapshot) -> Self {
        let (sender, receiver) = watch::channel(routes);
        let reports = Reports::default();
        let taking = reports.clone();
        let server = Server::on(listener, move |stream| {
            let (receiver, taking) = (receiver.clone(), taking.clone());
            async move {
                let service = service_fn(move |request| {
                    let (receiver, taking) = (receiver.clone(), taking.clone());
                    async move { Ok::<_, Infallible>(control_answer(request, receiver, &taking).await) }
                });
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        });
        Self {
            server,
            routes: sender,
            reports,
        }
    }

    /// Publishes the next version of the routes.
    pub fn publish(&self, change: impl FnOnce(&mut RouteSnapshot)) {
        self.routes.send_modify(|routes| {
            change(routes);
            routes.version += 1;
        });
    }
}

async fn control_answer(
    request: Request<Incoming>,
    mut routes: watch::Receiver<RouteSnapshot>,
    reports: &Reports,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if path == "/internal/edge/routes" {
        assert_eq!(request.headers()["authorization"], "Bearer role-token");
        let after: i64 = request.uri().query().unwrap()["after=".len()..]
            .parse()
            .unwrap();
        let Ok(routes) = routes
            .wait_for(|routes| routes.version != after)
            .await
            .map(|routes| routes.clone())
        else {
            // The test is over.
            return Response::builder().status(204).body(full("")).unwrap();
        };
        return Response::new(full(serde_json::to_vec(&routes).unwrap()));
    }
    let headers = request.headers().clone();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    if path == "/internal/edge/reports" {
        assert_eq!(headers["authorization"], "Bearer role-token");
        return reports.answer(&body).await;
    }
    let text = |name: &str| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    let said = json!({
        "path": path, "bytes": body.len(), "cookie": text("cookie"),
        "authorization": text("authorization"), "host": text("host"),
        "for": text("x-forwarded-for"), "berth": text("berth-user"),
    });
    Response::builder()
        .header("set-cookie", "sid=1")
        .header("www-authenticate", "Basic")
        .body(full(said.to_string()))
        .unwrap()
}

/// An edge that runs until it is dropped.
pub struct Edge {
    pub address: SocketAddr,
    pub shutdown: CancellationToken,
    pub running: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Edge {
    pub async fn start(control: SocketAddr, data: &Path) -> Self {
        Self::start_with(control, data, "http://berth.test").await
    }

    pub async fn start_with(control: SocketAddr, data: &Path, url: &str) -> Self {
        Self::start_behind(control, data, url, &[]).await
    }

    pub async fn start_behind(
        control: SocketAddr,
        data: &Path,
        url: &str,
        proxies: &[&str],
    ) -> Self {
        Self::start_timed(control, data, url, proxies, Times::default()).await
    }

    pub async fn start_timed(
        control: SocketAddr,
        data: &Path,
        url: &str,
        proxies: &[&str],
        times: Times,
    ) -> Self {
        let config = Config {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            public_url: url.parse().unwrap(),
            control_url: format!("http://{control}").parse().unwrap(),
            apps_domain: "apps.test".to_owned(),
            token: Some("role-token".to_owned()),
            token_file: None,
            data: data.to_owned(),
            proxies: TrustedProxies {
                trusted_proxies: proxies.iter().map(|net| net.parse().unwrap()).collect(),
            },
            // Tests count connections to instances, which each thread keeps for itself.
            threads: Threads {
                edge_threads: Some(1),
            },
        };
        let listeners = Listeners::bind(&config.listen).await.unwrap();
        let address = listeners.addresses().unwrap()[0];
        let shutdown = CancellationToken::new();
        let running =
            TaskTracker::new().spawn(edge::run_with(listeners, config, times, shutdown.clone()));
        Self {
            address,
            shutdown,
            running,
        }
    }

    /// Sends `request` on a connection of its own and reads the whole answer.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.open(request).await;
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    /// Sends `request` on a connection of its own; the answer's body is still to come.
    pub async fn open(&self, request: Request<Body>) -> Response<Incoming> {
        self.try_open(request).await.unwrap()
    }

    /// [`Edge::open`] where no answer may come.
    pub async fn try_open(&self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        TaskTracker::new().spawn(connection);
        sender.send_request(request).await
    }

    /// Opens a connection and writes `text` on it.
    pub async fn raw(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    /// What comes back for `text` until the edge closes.
    pub async fn raw_answer(&self, text: &str) -> String {
        let mut answer = Vec::new();
        // A reset after the answer is an end as well.
        let _ = self.raw(text).await.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Repeats `request` until `good` says so of its answer.
    pub async fn until(
        &self,
        request: impl Fn() -> Request<Body>,
        good: impl Fn(&Answer) -> bool,
    ) -> Answer {
        let repeat = async {
            loop {
                let answer = self.send(request()).await;
                if good(&answer) {
                    return answer;
                }
            }
        };
        tokio::time::timeout(PATIENCE, repeat)
            .await
            .expect("the edge answers as expected in the end")
    }
}

/// A whole response.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A request to the project.
pub fn request(method: &str, target: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(target)
        .header("host", HOST)
}

/// A call of the project with id 7.
pub fn call() -> Request<Body> {
    request("POST", "/mcp")
        .header("content-type", "application/json")
        .body(full(r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#))
        .unwrap()
}

pub fn upstream(deployment: u128, address: SocketAddr) -> Upstream {
    Upstream {
        deployment: Uuid::from_u128(deployment),
        commit: format!("commit-{deployment}"),
        address: address.to_string(),
        host_header: HostHeader::Public,
    }
}

pub fn route(policy: Policy, live: Option<Upstream>) -> Route {
    Route {
        host: HOST.to_owned(),
        key_host: KEY_HOST.to_owned(),
        project: Uuid::from_u128(100),
        preview_of: None,
        organization: ORGANIZATION,
        project_name: "hello".to_owned(),
        resource: RESOURCE.to_owned(),
        policy,
        allowed_origins: Vec::new(),
        live,
        starts: false,
        draining: Vec::new(),
    }
}

pub fn snapshot(keys: Value, routes: Vec<Route>) -> RouteSnapshot {
    RouteSnapshot {
        version: 1,
        issuer: ISSUER.to_owned(),
        keys,
        revoked_grants: Vec::new(),
        users: vec![
            user(ADA, Some("ada@example.com")),
            user(EVE, Some("eve@example.com")),
            User {
                organization: Some(ORGANIZATION),
                ..user(ROBOT, None)
            },
        ],
        api_tokens: Vec::new(),
        routes,
    }
}

pub fn user(id: Uuid, email: Option<&str>) -> User {
    User {
        id,
        email: email.map(str::to_owned),
        organization: None,
    }
}

/// Ada's API token `token`, good for every project and without an end.
pub fn api_token(token: &str) -> ApiToken {
    let hash = digest(&SHA256, token.as_bytes());
    ApiToken {
        id: Uuid::from_u128(0x70),
        hash: hash
            .as_ref()
            .iter()
            .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}")),
        user: ADA,
        projects: None,
        expires_at: None,
    }
}

pub fn platform() -> Policy {
    Policy::Platform {
        scope: "mcp".to_owned(),
        callers: Callers::Anyone,
        public_paths: Vec::new(),
    }
}

/// An edge with one project.
pub struct World {
    pub edge: Edge,
    pub control: Control,
    pub data: tempfile::TempDir,
    pub signer: Arc<Signer>,
}

impl World {
    pub async fn new(policy: Policy, live: Option<&Server>) -> Self {
        Self::timed(policy, live, Times::default()).await
    }

    pub async fn timed(policy: Policy, live: Option<&Server>, times: Times) -> Self {
        let signer = Arc::new(Signer::new("k1"));
        let live = live.map(|server| upstream(1, server.address));
        let routes = snapshot(signer.keys(), vec![route(policy, live)]);
        let control = Control::start(routes).await;
        let data = tempfile::tempdir().unwrap();
        let (address, url) = (control.server.address, "http://berth.test");
        let edge = Edge::start_timed(address, data.path(), url, &[], times).await;
        Self {
            edge,
            control,
            data,
            signer,
        }
    }

    pub async fn public(live: &Server) -> Self {
        Self::new(Policy::Public, Some(live)).await
    }

    pub async fn protected(live: &Server) -> Self {
        Self::new(platform(), Some(live)).await
    }
}

/// An authorization server's signing key.
pub struct Signer {
    id: String,
    key: EncodingKey,
    public: Vec<u8>,
}

impl Signer {
    pub fn new(id: &str) -> Self {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref()).unwrap();
        Self {
            id: id.to_owned(),
            key: EncodingKey::from_ec_der(document.as_ref()),
            public: pair.public_key().as_ref().to_vec(),
        }
    }

    pub fn keys(&self) -> Value {
        // An uncompressed point: 4, x, y.
        let (x, y) = self.public[1..].split_at(32);
        json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.id,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }]})
    }

    /// A good token with `change` made to its claims.
    pub fn token(&self, change: impl FnOnce(&mut Value)) -> String {
        self.token_of_type("at+jwt", change)
    }

    pub fn token_of_type(&self, typ: &str, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = json!({
            "iss": ISSUER, "aud": RESOURCE, "sub": ADA, "client_id": "claude",
            "scope": "mcp offline_access", "gid": Uuid::from_u128(9), "pid": Uuid::from_u128(100), "jti": "1",
            "iat": now(), "exp": now() + 3600,
        });
        change(&mut claims);
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some(typ.to_owned());
        header.kid = Some(self.id.clone());
        jsonwebtoken::encode(&header, &claims, &self.key).unwrap()
    }

    pub fn good(&self) -> String {
        self.token(|_| {})
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the edge under test reads the machine's clock"
)]
pub fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// The values of a header that [`Server::echo`] was sent.
pub fn header_values<'a>(said: &'a Value, name: &str) -> Vec<&'a str> {
    said["headers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|pair| pair[0] == name)
        .map(|pair| pair[1].as_str().unwrap())
        .collect()
}

/// [`call`] with a token.
pub fn call_with(token: &str) -> Request<Body> {
    let mut call = call();
    call.headers_mut()
        .insert("authorization", format!("Bearer {token}").parse().unwrap());
    call
}
