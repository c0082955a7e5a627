//! API tokens through the API, the page and the edges' snapshot.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use time::Duration;

use super::*;
use crate::app::App;
use crate::crypto::hex;
use crate::organizations::Role;
use crate::testing::{Answer, Browser, app, member, owner, project, stranger};
use crate::{db, routes};

async fn create_by(browser: &mut Browser, body: &Value) -> Answer {
    browser.api(Method::POST, "/tokens", body).await
}

async fn version(app: &App) -> i64 {
    let mut db = app.db.acquire().await.unwrap();
    db::version(&mut db, Changed::Routes).await.unwrap()
}

/// What edges know of a token.
async fn known(app: &App, token: &str) -> Option<edge::protocol::ApiToken> {
    let mut tx = app.db.begin().await.unwrap();
    let told = routes::snapshot(&mut tx, &app.config, app.clock.now())
        .await
        .unwrap();
    let hash = hex(&sha256(token));
    told.api_tokens.into_iter().find(|it| it.hash == hash)
}

#[tokio::test]
async fn edges_hear_of_a_token_when_it_is_created_and_when_it_is_revoked() {
    let app = app().await;
    let hello = project(&app, "hello").await;
    let mut browser = Browser::with_token(&app, &owner(&app).await).await;
    let before = version(&app).await;
    let body = json!({ "name": "ci", "good_for": "calls", "projects": ["hello", "hello"], "expires_in_days": 30 });
    let answer = create_by(&mut browser, &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    assert!(version(&app).await > before);
    let created = answer.value();
    assert_eq!(created["name"], "ci");
    let end = app.clock.now() + Duration::days(30);
    let token = created["token"].as_str().unwrap();
    let told = known(&app, token).await.unwrap();
    assert_eq!(told.projects, Some(vec![hello.id]));
    assert_eq!(told.expires_at, Some(end.unix_timestamp()));

    let listed = browser
        .api(Method::GET, "/tokens", &Value::Null)
        .await
        .value();
    let row = listed["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["name"] == "ci")
        .unwrap()
        .clone();
    assert_eq!(
        (&row["good_for"], &row["projects"]),
        (&json!("calls"), &json!(["hello"]))
    );
    assert!(!listed.to_string().contains(token));

    let before = version(&app).await;
    let path = format!("/tokens/{}", created["id"].as_str().unwrap());
    let answer = browser.api(Method::DELETE, &path, &Value::Null).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert!(version(&app).await > before);
    assert_eq!(known(&app, token).await, None);
}

#[tokio::test]
async fn a_token_for_calls_opens_nothing_of_the_api() {
    let app = app().await;
    project(&app, "hello").await;
    let mut browser = Browser::with_token(&app, &owner(&app).await).await;
    let body = json!({ "name": "ci", "good_for": "calls" });
    let created = create_by(&mut browser, &body).await.value();
    assert_eq!(created["expires_at"], Value::Null);
    let token = created["token"].as_str().unwrap();
    assert_eq!(known(&app, token).await.unwrap().projects, None);
    let mut calls = Browser::showing(&app, token);
    for (method, path) in [
        (Method::GET, "/me"),
        (Method::GET, "/projects"),
        (Method::GET, "/tokens"),
        (Method::POST, "/tokens"),
        (Method::GET, "/members"),
        (Method::PATCH, "/projects/hello/access"),
        (Method::POST, "/projects/hello/access-tokens"),
        (Method::PUT, "/projects/hello/uploads"),
    ] {
        let answer = calls.api(method, path, &json!({})).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        assert!(
            answer.body.contains("good for calls of MCP servers only"),
            "{}",
            answer.body
        );
    }
}

#[tokio::test]
async fn what_a_token_creates_ends_by_its_own_end() {
    let app = app().await;
    let user = owner(&app).await;
    let end = app.clock.now() + Duration::days(10);
    let mut db = app.db.acquire().await.unwrap();
    let new = NewToken::for_everything(user.id, "short", Some(end));
    let (_, token) = create(&mut db, new, &Actor::User(user.id), app.clock.now())
        .await
        .unwrap();
    let mut browser = Browser::showing(&app, &token);
    for good_for in ["everything", "calls"] {
        let body = json!({ "name": "x", "good_for": good_for, "expires_in_days": 11 });
        let answer = create_by(&mut browser, &body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(
            answer.body.contains("ends on 2026-12-02"),
            "{}",
            answer.body
        );
        let body = json!({ "name": "x", "good_for": good_for, "expires_in_days": 10 });
        assert_eq!(
            create_by(&mut browser, &body).await.status,
            StatusCode::CREATED
        );
        // Nothing said is as long as may be.
        let body = json!({ "name": "x", "good_for": good_for });
        let created = create_by(&mut browser, &body).await.value();
        assert_eq!(created["expires_at"], "2026-12-02T12:00:00Z");
    }
    let mut browser = Browser::with_token(&app, &user).await;
    let created = create_by(&mut browser, &json!({ "name": "x" }))
        .await
        .value();
    assert_eq!(created["expires_at"], Value::Null);
    let mut browser = Browser::showing(&app, &token);
    browser
        .api(Method::POST, "/service-accounts", &json!({ "name": "job" }))
        .await;
    let path = "/service-accounts/job/tokens";
    let answer = browser
        .api(Method::POST, path, &json!({ "name": "x" }))
        .await;
    assert_eq!(
        answer.value()["expires_at"],
        "2026-12-02T12:00:00Z",
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn input_that_cannot_be_meant_is_refused() {
    let app = app().await;
    project(&app, "hello").await;
    let mut browser = Browser::with_token(&app, &owner(&app).await).await;
    let long = "x".repeat(101);
    for (body, field) in [
        (json!({ "name": "" }), "name"),
        (json!({ "name": "a\u{0}b" }), "name"),
        (json!({ "name": long }), "name"),
        (json!({ "name": "x", "good_for": "some" }), "body"),
        (json!({ "name": "x", "for": "calls" }), "body"),
        (json!({ "name": "x", "projects": ["hello"] }), "projects"),
        (
            json!({ "name": "x", "good_for": "calls", "projects": [] }),
            "projects",
        ),
        (
            json!({ "name": "x", "good_for": "calls", "projects": ["none"] }),
            "projects",
        ),
        (
            json!({ "name": "x", "expires_in_days": 0 }),
            "expires_in_days",
        ),
        (
            json!({ "name": "x", "expires_in_days": 3651 }),
            "expires_in_days",
        ),
        (
            json!({ "name": "x", "expires_in_days": -1 }),
            "expires_in_days",
        ),
    ] {
        let answer = create_by(&mut browser, &body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        assert_eq!(answer.value()["errors"][0]["field"], field, "{body}");
    }
}

#[tokio::test]
async fn a_token_can_be_limited_to_what_its_owner_may_call_and_nothing_else() {
    let app = app().await;
    project(&app, "closed").await;
    project(&app, "open").await;
    let mut owner = Browser::with_token(&app, &owner(&app).await).await;
    owner
        .api(
            Method::PATCH,
            "/projects/open/access",
            &json!({ "callers": "anyone" }),
        )
        .await;
    let wanted = |name: &str| json!({ "name": "x", "good_for": "calls", "projects": [name] });
    let mut outside = Browser::with_token(&app, &stranger(&app).await).await;
    assert_eq!(
        create_by(&mut outside, &wanted("open")).await.status,
        StatusCode::CREATED
    );
    let answer = create_by(&mut outside, &wanted("closed")).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let none = create_by(&mut outside, &wanted("missing")).await.value();
    let closed = answer.value();
    assert_eq!(
        closed["detail"].as_str().unwrap().replace("closed", ""),
        none["detail"].as_str().unwrap().replace("missing", ""),
        "nobody learns which projects there are"
    );
    let mut viewer = Browser::with_token(&app, &member(&app, Role::Viewer).await).await;
    assert_eq!(
        create_by(&mut viewer, &wanted("closed")).await.status,
        StatusCode::CREATED
    );
}

async fn submit(browser: &mut Browser, fields: &[(&str, &str)]) -> Answer {
    let csrf = browser.get("/tokens").await.field("csrf");
    let mut all = vec![("csrf", csrf.as_str())];
    all.extend_from_slice(fields);
    browser.submit("/tokens", &all).await
}

#[tokio::test]
async fn the_page_shows_a_token_once_and_where_it_works() {
    let app = app().await;
    project(&app, "hello").await;
    project(&app, "other").await;
    let mut browser = Browser::signed_in(&app).await;
    let page = browser.get("/tokens").await;
    assert!(page.body.contains("None yet."), "{}", page.body);
    let answer = submit(
        &mut browser,
        &[("name", "all"), ("days", ""), ("good_for", "everything")],
    )
    .await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert!(
        answer
            .body
            .contains("berth login --server http://localhost:8080 --token brt_"),
        "{}",
        answer.body
    );
    assert!(answer.body.contains("Does not expire"), "{}", answer.body);

    let fields = [
        ("name", "ci"),
        ("days", "30"),
        ("good_for", "projects"),
        ("project", "hello"),
    ];
    let answer = submit(&mut browser, &fields).await;
    assert!(
        answer.body.contains("http://hello.localhost:8080/mcp")
            && answer.body.contains("http://hello--key.localhost:8080/mcp")
            && !answer.body.contains("other--key")
            && !answer.body.contains("berth login"),
        "{}",
        answer.body
    );
    let answer = submit(
        &mut browser,
        &[("name", "calls"), ("days", "30"), ("good_for", "calls")],
    )
    .await;
    assert!(
        answer.body.contains("http://other--key.localhost:8080/mcp"),
        "{}",
        answer.body
    );
    let page = browser.get("/tokens").await;
    assert!(!page.body.contains("brt_"), "{}", page.body);
    for text in [
        "Calls of hello ·",
        "Calls of every project ·",
        "Everything ·",
    ] {
        assert!(page.body.contains(text), "{text} {}", page.body);
    }
    let fields = [
        ("name", ""),
        ("days", "90"),
        ("good_for", "projects"),
        ("project", "hello"),
    ];
    let answer = submit(&mut browser, &fields).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        answer
            .body
            .contains("id=\"name-problem\">Give the token a name")
            && answer.body.contains("value=\"hello\" checked")
            && answer.body.contains("value=\"projects\" checked"),
        "{}",
        answer.body
    );
    for days in ["soon", "0", "-1", "99999999"] {
        let answer = submit(&mut browser, &[("name", "x"), ("days", days)]).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{days}");
    }
}
