//! R1–R8, R11–R17: the edge is transparent, and says itself what it refuses.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};
use tests::repository::Repository;
use tests::wait;

use super::{Echo, Seen, arrived, echo, ensure_json_rpc_error};
use crate::Test;

pub const TESTS: &[Test] = &[
    ("r01_what_a_client_sends_arrives_unchanged", r01),
    ("r02_no_header_is_duplicated", r02),
    ("r03_an_event_does_not_wait_for_the_next", r03),
    ("r05_an_end_on_one_side_ends_the_other", r05),
    ("r06_events_are_not_compressed_and_codings_stay", r06),
    ("r07_statuses_and_bodies_pass", r07),
    ("r08_get_and_delete_pass", r08),
    ("r12_a_call_is_held_while_the_instance_restarts", r12),
    ("r13_a_final_slash_and_redirects_stay_on_the_host", r13),
    ("r14_forwarding_headers_are_the_edges_own", r14),
    ("r15_unknown_hosts_and_foreign_origins_are_refused", r15),
    ("r16_preflights_are_answered", r16),
    (
        "r17_bodies_of_four_mebibytes_pass_and_endless_ones_do_not",
        r17,
    ),
    ("r19_http_and_sse_of_2024_works", r19),
    ("r20_a_server_that_checks_hosts_itself_is_served", r20),
];

/// Long enough for whatever must happen on a busy machine.
pub(super) const SOON: Duration = Duration::from_secs(20);

fn r01() -> Result<()> {
    let echo = echo()?;
    let body: Vec<u8> = (0..=255_u8).cycle().take(70_001).collect();
    let sent = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "Tools/Call"),
        ("mcp-name", "=?base64?w6TDtsO8?="),
        ("mcp-param-x", "  Kept As It Is"),
        ("mcp-session-id", "no-session-of-this-edge"),
        ("last-event-id", "7"),
        ("accept", "application/json, text/event-stream"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        ("x-own", "a,b ;c"),
    ];
    for method in [Method::POST, Method::PUT] {
        let path = "/mcp?a=1&b=%2F%20x&a=2&%C3%A4";
        let mut request = echo
            .request(method.clone(), path, "echo")
            .body(body.clone());
        for (name, value) in sent {
            request = request.header(name, value);
        }
        let seen = arrived(request)?;
        ensure!(seen.text("method") == method.as_str(), "{seen:?}");
        ensure!(seen.text("path") == "/mcp", "{seen:?}");
        ensure!(seen.text("query") == "a=1&b=%2F%20x&a=2&%C3%A4", "{seen:?}");
        ensure!(seen.body()? == body, "the body differs");
        for (name, value) in sent {
            ensure!(seen.header(name)? == value.trim_start(), "{name}: {seen:?}");
        }
        ensure!(seen.header("host")? == echo.authority(), "{seen:?}");
    }
    Ok(())
}

fn r02() -> Result<()> {
    let echo = echo()?;
    let names = [
        "mcp-method",
        "mcp-name",
        "mcp-protocol-version",
        "mcp-param-region",
        "content-type",
        "content-length",
        "accept",
        "host",
        "user-agent",
    ];
    let request = echo
        .post("echo")
        .header("mcp-method", "tools/call")
        .header("mcp-name", "add")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-param-region", "eu")
        .header("accept", "*/*")
        .header("user-agent", "test")
        .json(&json!({}));
    let seen = arrived(request)?;
    for name in names {
        seen.header(name)?;
    }
    // What the client duplicates is its own: the server refuses that, not the edge.
    let twice = echo
        .post("echo")
        .header("mcp-method", "a")
        .header("mcp-method", "b");
    ensure!(arrived(twice)?.headers("mcp-method") == ["a", "b"]);
    Ok(())
}

/// The server sends its second event only after this client, having read the first one, says so.
/// How long events take is measured by the bench.
fn r03() -> Result<()> {
    let echo = echo()?;
    for method in [Method::POST, Method::GET] {
        let name = format!("r03-{method}");
        let answer = echo
            .request(method, "/mcp", &format!("gate:{name}"))
            .send()?;
        ensure!(answer.headers()["content-type"] == "text/event-stream");
        let mut lines = BufReader::new(answer).lines();
        let first = lines.next().context("no first event")??;
        ensure!(first == "data: first", "{first}");
        echo.post(&format!("open:{name}"))
            .send()?
            .error_for_status()?;
        let rest: Vec<String> = lines.collect::<Result<_, _>>()?;
        ensure!(rest == ["", "data: second", ""], "{rest:?}");
    }
    Ok(())
}

fn r05() -> Result<()> {
    let echo = echo()?;
    let listed = |list: &str, name: &str| {
        wait::until(
            &format!("the server to list {name} as {list}"),
            SOON,
            || {
                let names: Vec<String> = echo.post(list).send()?.json()?;
                Ok(names.iter().any(|known| known == name).then_some(()))
            },
        )
    };
    let gone = |name: &str| listed("disconnected", name);
    // In the middle of a stream.
    let mut stream = echo
        .request(Method::GET, "/mcp", "stream:r05-stream")
        .send()?;
    let mut first = [0_u8; 8];
    stream.read_exact(&mut first)?;
    drop(stream);
    gone("r05-stream")?;
    // Before there was any answer.
    let mut silent = raw(&echo, "hang:r05-silent", "")?;
    silent.flush()?;
    listed("hanging", "r05-silent")?;
    silent.shutdown(std::net::Shutdown::Both)?;
    drop(silent);
    gone("r05-silent")?;
    // A server that breaks off: the client must not take the half for the whole.
    let mut half = raw(&echo, "crash", "")?;
    let mut answer = Vec::new();
    // A reset is as clear as an end without the last chunk.
    let _ = half.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    ensure!(answer.contains("data: half"), "{answer}");
    ensure!(
        !answer.ends_with("0\r\n\r\n"),
        "a well-formed end: {answer}"
    );
    Ok(())
}

/// A request over a socket of its own.
fn raw(echo: &Echo, behaviour: &str, more: &str) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(("127.0.0.1", echo.platform.port()))?;
    socket.set_read_timeout(Some(SOON))?;
    write!(
        socket,
        "POST /mcp HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nX-Test: {behaviour}\r\n{more}Content-Length: 2\r\n\r\n{{}}",
        echo.authority(),
        echo.token,
    )?;
    Ok(socket)
}

fn r06() -> Result<()> {
    let echo = echo()?;
    echo.post("open:r06").send()?.error_for_status()?;
    let events = echo
        .post("gate:r06")
        .header("accept-encoding", "gzip, br, zstd")
        .send()?;
    ensure!(
        events.headers().get("content-encoding").is_none(),
        "{events:?}"
    );
    ensure!(
        events.headers()["cache-control"]
            .to_str()?
            .contains("no-transform"),
        "{events:?}"
    );
    ensure!(events.text()? == "data: first\n\ndata: second\n\n");
    let packed = echo
        .post("packed")
        .header("accept-encoding", "gzip")
        .send()?;
    ensure!(packed.headers()["content-encoding"] == "gzip", "{packed:?}");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&packed.bytes()?[..]).read_to_string(&mut text)?;
    ensure!(text == "packed by the server");
    Ok(())
}

fn r07() -> Result<()> {
    let echo = echo()?;
    let statuses = [
        200, 202, 400, 401, 403, 404, 405, 406, 409, 413, 421, 422, 429, 500, 502, 503, 504,
    ];
    for status in statuses {
        let answer = echo.post(&format!("status:{status}")).body("{}").send()?;
        ensure!(answer.status() == status, "{answer:?}");
        ensure!(answer.headers()["content-type"] == "text/x-test; charset=utf-8");
        ensure!(answer.headers()["x-kept"] == "yes");
        ensure!(answer.text()? == format!("body of {status}"));
    }
    Ok(())
}

fn r08() -> Result<()> {
    let echo = echo()?;
    for method in [Method::GET, Method::DELETE] {
        let seen = arrived(echo.request(method.clone(), "/mcp", "echo"))?;
        ensure!(seen.text("method") == method.as_str(), "{seen:?}");
        let answer = echo.request(method, "/mcp", "status:405").send()?;
        ensure!(answer.status() == 405, "{answer:?}");
        ensure!(answer.text()? == "body of 405");
    }
    Ok(())
}

/// Its instance dies under it; the runner starts another, and who calls meanwhile waits.
fn r12() -> Result<()> {
    let platform = tests::platform::shared()?;
    let repository = super::repository()?;
    let echo = Echo::deploy(platform, "restarts", &repository)?;
    let before = arrived(echo.post("echo"))?.text("instance").to_owned();
    let died = echo.post("die").json(&json!({ "id": 12 })).send()?;
    ensure_json_rpc_error(died, 502, &json!(12))?;
    let held = arrived(echo.post("echo").json(&json!({ "id": 13 })))?;
    ensure!(
        held.text("instance") != before,
        "another instance: {held:?}"
    );
    // Nothing live at all: refused with a time to come back and the request's id.
    reqwest::blocking::Client::new()
        .post(format!("{}/api/v1/projects", echo.platform.url()))
        .bearer_auth(echo.platform.token()?)
        .json(&json!({ "name": "nothing-yet" }))
        .send()?
        .error_for_status()?;
    let caller = tests::mcp::Caller::new(&echo.platform, "nothing-yet")?;
    let refused = wait::until("the edge to know the project", SOON, || {
        let answer = caller.call("add", &json!({}))?;
        Ok((answer.status() == 503).then_some(answer))
    })?;
    ensure!(refused.headers().contains_key("retry-after"), "{refused:?}");
    ensure_json_rpc_error(refused, 503, &json!(1))?;
    Ok(())
}

fn r13() -> Result<()> {
    let echo = echo()?;
    let slash = echo.request(Method::POST, "/mcp/", "echo").body("{}");
    ensure!(arrived(slash)?.text("path") == "/mcp", "as /mcp");
    let query = echo.request(Method::POST, "/mcp/?a=1", "echo").body("{}");
    ensure!(arrived(query)?.text("query") == "a=1");
    let moved = echo.post("redirect:/mcp/elsewhere").body("{}").send()?;
    ensure!(moved.status() == 307, "{moved:?}");
    ensure!(
        moved.headers()["location"] == format!("{}/mcp/elsewhere", echo.origin()).as_str(),
        "{moved:?}"
    );
    Ok(())
}

fn r14() -> Result<()> {
    let echo = echo()?;
    let forged = echo
        .post("echo")
        .header("x-forwarded-for", "6.6.6.6")
        .header("x-forwarded-host", "evil.example")
        .header("x-forwarded-proto", "gopher")
        .header("x-forwarded-port", "1")
        .header("forwarded", "for=6.6.6.6")
        .header("x-real-ip", "6.6.6.6")
        .body("{}");
    let seen = arrived(forged)?;
    ensure!(
        seen.header("x-forwarded-host")? == echo.authority(),
        "{seen:?}"
    );
    ensure!(seen.header("x-forwarded-proto")? == "http", "{seen:?}");
    let client = seen.header("x-forwarded-for")?;
    ensure!(client == "127.0.0.1" || client == "::1", "{seen:?}");
    for name in ["x-forwarded-port", "forwarded", "x-real-ip"] {
        ensure!(seen.headers(name).is_empty(), "{name}: {seen:?}");
    }
    // The Python server trusts them: it knows its public scheme.
    ensure!(seen.text("scheme") == "http", "{seen:?}");
    Ok(())
}

fn r15() -> Result<()> {
    let echo = echo()?;
    let at = |host: &str| -> Result<u16> {
        let answer = Client::new()
            .post(format!("http://127.0.0.1:{}/mcp", echo.platform.port()))
            .header("host", host)
            .bearer_auth(&echo.token)
            .body("{}")
            .send()?;
        Ok(answer.status().as_u16())
    };
    ensure!(at("evil.example.com")? == 421, "an unknown host");
    ensure!(
        at("no-such-project.localhost")? == 404,
        "an unknown project"
    );
    let from = |origin: &str| -> Result<Response> {
        Ok(echo
            .post("echo")
            .header("origin", origin)
            .json(&json!({ "jsonrpc": "2.0", "id": "o", "method": "x" }))
            .send()?)
    };
    for foreign in [
        "https://evil.example",
        "null",
        "http://localhost.evil",
        "http://evil.localhost",
    ] {
        ensure_json_rpc_error(from(foreign)?, 403, &json!("o"))?;
    }
    for known in [
        &*echo.origin(),
        "http://localhost:6274",
        "http://127.0.0.1:1",
        "http://[::1]:3000",
    ] {
        ensure!(from(known)?.status() == 200, "{known}");
    }
    ensure!(
        echo.post("echo").body("{}").send()?.status() == 200,
        "no Origin"
    );
    Ok(())
}

fn r16() -> Result<()> {
    let echo = echo()?;
    let ask = |request: reqwest::blocking::RequestBuilder| {
        request
            .header("origin", "http://localhost:6274")
            .header("access-control-request-method", "POST")
            .header(
                "access-control-request-headers",
                "authorization, mcp-param-region",
            )
            .send()
    };
    let mcp = ask(echo.bare(Method::OPTIONS, "/mcp"))?;
    ensure!(mcp.status() == 204, "{mcp:?}");
    let list = |answer: &Response, name: &str| -> Result<Vec<String>> {
        let value = answer
            .headers()
            .get(name)
            .with_context(|| format!("no {name}"))?;
        Ok(value
            .to_str()?
            .split(',')
            .map(|item| item.trim().to_lowercase())
            .collect())
    };
    let methods = list(&mcp, "access-control-allow-methods")?;
    for method in ["get", "post", "delete", "options"] {
        ensure!(methods.iter().any(|known| known == method), "{methods:?}");
    }
    let headers = list(&mcp, "access-control-allow-headers")?;
    for name in [
        "authorization",
        "content-type",
        "accept",
        "mcp-protocol-version",
        "mcp-session-id",
        "mcp-method",
        "mcp-name",
        "last-event-id",
        "mcp-param-region",
    ] {
        ensure!(
            headers.iter().any(|known| known == name),
            "{name}: {headers:?}"
        );
    }
    let call = echo
        .post("echo")
        .header("origin", "http://localhost:6274")
        .body("{}")
        .send()?;
    let exposed = list(&call, "access-control-expose-headers")?;
    for name in ["mcp-session-id", "www-authenticate"] {
        ensure!(exposed.iter().any(|known| known == name), "{exposed:?}");
    }
    ensure!(
        call.headers()
            .get("access-control-allow-credentials")
            .is_none(),
        "{call:?}"
    );
    // A challenge can be read by the page too.
    let refused = echo
        .bare(Method::POST, "/mcp")
        .header("origin", "http://localhost:6274")
        .send()?;
    ensure!(
        refused.status() == 401
            && list(&refused, "access-control-expose-headers")?
                .iter()
                .any(|name| name == "www-authenticate"),
        "{refused:?}"
    );
    let base = echo.platform.url();
    for url in [
        format!("{}/.well-known/oauth-protected-resource/mcp", echo.origin()),
        format!("{base}/.well-known/oauth-authorization-server"),
        format!("{base}/oauth/token"),
        format!("{base}/oauth/register"),
        format!("{base}/oauth/revoke"),
    ] {
        let answer = ask(echo.http.request(Method::OPTIONS, &url))?;
        ensure!(answer.status() == 204, "{url}: {answer:?}");
        ensure!(
            answer.headers()["access-control-allow-origin"] == "*",
            "{url}: {answer:?}"
        );
    }
    Ok(())
}

fn r17() -> Result<()> {
    let echo = echo()?;
    let four = vec![b' '; 4 * 1024 * 1024];
    let answer = echo.post("length").body(four.clone()).send()?;
    ensure!(answer.json::<Value>()? == json!(four.len()));
    // Of unknown length too.
    let chunked = reqwest::blocking::Body::new(std::io::Cursor::new(four.clone()));
    let answer = echo.post("length").body(chunked).send()?;
    ensure!(answer.json::<Value>()? == json!(four.len()));
    let answer = echo
        .post("length")
        .body(vec![b' '; 11 * 1024 * 1024])
        .send()?;
    ensure_json_rpc_error(answer, 413, &Value::Null)?;
    Ok(())
}

/// A server of the deprecated transport, called as a client of MCP 2024-11-05 does.
fn r19() -> Result<()> {
    let echo = super::snippets::old_transport()?;
    let stream = echo
        .bare(Method::GET, "/sse")
        .bearer_auth(&echo.token)
        .header("accept", "text/event-stream")
        .send()?;
    ensure!(stream.status() == 200, "{stream:?}");
    let mut events = BufReader::new(stream).lines();
    let endpoint = next_data(&mut events, "endpoint")?;
    ensure!(endpoint.starts_with("/messages"), "{endpoint}");
    let say = |message: &Value| -> Result<()> {
        let answer = echo
            .bare(Method::POST, &endpoint)
            .bearer_auth(&echo.token)
            .json(message)
            .send()?;
        ensure!(answer.status() == 202, "{answer:?}");
        Ok(())
    };
    say(
        &json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2024-11-05", "capabilities": {},
        "clientInfo": { "name": "test", "version": "1" } } }),
    )?;
    let hello: Value = serde_json::from_str(&next_data(&mut events, "message")?)?;
    ensure!(
        hello["result"]["protocolVersion"] == "2024-11-05",
        "{hello}"
    );
    say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))?;
    say(&json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call",
        "params": { "name": "add", "arguments": { "a": 40, "b": 2 } } }))?;
    let sum: Value = serde_json::from_str(&next_data(&mut events, "message")?)?;
    ensure!(sum["result"]["content"][0]["text"] == "42", "{sum}");
    Ok(())
}

/// The data of the next event of a kind.
fn next_data(
    lines: &mut impl Iterator<Item = std::io::Result<String>>,
    kind: &str,
) -> Result<String> {
    let mut named = false;
    for line in lines {
        let line = line?;
        if let Some(name) = line.strip_prefix("event: ") {
            named = name == kind;
        } else if let Some(data) = line.strip_prefix("data: ").filter(|_| named) {
            return Ok(data.to_owned());
        }
    }
    anyhow::bail!("the stream ended without an event {kind}")
}

/// It answers 421 to every host but its own, as SDKs do that guard against DNS rebinding.
fn r20() -> Result<()> {
    let guard = super::ECHO.replace(
        "    answer = Answer(scope, receive, send)\n",
        "    answer = Answer(scope, receive, send)\n    \
         if not answer.header(\"host\").startswith((\"localhost:\", \"127.0.0.1:\")):\n        \
         await answer.json({\"error\": \"Invalid Host header\"}, 421)\n        return\n",
    );
    let repository = Repository::new(&[("main.py", &guard), ("requirements.txt", "uvicorn\n")])?;
    let echo = Echo::deploy(tests::platform::shared()?, "checks-hosts", &repository)?;
    let request = echo.post("echo").header("origin", echo.origin()).body("{}");
    let seen: Seen = arrived(request)?;
    ensure!(seen.header("host")?.starts_with("localhost:"), "{seen:?}");
    ensure!(seen.headers("origin").is_empty(), "{seen:?}");
    ensure!(
        seen.header("x-forwarded-host")? == echo.authority(),
        "{seen:?}"
    );
    let moved = echo.post("redirect:/mcp").body("{}").send()?;
    ensure!(
        moved.headers()["location"] == format!("{}/mcp", echo.origin()).as_str(),
        "{moved:?}"
    );
    Ok(())
}
