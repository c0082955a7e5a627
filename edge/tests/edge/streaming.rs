//! Streams: nothing is held back, and an end on one side is an end on the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use edge::Times;
use edge::protocol::Policy;
use http::StatusCode;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Barrier, Notify, mpsc};
use tokio_util::task::TaskTracker;

use crate::harness::{Server, World, call, full, request};

const SSE_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache, no-transform\r\nx-accel-buffering: no\r\ntransfer-encoding: chunked\r\n\r\n";

async fn read_head(stream: &mut tokio::net::TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
}

#[tokio::test]
async fn r03_r05_r06_each_event_arrives_while_the_stream_is_open_and_leaving_reaches_the_server() {
    let (next, (left, mut leavings)) = (Arc::new(Notify::new()), mpsc::unbounded_channel());
    let go = Arc::clone(&next);
    let server = Server::raw(move |mut stream| {
        let (go, left) = (Arc::clone(&go), left.clone());
        async move {
            read_head(&mut stream).await;
            stream.write_all(SSE_HEAD.as_bytes()).await.unwrap();
            for _ in 0..2 {
                go.notified().await;
                stream.write_all(b"9\r\ndata: 1\n\n\r\n").await.unwrap();
            }
            // Nothing more is said; the client's leaving ends it.
            let end = stream.read(&mut [0]).await;
            left.send(matches!(end, Ok(0) | Err(_))).unwrap();
        }
    })
    .await;
    let world = World::public(&server).await;
    let mut response = world
        .edge
        .open(request("GET", "/mcp").body(full("")).unwrap())
        .await;
    // The head is here before the first event.
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(
        response.headers()["cache-control"],
        "no-cache, no-transform"
    );
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    for _ in 0..2 {
        next.notify_one();
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "data: 1\n\n");
    }
    drop(response);
    assert!(leavings.recv().await.unwrap());
}

#[tokio::test]
async fn r05_leaving_before_the_answer_reaches_the_server() {
    let (events, mut seen) = mpsc::unbounded_channel();
    let server = Server::raw(move |mut stream| {
        let events = events.clone();
        async move {
            read_head(&mut stream).await;
            let mut body = [0; 2];
            stream.read_exact(&mut body).await.unwrap();
            events.send("called").unwrap();
            let end = stream.read(&mut [0]).await;
            assert!(matches!(end, Ok(0) | Err(_)));
            events.send("left").unwrap();
        }
    })
    .await;
    let world = World::public(&server).await;
    let stream = world
        .edge
        .raw("POST /mcp HTTP/1.1\r\nHost: hello.apps.test\r\nContent-Length: 2\r\n\r\n{}")
        .await;
    assert_eq!(seen.recv().await, Some("called"));
    drop(stream);
    assert_eq!(seen.recv().await, Some("left"));
}

#[tokio::test]
async fn r05_a_crash_in_mid_stream_is_no_clean_end() {
    let server = Server::raw(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(SSE_HEAD.as_bytes()).await.unwrap();
        stream.write_all(b"9\r\ndata: 1\n\n\r\n").await.unwrap();
    })
    .await;
    let world = World::public(&server).await;
    let answer = world
        .edge
        .raw_answer("GET /mcp HTTP/1.1\r\nHost: hello.apps.test\r\n\r\n")
        .await;
    assert!(answer.contains("data: 1\n\n"), "{answer}");
    assert!(!answer.contains("\r\n0\r\n"), "{answer}");
}

#[tokio::test]
async fn r05_a_crash_in_a_body_of_known_length_is_no_clean_end() {
    let server = Server::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello";
        stream.write_all(half).await.unwrap();
    })
    .await;
    let world = World::public(&server).await;
    let response = world
        .edge
        .open(request("GET", "/mcp").body(full("")).unwrap())
        .await;
    assert_eq!(response.headers()["content-length"], "10");
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test]
async fn r05_the_end_of_a_stream_is_the_clients_end_at_once() {
    let server = Server::raw(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(SSE_HEAD.as_bytes()).await.unwrap();
        stream.write_all(b"9\r\ndata: 1\n\n\r\n").await.unwrap();
        stream.write_all(b"0\r\n\r\n").await.unwrap();
        // The connection stays open: the end is in what was said.
        let _ = stream.read(&mut [0]).await;
    })
    .await;
    let world = World::public(&server).await;
    let response = world
        .edge
        .open(request("GET", "/mcp").body(full("")).unwrap())
        .await;
    let body = tokio::time::timeout(Duration::from_secs(1), response.into_body().collect());
    assert_eq!(
        body.await.expect("in time").unwrap().to_bytes(),
        "data: 1\n\n"
    );
}

#[tokio::test]
async fn r04_no_limit_of_the_edge_ends_a_silent_call_before_its_client_does_or_a_stream_ever() {
    // The Python SDK waits 300 s for an answer.
    assert!(Times::default().first_byte > Duration::from_mins(5));
    let limit = Duration::from_millis(300);
    let times = Times {
        first_byte: limit,
        ..Times::default()
    };
    let silent = Server::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.read(&mut [0]).await;
    })
    .await;
    let world = World::timed(Policy::Public, Some(&silent), times).await;
    let answer = world.edge.send(call()).await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(answer.json()["id"], 7);

    // The same limit, three times over, within a stream.
    let pause = limit * 3;
    let slow = Server::raw(move |mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(SSE_HEAD.as_bytes()).await.unwrap();
        let end = tokio::time::timeout(pause, stream.read(&mut [0])).await;
        assert!(end.is_err(), "the edge left");
        stream.write_all(b"3\r\n:\n\n\r\n0\r\n\r\n").await.unwrap();
    })
    .await;
    let world = World::timed(Policy::Public, Some(&slow), times).await;
    let get = request("GET", "/mcp").body(full("")).unwrap();
    assert_eq!(world.edge.send(get).await.text(), ":\n\n");
}

#[tokio::test]
async fn a_request_body_streams_before_it_is_whole() {
    let (heard, mut hearings) = mpsc::unbounded_channel();
    let server = Server::start(move |request| {
        let heard = heard.clone();
        async move {
            let mut body = request.into_body();
            while let Some(frame) = body.frame().await {
                heard.send(frame.unwrap().into_data().unwrap()).unwrap();
            }
            http::Response::new(full("done"))
        }
    })
    .await;
    let world = World::public(&server).await;
    let mut stream = world
        .edge
        .raw("POST /mcp HTTP/1.1\r\nHost: hello.apps.test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        .await;
    assert_eq!(hearings.recv().await.unwrap(), "one");
    stream.write_all(b"3\r\ntwo\r\n0\r\n\r\n").await.unwrap();
    assert_eq!(hearings.recv().await.unwrap(), "two");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("done"), "{answer}");
}

#[tokio::test]
async fn an_early_answer_does_not_stop_the_request() {
    // More than the connections between hold, both ways: the client reads only when all is sent.
    const SIZE: usize = 8 * 1024 * 1024;
    let (heard, mut hearing) = mpsc::unbounded_channel();
    let server = Server::raw(move |mut stream| {
        let heard = heard.clone();
        async move {
            read_head(&mut stream).await;
            let (mut read, mut write) = stream.split();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n");
            let answer = async {
                write.write_all(head.as_bytes()).await.unwrap();
                write.write_all(&vec![b'a'; SIZE]).await.unwrap();
            };
            let mut body = vec![0; SIZE];
            let ((), body) = tokio::join!(answer, read.read_exact(&mut body));
            heard.send(body.unwrap()).unwrap();
        }
    })
    .await;
    let world = World::public(&server).await;
    let mut stream = world
        .edge
        .raw(&format!("POST /mcp HTTP/1.1\r\nHost: hello.apps.test\r\nConnection: close\r\nContent-Length: {SIZE}\r\n\r\n"))
        .await;
    stream.write_all(&vec![b'q'; SIZE]).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    assert!(answer.len() > SIZE, "{}", answer.len());
    assert_eq!(hearing.recv().await.unwrap(), SIZE);
}

#[tokio::test]
async fn a_client_that_leaves_in_its_request_ends_an_answer_that_came_early() {
    let (gone, mut ends) = mpsc::unbounded_channel();
    let server = Server::raw(move |mut stream| {
        let gone = gone.clone();
        async move {
            read_head(&mut stream).await;
            stream.write_all(SSE_HEAD.as_bytes()).await.unwrap();
            // Says nothing more, and waits for the rest of the request.
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            gone.send(rest).unwrap();
        }
    })
    .await;
    let world = World::public(&server).await;
    let mut stream = world
        .edge
        .raw("POST /mcp HTTP/1.1\r\nHost: hello.apps.test\r\nContent-Length: 1000\r\n\r\nbegin")
        .await;
    read_head(&mut stream).await;
    drop(stream);
    assert_eq!(ends.recv().await.unwrap(), b"begin");
}

#[tokio::test]
async fn a_server_that_takes_no_more_is_heard() {
    let server = Server::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let answer =
            b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig";
        stream.write_all(answer).await.unwrap();
        // Some of what comes meanwhile is read, so that the answer is not lost.
        let mut thrown = vec![0; 128 * 1024];
        stream.read_exact(&mut thrown).await.unwrap();
    })
    .await;
    let world = World::public(&server).await;
    let long = request("POST", "/mcp")
        .body(full(vec![b'q'; 4 * 1024 * 1024]))
        .unwrap();
    let answer = world.edge.send(long).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.text(), "big");
    // The next call finds another connection.
    let again = world
        .edge
        .send(request("GET", "/mcp").body(full("")).unwrap());
    assert_eq!(again.await.text(), "big");
}

#[tokio::test]
async fn an_answer_without_a_length_ends_with_its_connection() {
    for version in ["1.0", "1.1"] {
        let server = Server::raw(move |mut stream| async move {
            read_head(&mut stream).await;
            let head = format!("HTTP/{version} 200 OK\r\ncontent-type: text/plain\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(b"all ").await.unwrap();
            stream.write_all(b"of it").await.unwrap();
        })
        .await;
        let world = World::public(&server).await;
        for _ in 0..2 {
            let get = request("GET", "/mcp").body(full("")).unwrap();
            assert_eq!(world.edge.send(get).await.text(), "all of it");
        }
    }
}

#[tokio::test]
async fn connections_are_kept_and_a_kept_one_that_closes_costs_no_read() {
    let (opened, openings) = mpsc::unbounded_channel();
    let server = Server::raw(move |mut stream| {
        opened.send(()).unwrap();
        async move {
            for _ in 0..3 {
                read_head(&mut stream).await;
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                stream.write_all(answer).await.unwrap();
            }
            // Closes after the fourth request came, without a word.
            read_head(&mut stream).await;
        }
    })
    .await;
    let world = World::public(&server).await;
    for _ in 0..6 {
        let answer = world
            .edge
            .send(request("GET", "/mcp").body(full("")).unwrap())
            .await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.text(), "ok");
    }
    // Three answers on the first connection, three on the second.
    assert_eq!(openings.len(), 2);
}

#[tokio::test]
async fn a_call_that_may_have_been_made_is_not_made_twice() {
    let (called, mut calls) = mpsc::unbounded_channel();
    let server = Server::raw(move |mut stream| {
        let called = called.clone();
        async move {
            read_head(&mut stream).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
            read_head(&mut stream).await;
            called.send(()).unwrap();
        }
    })
    .await;
    let world = World::public(&server).await;
    let get = request("GET", "/mcp").body(full("")).unwrap();
    assert_eq!(world.edge.send(get).await.text(), "ok");
    // The connection is kept; the server dies over the call.
    let answer = world.edge.send(call()).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert_eq!(answer.json()["id"], 7);
    drop(server);
    calls.recv().await.unwrap();
    assert!(calls.recv().await.is_none());
}

#[tokio::test]
async fn a_server_that_breaks_off_is_called_on_a_new_connection_next() {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let (opened, both) = (Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(2)));
    let server = Server::raw(move |mut stream| {
        let (number, both) = (opened.fetch_add(1, Ordering::Relaxed), Arc::clone(&both));
        async move {
            read_head(&mut stream).await;
            if number < 2 {
                both.wait().await;
            }
            stream.write_all(OK).await.unwrap();
            // What is open when the server dies closes with the next call on it; the edge may close
            // before.
            let mut next = Vec::new();
            while let (false, Ok(byte)) = (next.ends_with(b"\r\n\r\n"), stream.read_u8().await) {
                next.push(byte);
            }
        }
    })
    .await;
    let world = World::public(&server).await;
    let (one, other) = tokio::join!(world.edge.send(call()), world.edge.send(call()));
    assert_eq!((one.text(), other.text()), ("ok", "ok"));
    // Two connections are kept.
    let broken = world.edge.send(call()).await;
    assert_eq!(broken.status, StatusCode::BAD_GATEWAY);
    assert_eq!(world.edge.send(call()).await.text(), "ok");
}

#[tokio::test]
async fn a_listening_client_does_not_keep_the_edge_from_stopping() {
    let server = Server::raw(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(SSE_HEAD.as_bytes()).await.unwrap();
        let _ = stream.read(&mut [0]).await;
    })
    .await;
    let mut world = World::public(&server).await;
    let mut response = world
        .edge
        .open(request("GET", "/mcp").body(full("")).unwrap())
        .await;
    world.edge.shutdown.cancel();
    assert!(response.body_mut().frame().await.unwrap().is_err());
    (&mut world.edge.running).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_in_progress_ends_well_when_the_edge_stops() {
    let (go, (arrived, mut arrivals)) = (Arc::new(Notify::new()), mpsc::unbounded_channel());
    let gate = Arc::clone(&go);
    let server = Server::start(move |_| {
        let (gate, arrived) = (Arc::clone(&gate), arrived.clone());
        async move {
            arrived.send(()).unwrap();
            gate.notified().await;
            http::Response::new(full("whole"))
        }
    })
    .await;
    let mut world = World::public(&server).await;
    let answer = {
        let stream = world
            .edge
            .raw("GET /mcp HTTP/1.1\r\nHost: hello.apps.test\r\n\r\n")
            .await;
        arrivals.recv().await.unwrap();
        world.edge.shutdown.cancel();
        go.notify_one();
        TaskTracker::new()
            .spawn(async move {
                let (mut stream, mut answer) = (stream, String::new());
                stream.read_to_string(&mut answer).await.unwrap();
                answer
            })
            .await
            .unwrap()
    };
    assert!(answer.ends_with("whole"), "{answer}");
    (&mut world.edge.running).await.unwrap().unwrap();
    assert!(
        tokio::net::TcpStream::connect(world.edge.address)
            .await
            .is_err()
    );
}
