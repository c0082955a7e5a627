use super::*;
use crate::grants::refresh_tokens;

fn refresh_token(tokens: &Value) -> String {
    tokens["refresh_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn each_refresh_gives_a_new_pair_of_the_same_grant() {
    let mut scene = Scene::new().await;
    let first = scene.tokens().await;
    scene.app.clock.advance(time::Duration::hours(1));
    let answer = scene.refresh(&refresh_token(&first)).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("cache-control"), "no-store");
    let second = answer.value();
    assert_ne!(refresh_token(&first), refresh_token(&second));
    let gid = |tokens: &Value| {
        claims(&scene.app, tokens["access_token"].as_str().unwrap())["gid"].clone()
    };
    assert_eq!(gid(&first), gid(&second));
    assert_eq!(second["scope"], "mcp");
}

#[tokio::test]
async fn r33_a_token_that_was_just_rotated_still_works_and_later_ends_the_family() {
    let mut scene = Scene::new().await;
    let first = scene.tokens().await;
    let second = scene.refresh(&refresh_token(&first)).await.value();
    scene.app.clock.advance(time::Duration::seconds(119));
    let third = scene.refresh(&refresh_token(&first)).await;
    assert_eq!(
        third.status,
        StatusCode::OK,
        "within the grace: {}",
        third.body
    );
    scene.app.clock.advance(time::Duration::seconds(1));
    assert_error(
        &scene.refresh(&refresh_token(&first)).await,
        400,
        "invalid_grant",
    );
    for tokens in [second, third.value()] {
        assert_error(
            &scene.refresh(&refresh_token(&tokens)).await,
            400,
            "invalid_grant",
        );
    }
    assert_eq!(scene.revoked().await.len(), 1);
    scene.app.clock.advance(time::Duration::hours(2));
    assert!(
        scene.revoked().await.is_empty(),
        "its access tokens have expired by now"
    );
}

/// Sixty-four requests with one token at the same moment.
async fn refresh_at_once(scene: &Scene, token: &str) -> Vec<Answer> {
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (mut client, id, token) = (
            scene.client.clone(),
            scene.client_id.clone(),
            token.to_owned(),
        );
        set.spawn(async move {
            let fields = [
                ("grant_type", "refresh_token"),
                ("client_id", &*id),
                ("refresh_token", &*token),
            ];
            client.form("/oauth/token", &fields, &[]).await
        });
    }
    set.join_all().await
}

#[tokio::test]
async fn r33_sixty_four_parallel_refreshes_all_get_working_tokens_of_one_family() {
    let mut scene = Scene::new().await;
    let token = refresh_token(&scene.tokens().await);
    let mut tokens = Vec::new();
    let mut families = Vec::new();
    for answer in refresh_at_once(&scene, &token).await {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        let given = answer.value();
        let access = claims(&scene.app, given["access_token"].as_str().unwrap());
        families.push(access["gid"].as_str().unwrap().to_owned());
        tokens.push(refresh_token(&given));
    }
    families.dedup();
    assert_eq!(families.len(), 1, "one family");
    for token in &tokens {
        let works = scene.introspect(token).await;
        assert_eq!(works["active"], true);
    }
    let last = tokens[63].clone();
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 64);
    assert_eq!(scene.refresh(&last).await.status, StatusCode::OK);
    assert_eq!(scene.count("grants").await, 1);

    // The same sixty-four after the grace: none succeeds, and the family is gone.
    scene.app.clock.advance(refresh_tokens::GRACE);
    for answer in refresh_at_once(&scene, &token).await {
        assert_error(&answer, 400, "invalid_grant");
    }
    assert_eq!(scene.revoked().await.len(), 1);
    for token in &tokens {
        assert_error(&scene.refresh(token).await, 400, "invalid_grant");
        assert_eq!(scene.introspect(token).await, json!({ "active": false }));
    }

    // Another process on the same database, later.
    scene.restart();
    assert_error(&scene.refresh(&tokens[0]).await, 400, "invalid_grant");
    assert_eq!(scene.revoked().await.len(), 1);
}

#[tokio::test]
async fn r33_a_revocation_among_parallel_refreshes_wins() {
    let mut scene = Scene::new().await;
    let token = refresh_token(&scene.tokens().await);
    let grant: uuid::Uuid = sqlx::query_scalar("select id from grants")
        .fetch_one(&scene.app.db)
        .await
        .unwrap();
    // The revocation has happened and is not committed yet; whoever refreshes waits for it.
    let mut tx = scene.app.db.begin().await.unwrap();
    let (system, now) = (crate::audit::Actor::System, scene.app.clock.now());
    crate::grants::revoke(&mut tx, grant, &system, "test", now)
        .await
        .unwrap();
    let (mut client, id, shown) = (scene.client.clone(), scene.client_id.clone(), token.clone());
    let refreshing = tokio::task::JoinSet::from_iter([async move {
        let fields = [
            ("grant_type", "refresh_token"),
            ("client_id", &*id),
            ("refresh_token", &*shown),
        ];
        client.form("/oauth/token", &fields, &[]).await
    }]);
    // Until Postgres says that it waits.
    loop {
        let waiting: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity
             where datname = current_database() and wait_event_type = 'Lock'",
        )
        .fetch_one(&scene.app.db)
        .await
        .unwrap();
        if waiting > 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    tx.commit().await.unwrap();
    for answer in refreshing.join_all().await {
        assert_error(&answer, 400, "invalid_grant");
    }
    assert_eq!(scene.count("refresh_tokens").await, 1, "none was issued");
    assert_error(&scene.refresh(&token).await, 400, "invalid_grant");
}

#[tokio::test]
async fn a_refresh_may_narrow_the_scope_of_its_access_token() {
    let mut scene = Scene::new().await;
    let answer = scene
        .decide(&[("scope", "mcp offline_access")], "allow")
        .await;
    let code = answer.parameter("code").unwrap();
    let mut token = refresh_token(&scene.exchange(&code).await.value());
    for (asked, given) in [
        ("offline_access", "offline_access"),
        ("mcp unknown", "mcp"),
        ("unknown", "mcp offline_access"),
        ("", "mcp offline_access"),
    ] {
        let fields = [
            ("grant_type", "refresh_token"),
            ("refresh_token", &*token),
            ("scope", asked),
        ];
        let tokens = scene.ask(&fields).await.value();
        assert_eq!(tokens["scope"], given, "{asked}");
        let access = claims(&scene.app, tokens["access_token"].as_str().unwrap());
        assert_eq!(access["scope"], given, "{asked}");
        token = refresh_token(&tokens);
    }
}

#[tokio::test]
async fn another_resource_is_refused_and_uses_nothing_up() {
    let mut scene = Scene::new().await;
    testing::project(&scene.app, "other").await;
    let token = refresh_token(&scene.tokens().await);
    for resource in [
        "http://other.localhost:8080/mcp",
        "http://nowhere.localhost:8080/mcp",
        "https://hello.localhost:8080/mcp",
        "nonsense",
    ] {
        let fields = [
            ("grant_type", "refresh_token"),
            ("refresh_token", &*token),
            ("resource", resource),
        ];
        assert_error(&scene.ask(&fields).await, 400, "invalid_target");
    }
    scene.app.clock.advance(refresh_tokens::GRACE * 2);
    assert_eq!(scene.refresh(&token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_person_who_may_not_call_any_more_gets_no_tokens_and_those_who_may_again_do() {
    let mut scene = Scene::new().await;
    let token = refresh_token(&scene.tokens().await);
    for statement in [
        "update projects set callers = 'chosen'",
        "update projects set access_mode = 'tenant', callers = 'organization'",
    ] {
        scene.sql(statement).await;
        assert_error(&scene.refresh(&token).await, 400, "invalid_grant");
    }
    scene
        .sql("update projects set access_mode = 'platform'")
        .await;
    assert_eq!(scene.refresh(&token).await.status, StatusCode::OK);
    assert!(scene.revoked().await.is_empty());
}

#[tokio::test]
async fn a_refresh_keeps_to_its_client_resource_and_person() {
    let mut scene = Scene::new().await;
    let token = refresh_token(&scene.tokens().await);
    let own = scene.client_id.clone();
    scene.client_id = register(&mut scene.client, &json!({})).await["client_id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_error(&scene.refresh(&token).await, 400, "invalid_grant");
    scene.client_id = own;

    let refresh = [
        ("grant_type", "refresh_token"),
        ("refresh_token", token.as_str()),
    ];
    let other: Vec<_> = refresh
        .into_iter()
        .chain([("resource", "http://other.localhost:8080/mcp")])
        .collect();
    assert_error(&scene.ask(&other).await, 400, "invalid_target");
    let same: Vec<_> = refresh
        .into_iter()
        .chain([("resource", "http://hello.localhost:8080")])
        .collect();
    let token = refresh_token(&scene.ask(&same).await.value());

    sqlx::query("delete from members")
        .execute(&scene.app.db)
        .await
        .unwrap();
    assert_error(&scene.refresh(&token).await, 400, "invalid_grant");
}

#[tokio::test]
async fn an_unused_refresh_token_expires() {
    let mut scene = Scene::new().await;
    let token = refresh_token(&scene.tokens().await);
    scene.app.clock.advance(time::Duration::days(30));
    assert_error(&scene.refresh(&token).await, 400, "invalid_grant");
}

#[tokio::test]
async fn r33_a_client_that_neither_registered_nor_asked_for_refreshing_gets_no_refresh_token() {
    let mut scene = Scene::new().await;
    let changed = json!({"grant_types": ["authorization_code"]});
    scene.client_id = register(&mut scene.client, &changed).await["client_id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(scene.tokens().await.get("refresh_token").is_none());
    let answer = scene
        .decide(&[("scope", "mcp offline_access")], "allow")
        .await;
    let code = answer.parameter("code").unwrap();
    let tokens = scene.exchange(&code).await.value();
    assert!(tokens["refresh_token"].is_string());
    assert_eq!(tokens["scope"], "mcp offline_access");
}
