//! Tokens for previews: of the project's callers, for the preview's address alone.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::Value;

use super::{RESOURCE, Scene, assert_error, code_fields};

const PREVIEW: &str = "http://hello--pr-12.localhost:8080/mcp";

/// What a token says, whoever signed it.
fn payload(token: &str) -> Value {
    let middle = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(middle).unwrap()).unwrap()
}

#[tokio::test]
async fn a_token_of_a_preview_names_its_address_and_its_project() {
    let mut scene = Scene::new().await;
    let unknown = scene
        .browser
        .get(&scene.request(&[("resource", PREVIEW)]))
        .await;
    assert_eq!(
        unknown.parameter("error").as_deref(),
        Some("invalid_target")
    );
    scene
        .sql(
            "insert into previews (id, project_id, slug, pull_request, title, author, branch, head, fork, state,
                 last_used_at, opened_at)
             select gen_random_uuid(), id, 'pr-12', 12, '', '', 'x', '', false, 'open', now(), now()
             from projects where name = 'hello'",
        )
        .await;
    let allowed = scene.decide(&[("resource", PREVIEW)], "allow").await;
    let code = allowed.parameter("code").unwrap();
    let mut fields = code_fields(&code).to_vec();
    fields.push(("resource", "http://hello--pr-12.localhost:8080"));
    let answer = scene.ask(&fields).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let of_preview = payload(answer.value()["access_token"].as_str().unwrap());
    assert_eq!(of_preview["aud"], PREVIEW);
    let of_production = scene.tokens().await;
    let of_production = payload(of_production["access_token"].as_str().unwrap());
    assert_eq!(of_production["aud"], RESOURCE);
    assert_eq!(of_preview["pid"], of_production["pid"]);

    // A code for one is not good for the other; what was allowed is remembered.
    let allowed = scene
        .browser
        .get(&scene.request(&[("resource", PREVIEW)]))
        .await;
    let code = allowed.parameter("code").unwrap();
    let mut fields = code_fields(&code).to_vec();
    fields.push(("resource", RESOURCE));
    assert_error(&scene.ask(&fields).await, 400, "invalid_target");

    scene.sql("update previews set state = 'closed'").await;
    let closed = scene
        .browser
        .get(&scene.request(&[("resource", PREVIEW)]))
        .await;
    assert_eq!(closed.parameter("error").as_deref(), Some("invalid_target"));
    let token = answer.value()["refresh_token"].as_str().unwrap().to_owned();
    let fields = [
        ("grant_type", "refresh_token"),
        ("refresh_token", &*token),
        ("resource", RESOURCE),
    ];
    assert_error(&scene.ask(&fields).await, 400, "invalid_target");
}
