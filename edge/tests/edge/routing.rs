//! Which instance a call reaches while routes change, and where routes come from.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use edge::protocol::Policy;
use http::{HeaderValue, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::harness::{
    Body, Control, EVE, Edge, Server, World, call, call_with, full, request, route, snapshot,
    upstream,
};

/// A server that opens a session where there is none and names itself.
async fn with_sessions(name: &'static str) -> Server {
    Server::start(move |request| async move {
        let response = http::Response::builder();
        let response = match request.headers().get("mcp-session-id") {
            Some(id) => response.header("mcp-session-id", id.clone()),
            None => response.header("mcp-session-id", format!("session-of-{name}")),
        };
        response.body(full(name)).unwrap()
    })
    .await
}

fn in_session(id: &str) -> http::Request<Body> {
    let mut call = call();
    call.headers_mut()
        .insert("mcp-session-id", id.parse().unwrap());
    call
}

#[tokio::test]
async fn a_session_stays_with_its_instance_while_that_drains() {
    let (old, new) = (with_sessions("old").await, with_sessions("new").await);
    let world = World::public(&old).await;
    let opened = world.edge.send(call()).await;
    assert_eq!(opened.header("mcp-session-id"), Some("session-of-old"));

    world.control.publish(|routes| {
        let route = &mut routes.routes[0];
        route.draining = vec![upstream(1, old.address)];
        route.live = Some(upstream(2, new.address));
    });
    world
        .edge
        .until(call, |answer| answer.text() == "new")
        .await;
    for _ in 0..5 {
        let answer = world.edge.send(in_session("session-of-old")).await;
        assert_eq!(answer.text(), "old");
        assert_eq!(answer.header("berth-commit"), Some("commit-1"));
        let answer = world.edge.send(in_session("session-of-new")).await;
        assert_eq!(answer.text(), "new");
        assert_eq!(world.edge.send(call()).await.text(), "new");
    }
    // An id that nobody is known to have issued is the live instance's to judge.
    assert_eq!(world.edge.send(in_session("unknown")).await.text(), "new");

    world
        .control
        .publish(|routes| routes.routes[0].draining.clear());
    let gone = world
        .edge
        .until(
            || in_session("session-of-old"),
            |answer| answer.text() != "old",
        )
        .await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
    assert_eq!(gone.json()["id"], 7);
    assert!(
        gone.json()["error"]["message"]
            .as_str()
            .unwrap()
            .starts_with("Session not found")
    );
}

#[tokio::test]
async fn a_session_that_was_ended_is_forgotten() {
    let (old, new) = (with_sessions("old").await, with_sessions("new").await);
    let world = World::public(&old).await;
    world.edge.send(call()).await;
    world.control.publish(|routes| {
        let route = &mut routes.routes[0];
        route.draining = vec![upstream(1, old.address)];
        route.live = Some(upstream(2, new.address));
    });
    world
        .edge
        .until(call, |answer| answer.text() == "new")
        .await;
    let end = request("DELETE", "/mcp")
        .header("mcp-session-id", "session-of-old")
        .body(full(""))
        .unwrap();
    assert_eq!(world.edge.send(end).await.text(), "old");
    let answer = world.edge.send(in_session("session-of-old")).await;
    assert_eq!(answer.text(), "new");
}

#[tokio::test]
async fn r41_a_session_belongs_to_the_one_who_opened_it() {
    let server = with_sessions("it").await;
    let world = World::protected(&server).await;
    let ada = world.signer.good();
    world.edge.send(call_with(&ada)).await;
    let within = |token: &str| {
        let mut call = call_with(token);
        call.headers_mut()
            .insert("mcp-session-id", "session-of-it".parse().unwrap());
        call
    };
    assert_eq!(world.edge.send(within(&ada)).await.status, StatusCode::OK);
    for other in [
        world.signer.token(|claims| claims["sub"] = json!(EVE)),
        world
            .signer
            .token(|claims| claims["client_id"] = json!("other")),
    ] {
        let answer = world.edge.send(within(&other)).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(answer.json()["error"]["code"], -32600);
    }
}

#[tokio::test]
async fn an_sse_session_of_the_first_revision_stays_with_its_instance() {
    let sse = |name: &'static str| {
        Server::start(move |request| async move {
            if request.method() == http::Method::GET {
                let event =
                    format!("event: endpoint\r\ndata: /messages/?session_id={name}\r\n\r\n");
                return http::Response::builder()
                    .header("content-type", "text/event-stream")
                    .body(full(event))
                    .unwrap();
            }
            http::Response::new(full(name))
        })
    };
    let (old, new) = (sse("old").await, sse("new").await);
    stays_with_its_instance(&old, &new).await;
}

#[tokio::test]
async fn an_sse_session_is_learned_from_an_event_in_pieces_too() {
    let sse = |name: &'static str| {
        Server::raw(move |mut stream| async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            if head.starts_with(b"POST") {
                // A close with something unread would be a reset.
                let _ = stream.read(&mut [0; 64]).await;
                let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{name}");
                stream.write_all(answer.as_bytes()).await.unwrap();
                return;
            }
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            let text =
                format!(": hello\n\nevent: endpoint\ndata: /messages/?session_id={name}\n\n");
            for byte in text.chars() {
                stream
                    .write_all(format!("1\r\n{byte}\r\n").as_bytes())
                    .await
                    .unwrap();
            }
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        })
    };
    let (old, new) = (sse("old").await, sse("new").await);
    stays_with_its_instance(&old, &new).await;
}

async fn stays_with_its_instance(old: &Server, new: &Server) {
    let world = World::public(old).await;
    let opened = world
        .edge
        .send(request("GET", "/sse").body(full("")).unwrap())
        .await;
    assert!(opened.text().contains("session_id=old"));
    world.control.publish(|routes| {
        let route = &mut routes.routes[0];
        route.draining = vec![upstream(1, old.address)];
        route.live = Some(upstream(2, new.address));
    });
    world
        .edge
        .until(call, |answer| answer.text() == "new")
        .await;
    let post = request("POST", "/messages/?session_id=old")
        .body(full("{}"))
        .unwrap();
    assert_eq!(world.edge.send(post).await.text(), "old");
}

#[tokio::test]
async fn swapping_under_load_loses_nothing() {
    let servers = [Server::saying("a").await, Server::saying("b").await];
    let world = Arc::new(World::public(&servers[0]).await);
    let done = Arc::new(AtomicBool::new(false));
    let tasks = TaskTracker::new();
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let (world, done) = (Arc::clone(&world), Arc::clone(&done));
            tasks.spawn(async move {
                let mut calls = 0;
                while !done.load(Ordering::Relaxed) {
                    let answer = world.edge.send(call()).await;
                    assert_eq!(answer.status, StatusCode::OK);
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    for turn in 0..60_u128 {
        let live = usize::try_from(turn % 2).unwrap();
        world.control.publish(|routes| {
            let route = &mut routes.routes[0];
            let before = route.live.take();
            route.draining = before.into_iter().collect();
            route.live = Some(upstream(turn + 10, servers[live].address));
        });
        let commit = format!("commit-{}", turn + 10);
        world
            .edge
            .until(call, |answer| {
                answer.header("berth-commit") == Some(commit.as_str())
            })
            .await;
    }
    done.store(true, Ordering::Relaxed);
    for worker in workers {
        assert!(worker.await.unwrap() > 0);
    }
}

#[tokio::test]
async fn saved_routes_serve_while_the_control_plane_is_away_and_yield_when_it_is_back() {
    let server = Server::saying("called").await;
    let world = World::protected(&server).await;
    let token = world.signer.good();
    let World {
        mut edge,
        control,
        data,
        signer,
    } = world;
    assert_eq!(edge.send(call_with(&token)).await.text(), "called");
    let control_address = control.server.address;
    drop(control);
    assert_eq!(edge.send(call_with(&token)).await.text(), "called");
    edge.shutdown.cancel();
    (&mut edge.running).await.unwrap().unwrap();

    let edge = Edge::start(control_address, data.path()).await;
    assert_eq!(edge.send(call_with(&token)).await.text(), "called");
    assert_eq!(edge.send(call()).await.status, StatusCode::UNAUTHORIZED);

    // Another database behind the same address counts from zero again, and is believed.
    let other = Server::saying("other").await;
    let mut routes = snapshot(
        signer.keys(),
        vec![route(Policy::Public, Some(upstream(5, other.address)))],
    );
    routes.version = 0;
    let listener = TcpListener::bind(control_address).await.unwrap();
    let _control = Control::start_on(listener, routes);
    edge.until(call, |answer| answer.text() == "other").await;
}

#[tokio::test]
async fn damaged_saved_routes_are_ignored() {
    let data = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(data.path().join("edge")).unwrap();
    std::fs::write(data.path().join("edge/routes.json"), "{\"version\":").unwrap();
    let server = Server::saying("called").await;
    let control = Control::start(snapshot(
        json!({ "keys": [] }),
        vec![route(Policy::Public, Some(upstream(1, server.address)))],
    ))
    .await;
    let edge = Edge::start(control.server.address, data.path()).await;
    assert_eq!(edge.send(call()).await.text(), "called");
}

#[tokio::test]
async fn a_taken_port_is_said_before_anything_starts() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = edge::Listeners::bind(&[address]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "port {} is taken on 127.0.0.1: stop what uses it, or choose another with --listen",
            address.port()
        )
    );
}

#[tokio::test]
async fn r41_nobody_gets_into_anothers_session_by_naming_two() {
    let server = Server::start(|request| async move {
        let response = http::Response::builder();
        if request.method() == http::Method::GET {
            let event = "event: endpoint\r\ndata: /messages/?session_id=adas\r\n\r\n";
            return response
                .header("content-type", "text/event-stream")
                .body(full(event))
                .unwrap();
        }
        response
            .header("mcp-session-id", "adas-too")
            .body(full("in"))
            .unwrap()
    })
    .await;
    let world = World::protected(&server).await;
    let ada = world.signer.good();
    let eve = world.signer.token(|claims| claims["sub"] = json!(EVE));
    let ask = |method: &str, target: &str, token: &str, sessions: &[&str]| {
        let mut asked = request(method, target).header("authorization", format!("Bearer {token}"));
        for id in sessions {
            asked = asked.header("mcp-session-id", *id);
        }
        asked.body(full("{}")).unwrap()
    };
    world.edge.send(ask("GET", "/sse", &ada, &[])).await;
    world.edge.send(call_with(&ada)).await;
    for (target, sessions) in [
        ("/messages/?session_id=adas", &[][..]),
        ("/messages?session_id=adas", &[]),
        ("/mcp", &["adas-too"]),
    ] {
        let answer = world.edge.send(ask("POST", target, &ada, sessions)).await;
        assert_eq!(answer.text(), "in", "{target}");
        let answer = world.edge.send(ask("POST", target, &eve, sessions)).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{target}");
    }
    for (target, sessions) in [
        ("/messages/?session_id=adas", &["eves"][..]),
        ("/messages/?session_id=eves&session_id=adas", &[]),
        ("/messages/?session%5fid=adas", &[]),
        ("/messages/?session_id=%61das", &[]),
        ("/messages/?x=1;session_id=adas", &[]),
        ("/mcp", &["eves", "adas-too"]),
    ] {
        let answer = world.edge.send(ask("POST", target, &eve, sessions)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{target}");
        assert!(answer.json()["error"]["message"].is_string());
    }
    // A CGI-like server reads it as the session's header.
    let mut asked = ask("POST", "/mcp", &eve, &[]);
    let adas = HeaderValue::from_static("adas-too");
    asked.headers_mut().insert("mcp_session_id", adas);
    let answer = world.edge.send(asked).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}
