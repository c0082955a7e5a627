//! API tokens, and the second host that takes nothing else.

use edge::protocol::{ApiToken, Callers, Policy};
use http::StatusCode;
use uuid::Uuid;

use crate::harness::{
    ADA, Answer, Body, EVE, HOST, ISSUER, KEY_HOST, ROBOT, Server, World, api_token, call,
    call_with, full, header_values, now, platform, request,
};

/// `call` at the second host.
fn at_key_host(mut call: http::Request<Body>) -> http::Request<Body> {
    let host = KEY_HOST.parse().unwrap();
    call.headers_mut().insert("host", host);
    call
}

/// A protected project in routes with `tokens`, which are in use.
async fn world_with(server: &Server, policy: Policy, tokens: Vec<ApiToken>) -> World {
    let world = World::new(policy, Some(server)).await;
    let mut marker = api_token("brt_marker");
    marker.id = Uuid::from_u128(0x3a);
    world.control.publish(|routes| {
        routes.api_tokens = tokens;
        routes.api_tokens.push(marker);
    });
    let is_known = |answer: &Answer| answer.status != StatusCode::UNAUTHORIZED;
    world.edge.until(|| call_with("brt_marker"), is_known).await;
    world
}

fn only(users: &[Uuid]) -> Policy {
    Policy::Platform {
        scope: "mcp".to_owned(),
        callers: Callers::Only(users.to_vec()),
        public_paths: vec!["/health".to_owned()],
    }
}

#[tokio::test]
async fn an_api_token_is_good_at_both_hosts_while_it_is() {
    let server = Server::saying("called").await;
    let token = |text: &str, change: fn(&mut ApiToken)| {
        let mut token = api_token(text);
        change(&mut token);
        token
    };
    let tokens = vec![
        token("brt_good", |_| {}),
        token("brt_later", |token| {
            token.expires_at = Some(i64::try_from(now()).unwrap() + 3600);
        }),
        token("brt_ended", |token| {
            token.expires_at = Some(i64::try_from(now()).unwrap() - 1);
        }),
        token("brt_here", |token| {
            token.projects = Some(vec![Uuid::from_u128(101), Uuid::from_u128(100)]);
        }),
        token("brt_elsewhere", |token| {
            token.projects = Some(vec![Uuid::from_u128(101)]);
        }),
        token("brt_nowhere", |token| token.projects = Some(Vec::new())),
        token("brt_eve", |token| token.user = EVE),
        token("brt_robot", |token| token.user = ROBOT),
    ];
    let world = world_with(&server, only(&[ADA, ROBOT]), tokens).await;
    for (token, status) in [
        ("brt_good", 200),
        ("brt_later", 200),
        ("brt_ended", 401),
        ("brt_here", 200),
        ("brt_elsewhere", 401),
        ("brt_nowhere", 401),
        ("brt_eve", 403),
        ("brt_robot", 200),
        ("brt_unknown", 401),
        ("brt_", 401),
        ("BRT_good", 401),
    ] {
        for call in [call_with(token), at_key_host(call_with(token))] {
            let answer = world.edge.send(call).await;
            assert_eq!(answer.status, status, "{token}: {}", answer.text());
            if status != 200 {
                assert_eq!(answer.json()["id"], 7);
            }
            let is_challenged = answer.header("www-authenticate").is_some();
            assert_eq!(is_challenged, status == 401, "{token}");
        }
    }
}

#[tokio::test]
async fn a_revoked_api_token_ends_with_the_next_routes() {
    let server = Server::saying("called").await;
    let world = world_with(&server, platform(), vec![api_token("brt_good")]).await;
    let is_refused = |answer: &Answer| answer.status == StatusCode::UNAUTHORIZED;
    assert!(!is_refused(&world.edge.send(call_with("brt_good")).await));
    world.control.publish(|routes| routes.api_tokens.clear());
    let refused = world.edge.until(|| call_with("brt_good"), is_refused).await;
    let challenge = refused.header("www-authenticate").unwrap();
    assert!(
        challenge.contains(r#"error="invalid_token""#),
        "{challenge}"
    );
}

#[tokio::test]
async fn r41_an_mcp_session_belongs_to_the_api_token_that_opened_it() {
    let server = Server::start(|_| async {
        http::Response::builder()
            .header("mcp-session-id", "s1")
            .body(full("called"))
            .unwrap()
    })
    .await;
    let mut other = api_token("brt_other");
    other.id = Uuid::from_u128(0x71);
    let world = world_with(&server, platform(), vec![api_token("brt_good"), other]).await;
    world
        .control
        .publish(|routes| routes.routes[0].project = Uuid::from_u128(200));
    let answers = |answer: &Answer| answer.status == StatusCode::OK;
    let within = |token: &str| {
        let mut call = call_with(token);
        call.headers_mut()
            .insert("mcp-session-id", "s1".parse().unwrap());
        call
    };
    // Of the new project nothing was learned from the marker's call.
    let old = world.signer.good();
    world
        .edge
        .until(
            || call_with(&old),
            |answer| answer.status == StatusCode::UNAUTHORIZED,
        )
        .await;
    assert!(answers(&world.edge.send(call_with("brt_good")).await));
    assert!(answers(&world.edge.send(within("brt_good")).await));
    let answer = world.edge.send(within("brt_other")).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_second_host_names_no_authorization_server() {
    let server = Server::echo().await;
    let world = world_with(&server, only(&[ADA]), vec![api_token("brt_good")]).await;
    let challenge = async |call| {
        let answer = world.edge.send(at_key_host(call)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.json()["id"], 7);
        let message = answer.json()["error"]["message"].clone();
        assert!(message.as_str().unwrap().contains("API token"), "{message}");
        let challenges: Vec<_> = answer.headers.get_all("www-authenticate").iter().collect();
        assert_eq!(challenges.len(), 1);
        challenges[0].to_str().unwrap().to_owned()
    };
    assert_eq!(challenge(call()).await, "Bearer");
    for token in ["brt_unknown", "garbage", &world.signer.good()] {
        assert_eq!(
            challenge(call_with(token)).await,
            r#"Bearer error="invalid_token""#
        );
    }
    for path in [
        "/",
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/mcp",
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/authorize",
        "/register",
        "/health",
    ] {
        for token in [None, Some("brt_good")] {
            let mut asked = request("GET", path).body(full("")).unwrap();
            if let Some(token) = token {
                let value = format!("Bearer {token}").parse().unwrap();
                asked.headers_mut().insert("authorization", value);
            }
            let answer = world.edge.send(at_key_host(asked)).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert_eq!(answer.header("www-authenticate"), None);
            assert_eq!(answer.json()["error"], "not_found");
            assert!(!answer.text().contains(ISSUER), "{}", answer.text());
            assert!(!answer.text().contains("well-known"), "{}", answer.text());
        }
    }
}

#[tokio::test]
async fn at_the_second_host_the_instance_is_told_the_public_one() {
    let server = Server::echo().await;
    let world = world_with(&server, platform(), vec![api_token("brt_good")]).await;
    let said = world
        .edge
        .send(at_key_host(call_with("brt_good")))
        .await
        .json();
    assert_eq!(header_values(&said, "host"), [HOST]);
    assert_eq!(header_values(&said, "x-forwarded-host"), [HOST]);
    assert!(header_values(&said, "authorization").is_empty());

    let redirecting = Server::start(|request| async move {
        let host = request.headers()["host"].to_str().unwrap().to_owned();
        http::Response::builder()
            .status(307)
            .header("location", format!("http://{host}/mcp/x"))
            .body(full(""))
            .unwrap()
    })
    .await;
    let world = world_with(&redirecting, platform(), vec![api_token("brt_good")]).await;
    let answer = world.edge.send(at_key_host(call_with("brt_good"))).await;
    let home = format!("http://{KEY_HOST}/mcp/x");
    assert_eq!(answer.header("location"), Some(home.as_str()));
}

#[tokio::test]
async fn a_page_that_may_call_may_call_the_second_host() {
    let server = Server::echo().await;
    let world = world_with(&server, platform(), vec![api_token("brt_good")]).await;
    for (origin, status) in [
        ("http://localhost:6274", StatusCode::NO_CONTENT),
        ("http://hello.apps.test", StatusCode::NO_CONTENT),
        ("http://hello--key.apps.test", StatusCode::NO_CONTENT),
        ("http://evil.test", StatusCode::FORBIDDEN),
    ] {
        let preflight = request("OPTIONS", "/mcp")
            .header("origin", origin)
            .body(full(""))
            .unwrap();
        let answer = world.edge.send(at_key_host(preflight)).await;
        assert_eq!(answer.status, status, "{origin}");
        let allowed = (status == StatusCode::NO_CONTENT).then_some(origin);
        assert_eq!(answer.header("access-control-allow-origin"), allowed);
    }
}

#[tokio::test]
async fn the_second_host_of_an_open_project_serves_nothing() {
    let server = Server::start(|_| async { panic!("a call reached the server") }).await;
    for policy in [Policy::Public, Policy::Tenant] {
        let world = World::new(policy, Some(&server)).await;
        for path in ["/mcp", "/", "/.well-known/oauth-protected-resource"] {
            let asked = request("POST", path).body(full("{}")).unwrap();
            let answer = world.edge.send(at_key_host(asked)).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND);
            let sentence = answer.json()["error_description"].clone();
            assert!(
                sentence
                    .as_str()
                    .unwrap()
                    .contains("http://hello.apps.test/mcp"),
                "{sentence}"
            );
        }
    }
}
