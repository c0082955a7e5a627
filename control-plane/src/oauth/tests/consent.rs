use super::*;
use crate::grants::connected_apps;

#[tokio::test]
async fn r35_the_page_says_who_asks_for_what_and_may_only_be_sent_where_it_belongs() {
    let mut scene = Scene::new().await;
    let path = scene.request(&[("scope", "mcp offline_access")]);
    let page = scene.browser.get(&path).await;
    for text in [
        "FastMCP Client",
        "localhost:49152",
        RESOURCE,
        testing::OWNER,
        "any program on this computer can claim",
        "unverified",
        "while you are away",
        "Use another account",
    ] {
        assert!(page.body.contains(text), "{text} is missing");
    }
    let policy = page.header("content-security-policy");
    assert!(
        policy.contains("frame-ancestors 'none'")
            && policy.ends_with("form-action 'self' http://localhost:49152")
    );
    assert_eq!(page.header("x-frame-options"), "DENY");
    assert_eq!(page.header("cache-control"), "no-store");
}

#[tokio::test]
async fn a_hostile_name_stays_text() {
    let mut scene = Scene::new().await;
    let changed = json!({ "client_name": "<script>alert(1)</script>", "redirect_uris": ["cursor://anysphere.cursor-mcp/cb"] });
    scene.client_id = register(&mut scene.client, &changed).await["client_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = scene.request(&[("redirect_uri", "cursor://anysphere.cursor-mcp/cb")]);
    let page = scene.browser.get(&path).await;
    assert!(!page.body.contains("<script>alert"));
    assert!(page.body.contains("cursor: (an app on your device)"));
    assert!(page.body.contains("Any app on your device can claim"));
    assert!(
        page.header("content-security-policy")
            .ends_with("form-action 'self' cursor:")
    );
    let back = answer(&mut scene.browser, &page, "allow").await;
    assert!(
        back.location()
            .starts_with("cursor://anysphere.cursor-mcp/cb?code=")
    );
}

#[tokio::test]
async fn no_means_access_denied_and_is_not_remembered() {
    let mut scene = Scene::new().await;
    let answer = scene.decide(&[], "deny").await;
    assert_eq!(answer.parameter("error").as_deref(), Some("access_denied"));
    assert_eq!(answer.parameter("state").as_deref(), Some("s t&a=te"));
    let path = scene.request(&[]);
    assert_eq!(scene.browser.get(&path).await.status, StatusCode::OK);
}

#[tokio::test]
async fn r34_yes_is_remembered_for_the_same_question_unless_consent_is_prompted() {
    let mut scene = Scene::new().await;
    scene.decide(&[], "allow").await;
    for (changed, asked) in [
        (vec![], false),
        (vec![("prompt", "none")], false),
        (vec![("state", "another")], false),
        (vec![("prompt", "consent")], true),
        (vec![("scope", "mcp offline_access")], true),
    ] {
        let path = scene.request(&changed);
        let answer = scene.browser.get(&path).await;
        assert_eq!(answer.status == StatusCode::OK, asked, "{changed:?}");
        assert_eq!(
            answer.header("location").contains("code="),
            !asked,
            "{changed:?}"
        );
    }
    let other = register(&mut scene.client, &json!({})).await["client_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = scene.request(&[("client_id", &other)]);
    assert_eq!(
        scene.browser.get(&path).await.status,
        StatusCode::OK,
        "another client is asked for"
    );
}

#[tokio::test]
async fn r35_a_decision_counts_once_and_only_in_the_browser_that_was_asked() {
    let mut scene = Scene::new().await;
    let path = scene.request(&[]);
    let page = scene.browser.get(&path).await;

    // The attacker's browser, signed in as the same person, with the attacker's own CSRF token.
    let mut other = Browser::signed_in(&scene.app).await;
    let its_own = other.get(&path).await;
    let fields = [
        ("csrf", &*its_own.field("csrf")),
        ("request", &page.field("request")),
        ("decision", "allow"),
    ];
    let answered = other.submit("/oauth/consent", &fields).await;
    assert_eq!(answered.status, StatusCode::BAD_REQUEST);
    // The victim's page with no cookies at all.
    let answered = answer(&mut Browser::new(&scene.app), &page, "allow").await;
    assert_eq!(answered.status, StatusCode::FORBIDDEN);
    let codes: i64 = sqlx::query_scalar("select count(*) from authorization_codes")
        .fetch_one(&scene.app.db)
        .await
        .unwrap();
    assert_eq!(codes, 0);

    let first = answer(&mut scene.browser, &page, "allow").await;
    assert!(first.parameter("code").is_some());
    let second = answer(&mut scene.browser, &page, "allow").await;
    assert_eq!(second.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn r35_a_decision_needs_the_token_and_our_own_origin() {
    let mut scene = Scene::new().await;
    let path = scene.request(&[]);
    let page = scene.browser.get(&path).await;
    let request = page.field("request");
    let csrf = page.field("csrf");
    let good = [
        ("csrf", &*csrf),
        ("request", &*request),
        ("decision", "allow"),
    ];
    for (fields, headers) in [
        (&good[1..], &[("origin", testing::ORIGIN)][..]),
        (&good[..], &[("origin", "https://evil.example")][..]),
        (&good[..], &[("origin", "http://hello.localhost:8080")][..]),
        (&good[..], &[("origin", "null")][..]),
        (
            &good[..],
            &[
                ("origin", testing::ORIGIN),
                ("sec-fetch-site", "cross-site"),
            ][..],
        ),
        (&good[..], &[("sec-fetch-site", "same-site")][..]),
    ] {
        let answer = scene.browser.form("/oauth/consent", fields, headers).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{headers:?}");
    }
    let wrong = [
        ("csrf", "wrong"),
        ("request", &*request),
        ("decision", "allow"),
    ];
    assert_eq!(
        scene.browser.submit("/oauth/consent", &wrong).await.status,
        StatusCode::FORBIDDEN
    );
    assert!(
        scene
            .browser
            .submit("/oauth/consent", &good)
            .await
            .parameter("code")
            .is_some()
    );
}

#[tokio::test]
async fn a_page_that_was_open_too_long_is_not_answered() {
    let mut scene = Scene::new().await;
    let path = scene.request(&[]);
    let page = scene.browser.get(&path).await;
    scene.app.clock.advance(time::Duration::minutes(10));
    assert_eq!(
        answer(&mut scene.browser, &page, "allow").await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn someone_who_lost_access_meanwhile_gets_no_code() {
    let mut scene = Scene::new().await;
    let path = scene.request(&[]);
    let page = scene.browser.get(&path).await;
    sqlx::query("delete from members")
        .execute(&scene.app.db)
        .await
        .unwrap();
    let answer = answer(&mut scene.browser, &page, "allow").await;
    assert_eq!(answer.parameter("error").as_deref(), Some("access_denied"));
}

#[tokio::test]
async fn less_than_was_allowed_is_remembered_and_more_is_asked_for() {
    let mut scene = Scene::new().await;
    scene
        .decide(&[("scope", "mcp offline_access")], "allow")
        .await;
    let path = scene.request(&[("scope", "mcp")]);
    let answer = scene.browser.get(&path).await;
    let code = answer.parameter("code").unwrap();
    assert_eq!(scene.exchange(&code).await.value()["scope"], "mcp");
}

#[tokio::test]
async fn r34_a_client_that_changes_its_redirect_uris_is_asked_for_again() {
    let mut scene = Scene::new().await;
    scene.decide(&[], "allow").await;
    let path = scene.request(&[]);
    assert!(scene.browser.get(&path).await.status.is_redirection());
    scene
        .sql("update clients set redirect_uris = redirect_uris || 'https://evil.example/cb'::text")
        .await;
    assert_eq!(scene.browser.get(&path).await.status, StatusCode::OK);
    let silent = scene.request(&[("prompt", "none")]);
    let refused = scene.browser.get(&silent).await;
    assert_eq!(
        refused.parameter("error").as_deref(),
        Some("consent_required")
    );
}

/// Makes the scene's client one whose identity is published, as if its document had been fetched.
async fn publish(scene: &mut Scene, redirect_uri: &str) {
    const ID: &str = "https://app.example/oauth/client.json";
    sqlx::query(
        "update clients set id = $1, kind = 'document', redirect_uris = array[$2],
             fetched_at = $4, fresh_until = $4 + interval '1 day' where id = $3",
    )
    .bind(ID)
    .bind(redirect_uri)
    .bind(&scene.client_id)
    .bind(scene.app.clock.now())
    .execute(&scene.app.db)
    .await
    .unwrap();
    scene.client_id = ID.into();
}

#[tokio::test]
async fn r31_a_published_client_is_shown_by_its_host_and_remembered_only_at_a_site() {
    const SITE: &str = "https://app.example/callback";
    let mut scene = Scene::new().await;
    publish(&mut scene, SITE).await;
    let path = scene.request(&[("redirect_uri", SITE)]);
    let page = scene.browser.get(&path).await;
    for text in ["<strong>app.example</strong>", "verified", "FastMCP Client"] {
        assert!(page.body.contains(text), "{text}: {}", page.body);
    }
    assert!(!page.body.contains("unverified") && !page.body.contains("this computer"));
    answer(&mut scene.browser, &page, "allow").await;
    assert!(scene.browser.get(&path).await.status.is_redirection());

    // Everyone knows its client_id, and any program can listen on the computer.
    let mut scene = Scene::new().await;
    publish(&mut scene, REDIRECT_URI).await;
    let path = scene.request(&[]);
    let page = scene.browser.get(&path).await;
    assert!(page.body.contains("any program on this computer can claim"));
    assert!(
        answer(&mut scene.browser, &page, "allow")
            .await
            .parameter("code")
            .is_some()
    );
    assert_eq!(scene.browser.get(&path).await.status, StatusCode::OK);
    let silent = scene.request(&[("prompt", "none")]);
    let refused = scene.browser.get(&silent).await;
    assert_eq!(
        refused.parameter("error").as_deref(),
        Some("consent_required")
    );
}

#[tokio::test]
async fn a_new_tab_does_not_undo_another() {
    let scene = Scene::new().await;
    let path = scene.request(&[("prompt", "consent")]);
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (mut tab, path) = (scene.browser.clone(), path.clone());
        set.spawn(async move { tab.get(&path).await });
    }
    let mut answers = tokio::task::JoinSet::new();
    for page in set.join_all().await {
        let mut tab = scene.browser.clone();
        answers.spawn(async move { answer(&mut tab, &page, "allow").await });
    }
    for answered in answers.join_all().await {
        assert!(answered.parameter("code").is_some());
    }
    assert_eq!(scene.count("pending_authorizations").await, 0);
}

#[tokio::test]
async fn of_many_answers_to_one_page_one_counts() {
    let mut scene = Scene::new().await;
    let path = scene.request(&[]);
    let page = scene.browser.get(&path).await;
    let (csrf, request) = (page.field("csrf"), page.field("request"));
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (mut tab, csrf, request) = (scene.browser.clone(), csrf.clone(), request.clone());
        set.spawn(async move {
            let fields = [
                ("csrf", &*csrf),
                ("request", &request),
                ("decision", "allow"),
            ];
            tab.submit("/oauth/consent", &fields).await.status
        });
    }
    let statuses = set.join_all().await;
    let counted = statuses.iter().filter(|status| status.is_redirection());
    assert_eq!(counted.count(), 1, "{statuses:?}");
    assert_eq!(scene.count("grants").await, 1);
}

#[tokio::test]
async fn another_account_may_sign_in_and_is_asked_the_same() {
    let mut scene = Scene::new().await;
    let path = scene.request(&[]);
    let page = scene.browser.get(&path).await;
    let (csrf, again) = (page.field("csrf"), page.field("next").replace("&#38;", "&"));
    assert_eq!(again, path);
    let fields = [("csrf", &*csrf), ("next", &again)];
    let out = scene.browser.submit("/signout", &fields).await;
    assert!(out.location().starts_with("/signin?"));
    assert_eq!(out.parameter("next").as_deref(), Some(path.as_str()));
    // The page that was open belongs to nobody now.
    let answered = answer(&mut scene.browser, &page, "allow").await;
    assert!(answered.status.is_client_error());
}

#[tokio::test]
async fn r34_withdrawing_ends_every_token_of_the_app_and_asks_again() {
    let mut scene = Scene::new().await;
    let first = scene.tokens().await;
    let second = scene.tokens().await;
    let owner = testing::owner(&scene.app).await;
    let now = scene.app.clock.now();
    let mut tx = scene.app.db.begin().await.unwrap();
    let apps = connected_apps::list(&mut tx, owner.id).await.unwrap();
    assert_eq!(apps.len(), 1, "one app, two grants");
    let actor = crate::audit::Actor::User(owner.id);
    connected_apps::withdraw(&mut tx, owner.id, apps[0].id, &actor, now)
        .await
        .unwrap();
    let left = connected_apps::list(&mut tx, owner.id).await.unwrap();
    assert!(left.is_empty());
    tx.commit().await.unwrap();
    for tokens in [first, second] {
        assert_error(
            &scene
                .refresh(tokens["refresh_token"].as_str().unwrap())
                .await,
            400,
            "invalid_grant",
        );
    }
    assert_eq!(scene.revoked().await.len(), 2);
    let path = scene.request(&[]);
    assert_eq!(scene.browser.get(&path).await.status, StatusCode::OK);
}
