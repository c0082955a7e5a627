use super::*;

#[tokio::test]
async fn r28_a_get_can_be_repeated_and_without_cookies_leads_to_sign_in_and_back() {
    let mut scene = Scene::new().await;
    let path = scene.request(&[]);
    let mut fresh = Browser::new(&scene.app);
    let sessions = scene.count("sessions").await;
    for _ in 0..2 {
        let answer = fresh.get(&path).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
        assert_eq!(answer.parameter("next").as_deref(), Some(path.as_str()));
    }
    assert!(
        fresh.cookies.is_empty(),
        "a visitor without a form needs no session"
    );
    let head = fresh
        .send(http::Method::HEAD, &path, &[], axum::body::Body::empty())
        .await;
    assert_eq!(head.status, StatusCode::SEE_OTHER);
    assert_eq!(scene.count("sessions").await, sessions, "nor a row");
    assert_eq!(scene.count("pending_authorizations").await, 0);

    let signin = fresh.get("/oauth/authorize").await;
    assert_eq!(signin.status, StatusCode::BAD_REQUEST);
    let signin = fresh.get(&path).await.location().to_owned();
    let form = fresh.get(&signin).await;
    // The browser must let the form's redirects end at the client, for consent that is remembered.
    assert!(
        form.header("content-security-policy")
            .contains("form-action 'self' http://localhost:49152")
    );
    let fields = [
        ("csrf", &*form.field("csrf")),
        ("next", &path),
        ("email", testing::OWNER),
        ("password", testing::PASSWORD),
    ];
    let back = fresh.submit("/signin", &fields).await;
    assert_eq!(back.location(), path);
    assert_eq!(fresh.get(&path).await.status, StatusCode::OK);
    assert_eq!(fresh.get(&path).await.status, StatusCode::OK);
    let codes: i64 = sqlx::query_scalar("select count(*) from authorization_codes")
        .fetch_one(&scene.app.db)
        .await
        .unwrap();
    assert_eq!(codes, 0);
    scene.code().await;
}

#[tokio::test]
async fn r28_an_unproven_client_or_address_is_shown_and_never_redirected() {
    let mut scene = Scene::new().await;
    for changed in [
        ("client_id", "unknown"),
        ("client_id", ""),
        ("redirect_uri", ""),
        ("redirect_uri", "https://evil.example/callback"),
        ("redirect_uri", "http://localhost:49152/callback/"),
        (
            "redirect_uri",
            "http://localhost:49152@evil.example/callback",
        ),
        ("redirect_uri", "http://127.0.0.1:49152/callback"),
        ("redirect_uri", "javascript:alert(1)"),
    ] {
        let path = scene.request(&[changed]);
        let answer = scene.browser.get(&path).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{changed:?}");
        assert_eq!(answer.header("location"), "");
    }
    for repeated in ["client_id=x", "redirect_uri=https%3A%2F%2Fevil.example"] {
        let path = format!("{}&{repeated}", scene.request(&[]));
        assert_eq!(
            scene.browser.get(&path).await.status,
            StatusCode::BAD_REQUEST
        );
    }
}

#[tokio::test]
async fn r25_r27_every_other_error_goes_to_the_client_with_state_and_issuer() {
    let mut scene = Scene::new().await;
    for (changed, code) in [
        (("response_type", ""), "invalid_request"),
        (("response_type", "token"), "unsupported_response_type"),
        (("response_type", "code token"), "unsupported_response_type"),
        (("response_mode", "fragment"), "invalid_request"),
        (("code_challenge", ""), "invalid_request"),
        (("code_challenge", "short"), "invalid_request"),
        (("code_challenge_method", ""), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("code_challenge_method", "s256"), "invalid_request"),
        (("resource", ""), "invalid_target"),
        (
            ("resource", "http://other.localhost:8080/mcp"),
            "invalid_target",
        ),
        (
            ("resource", "https://hello.localhost:8080/mcp"),
            "invalid_target",
        ),
        (("resource", "http://localhost:8080/mcp"), "invalid_target"),
        (("prompt", "none"), "consent_required"),
    ] {
        let path = scene.request(&[changed]);
        let answer = scene.browser.get(&path).await;
        assert!(
            answer
                .location()
                .starts_with("http://localhost:49152/callback?"),
            "{changed:?}"
        );
        assert_eq!(
            answer.parameter("error").as_deref(),
            Some(code),
            "{changed:?}"
        );
        assert_eq!(answer.parameter("state").as_deref(), Some("s t&a=te"));
        assert_eq!(
            answer.parameter("iss").as_deref(),
            Some("http://localhost:8080")
        );
    }
    let path = scene.request(&[("prompt", "none")]);
    let answer = Browser::new(&scene.app).get(&path).await;
    assert_eq!(answer.parameter("error").as_deref(), Some("login_required"));
}

#[tokio::test]
async fn a_parameter_sent_twice_is_refused() {
    let mut scene = Scene::new().await;
    for (more, code) in [
        ("code_challenge=x", "invalid_request"),
        ("code_challenge_method=S256", "invalid_request"),
        ("response_type=code", "invalid_request"),
        ("state=other", "invalid_request"),
        (
            "resource=http%3A%2F%2Fhello.localhost%3A8080",
            "invalid_target",
        ),
        ("x=1&x=1", "invalid_request"),
    ] {
        let path = format!("{}&{more}", scene.request(&[]));
        assert_eq!(
            scene.browser.get(&path).await.parameter("error").as_deref(),
            Some(code),
            "{more}"
        );
    }
}

#[tokio::test]
async fn r27_state_comes_back_only_if_it_was_sent_and_the_issuer_always() {
    let mut scene = Scene::new().await;
    let answer = scene.decide(&[("state", "")], "allow").await;
    assert!(answer.parameter("code").is_some());
    assert_eq!(answer.parameter("state"), None);
    assert_eq!(
        answer.parameter("iss").as_deref(),
        Some("http://localhost:8080")
    );
}

#[tokio::test]
async fn r26_all_spellings_of_the_resource_give_one_audience() {
    let mut scene = Scene::new().await;
    for resource in [
        "http://hello.localhost:8080",
        "http://hello.localhost:8080/",
        "http://hello.localhost:8080/mcp",
        "HTTP://HELLO.localhost:8080/mcp/",
    ] {
        let answer = scene
            .decide(&[("resource", resource), ("prompt", "consent")], "allow")
            .await;
        let code = answer.parameter("code").unwrap();
        let fields: Vec<_> = code_fields(&code)
            .into_iter()
            .chain([("resource", resource)])
            .collect();
        let tokens = scene.ask(&fields).await.value();
        assert_eq!(
            claims(&scene.app, tokens["access_token"].as_str().unwrap())["aud"],
            RESOURCE
        );
    }
}

#[tokio::test]
async fn a_stranger_is_refused_only_after_signing_in() {
    let scene = Scene::new().await;
    let stranger = testing::stranger(&scene.app).await;
    let mut browser = Browser::signed_in_as(&scene.app, &stranger.email).await;
    let answer = browser.get(&scene.request(&[])).await;
    assert_eq!(answer.parameter("error").as_deref(), Some("access_denied"));
    assert_eq!(
        answer.parameter("iss").as_deref(),
        Some("http://localhost:8080")
    );
}

#[tokio::test]
async fn a_loopback_client_may_use_any_port() {
    let mut scene = Scene::new().await;
    let answer = scene
        .decide(&[("redirect_uri", "http://localhost:5/callback")], "allow")
        .await;
    assert!(
        answer
            .location()
            .starts_with("http://localhost:5/callback?code=")
    );
}

#[tokio::test]
async fn r26_a_project_that_takes_no_tokens_is_no_resource() {
    let mut scene = Scene::new().await;
    for (statement, error) in [
        (
            "update projects set access_mode = 'public'",
            Some("invalid_target"),
        ),
        (
            "update projects set access_mode = 'tenant'",
            Some("invalid_target"),
        ),
        ("update projects set access_mode = 'platform'", None),
        ("update projects set callers = 'owner'", None),
        (
            "update projects set callers = 'chosen'",
            Some("access_denied"),
        ),
    ] {
        scene.sql(statement).await;
        let path = scene.request(&[]);
        let answer = scene.browser.get(&path).await;
        if error.is_none() {
            assert_eq!(answer.status, StatusCode::OK, "{statement}");
        } else {
            assert_eq!(answer.parameter("error").as_deref(), error, "{statement}");
            assert!(answer.parameter("error_description").is_some());
        }
    }
}

#[tokio::test]
async fn anyone_who_is_signed_in_is_asked_where_a_project_is_open_to_anyone() {
    let scene = Scene::new().await;
    let stranger = testing::stranger(&scene.app).await;
    let mut browser = Browser::signed_in_as(&scene.app, &stranger.email).await;
    scene.sql("update projects set callers = 'anyone'").await;
    let page = browser.get(&scene.request(&[])).await;
    assert!(page.body.contains(&stranger.email));
    let back = answer(&mut browser, &page, "allow").await;
    assert!(back.parameter("code").is_some());
}

#[tokio::test]
async fn unknown_scopes_are_left_out() {
    let mut scene = Scene::new().await;
    for (asked, given) in [
        ("admin", "mcp"),
        ("openid profile offline_access", "mcp offline_access"),
    ] {
        let answer = scene.decide(&[("scope", asked)], "allow").await;
        let code = answer.parameter("code").unwrap();
        assert_eq!(scene.exchange(&code).await.value()["scope"], given);
    }
}

#[tokio::test]
async fn one_address_cannot_ask_without_end() {
    let mut scene = Scene::new().await;
    let path = scene.request(&[]);
    let mut flood = Browser::new(&scene.app);
    for _ in 0..600 {
        assert_eq!(flood.get(&path).await.status, StatusCode::SEE_OTHER);
    }
    let refused = flood.get(&path).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.header("retry-after"), "60");
    flood
        .headers
        .insert("x-forwarded-for", "203.0.113.9".parse().unwrap());
    assert_eq!(flood.get(&path).await.status, StatusCode::SEE_OTHER);
    assert_eq!(
        scene.browser.get(&path).await.status,
        StatusCode::OK,
        "each router counts for itself"
    );
}
