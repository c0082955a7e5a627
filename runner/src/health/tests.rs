//! The probe against small servers of this process, each answering as a real one was seen to.

#![expect(
    clippy::disallowed_methods,
    reason = "a task of a test that fails takes the test with it"
)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::protocol::{HostHeader, Transport};

const HOST: &str = "p.example.com";

/// A request as a server sees it.
struct Request {
    method: String,
    path: String,
    host: String,
    message: Value,
}

/// What a server answers.
enum Reply {
    /// Status line and body; JSON.
    Whole(&'static str, String),
    /// A stream that begins with these bytes and goes on with what the queue brings.
    Stream(String, mpsc::UnboundedReceiver<String>),
}

impl Reply {
    fn json(status: &'static str, body: &Value) -> Self {
        Self::Whole(status, body.to_string())
    }
}

/// Serves until the test ends. Every host asked for is kept.
async fn serve<F>(answer: F) -> (SocketAddr, Arc<Mutex<Vec<String>>>)
where
    F: Fn(&Request) -> Reply + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    let hosts: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&hosts);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
            tokio::spawn(async move {
                let Some(request) = read(&mut stream).await else {
                    return;
                };
                seen.lock().unwrap().push(request.host.clone());
                write(stream, answer(&request)).await;
            });
        }
    });
    (address, hosts)
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream
            .read(&mut buffer)
            .await
            .ok()
            .filter(|&read| read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let header = |name: &str| {
            head.lines().find_map(|line| {
                let (found, value) = line.split_once(": ")?;
                found.eq_ignore_ascii_case(name).then(|| value.to_owned())
            })
        };
        let length = header("content-length").map_or(0, |length| length.parse().unwrap());
        if body.len() >= length {
            let mut first = head.split_whitespace();
            return Some(Request {
                method: first.next()?.to_owned(),
                path: first.next()?.to_owned(),
                host: header("host")?,
                message: serde_json::from_str(body).unwrap_or_default(),
            });
        }
    }
}

async fn write(mut stream: TcpStream, reply: Reply) {
    match reply {
        Reply::Whole(status, body) => {
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes()).await;
        }
        Reply::Stream(first, mut rest) => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n\r\n";
            let mut next = Some(format!("{head}{first}"));
            while let Some(text) = next {
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
                next = rest.recv().await;
            }
        }
    }
}

/// What a server of `version` with one tool says to a message; `None` to a notification.
fn speak(message: &Value, version: &str) -> Option<Value> {
    let result = match message["method"].as_str()? {
        "initialize" => {
            assert_eq!(message["params"]["protocolVersion"], version);
            json!({
                "protocolVersion": version, "serverInfo": { "name": "s" },
                "capabilities": { "tools": {} },
            })
        }
        "tools/list" => json!({ "tools": [{ "name": "greet" }] }),
        _ => return None,
    };
    Some(json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }))
}

fn streamable(request: &Request) -> Reply {
    match (request.path.as_str(), speak(&request.message, "2025-11-25")) {
        ("/mcp", Some(answer)) => Reply::json("200 OK", &answer),
        ("/mcp", None) if request.message["method"] == "server/discover" => {
            Reply::Whole("400 Bad Request", "Missing session ID".into())
        }
        ("/mcp", None) => Reply::Whole("202 Accepted", String::new()),
        _ => Reply::Whole("404 Not Found", "Not Found".into()),
    }
}

/// HTTP+SSE as FastMCP's `http_app(transport="sse")` serves it, behind `guard`.
fn sse(guard: fn(&Request) -> bool) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    let open: Mutex<Option<mpsc::UnboundedSender<String>>> = Mutex::default();
    move |request| match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/sse") if !guard(request) => {
            Reply::Whole("421 Misdirected Request", "Invalid Host header".into())
        }
        ("GET", "/sse") => {
            let (sender, receiver) = mpsc::unbounded_channel();
            *open.lock().unwrap() = Some(sender);
            let first = ": ping\r\n\r\nevent: endpoint\r\ndata: /messages/?session_id=1\r\n\r\n";
            Reply::Stream(first.into(), receiver)
        }
        ("POST", "/messages/?session_id=1") => {
            if let Some(answer) = speak(&request.message, "2024-11-05") {
                let event = format!("event: message\r\ndata: {answer}\r\n\r\n");
                open.lock().unwrap().as_ref().unwrap().send(event).unwrap();
            }
            Reply::Whole("202 Accepted", "Accepted".into())
        }
        _ => Reply::Whole("404 Not Found", "Not Found".into()),
    }
}

async fn probe(address: SocketAddr) -> Result<Found, ProbeFailure> {
    ask(address, false).await
}

async fn ask(address: SocketAddr, own_sign_in: bool) -> Result<Found, ProbeFailure> {
    let asked = Asked {
        address,
        host: HOST,
        own_sign_in,
    };
    Prober::new().unwrap().probe(asked).await
}

#[tokio::test]
async fn r20_a_server_that_knows_its_public_host_is_told_it() {
    let (address, hosts) = serve(streamable).await;
    let found = probe(address).await.unwrap();
    assert_eq!(found.host_header, HostHeader::Public);
    assert_eq!(
        found.surface.as_ref().unwrap().transport,
        Transport::StreamableHttp
    );
    assert_eq!(found.notices, Vec::<String>::new());
    assert_eq!(
        found.surface.as_ref().unwrap().tools,
        [json!({ "name": "greet" })]
    );
    assert!(hosts.lock().unwrap().iter().all(|host| host == HOST));
}

#[tokio::test]
async fn r20_a_server_that_refuses_its_public_host_is_told_localhost() {
    // As the Python SDK 1, the TypeScript SDK and Starlette's middleware refuse.
    for (status, body) in [
        ("421 Misdirected Request", "Invalid Host header"),
        (
            "403 Forbidden",
            r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"Invalid Host: p.example.com"},"id":null}"#,
        ),
        ("400 Bad Request", "Invalid host header"),
    ] {
        let (address, hosts) = serve(move |request| {
            if request.host.starts_with("localhost:") {
                streamable(request)
            } else {
                Reply::Whole(status, body.into())
            }
        })
        .await;
        let found = probe(address).await.unwrap();
        assert_eq!(found.host_header, HostHeader::Localhost, "{status}");
        assert_eq!(found.surface.as_ref().unwrap().tools.len(), 1);
        assert!(found.notices[0].contains(HOST), "{:?}", found.notices);
        let local = format!("localhost:{}", address.port());
        assert_eq!(*hosts.lock().unwrap().last().unwrap(), local);
    }
}

#[tokio::test]
async fn r20_a_server_that_refuses_both_hosts_says_what_it_answered() {
    let (address, _) = serve(|request| {
        let body = format!("Invalid Host header: {}", request.host);
        Reply::Whole("421 Misdirected Request", body)
    })
    .await;
    let failure = probe(address).await.unwrap_err();
    let diagnosis =
        crate::verdict::probe_said(&failure, HOST, &[], &crate::diagnose::Evidence::default());
    assert_eq!(diagnosis.code, "host_refused");
    assert!(
        diagnosis.cause.contains("421")
            && diagnosis
                .cause
                .contains("Invalid Host header: p.example.com"),
        "{}",
        diagnosis.cause
    );
    assert!(diagnosis.fix.contains(HOST), "{}", diagnosis.fix);
}

#[tokio::test]
async fn what_is_wrong_behind_a_host_guard_is_what_is_told() {
    let (address, _) = serve(|request| {
        if request.host == HOST {
            Reply::Whole("421 Misdirected Request", String::new())
        } else {
            Reply::Whole("401 Unauthorized", String::new())
        }
    })
    .await;
    let failure = probe(address).await.unwrap_err();
    assert!(
        matches!(failure, ProbeFailure::Status { status: 401, .. }),
        "{failure:?}"
    );
}

#[tokio::test]
async fn r39_a_server_that_decides_itself_who_may_call_is_healthy_when_it_asks() {
    for refusal in ["401 Unauthorized", "403 Forbidden"] {
        // At either transport, and behind a guard against unknown hosts.
        for (path, host) in [("/mcp", HOST), ("/sse", HOST), ("/mcp", "localhost")] {
            let (address, _) = serve(move |request| {
                let status = if !request.host.starts_with(host) {
                    "421 Misdirected Request"
                } else if request.path == path {
                    refusal
                } else {
                    "404 Not Found"
                };
                Reply::Whole(status, String::new())
            })
            .await;
            let found = ask(address, true).await.unwrap();
            assert_eq!(found.surface, None, "nobody was shown anything");
            assert!(found.notices[0].contains("own sign-in"));
            let local = found.host_header == HostHeader::Localhost;
            assert_eq!(local, host == "localhost", "{refusal} {path}");
            // Where the platform decides, nobody could ever get through.
            let failure = ask(address, false).await.unwrap_err();
            let diagnosis = crate::verdict::probe_said(
                &failure,
                HOST,
                &[],
                &crate::diagnose::Evidence::default(),
            );
            assert!(diagnosis.cause.contains("own sign-in"), "{diagnosis:?}");
            assert!(
                diagnosis.fix.contains("access mode to tenant"),
                "{diagnosis:?}"
            );
        }
    }
}

#[tokio::test]
async fn r39_nothing_else_is_an_answer_of_a_server_that_decides_itself() {
    for status in [
        "404 Not Found",
        "500 Internal Server Error",
        "302 Found",
        "421 Misdirected Request",
    ] {
        let (address, _) = serve(move |_| Reply::Whole(status, String::new())).await;
        assert!(ask(address, true).await.is_err(), "{status}");
    }
    let (address, _) = serve(streamable).await;
    let found = ask(address, true).await.unwrap();
    assert_eq!(found.surface.unwrap().tools.len(), 1, "it may ask nobody");
    assert_eq!(found.notices, Vec::<String>::new());
}

#[tokio::test]
async fn r19_a_server_of_the_first_revision_is_asked_over_its_stream() {
    let (address, _) = serve(sse(|_| true)).await;
    let found = probe(address).await.unwrap();
    assert_eq!(
        found.surface.as_ref().unwrap().protocol_version,
        "2024-11-05"
    );
    assert_eq!(found.surface.as_ref().unwrap().transport, Transport::Sse);
    assert_eq!(
        found.surface.as_ref().unwrap().tools,
        [json!({ "name": "greet" })]
    );
    assert_eq!(found.host_header, HostHeader::Public);
    assert_eq!(found.notices.len(), 1);
    assert!(found.notices[0].contains("/sse"), "{:?}", found.notices);
}

#[tokio::test]
async fn r20_a_host_guard_at_the_stream_is_met_too() {
    let (address, _) = serve(sse(|request| request.host.starts_with("localhost:"))).await;
    let found = probe(address).await.unwrap();
    assert_eq!(
        found.surface.as_ref().unwrap().protocol_version,
        "2024-11-05"
    );
    assert_eq!(found.host_header, HostHeader::Localhost);
    assert_eq!(found.notices.len(), 2);
}

#[tokio::test]
async fn a_server_with_neither_endpoint_has_none() {
    let (address, _) = serve(|_| Reply::Whole("404 Not Found", "Not Found".into())).await;
    let failure = probe(address).await.unwrap_err();
    assert!(
        matches!(&failure, ProbeFailure::Status { status: 404, method, .. } if method == "initialize"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn a_port_that_opens_late_is_noticed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let opened = tokio::spawn(port_open(address));
    let _listener = tokio::net::TcpListener::bind(address).await.unwrap();
    timeout(Duration::from_secs(5), opened)
        .await
        .unwrap()
        .unwrap();
}
