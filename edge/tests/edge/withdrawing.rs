//! Streams that are open when their caller's access is withdrawn.

use std::sync::Arc;

use edge::protocol::{Callers, Policy};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::harness::{
    ADA, Body, EVE, Server, World, api_token, call, call_with, full, now, platform, request,
};

const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const EVENT: &[u8] = b"9\r\ndata: 1\n\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A server that answers calls, and listeners with a stream that says one thing at once and another
/// whenever it is asked to. One listener waits for its stream.
struct Listened {
    server: Server,
    say: watch::Sender<u32>,
    /// Somebody waits,
    waits: Arc<Notify>,
    /// and goes on.
    goes_on: Arc<Notify>,
}

impl Listened {
    async fn start() -> Self {
        let (say, saying) = watch::channel(0);
        let (waits, goes_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (waiting, gate) = (Arc::clone(&waits), Arc::clone(&goes_on));
        let server = Server::raw(move |mut stream| {
            let (mut saying, waiting, gate) =
                (saying.clone(), Arc::clone(&waiting), Arc::clone(&gate));
            async move {
                while let Some(head) = read_head(&mut stream).await {
                    if !head.starts_with("GET") {
                        stream.write_all(ANSWER).await.unwrap();
                        continue;
                    }
                    if head.contains("x-late") {
                        waiting.notify_one();
                        gate.notified().await;
                    }
                    stream.write_all(HEAD).await.unwrap();
                    saying.mark_changed();
                    while saying.changed().await.is_ok() {
                        if stream.write_all(EVENT).await.is_err() {
                            return;
                        }
                    }
                }
            }
        })
        .await;
        Self {
            server,
            say,
            waits,
            goes_on,
        }
    }

    fn say(&self) {
        self.say.send_modify(|said| *said += 1);
    }
}

/// The head of the next request, whose body is read too.
async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    if let Some((_, rest)) = head.split_once("content-length: ") {
        let length = rest.split("\r\n").next().unwrap().parse().unwrap();
        stream.read_exact(&mut vec![0; length]).await.unwrap();
    }
    Some(head.replacen("get", "GET", 1))
}

/// An open stream of which one event was read.
struct Stream(Response<Incoming>);

impl Stream {
    async fn open(world: &World, request: Request<Body>) -> Self {
        let response = world.edge.open(request).await;
        assert_eq!(response.status(), StatusCode::OK);
        let mut stream = Self(response);
        stream.hears().await;
        stream
    }

    async fn hears(&mut self) {
        let frame = self.0.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "data: 1\n\n");
    }

    /// It breaks off: nobody can take it for a whole answer.
    async fn ends(self) {
        let rest = self.0.into_body().collect().await;
        assert!(rest.is_err(), "{rest:?}");
    }
}

fn listen(token: &str) -> Request<Body> {
    let mut request = anybody("/mcp");
    let token = format!("Bearer {token}").parse().unwrap();
    request.headers_mut().insert("authorization", token);
    request
}

fn anybody(path: &str) -> Request<Body> {
    request("GET", path).body(full("")).unwrap()
}

fn only(callers: &[Uuid], public_paths: &[&str]) -> Policy {
    Policy::Platform {
        scope: "mcp".to_owned(),
        callers: Callers::Only(callers.to_vec()),
        public_paths: public_paths.iter().map(ToString::to_string).collect(),
    }
}

/// A token of `user` and `grant`.
fn token(world: &World, user: Uuid, grant: u128) -> String {
    world.signer.token(|claims| {
        claims["sub"] = json!(user);
        claims["gid"] = json!(Uuid::from_u128(grant));
    })
}

/// Waits until a call is answered so.
async fn until(world: &World, status: StatusCode, call: impl Fn() -> Request<Body>) {
    world
        .edge
        .until(call, |answer| answer.status == status)
        .await;
}

#[tokio::test]
async fn r40_a_stream_ends_when_its_callers_access_is_withdrawn_and_no_other_does() {
    let listened = Listened::start().await;
    let world = World::protected(&listened.server).await;
    let publish = |change: fn(&mut edge::protocol::RouteSnapshot)| world.control.publish(change);
    publish(|routes| routes.api_tokens = vec![api_token("brt_x")]);
    until(&world, StatusCode::OK, || call_with("brt_x")).await;
    let revoked = Stream::open(&world, listen(&token(&world, ADA, 9))).await;
    let mut removed = Stream::open(&world, listen(&token(&world, EVE, 10))).await;
    let mut by_key = Stream::open(&world, listen("brt_x")).await;
    let mut stays = Stream::open(&world, listen(&token(&world, ADA, 11))).await;

    publish(|routes| routes.revoked_grants = vec![Uuid::from_u128(9)]);
    revoked.ends().await;
    listened.say();
    for other in [&mut removed, &mut by_key, &mut stays] {
        other.hears().await;
    }
    publish(|routes| routes.users.retain(|user| user.id != EVE));
    removed.ends().await;
    publish(|routes| routes.api_tokens.clear());
    by_key.ends().await;

    publish(|routes| routes.routes[0].policy = only(&[ADA], &[]));
    let eve = token(&world, EVE, 12);
    until(&world, StatusCode::FORBIDDEN, || call_with(&eve)).await;
    listened.say();
    stays.hears().await;
    publish(|routes| routes.routes[0].policy = only(&[EVE], &[]));
    stays.ends().await;
}

#[tokio::test]
async fn r40_a_stream_without_a_caller_ends_when_its_path_asks_for_one() {
    let listened = Listened::start().await;
    let world = World::public(&listened.server).await;
    let publish = |change: fn(&mut edge::protocol::RouteSnapshot)| world.control.publish(change);
    let open = Stream::open(&world, anybody("/mcp")).await;
    publish(|routes| routes.routes[0].policy = only(&[ADA], &["/feed"]));
    open.ends().await;

    let mut feed = Stream::open(&world, anybody("/feed")).await;
    let good = world.signer.good();
    let mut hers = Stream::open(&world, listen(&good)).await;
    publish(|routes| routes.routes[0].policy = only(&[ADA], &["/feed", "/more"]));
    let more = || request("POST", "/more").body(full("")).unwrap();
    until(&world, StatusCode::OK, more).await;
    listened.say();
    feed.hears().await;
    hers.hears().await;
    publish(|routes| routes.routes[0].policy = only(&[ADA], &[]));
    feed.ends().await;
    // An open project lets everyone in, with a token too.
    publish(|routes| routes.routes[0].policy = Policy::Public);
    until(&world, StatusCode::OK, call).await;
    listened.say();
    hers.hears().await;
    publish(|routes| routes.routes.clear());
    hers.ends().await;
}

#[tokio::test]
async fn r04_a_stream_outlives_its_access_token() {
    let listened = Listened::start().await;
    let world = World::protected(&listened.server).await;
    // Some seconds within the leeway for clocks.
    let ending = world
        .signer
        .token(|claims| claims["exp"] = json!(now() - 55));
    let mut stream = Stream::open(&world, listen(&ending)).await;
    until(&world, StatusCode::UNAUTHORIZED, || call_with(&ending)).await;
    world
        .control
        .publish(|routes| routes.routes[0].policy = only(&[ADA], &[]));
    let eve = token(&world, EVE, 12);
    until(&world, StatusCode::FORBIDDEN, || call_with(&eve)).await;
    listened.say();
    stream.hears().await;
    // But not its caller's access.
    world
        .control
        .publish(|routes| routes.routes[0].policy = only(&[EVE], &[]));
    stream.ends().await;
}

#[tokio::test]
async fn r40_a_stream_that_begins_after_the_withdrawal_ends_at_once() {
    let listened = Listened::start().await;
    let world = Arc::new(World::new(platform(), Some(&listened.server)).await);
    let good = world.signer.good();
    let mut late = listen(&good);
    late.headers_mut().insert("x-late", "1".parse().unwrap());
    let opening = tokio_util::task::TaskTracker::new().spawn({
        let world = Arc::clone(&world);
        async move { world.edge.open(late).await }
    });
    listened.waits.notified().await;
    world
        .control
        .publish(|routes| routes.revoked_grants = vec![Uuid::from_u128(9)]);
    until(&world, StatusCode::UNAUTHORIZED, || call_with(&good)).await;
    listened.goes_on.notify_one();
    Stream(opening.await.unwrap()).ends().await;
}
