//! What the edge answers itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use edge::protocol::Policy;
use http::StatusCode;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::harness::{Answer, Server, World, call, call_with, full, request, upstream};

/// A handshake on loopback takes less; one that takes longer is not answered.
const QUEUE_IS_FULL: Duration = Duration::from_millis(500);

/// Less than the edge waits for a handshake (2 s).
const AT_ONCE: Duration = Duration::from_millis(1500);

#[tokio::test]
async fn r15_unknown_hosts_are_told_apart() {
    let server = Server::echo().await;
    let world = World::public(&server).await;
    world.edge.send(call()).await;
    for (host, status) in [
        ("nobody.apps.test", StatusCode::NOT_FOUND),
        ("nobody--key.apps.test", StatusCode::NOT_FOUND),
        ("hello.apps.test.", StatusCode::MISDIRECTED_REQUEST),
        ("evil.test", StatusCode::MISDIRECTED_REQUEST),
        ("127.0.0.1", StatusCode::MISDIRECTED_REQUEST),
        ("a@hello.apps.test", StatusCode::BAD_REQUEST),
    ] {
        let mut call = call();
        call.headers_mut().insert("host", host.parse().unwrap());
        let answer = world.edge.send(call).await;
        assert_eq!(answer.status, status, "{host}");
        assert_eq!(answer.json()["id"], 7, "{host}");
        let message = answer.json()["error"]["message"].clone();
        assert!(message.is_string(), "{host}: {message}");
        let page = http::Request::get("/")
            .header("host", host)
            .body(full(""))
            .unwrap();
        let answer = world.edge.send(page).await;
        assert_eq!(answer.status, status, "{host}");
        assert!(answer.json()["error_description"].is_string(), "{host}");
    }
}

#[tokio::test]
async fn r12_a_refusal_carries_the_requests_id_where_there_is_one() {
    let server = Server::echo().await;
    let world = World::protected(&server).await;
    for (body, id) in [
        (r#"{"jsonrpc":"2.0","id":"a-1","method":"x"}"#, json!("a-1")),
        (r#"{"jsonrpc":"2.0","id":12,"method":"x"}"#, json!(12)),
        (
            r#"{"jsonrpc":"2.0","method":"notifications/x"}"#,
            json!(null),
        ),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"x"}]"#, json!(null)),
        (r#"{"jsonrpc":"2.0","id":1,"#, json!(null)),
        ("", json!(null)),
    ] {
        let asked = request("POST", "/mcp").body(full(body)).unwrap();
        let answer = world.edge.send(asked).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        let said = answer.json();
        assert_eq!(
            (&said["jsonrpc"], &said["id"]),
            (&json!("2.0"), &id),
            "{body}"
        );
        assert_eq!(said["error"]["code"], -32000, "{body}");
        assert!(said["error"]["message"].is_string(), "{body}");
    }
}

#[tokio::test]
async fn r15_pages_of_origins_that_the_owner_named_may_call() {
    let server = Server::echo().await;
    let world = World::protected(&server).await;
    world.control.publish(|routes| {
        routes.routes[0].allowed_origins = vec!["https://app.example.com".to_owned()];
    });
    let from = |origin: &str| {
        let mut call = call_with(&world.signer.good());
        call.headers_mut().insert("origin", origin.parse().unwrap());
        call
    };
    let named = world
        .edge
        .until(
            || from("https://app.example.com"),
            |answer| answer.status == StatusCode::OK,
        )
        .await;
    assert_eq!(
        named.header("access-control-allow-origin"),
        Some("https://app.example.com")
    );
    assert_eq!(named.header("access-control-allow-credentials"), None);
    assert_eq!(named.header("vary"), Some("Origin"));
    for other in [
        "http://app.example.com",
        "https://app.example.com:444",
        "https://app.example.com.evil.test",
        "https://evil.app.example.com",
    ] {
        let answer = world.edge.send(from(other)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{other}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    // A page learns why it was refused, so that its client can sign in.
    let mut without = call();
    let origin = "https://app.example.com".parse().unwrap();
    without.headers_mut().insert("origin", origin);
    let answer = world.edge.send(without).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://app.example.com")
    );
    let exposed = answer.header("access-control-expose-headers").unwrap();
    assert!(exposed.contains("WWW-Authenticate"), "{exposed}");
}

#[tokio::test]
async fn ambiguous_messages_end_in_400_and_a_closed_connection() {
    let server = Server::echo().await;
    let world = World::public(&server).await;
    for head in [
        "POST /mcp HTTP/1.1\r\nHost: hello.apps.test\r\nHost: evil.test\r\n",
        "POST /mcp HTTP/1.1\r\nConnection: close\r\n",
        "POST http://evil.test/mcp HTTP/1.1\r\nHost: hello.apps.test\r\n",
        "POST /mcp HTTP/1.1\r\nHost: hello.apps.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "POST /mcp HTTP/1.1\r\nHost: hello.apps.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "POST /mcp HTTP/1.1\r\nHost: hello.apps.test\r\nContent-Length: 4\r\nContent-Length: 4\r\n",
        "POST /mcp HTTP/1.1\r\nHost: hello.apps.test\r\nTransfer-Encoding: xchunked\r\n",
        "POST /mcp HTTP/1.1\r\nHost: hello.apps.test\r\nTransfer-Encoding : chunked\r\n",
        "POST /mcp HTTP/1.1\r\nHost: hello.apps.test\r\nA: b\r\n folded: c\r\n",
        "POST /mcp HTTP/1.1\r\nHost: hello.apps.test\nA: b\r\n",
        "POST /mcp HTTP/1.1\r\nHost: hello.apps.test\r\nA: b\0\r\n",
    ] {
        // Bytes that would be a second request if the first were read otherwise.
        let text =
            format!("{head}Connection: close\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n");
        let answer = world.edge.raw_answer(&text).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{head:?}: {answer}");
    }
}

#[tokio::test]
async fn r15_pages_of_other_origins_may_not_call() {
    let server = Server::echo().await;
    let world = World::public(&server).await;
    for (origin, status) in [
        (None, StatusCode::OK),
        (Some("http://hello.apps.test"), StatusCode::OK),
        (Some("http://localhost:6274"), StatusCode::OK),
        (Some("http://evil.test"), StatusCode::FORBIDDEN),
        (Some("null"), StatusCode::FORBIDDEN),
    ] {
        let mut call = call();
        if let Some(origin) = origin {
            call.headers_mut().insert("origin", origin.parse().unwrap());
        }
        let answer = world.edge.send(call).await;
        assert_eq!(answer.status, status, "{origin:?}");
        if status == StatusCode::FORBIDDEN {
            assert_eq!(answer.json()["id"], 7);
            assert_eq!(answer.header("access-control-allow-origin"), None);
        } else {
            assert_eq!(answer.header("access-control-allow-origin"), origin);
        }
    }
}

#[tokio::test]
async fn r16_a_preflight_is_answered_here() {
    let server = Server::start(|_| async { panic!("the preflight reached the server") }).await;
    let world = World::protected(&server).await;
    let answer = world
        .edge
        .send(
            request("OPTIONS", "/mcp")
                .header("origin", "http://localhost:6274")
                .header("access-control-request-method", "POST")
                .header(
                    "access-control-request-headers",
                    "authorization, mcp-param-region, x-other",
                )
                .body(full(""))
                .unwrap(),
        )
        .await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert_eq!(
        answer.header("access-control-allow-methods"),
        Some("GET, POST, DELETE, OPTIONS")
    );
    assert_eq!(
        answer.header("access-control-allow-headers"),
        Some(
            "Authorization, Content-Type, Accept, MCP-Protocol-Version, Mcp-Session-Id, Mcp-Method, Mcp-Name, Last-Event-ID, mcp-param-region"
        )
    );
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("http://localhost:6274")
    );
    let exposed = answer.header("access-control-expose-headers").unwrap();
    assert!(exposed.starts_with("Mcp-Session-Id, WWW-Authenticate"));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
}

#[tokio::test]
async fn r38_r42_a_protected_project_serves_nothing_but_mcp() {
    let server = Server::echo().await;
    let world = World::protected(&server).await;
    for path in [
        "/",
        "/mcp/x",
        "/register",
        "/authorize",
        "/token",
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
    ] {
        let answer = world
            .edge
            .send(
                request("GET", path)
                    .header("authorization", format!("Bearer {}", world.signer.good()))
                    .body(full(""))
                    .unwrap(),
            )
            .await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("www-authenticate"), None);
        assert_eq!(answer.json()["error"], "not_found");
    }
}

#[tokio::test]
async fn without_a_live_deployment_the_answer_says_so() {
    let world = World::new(Policy::Public, None).await;
    let answer = world.edge.send(call()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.header("retry-after").is_some());
    let said = answer.json();
    assert_eq!(said["id"], 7);
    assert_eq!(said["jsonrpc"], "2.0");
    assert_eq!(said["error"]["code"], -32000);
    assert!(
        said["error"]["message"]
            .as_str()
            .unwrap()
            .starts_with("Nothing is live")
    );
}

/// An address at which connections are refused.
fn refusing() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// A public project whose live instance is said to be at `address`, in routes that are in use.
async fn live_at(address: SocketAddr) -> World {
    let world = World::new(Policy::Public, None).await;
    world.control.publish(|routes| {
        let mut marker = routes.routes[0].clone();
        "marker.apps.test".clone_into(&mut marker.host);
        routes.routes.push(marker);
        routes.routes[0].live = Some(upstream(2, address));
    });
    let ask = || {
        http::Request::get("/mcp")
            .header("host", "marker.apps.test")
            .body(full(""))
            .unwrap()
    };
    let is_known = |answer: &Answer| answer.status != StatusCode::NOT_FOUND;
    world.edge.until(ask, is_known).await;
    world
}

#[tokio::test]
async fn a_call_is_held_for_an_instance_that_restarts_at_its_address() {
    let nobody = refusing();
    let world = live_at(nobody).await;
    let start = async {
        let listener = tokio::net::TcpListener::bind(nobody).await.unwrap();
        Server::on(listener, |mut stream| async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nback";
            stream.write_all(answer).await.unwrap();
        })
    };
    let (answer, _server) = tokio::join!(world.edge.send(call()), start);
    assert_eq!(answer.text(), "back");
}

#[tokio::test]
async fn a_held_call_leaves_an_address_that_swallows_connections_when_routes_change() {
    // Its queue is full, so that the next handshake is not answered.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let swallowing = socket.listen(1).unwrap();
    let address = swallowing.local_addr().unwrap();
    let mut queued = Vec::new();
    let connect = || tokio::net::TcpStream::connect(address);
    while let Ok(stream) = tokio::time::timeout(QUEUE_IS_FULL, connect()).await {
        queued.push(stream.unwrap());
    }
    let world = live_at(address).await;
    let back = Server::saying("back").await;
    let publish = async {
        world
            .control
            .publish(|routes| routes.routes[0].live = Some(upstream(3, back.address)));
    };
    let both = async { tokio::join!(world.edge.send(call()), publish) };
    let (answer, ()) = tokio::time::timeout(AT_ONCE, both).await.expect("in time");
    assert_eq!(answer.text(), "back");
}

#[tokio::test]
async fn a_held_call_is_judged_by_the_routes_it_goes_by() {
    let world = live_at(refusing()).await;
    let back = Server::saying("back").await;
    let publish = async {
        world.control.publish(|routes| {
            routes.routes[0].policy = crate::harness::platform();
            routes.routes[0].live = Some(upstream(3, back.address));
        });
    };
    let (answer, ()) = tokio::join!(world.edge.send(call()), publish);
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.json()["id"], 7);
}

#[tokio::test]
async fn a_call_is_held_for_an_instance_that_comes_back() {
    let gone = Server::echo().await;
    let world = World::public(&gone).await;
    let address = gone.address;
    world.edge.send(call()).await;
    drop(gone);
    // Refused connections, then a new address for the same project.
    let nobody = refusing();
    assert_ne!(nobody, address);
    world
        .control
        .publish(|routes| routes.routes[0].live = Some(upstream(2, nobody)));
    let held = world.edge.send(call());
    let back = Server::saying("back").await;
    let publish = async {
        world
            .control
            .publish(|routes| routes.routes[0].live = Some(upstream(3, back.address)));
    };
    let (answer, ()) = tokio::join!(held, publish);
    assert_eq!(answer.text(), "back");
    assert_eq!(answer.header("berth-commit"), Some("commit-3"));
}

#[tokio::test]
async fn a_call_is_not_held_for_ever() {
    let nobody = refusing();
    let times = edge::Times {
        hold: Duration::from_millis(300),
        ..edge::Times::default()
    };
    let world = World::timed(Policy::Public, None, times).await;
    world
        .control
        .publish(|routes| routes.routes[0].live = Some(upstream(2, nobody)));
    let answer = world
        .edge
        .until(call, |answer| !answer.text().contains("Nothing is live"))
        .await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header("retry-after"), Some("5"));
    let said = answer.json();
    assert_eq!(said["id"], 7);
    assert_eq!(said["error"]["code"], -32000);
    let message = said["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("The server is starting"), "{message}");
}

#[tokio::test]
async fn r12_no_more_calls_are_held_than_the_instance_can_take_when_it_is_back() {
    const HELD: usize = 128;
    let address = refusing();
    let world = Arc::new(live_at(address).await);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..=HELD {
        let world = Arc::clone(&world);
        calls.spawn(async move { world.edge.send(call()).await });
    }
    let first = calls.join_next().await.unwrap().unwrap();
    assert_eq!(first.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(first.header("retry-after"), Some("5"));
    assert_eq!(first.json()["id"], 7);
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let _back = Server::on(listener, |mut stream| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nback";
            let _ = stream.write_all(answer).await;
        }
    });
    for answer in calls.join_all().await {
        assert_eq!(answer.text(), "back");
    }
}

#[tokio::test]
async fn a_server_that_breaks_off_is_reported_with_the_requests_id() {
    let server = Server::raw(|mut stream| async move {
        use tokio::io::AsyncReadExt;
        let mut some = [0; 1024];
        // Closes when it has heard the beginning.
        let _ = stream.read(&mut some).await;
    })
    .await;
    let world = World::public(&server).await;
    let answer = world.edge.send(call()).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert_eq!(answer.json()["id"], 7);
}

#[tokio::test]
async fn one_project_takes_no_more_than_its_share() {
    let open = Arc::new(Semaphore::new(0));
    let (gate, (arrived, mut arrivals)) = (open.clone(), tokio::sync::mpsc::unbounded_channel());
    let server = Server::start(move |_| {
        let (gate, arrived) = (gate.clone(), arrived.clone());
        async move {
            arrived.send(()).unwrap();
            let _ = gate.acquire().await.unwrap();
            http::Response::new(full("done"))
        }
    })
    .await;
    let world = Arc::new(World::public(&server).await);
    let tasks: Vec<_> = (0..256)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio_util::task::TaskTracker::new()
                .spawn(async move { world.edge.send(call()).await.status })
        })
        .collect();
    for _ in 0..256 {
        arrivals.recv().await.unwrap();
    }
    let answer = world.edge.send(call()).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.json()["id"], 7);
    open.add_permits(1);
    for task in tasks {
        assert_eq!(task.await.unwrap(), StatusCode::OK);
    }
    assert_eq!(world.edge.send(call()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_dashboard_says_when_the_control_plane_is_away() {
    let server = Server::echo().await;
    let world = World::protected(&server).await;
    assert_eq!(
        world
            .edge
            .send(call_with(&world.signer.good()))
            .await
            .status,
        StatusCode::OK
    );
    let World { edge, control, .. } = world;
    drop(control);
    let ask = |accept: &'static str| {
        http::Request::get("/")
            .header("host", "berth.test")
            .header("accept", accept)
            .body(full(""))
            .unwrap()
    };
    let page = edge
        .until(
            || ask("text/html,*/*"),
            |answer| answer.status == StatusCode::SERVICE_UNAVAILABLE,
        )
        .await;
    assert!(page.text().contains("<p>The dashboard is not running"));
    let answer = edge.send(ask("application/json")).await;
    assert_eq!(answer.json()["error"], json!("service_unavailable"));
}
