//! Tokens, challenges and metadata.

use edge::protocol::{ApiToken, Callers, Policy};
use http::StatusCode;
use serde_json::json;
use uuid::Uuid;

use crate::harness::{
    ADA, Answer, EVE, ISSUER, RESOURCE, ROBOT, Server, Signer, World, api_token, call, call_with,
    full, now, platform, request, route, upstream,
};

const METADATA: &str = r#"resource_metadata="http://hello.apps.test/.well-known/oauth-protected-resource/mcp", scope="mcp""#;

#[tokio::test]
async fn r23_without_a_token_every_method_is_led_to_the_metadata() {
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
async fn r23_a_good_token_passes_and_a_bad_one_is_called_invalid() {
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
            "no person",
            signer.token(|claims| claims["sub"] = json!("ada")),
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
async fn r23_a_missing_scope_is_named() {
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
async fn r22_the_metadata_names_the_resource_as_it_was_asked_for() {
    let server = Server::echo().await;
    let world = World::protected(&server).await;
    for (suffix, resource) in [
        ("", "http://hello.apps.test"),
        ("/", "http://hello.apps.test"),
        ("/sse", "http://hello.apps.test"),
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
        assert_eq!(preflight.header("access-control-allow-credentials"), None);
        let allowed = preflight.header("access-control-allow-headers").unwrap();
        assert!(allowed.contains("MCP-Protocol-Version"), "{allowed}");
    }
}

#[tokio::test]
async fn r22_the_metadata_is_read_only_and_only_there_where_tokens_are_asked_for() {
    let server = Server::saying("the server's own").await;
    let world = World::protected(&server).await;
    let path = "/.well-known/oauth-protected-resource/mcp";
    let ask = |method: &str, path: &str| request(method, path).body(full("")).unwrap();
    let head = world.edge.send(ask("HEAD", path)).await;
    assert_eq!(head.status, StatusCode::OK);
    assert!(head.body.is_empty());
    let post = world.edge.send(ask("POST", path)).await;
    assert_eq!(post.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(post.header("allow"), Some("GET, HEAD, OPTIONS"));
    let other = world.edge.send(ask("GET", &format!("{path}/x"))).await;
    assert_eq!(other.status, StatusCode::NOT_FOUND);
    for policy in [Policy::Public, Policy::Tenant] {
        let world = World::new(policy, Some(&server)).await;
        let answer = world.edge.send(ask("GET", path)).await;
        assert_eq!(answer.text(), "the server's own");
    }
}

#[tokio::test]
async fn r19_r23_a_client_of_the_first_transport_is_led_to_a_resource_above_its_address() {
    let server = Server::echo().await;
    let world = World::protected(&server).await;
    for path in ["/sse", "/messages/?session_id=1"] {
        let asked = request("GET", path).body(full("")).unwrap();
        let answer = world.edge.send(asked).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(
            answer.header("www-authenticate"),
            Some(
                r#"Bearer resource_metadata="http://hello.apps.test/.well-known/oauth-protected-resource", scope="mcp""#
            )
        );
    }
}

#[tokio::test]
async fn r26_a_token_for_one_project_is_refused_by_another() {
    let server = Server::saying("called").await;
    let world = World::protected(&server).await;
    let other = Uuid::from_u128(101);
    world.control.publish(|routes| {
        let mut route = route(platform(), Some(upstream(2, server.address)));
        "other.apps.test".clone_into(&mut route.host);
        "other--key.apps.test".clone_into(&mut route.key_host);
        "http://other.apps.test/mcp".clone_into(&mut route.resource);
        route.project = other;
        routes.routes.push(route);
    });
    let theirs = world.signer.token(|claims| {
        claims["aud"] = json!("http://other.apps.test/mcp");
        claims["pid"] = json!(other);
    });
    let at = |host: &str, token: &str| {
        let mut call = call_with(token);
        call.headers_mut().insert("host", host.parse().unwrap());
        call
    };
    let is_ok = |answer: &Answer| answer.status == StatusCode::OK;
    world
        .edge
        .until(|| at("other.apps.test", &theirs), is_ok)
        .await;
    assert!(is_ok(
        &world.edge.send(call_with(&world.signer.good())).await
    ));
    for (host, token) in [
        ("hello.apps.test", &theirs),
        ("other.apps.test", &world.signer.good()),
    ] {
        let answer = world.edge.send(at(host, token)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{host}");
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(
            challenge.contains(r#"error="invalid_token""#),
            "{challenge}"
        );
        assert_eq!(answer.json()["id"], 7);
        let message = answer.json()["error"]["message"].clone();
        assert!(
            message.as_str().unwrap().contains("another server"),
            "{message}"
        );
    }
}

fn only(users: &[Uuid]) -> Policy {
    Policy::Platform {
        scope: "mcp".to_owned(),
        callers: Callers::Only(users.to_vec()),
        public_paths: Vec::new(),
    }
}

#[tokio::test]
async fn r40_who_may_call_is_asked_on_every_request() {
    let server = Server::start(|_| async {
        http::Response::builder()
            .header("mcp-session-id", "s1")
            .body(full("called"))
            .unwrap()
    })
    .await;
    let world = World::new(only(&[ADA, EVE]), Some(&server)).await;
    let ada = world.signer.good();
    let eve = world.signer.token(|claims| claims["sub"] = json!(EVE));
    assert_eq!(
        world.edge.send(call_with(&ada)).await.status,
        StatusCode::OK
    );
    let in_session = || {
        let mut call = call_with(&eve);
        call.headers_mut()
            .insert("mcp-session-id", "s2".parse().unwrap());
        call
    };
    assert_eq!(world.edge.send(in_session()).await.status, StatusCode::OK);

    world
        .control
        .publish(|routes| routes.routes[0].policy = only(&[ADA]));
    let is_refused = |answer: &Answer| answer.status == StatusCode::FORBIDDEN;
    let refused = world.edge.until(in_session, is_refused).await;
    // No challenge: the client would sign in again and again.
    assert_eq!(refused.header("www-authenticate"), None);
    assert_eq!(refused.json()["id"], 7);
    let message = refused.json()["error"]["message"].clone();
    assert!(
        message.as_str().unwrap().contains("Ask its owner"),
        "{message}"
    );
    assert_eq!(
        world.edge.send(call_with(&ada)).await.status,
        StatusCode::OK
    );

    world
        .control
        .publish(|routes| routes.routes[0].policy = only(&[ADA, EVE]));
    let is_ok = |answer: &Answer| answer.status == StatusCode::OK;
    world.edge.until(in_session, is_ok).await;
}

#[tokio::test]
async fn r40_anyone_means_anyone_who_is_still_there() {
    let server = Server::saying("called").await;
    let world = World::protected(&server).await;
    let eve = world.signer.token(|claims| claims["sub"] = json!(EVE));
    assert_eq!(
        world.edge.send(call_with(&eve)).await.status,
        StatusCode::OK
    );
    let stranger = world
        .signer
        .token(|claims| claims["sub"] = json!(Uuid::from_u128(0x57a)));
    assert_eq!(
        world.edge.send(call_with(&stranger)).await.status,
        StatusCode::FORBIDDEN
    );
    world
        .control
        .publish(|routes| routes.users.retain(|user| user.id != EVE));
    world
        .edge
        .until(
            || call_with(&eve),
            |answer| answer.status == StatusCode::FORBIDDEN,
        )
        .await;
}

#[tokio::test]
async fn r40_anyone_means_no_service_account_of_another_organization() {
    let server = Server::saying("called").await;
    let world = World::protected(&server).await;
    world.control.publish(|routes| {
        routes.api_tokens = vec![ApiToken {
            user: ROBOT,
            ..api_token("brt_robot")
        }];
    });
    let robot = || call_with("brt_robot");
    let answered = |status| move |answer: &Answer| answer.status == status;
    world.edge.until(robot, answered(StatusCode::OK)).await;
    world.control.publish(|routes| {
        for route in &mut routes.routes {
            route.organization = Uuid::from_u128(0x07e2);
        }
    });
    world
        .edge
        .until(robot, answered(StatusCode::FORBIDDEN))
        .await;
    let ada = world.edge.send(call_with(&world.signer.good())).await;
    assert_eq!(ada.status, StatusCode::OK, "a person belongs to none");
}
