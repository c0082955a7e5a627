//! `berth login`: the API as resource, and an API token for it.

use super::*;

const API: &str = "http://localhost:8080/api/v1";
const AT: &str = "http://127.0.0.1:49152/callback";

/// What the command line asks for.
const ASKED: [(&str, &str); 4] = [
    ("client_id", "berth-cli"),
    ("redirect_uri", AT),
    ("resource", API),
    ("device_name", "laptop.example"),
];

impl Scene {
    /// The code that the command line is sent.
    async fn login_code(&mut self) -> String {
        let back = self.decide(&ASKED, "allow").await;
        assert!(back.location().starts_with(AT), "{}", back.location());
        assert_eq!(back.parameter("iss").as_deref(), Some(testing::ORIGIN));
        assert_eq!(back.parameter("state").as_deref(), Some("s t&a=te"));
        back.parameter("code").unwrap()
    }

    /// A token request with some fields replaced.
    async fn redeem(&mut self, code: &str, changed: &[(&str, &str)]) -> Answer {
        let mut fields = vec![("client_id", "berth-cli"), ("resource", API)];
        fields.extend(code_fields(code));
        fields.retain(|(name, _)| *name != "redirect_uri");
        fields.push(("redirect_uri", AT));
        fields.retain(|(name, _)| !changed.iter().any(|(other, _)| other == name));
        fields.extend(changed.iter().filter(|(_, value)| !value.is_empty()));
        self.client.form("/oauth/token", &fields, &[]).await
    }

    async fn login(&mut self) -> String {
        let code = self.login_code().await;
        let tokens = self.redeem(&code, &[]).await.value();
        tokens["access_token"].as_str().unwrap().to_owned()
    }

    /// How the API answers to a token.
    async fn call(&mut self, token: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", &*bearer)];
        let body = axum::body::Body::empty();
        self.client
            .send(http::Method::GET, "/api/v1/me", &headers, body)
            .await
    }
}

#[tokio::test]
async fn a_person_who_allows_it_gives_the_command_line_an_api_token() {
    let mut scene = Scene::new().await;
    let path = scene.request(&ASKED);
    let page = scene.browser.get(&path).await;
    for text in [
        "act as you in everything the API does",
        "berth login on laptop.example",
        "127.0.0.1:49152",
        testing::OWNER,
        "90 days",
    ] {
        assert!(page.body.contains(text), "{text} is missing: {}", page.body);
    }
    assert!(
        page.header("content-security-policy")
            .ends_with("form-action 'self' http://127.0.0.1:49152")
    );
    let code = scene.login_code().await;
    let answer = scene.redeem(&code, &[]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.header("cache-control"), "no-store");
    let tokens = answer.value();
    assert_eq!(tokens["token_type"], "Bearer");
    assert_eq!(tokens["scope"], "api");
    assert_eq!(tokens["expires_in"], 90 * 24 * 3600);
    assert_eq!(tokens.get("refresh_token"), None);
    let token = tokens["access_token"].as_str().unwrap();
    assert!(token.starts_with("brt_"), "{token}");

    let me = scene.call(token).await;
    assert_eq!(me.value()["email"], testing::OWNER);
    let owner = testing::owner(&scene.app).await;
    let now = scene.app.clock.now();
    let mut db = scene.app.db.acquire().await.unwrap();
    let kept = crate::api_tokens::list(&mut db, owner.id, now)
        .await
        .unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].name, "berth login on laptop.example");
    assert_eq!(kept[0].expires_at, Some(now + time::Duration::days(90)));
    let audited: String = sqlx::query_scalar(
        "select actor || ' ' || (subject->>'token') from audit_log where action = 'token.create'",
    )
    .fetch_one(&mut *db)
    .await
    .unwrap();
    assert_eq!(audited, format!("user:{} {}", owner.id, kept[0].id));
    let rows: String = sqlx::query_scalar("select string_agg(c::text, ' ') from login_codes c")
        .fetch_one(&mut *db)
        .await
        .unwrap();
    assert!(!rows.contains(&code) && !rows.contains(token));
    drop(db);

    scene.app.clock.advance(time::Duration::days(90));
    assert_eq!(scene.call(token).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn only_the_command_line_may_ask_for_the_api() {
    let mut scene = Scene::new().await;
    for (changed, code) in [
        (vec![("resource", API)], "invalid_target"),
        (vec![("resource", API), ("scope", "api")], "invalid_target"),
    ] {
        let path = scene.request(&changed);
        let answer = scene.browser.get(&path).await;
        assert_eq!(answer.parameter("error").as_deref(), Some(code));
    }
    // The scope alone is unknown for a project, and left out.
    let asked = scene.decide(&[("scope", "api")], "allow").await;
    let tokens = scene.exchange(&asked.parameter("code").unwrap()).await;
    assert_eq!(tokens.value()["scope"], "mcp");
    // Its own code with the API as resource of the token request.
    let code = scene.code().await;
    let fields: Vec<_> = code_fields(&code)
        .into_iter()
        .chain([("resource", API)])
        .collect();
    assert_error(&scene.ask(&fields).await, 400, "invalid_target");
    // And nobody can register under the command line's name.
    let mut client = scene.client.clone();
    let registered = register(&mut client, &json!({ "client_id": "berth-cli" })).await;
    assert_ne!(registered["client_id"], "berth-cli");
}

#[tokio::test]
async fn a_sign_in_is_asked_for_each_time() {
    let mut scene = Scene::new().await;
    scene.login().await;
    let path = scene.request(&ASKED);
    assert_eq!(scene.browser.get(&path).await.status, StatusCode::OK);
    let silent = [&ASKED[..], &[("prompt", "none")]].concat();
    let path = scene.request(&silent);
    let answer = scene.browser.get(&path).await;
    assert_eq!(
        answer.parameter("error").as_deref(),
        Some("consent_required")
    );
    let no = scene.decide(&ASKED, "deny").await;
    assert_eq!(no.parameter("error").as_deref(), Some("access_denied"));
    assert_eq!(scene.count("consents").await, 0);
    assert_eq!(scene.count("grants").await, 0);
}

#[tokio::test]
async fn a_login_code_works_once_and_its_second_use_ends_the_token() {
    let mut scene = Scene::new().await;
    let code = scene.login_code().await;
    let first = scene.redeem(&code, &[]).await.value();
    let token = first["access_token"].as_str().unwrap();
    assert_eq!(scene.call(token).await.status, StatusCode::OK);
    for _ in 0..2 {
        assert_error(&scene.redeem(&code, &[]).await, 400, "invalid_grant");
        assert_eq!(scene.call(token).await.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(scene.count("api_tokens").await, 1);
}

#[tokio::test]
async fn a_login_code_is_bound_as_every_other_and_each_try_uses_it_up() {
    let mut scene = Scene::new().await;
    let other = scene.client_id.clone();
    let wrong = "A".repeat(43);
    for (changed, error) in [
        (("code_verifier", &*wrong), "invalid_grant"),
        (
            ("redirect_uri", "http://127.0.0.1:1/callback"),
            "invalid_grant",
        ),
        (("resource", RESOURCE), "invalid_target"),
        (("resource", testing::ORIGIN), "invalid_target"),
        (("client_id", &*other), "invalid_grant"),
    ] {
        let code = scene.login_code().await;
        assert_error(&scene.redeem(&code, &[changed]).await, 400, error);
        assert_error(&scene.redeem(&code, &[]).await, 400, "invalid_grant");
    }
    let code = scene.login_code().await;
    scene.app.clock.advance(time::Duration::MINUTE);
    assert_error(&scene.redeem(&code, &[]).await, 400, "invalid_grant");
    assert_eq!(scene.count("api_tokens").await, 0);
}

#[tokio::test]
async fn a_machines_name_holds_no_words_and_no_markup() {
    let mut scene = Scene::new().await;
    let long = "a".repeat(64);
    for name in ["two words", "<b>", "\u{202e}x", "a\nb", &long] {
        let mut asked = ASKED;
        asked[3].1 = name;
        let path = scene.request(&asked);
        let answer = scene.browser.get(&path).await;
        assert_eq!(
            answer.parameter("error").as_deref(),
            Some("invalid_request"),
            "{name}"
        );
    }
    let path = scene.request(&ASKED[..3]);
    let page = scene.browser.get(&path).await;
    assert!(page.body.contains("“berth login”"), "{}", page.body);
}

#[tokio::test]
async fn a_projects_token_is_no_api_token_and_the_other_way_round() {
    let mut scene = Scene::new().await;
    let tokens = scene.tokens().await;
    for kind in ["access_token", "refresh_token"] {
        let answer = scene.call(tokens[kind].as_str().unwrap()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{kind}");
    }
    let token = scene.login().await;
    // Edges take signed tokens only; this one has no parts to sign.
    assert!(jsonwebtoken::decode_header(&token).is_err());
    assert_error(&scene.refresh(&token).await, 400, "invalid_grant");
    assert_eq!(scene.call(&token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_command_line_gives_its_token_back() {
    let mut scene = Scene::new().await;
    let token = scene.login().await;
    let other = scene.client_id.clone();
    for (client, works) in [(&*other, true), ("berth-cli", false), ("berth-cli", false)] {
        let fields = [("client_id", client), ("token", &*token)];
        let answer = scene.client.form("/oauth/revoke", &fields, &[]).await;
        assert_eq!(answer.status, StatusCode::OK);
        let status = scene.call(&token).await.status;
        assert_eq!(status == StatusCode::OK, works, "{client}");
    }
}

#[tokio::test]
async fn old_login_codes_are_forgotten() {
    let mut scene = Scene::new().await;
    scene.login().await;
    let mut db = scene.app.db.acquire().await.unwrap();
    for (later, kept) in [(time::Duration::HOUR, 1), (time::Duration::DAY, 0)] {
        scene.app.clock.advance(later);
        crate::login_codes::purge_expired(&mut db, scene.app.clock.now())
            .await
            .unwrap();
        assert_eq!(scene.count("login_codes").await, kept);
    }
}

#[tokio::test]
async fn the_command_lines_own_client_gets_no_code_for_a_project() {
    let mut scene = Scene::new().await;
    let path = scene.request(&[("client_id", "berth-cli"), ("redirect_uri", AT)]);
    let back = scene.browser.get(&path).await;
    assert_eq!(back.parameter("error").as_deref(), Some("invalid_target"));
}

#[tokio::test]
async fn a_state_that_cannot_be_kept_is_refused() {
    let mut scene = Scene::new().await;
    let path = scene.request(&[("state", "a\0b")]);
    let back = scene.browser.get(&path).await;
    assert_eq!(back.parameter("error").as_deref(), Some("invalid_request"));
}
