//! Tokens, challenges and metadata.

use http::StatusCode;
use serde_json::json;
use uuid::Uuid;

use crate::harness::{
    ISSUER, RESOURCE, Server, Signer, World, call, call_with, full, now, request,
};

const METADATA: &str = r#"resource_metadata="http://hello.apps.test/.well-known/oauth-protected-resource/mcp", scope="mcp""#;

#[tokio::test]
async fn without_a_token_every_method_is_led_to_the_metadata() {
    let server = Server::echo().await;
    let world = World::protected(&server).await;
    for method in ["POST", "GET", "DELETE", "HEAD"] {
        let answer = world
            .edge
            .send(request(method, "/mcp").body(full("")).unwrap())
            .await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method}");
        let challenges: Vec<_> = answer.headers.get_all("www-authenticate").iter().collect();
        assert_eq!(challenges, [&format!("Bearer {METADATA}")], "{method}");
    }
    let answer = world.edge.send(call()).await;
    assert_eq!(answer.json()["id"], 7);
}

#[tokio::test]
async fn a_good_token_passes_and_a_bad_one_is_called_invalid() {
    let server = Server::saying("called").await;
    let world = World::protected(&server).await;
    let signer = &world.signer;
    let answer = world.edge.send(call_with(&signer.good())).await;
    assert_eq!(answer.text(), "called");

    let forged = Signer::new("k1").good();
    let unknown_key = Signer::new("k2").good();
    let mut tampered = signer.good();
    tampered.truncate(tampered.len() - 4);
    for (what, token) in [
        ("garbage", "garbage".to_owned()),
        ("forged", forged),
        ("unknown key", unknown_key),
        ("tampered", tampered),
        ("wrong type", signer.token_of_type("JWT", |_| {})),
        (
            "other resource",
            signer.token(|claims| claims["aud"] = json!("http://other.apps.test/mcp")),
        ),
        (
            "resource and more",
            signer.token(|claims| claims["aud"] = json!([RESOURCE, "x"])),
        ),
        (
            "other project",
            signer.token(|claims| claims["pid"] = json!(Uuid::from_u128(101))),
        ),
        (
            "no project",
            signer.token(|claims| claims["pid"] = json!(null)),
        ),
        (
            "other issuer",
            signer.token(|claims| claims["iss"] = json!("http://evil")),
        ),
        (
            "expired",
            signer.token(|claims| claims["exp"] = json!(now() - 61)),
        ),
        (
            "from the future",
            signer.token(|claims| claims["nbf"] = json!(now() + 120)),
        ),
    ] {
        let answer = world.edge.send(call_with(&token)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{what}");
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(
            challenge.starts_with(&format!(r#"Bearer {METADATA}, error="invalid_token""#)),
            "{what}: {challenge}"
        );
    }
}

#[tokio::test]
async fn a_token_of_a_deleted_project_does_not_open_the_next_of_its_name() {
    let server = Server::saying("called").await;
    let world = World::protected(&server).await;
    let old = world.signer.good();
    let answer = world.edge.send(call_with(&old)).await;
    assert_eq!(answer.status, StatusCode::OK);
    let next = Uuid::from_u128(101);
    world
        .control
        .publish(|routes| routes.routes[0].project = next);
    let new = world.signer.token(|claims| claims["pid"] = json!(next));
    world
        .edge
        .until(|| call_with(&new), |answer| answer.status == StatusCode::OK)
        .await;
    let answer = world.edge.send(call_with(&old)).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(
        challenge.contains(r#"error="invalid_token""#),
        "{challenge}"
    );
}

#[tokio::test]
async fn a_token_just_expired_is_forgiven_for_a_minute() {
    let server = Server::saying("called").await;
    let world = World::protected(&server).await;
    let token = world
        .signer
        .token(|claims| claims["exp"] = json!(now() - 30));
    assert_eq!(
        world.edge.send(call_with(&token)).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn two_tokens_or_another_scheme_do_not_pass() {
    let server = Server::echo().await;
    let world = World::protected(&server).await;
    let mut two = call_with(&world.signer.good());
    two.headers_mut()
        .append("authorization", "Bearer x".parse().unwrap());
    let answer = world.edge.send(two).await;
    assert!(
        answer
            .header("www-authenticate")
            .unwrap()
            .contains("invalid_token")
    );
    let mut basic = call();
    basic
        .headers_mut()
        .insert("authorization", "Basic eA==".parse().unwrap());
    let answer = world.edge.send(basic).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(!answer.header("www-authenticate").unwrap().contains("error"));
}

#[tokio::test]
async fn a_missing_scope_is_named() {
    let server = Server::echo().await;
    let world = World::protected(&server).await;
    let token = world
        .signer
        .token(|claims| claims["scope"] = json!("offline_access mcp2"));
    let answer = world.edge.send(call_with(&token)).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(
        challenge.starts_with(&format!(r#"Bearer {METADATA}, error="insufficient_scope""#)),
        "{challenge}"
    );
}

#[tokio::test]
async fn a_withdrawn_grant_and_a_retired_key_end_tokens_that_have_been_used() {
    let server = Server::saying("called").await;
    let world = World::protected(&server).await;
    let (first, second) = (world.signer.good(), {
        world
            .signer
            .token(|claims| claims["gid"] = json!(Uuid::from_u128(10)))
    });
    for token in [&first, &second, &first] {
        let answer = world.edge.send(call_with(token)).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    world
        .control
        .publish(|routes| routes.revoked_grants.push(Uuid::from_u128(9)));
    let is_refused = |answer: &crate::harness::Answer| answer.status == StatusCode::UNAUTHORIZED;
    world.edge.until(|| call_with(&first), is_refused).await;
    let answer = world.edge.send(call_with(&second)).await;
    assert_eq!(answer.status, StatusCode::OK);

    let next = Signer::new("k2");
    let early = next.token(|claims| claims["gid"] = json!(Uuid::from_u128(10)));
    assert!(is_refused(&world.edge.send(call_with(&early)).await));
    world.control.publish(|routes| routes.keys = next.keys());
    // The earlier verdict on it does not outlive the change of keys.
    world
        .edge
        .until(
            || call_with(&early),
            |answer| answer.status == StatusCode::OK,
        )
        .await;
    assert!(is_refused(&world.edge.send(call_with(&second)).await));
}

#[tokio::test]
async fn the_metadata_names_the_resource_as_it_was_asked_for() {
    let server = Server::echo().await;
    let world = World::protected(&server).await;
    for (suffix, resource) in [
        ("", "http://hello.apps.test"),
        ("/mcp", RESOURCE),
        ("/mcp/", "http://hello.apps.test/mcp/"),
    ] {
        let path = format!("/.well-known/oauth-protected-resource{suffix}");
        let answer = world
            .edge
            .send(
                request("GET", &path)
                    .header("mcp-protocol-version", "2025-11-25")
                    .header("origin", "https://anywhere.test")
                    .body(full(""))
                    .unwrap(),
            )
            .await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(
            answer.json(),
            json!({
                "resource": resource,
                "authorization_servers": [ISSUER],
                "scopes_supported": ["mcp"],
                "bearer_methods_supported": ["header"],
                "resource_name": "hello",
            })
        );
        let preflight = world
            .edge
            .send(request("OPTIONS", &path).body(full("")).unwrap())
            .await;
        assert_eq!(preflight.status, StatusCode::NO_CONTENT);
        assert_eq!(preflight.header("access-control-allow-origin"), Some("*"));
    }
}
