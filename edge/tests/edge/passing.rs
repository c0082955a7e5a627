//! What passes through unchanged, and what the edge adds.

use http::StatusCode;
use serde_json::json;

use crate::harness::{
    HOST, Server, World, call_with, full, header_values, platform, request, upstream,
};

#[tokio::test]
async fn r01_r02_method_target_body_and_headers_arrive_unchanged_and_once() {
    let server = Server::echo().await;
    let world = World::public(&server).await;
    let answer = world
        .edge
        .send(
            request("POST", "/mcp?a=%2F&b")
                .header("Mcp-Method", "tools/call")
                .header("Mcp-Name", "=?base64?w6k=?=")
                .header("MCP-Protocol-Version", "2026-07-28")
                .header("Mcp-Session-Id", "s1")
                .header("Last-Event-ID", "e1")
                .header("Mcp-Param-X", "MiXed")
                .header("Accept", "application/json, text/event-stream")
                .body(full("{\"id\":1,\n \"x\":\"é\"}"))
                .unwrap(),
        )
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    let said = answer.json();
    assert_eq!(said["method"], "POST");
    assert_eq!(said["target"], "/mcp?a=%2F&b");
    assert_eq!(said["body"], "{\"id\":1,\n \"x\":\"é\"}");
    for (name, value) in [
        ("mcp-method", "tools/call"),
        ("mcp-name", "=?base64?w6k=?="),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-session-id", "s1"),
        ("last-event-id", "e1"),
        ("mcp-param-x", "MiXed"),
        ("accept", "application/json, text/event-stream"),
        ("host", HOST),
        ("content-length", "19"),
    ] {
        assert_eq!(header_values(&said, name), [value], "{name}");
    }
    let mut names: Vec<_> = said["headers"].as_array().unwrap().iter().collect();
    names.sort_by_key(|pair| pair[0].as_str());
    let all = names.len();
    names.dedup_by_key(|pair| pair[0].as_str());
    assert_eq!(names.len(), all, "a header came twice: {said}");
}

#[tokio::test]
async fn r01_every_byte_of_a_body_arrives_and_comes_back() {
    use http_body_util::BodyExt;
    let server = Server::start(|request| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        http::Response::new(full(body))
    })
    .await;
    let world = World::protected(&server).await;
    // Every byte value, over several chunks' length, and nothing that is JSON or UTF-8.
    let sent: Vec<u8> = (0..=255u8).cycle().take(300_000).collect();
    let (mut parts, _) = call_with(&world.signer.good()).into_parts();
    parts.headers.remove("content-length");
    let request = http::Request::from_parts(parts, full(sent.clone()));
    let answer = world.edge.send(request).await;
    assert!(answer.body == sent, "{} bytes came back", answer.body.len());
}

#[tokio::test]
async fn r01_values_are_passed_on_as_they_are_written_and_in_order() {
    let server = Server::echo().await;
    let world = World::public(&server).await;
    let answer = world
        .edge
        .raw_answer(&format!(
            "POST /mcp?Q=%7e HTTP/1.1\r\nHost: {HOST}\r\nX-List: One\r\nX-LIST: tWo, three\r\nMcp-Param-Zone: =?base64?w6k=?=\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        ))
        .await;
    let said = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(header_values(&said, "x-list"), ["One", "tWo, three"]);
    assert_eq!(header_values(&said, "mcp-param-zone"), ["=?base64?w6k=?="]);
    assert_eq!(said["target"], "/mcp?Q=%7e");
}

#[tokio::test]
async fn r14_forwarding_headers_are_ours() {
    let server = Server::echo().await;
    let world = World::protected(&server).await;
    let mut call = call_with(&world.signer.good());
    for (name, value) in [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil"),
        ("x-forwarded-user", "root"),
        ("forwarded", "for=6.6.6.6"),
        ("x-real-ip", "6.6.6.6"),
        ("proxy-authorization", "Basic x"),
        ("cookie", "sid=1"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
    ] {
        call.headers_mut().insert(name, value.parse().unwrap());
    }
    let said = world.edge.send(call).await.json();
    assert_eq!(header_values(&said, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(header_values(&said, "x-forwarded-proto"), ["http"]);
    assert_eq!(header_values(&said, "x-forwarded-host"), [HOST]);
    for gone in [
        "authorization",
        "cookie",
        "x-forwarded-user",
        "forwarded",
        "x-real-ip",
        "proxy-authorization",
        "connection",
        "x-hop",
    ] {
        assert!(header_values(&said, gone).is_empty(), "{gone}");
    }
}

#[tokio::test]
async fn r07_r08_statuses_and_bodies_pass_and_405_is_the_servers_own() {
    let server = Server::start(|request| async move {
        let status: u16 = request.headers()["x-status"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        http::Response::builder()
            .status(status)
            .header("content-type", "application/json")
            .body(full(format!("{{\"said\":{status}}}")))
            .unwrap()
    })
    .await;
    let world = World::public(&server).await;
    for status in [
        200, 202, 400, 401, 403, 404, 405, 406, 413, 421, 429, 500, 503,
    ] {
        for method in ["GET", "POST", "DELETE"] {
            let answer = world
                .edge
                .send(
                    request(method, "/mcp")
                        .header("x-status", status)
                        .body(full(""))
                        .unwrap(),
                )
                .await;
            assert_eq!(answer.status.as_u16(), status, "{method}");
            assert_eq!(answer.json(), json!({ "said": status }));
            assert_eq!(answer.header("content-type"), Some("application/json"));
        }
    }
}

#[tokio::test]
async fn responses_prove_the_version_and_carry_nothing_beyond_the_project() {
    let server = Server::start(|_| async {
        http::Response::builder()
            .header(
                "www-authenticate",
                "Bearer resource_metadata=\"http://evil\"",
            )
            .header("set-cookie", "a=b")
            .header("strict-transport-security", "max-age=1")
            .header("alt-svc", "h3=\":443\"")
            .header("clear-site-data", "*")
            .header("service-worker-allowed", "/")
            .header("berth-commit", "forged")
            .header("content-encoding", "gzip")
            .header("content-type", "text/html")
            .body(full("not really gzip"))
            .unwrap()
    })
    .await;
    let world = World::protected(&server).await;
    let answer = world.edge.send(call_with(&world.signer.good())).await;
    assert_eq!(answer.text(), "not really gzip");
    for (name, value) in [
        ("berth-deployment", "00000000-0000-0000-0000-000000000001"),
        ("berth-commit", "commit-1"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("content-encoding", "gzip"),
        ("content-security-policy", "sandbox"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    for gone in [
        "www-authenticate",
        "set-cookie",
        "strict-transport-security",
        "alt-svc",
        "clear-site-data",
        "service-worker-allowed",
    ] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
}

#[tokio::test]
async fn r13_a_final_slash_makes_no_difference_and_no_redirect() {
    let server = Server::echo().await;
    let world = World::public(&server).await;
    let answer = world
        .edge
        .send(request("POST", "/mcp/?x=1").body(full("{}")).unwrap())
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["target"], "/mcp?x=1");
}

#[tokio::test]
async fn r13_a_server_that_wants_the_slash_gets_it_after_one_redirect() {
    let server = Server::start(|request| async move {
        let response = http::Response::builder();
        if request.uri().path() == "/mcp" {
            let host = request.headers()["host"].to_str().unwrap().to_owned();
            let location = format!("http://{host}/mcp/");
            let response = response.status(307).header("location", location);
            return response.body(full("")).unwrap();
        }
        response
            .body(full(request.uri().path().to_owned()))
            .unwrap()
    })
    .await;
    let world = World::new(platform(), Some(&server)).await;
    let ask = async |path: &str| {
        let mut call = call_with(&world.signer.good());
        *call.uri_mut() = path.parse().unwrap();
        world.edge.send(call).await
    };
    let first = ask("/mcp").await;
    assert_eq!(first.status, StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(
        first.header("location"),
        Some("http://hello.apps.test/mcp/")
    );
    for path in ["/mcp/", "/mcp", "/mcp/"] {
        assert_eq!(ask(path).await.text(), "/mcp/", "{path}");
    }
}

#[tokio::test]
async fn r13_a_redirect_to_the_own_host_keeps_https() {
    let server = Server::start(|request| async move {
        let host = request.headers()["host"].to_str().unwrap().to_owned();
        http::Response::builder()
            .status(307)
            .header("location", format!("http://{host}/mcp"))
            .body(full(""))
            .unwrap()
    })
    .await;
    let routes = crate::harness::snapshot(
        json!({ "keys": [] }),
        vec![crate::harness::route(
            edge::protocol::Policy::Public,
            Some(upstream(1, server.address)),
        )],
    );
    let control = crate::harness::Control::start(routes).await;
    let data = tempfile::tempdir().unwrap();
    let edge =
        crate::harness::Edge::start_with(control.server.address, data.path(), "https://berth.test")
            .await;
    let answer = edge
        .send(request("GET", "/x").body(full("")).unwrap())
        .await;
    assert_eq!(answer.status, StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(
        answer.header("location"),
        Some("https://hello.apps.test/mcp")
    );
}

#[tokio::test]
async fn a_public_project_gets_every_path_and_its_own_credentials() {
    let server = Server::echo().await;
    let world = World::public(&server).await;
    for path in [
        "/",
        "/.well-known/oauth-protected-resource",
        "/authorize?x=1",
        "/internal/x",
    ] {
        let said = world
            .edge
            .send(
                request("GET", path)
                    .header("authorization", "Bearer theirs")
                    .header("cookie", "a=b")
                    .body(full(""))
                    .unwrap(),
            )
            .await
            .json();
        assert_eq!(said["target"], path);
        assert_eq!(header_values(&said, "authorization"), ["Bearer theirs"]);
        assert_eq!(header_values(&said, "cookie"), ["a=b"]);
    }
}

#[tokio::test]
async fn r17_bodies_of_four_mebibytes_pass_and_eleven_are_refused() {
    let server = Server::start(|request| async move {
        use http_body_util::BodyExt;
        match request.into_body().collect().await {
            Ok(body) => http::Response::new(full(body.to_bytes().len().to_string())),
            Err(_) => http::Response::new(full("broken")),
        }
    })
    .await;
    let world = World::public(&server).await;
    let send = async |mebibytes: usize, chunked: bool| {
        let bytes = bytes::Bytes::from(vec![b'x'; mebibytes << 20]);
        let body = if chunked {
            use http_body_util::BodyExt;
            let pieces: Vec<_> = bytes
                .chunks(1 << 16)
                .map(|piece| Ok(http_body::Frame::data(bytes::Bytes::copy_from_slice(piece))))
                .collect();
            http_body_util::StreamBody::new(futures_util::stream::iter(pieces)).boxed()
        } else {
            full(bytes)
        };
        world
            .edge
            .send(request("POST", "/mcp").body(body).unwrap())
            .await
    };
    for chunked in [false, true] {
        let answer = send(4, chunked).await;
        assert_eq!(answer.text(), (4 << 20).to_string());
        let answer = send(11, chunked).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(answer.text().contains("10 MiB"), "{}", answer.text());
    }
}

#[tokio::test]
async fn the_dashboards_host_goes_to_the_control_plane_but_not_inside() {
    let server = Server::echo().await;
    let world = World::public(&server).await;
    let ask = async |path: &str| {
        world
            .edge
            .send(
                http::Request::post(path)
                    .header("host", "Berth.test:8080")
                    .header("cookie", "sid=1")
                    .header("authorization", "Bearer brt_x")
                    .header("x-forwarded-for", "6.6.6.6")
                    .header("berth-user", "root")
                    .body(full(vec![0; 11 << 20]))
                    .unwrap(),
            )
            .await
    };
    let answer = ask("/api/v1/projects").await;
    assert_eq!(answer.header("set-cookie"), Some("sid=1"));
    assert_eq!(answer.header("www-authenticate"), Some("Basic"));
    assert_eq!(
        answer.json(),
        json!({
            "path": "/api/v1/projects", "bytes": 11 << 20, "cookie": "sid=1",
            "authorization": "Bearer brt_x", "host": "Berth.test:8080",
            "for": "127.0.0.1", "berth": null,
        })
    );
    for inside in [
        "/internal/edge/routes?after=0",
        "//internal/x",
        "/%69nternal",
    ] {
        assert_eq!(ask(inside).await.status, StatusCode::NOT_FOUND, "{inside}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_says_where_a_request_came_from() {
    let server = Server::echo().await;
    let routes = crate::harness::snapshot(
        json!({ "keys": [] }),
        vec![crate::harness::route(
            edge::protocol::Policy::Public,
            Some(upstream(1, server.address)),
        )],
    );
    let control = crate::harness::Control::start(routes).await;
    let ask = async |proxies: &[&str], host: &str| {
        let data = tempfile::tempdir().unwrap();
        let (control, url) = (control.server.address, "http://berth.test");
        let edge = crate::harness::Edge::start_behind(control, data.path(), url, proxies).await;
        let request = http::Request::post("/mcp")
            .header("host", host)
            .header("x-forwarded-for", "6.6.6.6, 203.0.113.7")
            .header("x-forwarded-proto", "https")
            .header("x-forwarded-host", "evil")
            .body(full("{}"))
            .unwrap();
        edge.send(request).await.json()
    };
    for (proxies, address, scheme) in [
        (&["127.0.0.0/8"][..], "203.0.113.7", "https"),
        (&["10.0.0.0/8"], "127.0.0.1", "http"),
    ] {
        let said = ask(proxies, HOST).await;
        assert_eq!(header_values(&said, "x-forwarded-for"), [address]);
        assert_eq!(header_values(&said, "x-forwarded-proto"), [scheme]);
        assert_eq!(header_values(&said, "x-forwarded-host"), [HOST]);
        assert_eq!(ask(proxies, "berth.test").await["for"], address);
    }
}

#[tokio::test]
async fn answers_behind_a_token_are_kept_by_no_cache() {
    let server = Server::start(|request| async move {
        let accept = request.headers()["accept"].clone();
        http::Response::builder()
            .header("content-type", accept)
            .header("cache-control", "public, max-age=600")
            .header("cdn-cache-control", "max-age=600")
            .header("surrogate-control", "max-age=600")
            .header("x-accel-expires", "600")
            .header("x-accel-redirect", "/etc/passwd")
            .header("x-accel-buffering", "no")
            .body(full("data: 1\n\n"))
            .unwrap()
    })
    .await;
    let ask = async |world: &World, accept: &str| {
        let mut call = call_with(&world.signer.good());
        call.headers_mut().insert("accept", accept.parse().unwrap());
        world.edge.send(call).await
    };
    let protected = World::protected(&server).await;
    for (kind, said) in [
        ("application/json", "no-store"),
        ("text/event-stream; charset=utf-8", "no-store, no-transform"),
    ] {
        let answer = ask(&protected, kind).await;
        let values: Vec<_> = answer.headers.get_all("cache-control").iter().collect();
        assert_eq!(values, [said]);
        for gone in ["cdn-cache-control", "surrogate-control", "x-accel-expires"] {
            assert_eq!(answer.header(gone), None, "{gone}");
        }
        assert_eq!(answer.header("x-accel-redirect"), None);
        assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    }
    let public = ask(&World::public(&server).await, "application/json").await;
    assert_eq!(public.header("cache-control"), Some("public, max-age=600"));
    assert_eq!(public.header("x-accel-redirect"), None);
}

#[tokio::test]
async fn the_body_of_a_get_arrives_however_it_is_framed() {
    let server = Server::echo().await;
    let world = World::public(&server).await;
    for framing in [
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "Content-Length: 5\r\n\r\nhello",
    ] {
        let head = format!("GET /mcp HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n");
        let answer = world.edge.raw_answer(&format!("{head}{framing}")).await;
        assert!(answer.contains(r#""body":"hello""#), "{answer}");
    }
}
