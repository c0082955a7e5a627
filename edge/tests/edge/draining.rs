//! Replaced instances: who still depends on them, and what the control plane hears of it.

use std::time::Duration;

use edge::Times;
use edge::protocol::{EdgeReport, InstanceUse, Policy};
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::harness::{
    Answer, Body, EVE, Edge, Server, World, call, call_with, full, request, upstream,
};

/// Reports often, so that nothing else need happen for one to come.
fn often() -> Times {
    Times {
        report: Duration::from_millis(50),
        ..Times::default()
    }
}

/// Reports only when there is something to tell at once.
fn seldom() -> Times {
    Times {
        report: Duration::from_hours(1),
        ..Times::default()
    }
}

/// Opens a session where there is none; a GET in one streams until the client leaves.
async fn stateful(name: &'static str) -> Server {
    Server::start(move |request| async move {
        let response = Response::builder();
        let response = match request.headers().get("mcp-session-id") {
            Some(id) => response.header("mcp-session-id", id.clone()),
            None => response.header("mcp-session-id", format!("session-of-{name}")),
        };
        if request.method() == http::Method::GET {
            return response
                .header("content-type", "text/event-stream")
                .body(endless())
                .unwrap();
        }
        response.body(full(name)).unwrap()
    })
    .await
}

/// A stream that says nothing.
fn endless() -> Body {
    let silence = futures_util::stream::pending();
    http_body_util::StreamBody::new(silence).boxed()
}

fn in_session(method: &str, id: &str) -> http::Request<Body> {
    request(method, "/mcp")
        .header("mcp-session-id", id)
        .body(full(""))
        .unwrap()
}

/// Deployment 2 at `new` takes over from deployment 1 at `old`; in use when this returns.
async fn replace(world: &World, old: &Server, new: &Server) {
    world.control.publish(|routes| {
        let route = &mut routes.routes[0];
        route.draining = vec![upstream(1, old.address)];
        route.live = Some(upstream(2, new.address));
    });
    let in_use = |answer: &Answer| answer.header("berth-commit") == Some("commit-2");
    world.edge.until(call, in_use).await;
}

/// What the last report says of a deployment.
fn last_use(reports: &[EdgeReport], deployment: u128) -> Option<InstanceUse> {
    let deployment = Uuid::from_u128(deployment);
    let instances = &reports.last()?.instances;
    instances
        .iter()
        .find(|used| used.deployment == deployment)
        .copied()
}

/// Waits until a report says that `deployment` has so many sessions and requests.
async fn until_used(world: &World, deployment: u128, sessions: u32, requests: u32) {
    world
        .control
        .reports
        .until(|reports| {
            last_use(reports, deployment)
                .filter(|used| (used.sessions, used.requests) == (sessions, requests))
        })
        .await;
}

#[tokio::test]
async fn r10_a_replaced_instance_serves_its_sessions_and_their_end_is_told_at_once() {
    let (old, new) = (stateful("old").await, stateful("new").await);
    let world = World::timed(Policy::Public, Some(&old), seldom()).await;
    world.edge.send(call()).await;
    replace(&world, &old, &new).await;
    for _ in 0..3 {
        let answer = world.edge.send(in_session("POST", "session-of-old")).await;
        assert_eq!(answer.text(), "old");
        assert_eq!(world.edge.send(call()).await.text(), "new");
    }
    world.control.reports.clear();
    // Nobody asks for a report; the end of the last session is one's occasion.
    world
        .edge
        .send(in_session("DELETE", "session-of-old"))
        .await;
    until_used(&world, 1, 0, 0).await;
}

#[tokio::test]
async fn r10_an_instance_that_nobody_needs_is_told_of_as_soon_as_it_is_replaced() {
    let (old, new) = (Server::saying("old").await, Server::saying("new").await);
    let world = World::timed(Policy::Public, Some(&old), seldom()).await;
    assert_eq!(world.edge.send(call()).await.text(), "old");
    replace(&world, &old, &new).await;
    until_used(&world, 1, 0, 0).await;
}

#[tokio::test]
async fn r10_sessions_and_requests_are_told_for_each_instance() {
    let (asked, mut askings) = mpsc::unbounded_channel();
    let slow = Server::start(move |request| {
        let asked = asked.clone();
        async move {
            let (answer, wait) = tokio::sync::oneshot::channel::<()>();
            if request.headers().contains_key("x-slow") {
                asked.send(answer).unwrap();
                wait.await.unwrap();
            }
            Response::builder()
                .header("mcp-session-id", "slow-session")
                .body(full("slow"))
                .unwrap()
        }
    })
    .await;
    let new = Server::saying("new").await;
    let world = World::timed(Policy::Public, Some(&slow), often()).await;
    world.edge.send(call()).await;
    until_used(&world, 1, 1, 0).await;
    let slowly = request("POST", "/mcp")
        .header("x-slow", "1")
        .body(full("{}"))
        .unwrap();
    let both = async {
        let answer = askings.recv().await.unwrap();
        until_used(&world, 1, 1, 1).await;
        replace(&world, &slow, &new).await;
        until_used(&world, 1, 1, 1).await;
        until_used(&world, 2, 0, 0).await;
        answer.send(()).unwrap();
        until_used(&world, 1, 1, 0).await;
    };
    let (answer, ()) = tokio::join!(world.edge.send(slowly), both);
    assert_eq!(answer.text(), "slow");
}

#[tokio::test]
async fn r10_a_listening_stream_is_the_sessions_and_not_a_request() {
    let (old, new) = (stateful("old").await, stateful("new").await);
    let world = World::timed(Policy::Public, Some(&old), often()).await;
    world.edge.send(call()).await;
    let listening = world.edge.open(in_session("GET", "session-of-old")).await;
    assert_eq!(listening.headers()["content-type"], "text/event-stream");
    replace(&world, &old, &new).await;
    until_used(&world, 1, 1, 0).await;
    // One without a session may be cut: its client comes to the new instance.
    let other = world
        .edge
        .open(request("GET", "/mcp").body(full("")).unwrap())
        .await;
    assert_eq!(other.headers()["berth-commit"], "commit-2");
    until_used(&world, 1, 1, 0).await;
    until_used(&world, 2, 1, 0).await;
}

#[tokio::test]
async fn r19_a_session_of_the_first_revision_lasts_as_long_as_its_stream() {
    let sse = |name: &'static str| {
        Server::raw(move |mut stream| async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            if head.starts_with(b"GET /sse") {
                let event = format!("event: endpoint\ndata: /messages/?session_id={name}-1\n\n");
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{event}\r\n",
                    event.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
                let _ = stream.read(&mut [0]).await;
            } else {
                let answer = format!(
                    "HTTP/1.1 202 Accepted\r\ncontent-length: 3\r\nconnection: close\r\n\r\n{name}"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        })
    };
    let (old, new) = (sse("old").await, sse("new").await);
    let world = World::timed(Policy::Public, Some(&old), often()).await;
    let mut opened = world
        .edge
        .open(request("GET", "/sse").body(full("")).unwrap())
        .await;
    let event = opened.body_mut().frame().await.unwrap().unwrap();
    assert!(
        event
            .into_data()
            .unwrap()
            .ends_with(b"session_id=old-1\n\n")
    );
    replace(&world, &old, &new).await;
    until_used(&world, 1, 1, 0).await;
    let post = || {
        request("POST", "/messages/?session_id=old-1")
            .body(full("{}"))
            .unwrap()
    };
    assert_eq!(world.edge.send(post()).await.text(), "old");
    until_used(&world, 1, 1, 0).await;
    drop(opened);
    until_used(&world, 1, 0, 0).await;
}

#[tokio::test]
async fn r09_sessions_survive_a_restart_of_the_edge() {
    use std::os::unix::fs::PermissionsExt;

    let (old, new) = (stateful("old").await, stateful("new").await);
    let world = World::new(crate::harness::platform(), Some(&old)).await;
    let ada = world.signer.good();
    world.edge.send(call_with(&ada)).await;
    world.control.publish(|routes| {
        let route = &mut routes.routes[0];
        route.draining = vec![upstream(1, old.address)];
        route.live = Some(upstream(2, new.address));
    });
    let is_new = |answer: &Answer| answer.text() == "new";
    world.edge.until(|| call_with(&ada), is_new).await;
    let World {
        mut edge,
        control,
        data,
        signer,
    } = world;
    edge.shutdown.cancel();
    (&mut edge.running).await.unwrap().unwrap();
    let file = data.path().join("edge/sessions.json");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("session-of-"), "{text}");

    let edge = Edge::start(control.server.address, data.path()).await;
    let within = |token: &str| {
        let mut call = call_with(token);
        let id = "session-of-old".parse().unwrap();
        call.headers_mut().insert("mcp-session-id", id);
        call
    };
    let answer = edge.send(within(&ada)).await;
    assert_eq!(answer.text(), "old");
    assert_eq!(answer.header("berth-commit"), Some("commit-1"));
    let eve = signer.token(|claims| claims["sub"] = serde_json::json!(EVE));
    let answer = edge.send(within(&eve)).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.json()["error"]["code"], -32600);
    control
        .reports
        .until(|reports| last_use(reports, 1).filter(|used| used.sessions == 1))
        .await;
}

#[tokio::test]
async fn r09_damaged_or_missing_sessions_do_not_keep_the_edge_from_starting() {
    let server = stateful("it").await;
    let world = World::public(&server).await;
    world.edge.send(call()).await;
    let World {
        mut edge,
        control,
        data,
        ..
    } = world;
    edge.shutdown.cancel();
    (&mut edge.running).await.unwrap().unwrap();
    std::fs::write(data.path().join("edge/sessions.json"), "{\"sess").unwrap();
    let edge = Edge::start(control.server.address, data.path()).await;
    // The live instance is the judge of what nobody remembers.
    let answer = edge.send(in_session("POST", "session-of-it")).await;
    assert_eq!(answer.text(), "it");
}
