//! Raw bytes from clients and instances: what is ambiguous goes no further (RFC 9112).
//!
//! Each case is followed by a second request on the same connection. Where the case is refused the
//! second must not be served: to the edge it may be a request, to somebody else a body, or the other
//! way round. Where the case passes the instance sees exactly the two.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use edge::protocol::Policy;
use http::StatusCode;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::harness::{Server, World, call, full, request};

/// What follows each case.
const SECOND: &str = "GET /second HTTP/1.1\r\nHost: hello.apps.test\r\nConnection: close\r\n\r\n";

/// A request that must stay a body.
const HIDDEN: &str = "0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: hello.apps.test\r\n\r\n";

/// Longer than the edge waits for anything here (10 s for a head).
const PATIENCE: Duration = Duration::from_secs(40);

/// What must become of a case.
#[derive(Debug, Clone)]
enum Then {
    /// It is answered with 4xx, the connection closed; the instance saw nothing.
    Refused,
    /// As [`Then::Refused`], but the instance may have seen the beginning, and that it broke off.
    Broken,
    /// The edge answers this itself; the second request is served.
    Answered(u16),
    /// The instance saw it once, with this body, and the second.
    Passed(&'static str),
    /// As [`Then::Passed`]; its head has the first of these and not the second, in lower case.
    PassedWith(&'static str, &'static str, &'static str),
}

use Then::{Answered, Broken, Passed, PassedWith, Refused};

/// A request that an instance saw.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Saw {
    /// In lower case.
    head: String,
    body: Vec<u8>,
    /// Whether it came whole.
    whole: bool,
}

/// An instance that reads strictly, notes what it saw and answers `ok`.
async fn recorder() -> (Server, Arc<Mutex<Vec<Saw>>>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&log);
    let server = Server::raw(move |stream| {
        let noted = Arc::clone(&noted);
        async move {
            let mut stream = BufReader::new(stream);
            while let Some(saw) = read_request(&mut stream).await {
                let whole = saw.whole;
                noted.lock().unwrap().push(saw);
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                if !whole || stream.write_all(answer).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (server, log)
}

/// Reads a line with its end; `None` at the end of the stream.
async fn read_line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&line).into_owned())
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<Saw> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head += &read_line(stream).await?.to_lowercase();
    }
    let header = |name: &str| {
        let mut found = head.lines().filter_map(|line| line.strip_prefix(name));
        let first = found.next().map(str::trim);
        assert_eq!(found.next(), None, "two of {name} in {head}");
        first.map(str::to_owned)
    };
    let (length, coding) = (header("content-length:"), header("transfer-encoding:"));
    assert!(length.is_none() || coding.is_none(), "{head}");
    let mut body = Vec::new();
    let whole = match (length, coding) {
        (Some(length), _) => {
            body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body).await.is_ok()
        }
        (None, Some(coding)) => {
            assert_eq!(coding, "chunked");
            read_chunks(stream, &mut body).await.is_some()
        }
        (None, None) => true,
    };
    Some(Saw { head, body, whole })
}

async fn read_chunks(stream: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> Option<()> {
    loop {
        let line = read_line(stream).await?;
        let size = usize::from_str_radix(line.trim_end(), 16).expect("a bare chunk size");
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).await.ok()?;
        assert!(chunk.ends_with(b"\r\n"), "a chunk or a trailer: {chunk:?}");
        body.extend_from_slice(&chunk[..size]);
        if size == 0 {
            return Some(());
        }
    }
}

/// A POST with these headers, each with its line break, and what comes after the head.
fn post(headers: &str, rest: &str) -> Vec<u8> {
    format!("POST /mcp HTTP/1.1\r\nHost: hello.apps.test\r\n{headers}\r\n{rest}").into_bytes()
}

/// A chunked POST.
fn chunked(body: &str) -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n", body)
}

/// A GET with this request line and these headers.
fn with_line(line: &str, headers: &str) -> Vec<u8> {
    format!("{line}\r\n{headers}\r\n").into_bytes()
}

/// A GET of the project with these headers.
fn get(headers: &str) -> Vec<u8> {
    with_line(
        "GET /mcp HTTP/1.1",
        &format!("Host: hello.apps.test\r\n{headers}"),
    )
}

/// Bodies whose length is said twice, or so that not everybody understands.
fn lengths() -> Vec<(Vec<u8>, Then)> {
    let mut cases = vec![
        (post("Content-Length: 5\r\n", "hello"), Passed("hello")),
        (post("Content-Length: 0\r\n", ""), Passed("")),
        (post("Content-Length:5\r\n", "hello"), Passed("hello")),
        (post("Content-Length: \t5 \t\r\n", "hello"), Passed("hello")),
        (post("content-LENGTH: 05\r\n", "hello"), Passed("hello")),
        (post("", ""), Passed("")),
        (chunked("5\r\nhello\r\n0\r\n\r\n"), Passed("hello")),
        (chunked("0\r\n\r\n"), Passed("")),
        (
            post("Transfer-Encoding: Chunked\r\n", "1\r\nx\r\n0\r\n\r\n"),
            Passed("x"),
        ),
        (
            post("Transfer-Encoding:\tchunked \r\n", "1\r\nx\r\n0\r\n\r\n"),
            Passed("x"),
        ),
        // What looks like a request in a body is a body.
        (
            post(&format!("Content-Length: {}\r\n", HIDDEN.len()), HIDDEN),
            Passed(HIDDEN),
        ),
        (
            chunked(&format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len())),
            Passed(HIDDEN),
        ),
    ];
    for headers in [
        // Two ways at once.
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nA: b\r\nContent-Length: 0\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: identity\r\n",
        "Content-Length: 5\r\nTransfer-Encoding:\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: xchunked\r\n",
        // Two lengths, alike or not.
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 0\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nA: b\r\ncontent-length: 0\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: 5,\r\n",
        "Content-Length: ,5\r\n",
        // No length.
        "Content-Length:\r\n",
        "Content-Length: \r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: -0\r\n",
        "Content-Length: 5.0\r\n",
        "Content-Length: 5e0\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 0_5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: five\r\n",
        "Content-Length: \"5\"\r\n",
        "Content-Length: 5;a=b\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: 99999999999999999999999999\r\n",
        // Codings other than chunked alone.
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity, chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunkedx\r\n",
        "Transfer-Encoding: x chunked\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: 'chunked'\r\n",
        "Transfer-Encoding: chun\tked\r\n",
        "Transfer-Encoding: ,chunked\r\n",
        "Transfer-Encoding: chunked,\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding: \x0cchunked\r\n",
        "Transfer-Encoding: chunked\x0b\r\n",
        "Transfer-Encoding: \x01chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\ntransfer-encoding:\r\n",
        // Names that are read as these by some.
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "\tTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding\x0b: chunked\r\n",
        "Content-Length : 5\r\n",
        "Content-Length\0: 5\r\n",
        "Transfer_Encoding: chunked\r\n",
        "Content_Length: 5\r\n",
        "CONTENT_length: 5\r\n",
        "A: b\r\n Transfer-Encoding: chunked\r\n",
        "A: b\rTransfer-Encoding: chunked\r\n",
        "A: b\nTransfer-Encoding: chunked\r\n",
        "A: b\n\rTransfer-Encoding: chunked\r\n",
        "A: b\0Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\n",
        "Content-Length: 5\n",
        "Transfer-Encoding\r\n: chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Content-Length:\r\n 5\r\n",
    ] {
        cases.push((post(headers, "0\r\n\r\n"), Refused));
    }
    let old = "POST /mcp HTTP/1.0";
    let host = "Host: hello.apps.test\r\nConnection: keep-alive\r\n";
    for headers in [
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
    ] {
        let mut raw = with_line(old, &format!("{host}{headers}"));
        raw.extend(b"0\r\n\r\n");
        cases.push((raw, Refused));
    }
    let mut raw = with_line(old, &format!("{host}Content-Length: 5\r\n"));
    raw.extend(b"hello");
    cases.push((raw, Passed("hello")));
    cases
}

/// Chunked bodies.
fn chunks() -> Vec<(Vec<u8>, Then)> {
    let mut cases = vec![
        (
            chunked("5\r\nhello\r\nA\r\n, everyone\r\n0\r\n\r\n"),
            Passed("hello, everyone"),
        ),
        (chunked("0005\r\nhello\r\n000\r\n\r\n"), Passed("hello")),
        (chunked("5;a=b\r\nhello\r\n0;c\r\n\r\n"), Passed("hello")),
        (
            chunked("5 ; a = \"b;c\"\r\nhello\r\n0\r\n\r\n"),
            Passed("hello"),
        ),
    ];
    for body in [
        "\r\nhello\r\n0\r\n\r\n",
        "x\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "0X5\r\nhello\r\n0\r\n\r\n",
        "5_\r\nhello\r\n0\r\n\r\n",
        "0_5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "\t5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "5,\r\nhello\r\n0\r\n\r\n",
        "5.0\r\nhello\r\n0\r\n\r\n",
        "\"5\"\r\nhello\r\n0\r\n\r\n",
        "5h\r\nhello\r\n0\r\n\r\n",
        // More than 64 bits, and what is left of it modulo 2^64.
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
        "00000000000000000000005\r\nhello\r\n0\r\n\r\n",
        // Line ends.
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n",
        "5\n\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello\r\n\r\n0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "0\n\r\n",
        "0\r\n\n",
        "0\r\nx\r\n\r\n",
        // Extensions.
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;\rhello\r\n0\r\n\r\n",
        "5;a\0\r\nhello\r\n0\r\n\r\n",
        "5;\x7f\r\nhello\r\n0\r\n\r\n",
        "5 a\r\nhello\r\n0\r\n\r\n",
        "5\x0b;a\r\nhello\r\n0\r\n\r\n",
        "5=a\r\nhello\r\n0\r\n\r\n",
        // Trailers.
        "5\r\nhello\r\n0\r\nA: b\n\r\n",
        "5\r\nhello\r\n0\r\nA: b\n\nX: y\r\n\r\n",
        "5\r\nhello\r\n0\r\n A: b\r\n\r\n",
        "5\r\nhello\r\n0\r\nA : b\r\n\r\n",
        "5\r\nhello\r\n0\r\n: b\r\n\r\n",
        "5\r\nhello\r\n0\r\nA: \0\r\n\r\n",
        "5\r\nhello\r\n0\r\nA: b\rC: d\r\n\r\n",
    ] {
        cases.push((chunked(body), Broken));
    }
    for (extension, then) in [
        ("x".repeat(1000), Passed("hello")),
        ("x".repeat(1025), Broken),
        ("x".repeat(100_000), Broken),
    ] {
        cases.push((
            chunked(&format!("5;{extension}\r\nhello\r\n0\r\n\r\n")),
            then,
        ));
    }
    // Trailers end here: none may become a header of the request or of the next.
    for trailer in [
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Host: evil.test",
        "Authorization: Bearer stolen",
        "Berth-User: root",
        "X-Trailing: 1",
    ] {
        let body = format!("5\r\nhello\r\n0\r\n{trailer}\r\n\r\n");
        let name: &str = trailer.split(':').next().unwrap();
        let then = match name {
            // The edge's own framing.
            "Transfer-Encoding" => Passed("hello"),
            "Host" => PassedWith("hello", "host: hello.apps.test", "evil"),
            "Content-Length" => PassedWith("hello", "", "content-length"),
            "Authorization" => PassedWith("hello", "", "authorization"),
            "Berth-User" => PassedWith("hello", "", "berth-user"),
            _ => PassedWith("hello", "", "x-trailing"),
        };
        cases.push((chunked(&body), then));
    }
    cases
}

/// Request lines.
fn lines() -> Vec<(Vec<u8>, Then)> {
    const HOST: &str = "Host: hello.apps.test\r\n";
    let mut cases = Vec::new();
    for (line, then) in [
        ("GET /a?b=%0d%0a HTTP/1.1", Passed("")),
        ("get /mcp HTTP/1.1", PassedWith("", "get /mcp ", "\0")),
        ("M-SEARCH /mcp HTTP/1.1", Passed("")),
        ("OPTIONS * HTTP/1.1", Passed("")),
        (
            "GET //evil.test/ HTTP/1.1",
            PassedWith("", "host: hello.apps.test", "host: evil"),
        ),
        (
            "GET http://hello.apps.test/abs HTTP/1.1",
            PassedWith("", "get /abs http/1.1", "http://"),
        ),
        (
            "GET HTTP://hello.apps.test HTTP/1.1",
            PassedWith("", "get / http/1.1", "http://"),
        ),
        ("GET http://evil.test/mcp HTTP/1.1", Answered(400)),
        (
            "GET http://user@hello.apps.test/mcp HTTP/1.1",
            Answered(400),
        ),
        (
            "GET http://hello.apps.test@evil.test/ HTTP/1.1",
            Answered(400),
        ),
        ("GET http://hello.apps.test:99999/ HTTP/1.1", Answered(400)),
        ("TRACE /mcp HTTP/1.1", Answered(405)),
        ("GET /mcp", Refused),
        ("GET /mcp HTTP/0.9", Refused),
        ("GET /mcp HTTP/1.2", Refused),
        ("GET /mcp HTTP/1.10", Refused),
        ("GET /mcp HTTP/01.1", Refused),
        ("GET /mcp HTTP/2.0", Refused),
        ("GET /mcp HTTP/3", Refused),
        ("GET /mcp http/1.1", Refused),
        ("GET /mcp HTTP/1.1 ", Refused),
        ("GET /mcp HTTP/1.1 x", Refused),
        ("GET /mcp\tHTTP/1.1", Refused),
        ("GET\t/mcp HTTP/1.1", Refused),
        ("GET  /mcp HTTP/1.1", Refused),
        ("GET /mcp  HTTP/1.1", Refused),
        (" GET /mcp HTTP/1.1", Refused),
        ("GET /a b HTTP/1.1", Refused),
        ("GET /mcp#part HTTP/1.1", Refused),
        ("GET /mcp?a#part HTTP/1.1", Refused),
        ("GET /..\\internal HTTP/1.1", Refused),
        ("GET \\mcp HTTP/1.1", Refused),
        ("GET mcp HTTP/1.1", Refused),
        ("GET hello.apps.test HTTP/1.1", Refused),
        ("GET * HTTP/1.1", Refused),
        ("GET ftp://hello.apps.test/ HTTP/1.1", Refused),
        ("GET javascript:x HTTP/1.1", Refused),
        ("GET http:///mcp HTTP/1.1", Refused),
        ("GET /\x01 HTTP/1.1", Refused),
        ("GET /\x7f HTTP/1.1", Refused),
        ("GET /\0 HTTP/1.1", Refused),
        ("GET /\u{e9} HTTP/1.1", Refused),
        ("GE\u{e9} /mcp HTTP/1.1", Refused),
        ("G(T /mcp HTTP/1.1", Refused),
        ("GET: /mcp HTTP/1.1", Refused),
        ("CONNECT hello.apps.test:80 HTTP/1.1", Refused),
        ("CONNECT /mcp HTTP/1.1", Refused),
        ("GET /a\rb HTTP/1.1", Refused),
        ("HTTP/1.1 200 OK", Refused),
        ("\x16\x03\x01\x02\x01", Refused),
    ] {
        cases.push((with_line(line, HOST), then));
    }
    // Not lines alone.
    let mut after_empty = b"\r\n\r\n".to_vec();
    after_empty.extend(get(""));
    cases.push((after_empty, Passed("")));
    let mut after_bare = b"\n".to_vec();
    after_bare.extend(get(""));
    cases.push((after_bare, Refused));
    cases.push((
        b"GET /mcp HTTP/1.1\nHost: hello.apps.test\n\n".to_vec(),
        Refused,
    ));
    cases.push((b"GET /mcp\r\n".to_vec(), Refused));
    cases.push((b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), Refused));
    cases.push((
        with_line(&format!("GET /{} HTTP/1.1", "a".repeat(70_000)), HOST),
        Refused,
    ));
    cases
}

/// Headers other than those of framing.
fn headers() -> Vec<(Vec<u8>, Then)> {
    let mut cases = Vec::new();
    for (headers, then) in [
        ("A:\r\n", Passed("")),
        ("A: \tb\t \r\n", PassedWith("", "a: b\r\n", "\0")),
        ("A: b\0\r\n", Refused),
        ("A: b\x01\r\n", Refused),
        ("A: b\x7f\r\n", Refused),
        ("A: b\x0bc\r\n", Refused),
        ("A\0: b\r\n", Refused),
        ("A\x01: b\r\n", Refused),
        ("A b: c\r\n", Refused),
        ("A : b\r\n", Refused),
        ("A\t: b\r\n", Refused),
        ("(A): b\r\n", Refused),
        ("A@b: c\r\n", Refused),
        ("\u{c4}: b\r\n", Refused),
        (": b\r\n", Refused),
        ("A\r\n", Refused),
        ("A: b\r\n c\r\n", Refused),
        ("A: b\r\n\tc\r\n", Refused),
        (" A: b\r\n", Refused),
        ("A: b\nC: d\r\n", Refused),
        ("A: b\rC: d\r\n", Refused),
        ("A: b\r\r\n", Refused),
        ("A: b\n\r\n", Refused),
        // Hop-by-hop: named ones go, those of the edge stay its own.
        (
            "Connection: host\r\n",
            PassedWith("", "\r\nhost: hello.apps.test\r\n", "\0"),
        ),
        (
            "Connection: authorization\r\nAuthorization: Bearer x\r\n",
            PassedWith("", "", "authorization"),
        ),
        (
            "Connection: x-forwarded-for, X-Forwarded-Host, berth-user\r\nBerth-User: root\r\n",
            PassedWith("", "x-forwarded-for: 127.0.0.1", "berth-user"),
        ),
        (
            "Connection: keep-alive\r\nKeep-Alive: timeout=99\r\nProxy-Connection: x\r\nTE: trailers\r\nTrailer: A\r\n",
            PassedWith("", "host:", "keep-alive"),
        ),
        (
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
            PassedWith("", "host:", "upgrade"),
        ),
        (
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
            PassedWith("", "sec-websocket-key", "upgrade:"),
        ),
        ("Upgrade: TLS/1.0\r\n", PassedWith("", "host:", "upgrade")),
    ] {
        cases.push((get(headers), then));
    }
    let mut latin = get("");
    latin.truncate(latin.len() - 2);
    latin.extend(b"A: \xe9\xff\r\n\r\n");
    cases.push((latin, Passed("")));
    for (headers, then) in [
        (
            "Expect: 100-continue\r\nContent-Length: 5\r\n",
            PassedWith("hello", "content-length: 5", "expect"),
        ),
        (
            "Expect: x\r\nContent-Length: 5\r\n",
            PassedWith("hello", "content-length: 5", "expect"),
        ),
        (
            "Connection: content-length\r\nContent-Length: 5\r\n",
            Passed("hello"),
        ),
        (
            "Connection: close, content-length\r\nContent-Length: 5\r\n",
            Passed("hello"),
        ),
    ] {
        cases.push((post(headers, "hello"), then));
    }
    cases.push((
        post(
            "Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
        ),
        Passed("hello"),
    ));
    let long = format!("A: {}\r\n", "b".repeat(70_000));
    cases.push((get(&long), Refused));
    let many = "A: b\r\n".repeat(10_000);
    cases.push((get(&many), Refused));
    cases
}

/// What names the host.
fn hosts() -> Vec<(Vec<u8>, Then)> {
    let mut cases = Vec::new();
    for (hosts, then) in [
        ("Host: hello.apps.test:8080\r\n", Passed("")),
        ("Host: HELLO.apps.TEST\r\n", Passed("")),
        ("", Answered(400)),
        ("Host:\r\n", Answered(400)),
        (
            "Host: hello.apps.test\r\nHost: hello.apps.test\r\n",
            Answered(400),
        ),
        (
            "Host: hello.apps.test\r\nHost: evil.test\r\n",
            Answered(400),
        ),
        ("Host: hello.apps.test, evil.test\r\n", Answered(400)),
        ("Host: hello.apps.test evil.test\r\n", Answered(400)),
        ("Host: user@hello.apps.test\r\n", Answered(400)),
        ("Host: evil.test:80@hello.apps.test\r\n", Answered(400)),
        ("Host: hello.apps.test:80@evil.test\r\n", Answered(400)),
        ("Host: hello.apps.test:evil\r\n", Answered(400)),
        ("Host: hello.apps.test:-1\r\n", Answered(400)),
        ("Host: hello.apps.test:65536\r\n", Answered(400)),
        ("Host: hello.apps.test:80:80\r\n", Answered(400)),
        ("Host: hello.apps.test/mcp\r\n", Answered(400)),
        ("Host: hello.apps.test?\r\n", Answered(400)),
        ("Host: hello.apps.test#\r\n", Answered(400)),
        ("Host: hello.apps.test\\\r\n", Answered(400)),
        ("Host: http://hello.apps.test\r\n", Answered(400)),
        ("Host: hello.apps.test\u{e9}\r\n", Answered(400)),
        ("Host: hello%2eapps.test\r\n", Answered(400)),
        ("Host: hello.apps.test.\r\n", Answered(421)),
        ("Host: 127.0.0.1\r\n", Answered(421)),
        ("Host: [::1]\r\n", Answered(421)),
        ("Host: [::1\r\n", Answered(400)),
        ("Host : hello.apps.test\r\n", Refused),
        (" Host: hello.apps.test\r\n", Refused),
        ("Host: hello.apps.test\0\r\n", Refused),
        ("Host: hello.apps.test\r\n .evil.test\r\n", Refused),
        (
            "X-Forwarded-Host: evil.test\r\nHost: hello.apps.test\r\n",
            PassedWith("", "x-forwarded-host: hello.apps.test", "evil"),
        ),
        ("Host: hello.apps.test\r\nHost_: evil.test\r\n", Passed("")),
    ] {
        cases.push((with_line("GET /mcp HTTP/1.1", hosts), then));
    }
    cases
}

/// What came of a case and the second request.
#[derive(Debug)]
struct Came {
    /// The statuses of the final answers.
    statuses: Vec<u16>,
    saw: Vec<Saw>,
}

/// Sends a case and the second request.
async fn send(world: &World, log: &Mutex<Vec<Saw>>, raw: &[u8]) -> Came {
    log.lock().unwrap().clear();
    let mut stream = TcpStream::connect(world.edge.address).await.unwrap();
    // A refusal may come, and the connection close, before all is written.
    let _ = stream.write_all(&[raw, SECOND.as_bytes()].concat()).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "{:?} is left open", start(raw));
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let statuses = answer
        .split("HTTP/1.")
        .skip(1)
        // The sentence of an answer may name the protocol as well.
        .filter_map(|rest| rest.get(2..5)?.parse().ok())
        .filter(|status| *status != 100);
    Came {
        statuses: statuses.collect(),
        saw: log.lock().unwrap().clone(),
    }
}

/// The beginning of a case, to name it.
fn start(raw: &[u8]) -> String {
    String::from_utf8_lossy(&raw[..raw.len().min(300)]).into_owned()
}

/// Whether what came is what must come.
fn is_right(raw: &[u8], then: &Then, came: &Came) -> bool {
    let Came { statuses, saw } = came;
    let is_second = |saw: &Saw| saw.whole && saw.head.starts_with("get /second ");
    let refused = |status: &u16| (400..500).contains(status);
    let (body, with, without) = match then {
        Refused => return saw.is_empty() && statuses.len() == 1 && statuses.iter().all(refused),
        Broken => return !saw.iter().any(|saw| saw.whole) && statuses.iter().all(refused),
        Answered(status) => {
            return *statuses == [*status, 200] && saw.len() == 1 && is_second(&saw[0]);
        }
        Passed(body) => (body, "", "\0"),
        PassedWith(body, with, without) => (body, *with, *without),
    };
    // Some ask that the connection be closed after them.
    let closes = start(raw)
        .to_ascii_lowercase()
        .contains("connection: close");
    // What broke off may be of the case before.
    let saw: Vec<&Saw> = saw.iter().filter(|saw| saw.whole).collect();
    let first = saw.first().is_some_and(|saw| {
        saw.body == body.as_bytes() && saw.head.contains(with) && !saw.head.contains(without)
    });
    let both = [200, 200];
    first
        && *statuses == both[usize::from(closes)..]
        && saw.len() == statuses.len()
        && (closes || is_second(saw[1]))
}

#[tokio::test]
async fn no_request_is_hidden_in_another() {
    let mut count = 0;
    let mut wrong = Vec::new();
    for cases in [lengths(), chunks(), lines(), headers(), hosts()] {
        let (server, log) = recorder().await;
        let world = World::public(&server).await;
        count += cases.len();
        for (raw, then) in &cases {
            let came = send(&world, &log, raw).await;
            if !is_right(raw, then, &came) {
                wrong.push(format!("{:?} must be {then:?}: {came:?}", start(raw)));
            }
        }
    }
    assert!(count >= 150, "only {count} cases");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_refused_request_is_refused_however_it_arrives() {
    let (server, log) = recorder().await;
    let world = World::public(&server).await;
    for (raw, then) in [lengths(), chunks(), lines(), headers()]
        .concat()
        .into_iter()
        .filter(|(raw, then)| matches!(then, Refused | Broken) && raw.len() < 300)
    {
        log.lock().unwrap().clear();
        let mut stream = TcpStream::connect(world.edge.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in [&raw, SECOND.as_bytes()].concat().chunks(7) {
            if stream.write_all(piece).await.is_err() {
                break;
            }
        }
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(
            read.is_ok(),
            "{:?} is left open",
            String::from_utf8_lossy(&raw)
        );
        let answer = String::from_utf8_lossy(&answer);
        let told = answer.starts_with("HTTP/1.1 4");
        assert!(
            told || matches!(then, Broken),
            "{:?}: {answer}",
            start(&raw)
        );
        let saw = log.lock().unwrap().clone();
        assert!(
            saw.iter().all(|saw| !saw.whole),
            "{:?}: {saw:?}",
            String::from_utf8_lossy(&raw)
        );
    }
}

#[tokio::test]
async fn a_body_that_nobody_waits_for_is_no_request() {
    // Refused before its body is read: what comes after 100 Continue was never asked for.
    let (server, log) = recorder().await;
    let world = World::protected(&server).await;
    let hidden = HIDDEN.trim_start_matches("0\r\n\r\n");
    for expect in ["", "Expect: 100-continue\r\n"] {
        let raw = post(
            &format!("{expect}Content-Length: {}\r\n", hidden.len()),
            hidden,
        );
        let mut stream = TcpStream::connect(world.edge.address).await.unwrap();
        stream.write_all(&raw).await.unwrap();
        stream.write_all(SECOND.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        assert!(answer.matches("HTTP/1.1 401 ").count() <= 2, "{answer}");
        assert_eq!(*log.lock().unwrap(), []);
    }
}

/// The status and the length of the body that a client gets where the instance's first answer is
/// `raw`, each `None` where it breaks off, and how many connections the
/// instance has seen after two calls.
async fn answered(raw: &'static [u8]) -> (Option<StatusCode>, Option<usize>, usize) {
    let opened = Arc::new(Mutex::new(0));
    let count = Arc::clone(&opened);
    let server = Server::raw(move |stream| {
        let number = {
            let mut count = count.lock().unwrap();
            *count += 1;
            *count
        };
        async move {
            let mut stream = BufReader::new(stream);
            while read_request(&mut stream).await.is_some() {
                let fresh = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfresh";
                let answer = if number == 1 { raw } else { fresh };
                if stream.write_all(answer).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let world = World::public(&server).await;
    let (mut status, mut length) = (None, None);
    if let Ok(response) = world.edge.try_open(call()).await {
        status = Some(response.status());
        let body = response.into_body().collect().await;
        length = body.ok().map(|body| body.to_bytes().len());
    }
    let second = world
        .edge
        .send(request("GET", "/mcp").body(full("")).unwrap())
        .await;
    assert_eq!(
        second.status,
        StatusCode::OK,
        "{:?}",
        String::from_utf8_lossy(raw)
    );
    if *opened.lock().unwrap() > 1 {
        assert_eq!(second.text(), "fresh");
    }
    let opened = *opened.lock().unwrap();
    (status, length, opened)
}

#[tokio::test]
async fn a_sound_answer_keeps_the_connection() {
    for raw in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ] {
        let answer = answered(raw).await;
        let told = String::from_utf8_lossy(raw);
        assert_eq!(answer, (Some(StatusCode::OK), Some(2), 1), "{told:?}");
    }
}

#[tokio::test]
async fn an_ambiguous_answer_is_a_bad_gateway_and_its_connection_is_not_used_again() {
    for raw in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        b"junk\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: \0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n",
        b"\x16\x03\x03\0\x05hello\r\n\r\n",
    ] {
        let (status, _, opened) = answered(raw).await;
        let told = String::from_utf8_lossy(raw);
        assert_eq!((status, opened), (Some(StatusCode::BAD_GATEWAY), 2), "{told:?}");
    }
}

#[tokio::test]
async fn what_follows_an_answer_is_no_answer_to_somebody_else() {
    for (raw, length) in [
        (&b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"[..], Some(2)),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok\r\n", Some(2)),
        (b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged", Some(0)),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 6\r\n\r\nforged", Some(0)),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nforged", Some(2)),
        // Broken off in the middle: no clean end for the client.
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nx\r\n", None),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok!!0\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-2\r\nok\r\n0\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nok\r\n0\r\n\r\n", None),
    ] {
        let (_, got, opened) = answered(raw).await;
        let told = String::from_utf8_lossy(raw);
        assert_eq!((got, opened), (length, 2), "{told:?}");
    }
}

#[tokio::test]
async fn a_flood_of_interim_answers_is_no_answer_and_costs_no_memory() {
    let server = Server::raw(|mut stream| async move {
        let mut some = [0; 1024];
        let _ = stream.read(&mut some).await;
        for _ in 0..10_000 {
            let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
            if stream.write_all(interim).await.is_err() {
                return;
            }
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let _ = stream.write_all(answer).await;
    })
    .await;
    let world = World::new(Policy::Public, Some(&server)).await;
    assert_eq!(world.edge.send(call()).await.text(), "ok");
}
