use super::*;

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
async fn a_token_that_was_just_rotated_still_works_and_later_ends_the_family() {
    let mut scene = Scene::new().await;
    let first = scene.tokens().await;
    let second = scene.refresh(&refresh_token(&first)).await.value();
    scene.app.clock.advance(time::Duration::seconds(59));
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

#[tokio::test]
async fn sixty_four_parallel_refreshes_all_get_working_tokens() {
    let mut scene = Scene::new().await;
    let token = refresh_token(&scene.tokens().await);
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (mut client, id, token) =
            (scene.client.clone(), scene.client_id.clone(), token.clone());
        set.spawn(async move {
            let fields = [
                ("grant_type", "refresh_token"),
                ("client_id", &*id),
                ("refresh_token", &*token),
            ];
            let answer = client.form("/oauth/token", &fields, &[]).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
            refresh_token(&answer.value())
        });
    }
    let mut tokens = set.join_all().await;
    let last = tokens[63].clone();
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 64);
    assert_eq!(scene.refresh(&last).await.status, StatusCode::OK);

    // The same sixty-four after the grace: none succeeds, and the family is gone.
    scene.app.clock.advance(time::Duration::seconds(61));
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (mut client, id, token) =
            (scene.client.clone(), scene.client_id.clone(), token.clone());
        set.spawn(async move {
            let fields = [
                ("grant_type", "refresh_token"),
                ("client_id", &*id),
                ("refresh_token", &*token),
            ];
            client.form("/oauth/token", &fields, &[]).await.status
        });
    }
    assert!(
        set.join_all()
            .await
            .iter()
            .all(|status| *status == StatusCode::BAD_REQUEST)
    );
    assert_eq!(scene.revoked().await.len(), 1);
    assert_error(&scene.refresh(&tokens[0]).await, 400, "invalid_grant");
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
async fn a_client_that_neither_registered_nor_asked_for_refreshing_gets_no_refresh_token() {
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
