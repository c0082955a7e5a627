//! What passes in each mode of access.

use edge::protocol::{Callers, HostHeader, Policy};
use http::StatusCode;
use serde_json::json;

use crate::harness::{
    Answer, Control, Edge, HOST, Server, World, call_with, full, header_values, platform, request,
    route, snapshot, upstream,
};

/// A server with an authorization server of its own: it answers with all that one says.
async fn tenant() -> Server {
    Server::start(|request| async move {
        let path = request.uri().path().to_owned();
        let host = request.headers()["host"].to_str().unwrap().to_owned();
        let response = http::Response::builder()
            .header("x-asked", format!("{} {path}", request.method()))
            .header(
                "www-authenticate",
                r#"Bearer resource_metadata="http://tenant/prm""#,
            )
            .header("set-cookie", "__Host-consent=1; Path=/; Secure; HttpOnly")
            .header("set-cookie", "wide=1; Domain=apps.test; Path=/")
            .header("content-security-policy", "form-action 'self'")
            .header("content-type", "text/html; charset=utf-8")
            .header("access-control-allow-origin", "https://page.test")
            .header("access-control-allow-credentials", "true");
        match path.as_str() {
            "/authorize" => response
                .status(302)
                .header("location", "https://idp.test/login?state=1"),
            "/consent" => response
                .status(303)
                .header("location", format!("http://{host}/auth/callback?x=1")),
            "/mcp" => response.status(401),
            _ => response.status(200),
        }
        .body(full("<form method=post>"))
        .unwrap()
    })
    .await
}

#[tokio::test]
async fn r38_r39_in_tenant_mode_everything_is_the_servers_own() {
    let server = tenant().await;
    let world = World::new(Policy::Tenant, Some(&server)).await;
    for (method, path, status) in [
        ("GET", "/.well-known/oauth-authorization-server", 200),
        ("GET", "/.well-known/oauth-protected-resource/mcp", 200),
        ("OPTIONS", "/.well-known/oauth-protected-resource/mcp", 200),
        ("GET", "/authorize", 302),
        ("POST", "/authorize", 302),
        ("POST", "/token", 200),
        ("OPTIONS", "/token", 200),
        ("POST", "/register", 200),
        ("GET", "/auth/callback", 200),
        ("GET", "/consent", 303),
        ("POST", "/consent", 303),
        ("POST", "/mcp", 401),
        ("OPTIONS", "/mcp", 401),
        ("POST", "/mcp/", 200),
        ("PUT", "/%2e%2e//any/..;/path", 200),
    ] {
        let asked = request(method, path)
            .header("origin", "https://page.test")
            .body(full("a=b"))
            .unwrap();
        let answer = world.edge.send(asked).await;
        assert_eq!(answer.status, status, "{method} {path}");
        let reached = format!("{method} {path}");
        assert_eq!(answer.header("x-asked"), Some(reached.as_str()));
        assert_eq!(answer.text(), "<form method=post>");
        for (name, value) in [
            (
                "www-authenticate",
                r#"Bearer resource_metadata="http://tenant/prm""#,
            ),
            ("content-security-policy", "form-action 'self'"),
            ("content-type", "text/html; charset=utf-8"),
            ("access-control-allow-origin", "https://page.test"),
            ("access-control-allow-credentials", "true"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{reached} {name}");
        }
        let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
        assert_eq!(
            cookies,
            [
                "__Host-consent=1; Path=/; Secure; HttpOnly",
                "wide=1; Path=/"
            ]
        );
        for added in ["cache-control", "x-content-type-options", "vary"] {
            assert_eq!(answer.header(added), None, "{reached} {added}");
        }
        assert!(answer.header("berth-deployment").is_some());
    }
    let location = async |path: &str| {
        let asked = request("GET", path).body(full("")).unwrap();
        let answer = world.edge.send(asked).await;
        answer.header("location").unwrap().to_owned()
    };
    assert_eq!(
        location("/authorize").await,
        "https://idp.test/login?state=1"
    );
    let home = "http://hello.apps.test/auth/callback?x=1";
    assert_eq!(location("/consent").await, home);
}

#[tokio::test]
async fn r39_in_tenant_mode_a_redirect_home_keeps_https() {
    let server = tenant().await;
    let routes = vec![route(Policy::Tenant, Some(upstream(1, server.address)))];
    let control = Control::start(snapshot(json!({ "keys": [] }), routes)).await;
    let (data, url) = (tempfile::tempdir().unwrap(), "https://berth.test");
    let edge = Edge::start_with(control.server.address, data.path(), url).await;
    let asked = request("POST", "/consent").body(full("")).unwrap();
    assert_eq!(
        edge.send(asked).await.header("location"),
        Some("https://hello.apps.test/auth/callback?x=1")
    );
}

#[tokio::test]
async fn r39_in_tenant_mode_credentials_and_body_arrive_as_they_were_sent() {
    let server = Server::echo().await;
    let world = World::new(Policy::Tenant, Some(&server)).await;
    let form = "grant_type=authorization_code&code=%2B+x&redirect_uri=http%3A%2F%2Fa";
    let asked = request("POST", "/token?a=%2F&b=")
        .header("authorization", "Basic eDp5")
        .header("cookie", "__Host-consent=1; b=2")
        .header("origin", "https://page.test")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("mcp-protocol-version", "2025-03-26")
        .body(full(form))
        .unwrap();
    let said = world.edge.send(asked).await.json();
    assert_eq!(said["target"], "/token?a=%2F&b=");
    assert_eq!(said["body"], form);
    for (name, value) in [
        ("authorization", "Basic eDp5"),
        ("cookie", "__Host-consent=1; b=2"),
        ("origin", "https://page.test"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("mcp-protocol-version", "2025-03-26"),
        ("host", HOST),
        ("x-forwarded-host", HOST),
    ] {
        assert_eq!(header_values(&said, name), [value], "{name}");
    }
}

fn with_public_paths(paths: &[&str]) -> Policy {
    Policy::Platform {
        scope: "mcp".to_owned(),
        callers: Callers::Anyone,
        public_paths: paths.iter().map(ToString::to_string).collect(),
    }
}

#[tokio::test]
async fn r42_public_paths_need_no_token_and_the_others_are_denied() {
    let server = Server::echo().await;
    let world = World::new(with_public_paths(&["/health", "/hooks/*"]), Some(&server)).await;
    for path in ["/health", "/health?x=/../mcp", "/hooks/", "/hooks/a/b"] {
        let asked = request("POST", path)
            .header("cookie", "elicitation=1")
            .header("authorization", format!("Bearer {}", world.signer.good()))
            .header("x-hub-signature-256", "sha256=00")
            .header("origin", "https://page.test")
            .body(full("payload"))
            .unwrap();
        let answer = world.edge.send(asked).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        let said = answer.json();
        assert_eq!(said["target"], path);
        assert_eq!(said["body"], "payload");
        assert_eq!(header_values(&said, "cookie"), ["elicitation=1"]);
        assert_eq!(header_values(&said, "x-hub-signature-256"), ["sha256=00"]);
        assert!(header_values(&said, "authorization").is_empty());
        assert!(header_values(&said, "berth-user").is_empty());
    }
    for path in [
        "/",
        "/health/",
        "/healthz",
        "/hooks",
        "/hooks/../admin",
        "/hooks/%2e%2e/mcp",
        "/hooks//x",
        "/hooks/..%2fmcp",
        "//health",
        "/register",
    ] {
        let asked = request("POST", path).body(full("{}")).unwrap();
        let answer = world.edge.send(asked).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer.json()["error"], "not_found");
    }
    let call = request("POST", "/mcp").body(full("{}")).unwrap();
    assert_eq!(world.edge.send(call).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn r42_the_answer_at_a_public_path_is_the_servers_page() {
    let server = tenant().await;
    let world = World::new(with_public_paths(&["/*"]), Some(&server)).await;
    let asked = request("GET", "/page").body(full("")).unwrap();
    let answer = world.edge.send(asked).await;
    let csp = answer.header("content-security-policy");
    assert_eq!(csp, Some("form-action 'self'"));
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(
        cookies,
        [
            "__Host-consent=1; Path=/; Secure; HttpOnly",
            "wide=1; Path=/"
        ]
    );
    // Only the platform sends a client to an authorization server.
    assert_eq!(answer.header("www-authenticate"), None);
    for path in ["/.well-known/oauth-authorization-server", "/mcp/x", "/MCP"] {
        let asked = request("GET", path).body(full("")).unwrap();
        let answer = world.edge.send(asked).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
}

/// A project whose instance is told `localhost`.
async fn told_localhost(policy: Policy, server: &Server) -> World {
    let world = World::new(policy, None).await;
    let mut live = upstream(1, server.address);
    live.host_header = HostHeader::Localhost;
    world
        .control
        .publish(|routes| routes.routes[0].live = Some(live));
    let is_live = |answer: &Answer| answer.status != StatusCode::SERVICE_UNAVAILABLE;
    world
        .edge
        .until(|| call_with(&world.signer.good()), is_live)
        .await;
    world
}

#[tokio::test]
async fn r20_an_instance_that_knows_only_localhost_is_told_localhost() {
    let server = Server::echo().await;
    let local = format!("localhost:{}", server.address.port());
    let page = "http://hello.apps.test";
    let world = told_localhost(platform(), &server).await;
    let mut call = call_with(&world.signer.good());
    call.headers_mut().insert("origin", page.parse().unwrap());
    let said = world.edge.send(call).await.json();
    assert_eq!(header_values(&said, "host"), [local.as_str()]);
    assert!(header_values(&said, "origin").is_empty());
    assert_eq!(header_values(&said, "x-forwarded-host"), [HOST]);

    // Where the server decides itself it must hear of an origin that nobody vouches for.
    let world = told_localhost(Policy::Tenant, &server).await;
    for (origin, told) in [
        (page, &[][..]),
        ("https://evil.test", &["https://evil.test"]),
    ] {
        let asked = request("POST", "/mcp").header("origin", origin);
        let said = world
            .edge
            .send(asked.body(full("{}")).unwrap())
            .await
            .json();
        assert_eq!(header_values(&said, "origin"), told);
        assert_eq!(header_values(&said, "host"), [local.as_str()]);
    }
}

#[tokio::test]
async fn r13_r20_a_redirect_of_such_an_instance_leads_to_the_public_host() {
    let server = Server::start(|request| async move {
        let wanted = request.headers()["x-location"].clone();
        http::Response::builder()
            .status(307)
            .header("location", wanted)
            .body(full(""))
            .unwrap()
    })
    .await;
    let (address, port) = (server.address, server.address.port());
    let mut live = upstream(1, address);
    live.host_header = HostHeader::Localhost;
    let routes = vec![route(Policy::Public, Some(live))];
    let control = Control::start(snapshot(json!({ "keys": [] }), routes)).await;
    let (data, url) = (tempfile::tempdir().unwrap(), "https://berth.test");
    let edge = Edge::start_with(control.server.address, data.path(), url).await;
    for (said, heard) in [
        (
            format!("http://localhost:{port}/a?b#c"),
            "https://hello.apps.test/a?b#c",
        ),
        (
            format!("https://localhost:{port}/"),
            "https://hello.apps.test/",
        ),
        (
            format!("http://{address}/mcp"),
            "https://hello.apps.test/mcp",
        ),
        (
            "http://hello.apps.test/mcp".to_owned(),
            "https://hello.apps.test/mcp",
        ),
        (
            "http://localhost:1/callback".to_owned(),
            "http://localhost:1/callback",
        ),
        ("/mcp".to_owned(), "/mcp"),
    ] {
        let asked = request("GET", "/mcp").header("x-location", &said);
        let answer = edge.send(asked.body(full("")).unwrap()).await;
        assert_eq!(answer.header("location"), Some(heard), "{said}");
    }
}

#[tokio::test]
async fn r39_no_server_sees_a_token_of_the_platform() {
    let server = Server::echo().await;
    for policy in [
        Policy::Public,
        Policy::Tenant,
        with_public_paths(&["/page"]),
    ] {
        let is_platform = matches!(policy, Policy::Platform { .. });
        let world = World::new(policy, Some(&server)).await;
        for (credentials, passes) in [
            ("Bearer brt_secret", false),
            ("bearer  brt_secret", false),
            ("Bearer theirs", !is_platform),
            ("Basic YnJ0XzpicnRf", !is_platform),
        ] {
            let asked = request("POST", "/page").header("authorization", credentials);
            let said = world
                .edge
                .send(asked.body(full("{}")).unwrap())
                .await
                .json();
            let arrived = header_values(&said, "authorization");
            let expected = if passes { vec![credentials] } else { vec![] };
            assert_eq!(arrived, expected);
        }
    }
}
