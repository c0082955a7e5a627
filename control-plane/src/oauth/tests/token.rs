use base64::engine::general_purpose::STANDARD;

use super::*;

#[tokio::test]
async fn r25_a_code_works_once_and_its_second_use_ends_the_tokens_of_the_first() {
    let mut scene = Scene::new().await;
    let code = scene.code().await;
    let first = scene.exchange(&code).await;
    assert_eq!(first.status, StatusCode::OK);
    assert_eq!(first.header("cache-control"), "no-store");
    assert_eq!(first.header("content-type"), "application/json");
    assert_error(&scene.exchange(&code).await, 400, "invalid_grant");
    let refresh = first.value()["refresh_token"].as_str().unwrap().to_owned();
    assert_error(&scene.refresh(&refresh).await, 400, "invalid_grant");
    let grant = claims(&scene.app, first.value()["access_token"].as_str().unwrap())["gid"].clone();
    assert_eq!(json!(scene.revoked().await), json!([grant]));
}

#[tokio::test]
async fn r25_of_many_parallel_uses_of_a_code_one_succeeds() {
    let mut scene = Scene::new().await;
    let code = scene.code().await;
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (mut client, id, code) = (scene.client.clone(), scene.client_id.clone(), code.clone());
        set.spawn(async move {
            let fields: Vec<_> = code_fields(&code)
                .into_iter()
                .chain([("client_id", &*id)])
                .collect();
            client.form("/oauth/token", &fields, &[]).await.status
        });
    }
    let statuses = set.join_all().await;
    assert_eq!(
        statuses
            .iter()
            .filter(|status| **status == StatusCode::OK)
            .count(),
        1,
        "{statuses:?}"
    );
    assert_eq!(scene.revoked().await.len(), 1);
}

#[tokio::test]
async fn r25_a_code_is_bound_to_client_address_verifier_and_resource_and_each_try_uses_it_up() {
    let mut scene = Scene::new().await;
    let other = register(&mut scene.client, &json!({})).await["client_id"]
        .as_str()
        .unwrap()
        .to_owned();
    for (changed, error) in [
        (("code_verifier", "A".repeat(43)), "invalid_grant"),
        (("code_verifier", "short".to_owned()), "invalid_grant"),
        (("code_verifier", challenge()), "invalid_grant"),
        (
            ("redirect_uri", "http://localhost:1/callback".to_owned()),
            "invalid_grant",
        ),
        (
            ("redirect_uri", "https://evil.example/callback".to_owned()),
            "invalid_grant",
        ),
        (
            ("resource", "http://other.localhost:8080/mcp".to_owned()),
            "invalid_target",
        ),
        (("client_id", other), "invalid_grant"),
    ] {
        let code = scene.code().await;
        let client_id = scene.client_id.clone();
        let mut fields: Vec<_> = code_fields(&code)
            .into_iter()
            .chain([("client_id", &*client_id)])
            .collect();
        fields.retain(|(name, _)| *name != changed.0);
        fields.push((changed.0, &changed.1));
        assert_error(
            &scene.client.form("/oauth/token", &fields, &[]).await,
            400,
            error,
        );
        assert_error(&scene.exchange(&code).await, 400, "invalid_grant");
    }
}

#[tokio::test]
async fn r25_a_code_expires_after_a_minute() {
    let mut scene = Scene::new().await;
    let code = scene.code().await;
    scene.app.clock.advance(time::Duration::MINUTE);
    assert_error(&scene.exchange(&code).await, 400, "invalid_grant");
}

#[tokio::test]
async fn r32_a_malformed_request_is_named() {
    let mut scene = Scene::new().await;
    let code = scene.code().await;
    assert_error(&scene.ask(&[]).await, 400, "invalid_request");
    assert_error(
        &scene.ask(&[("grant_type", "password")]).await,
        400,
        "unsupported_grant_type",
    );
    assert_error(
        &scene.ask(&[("grant_type", "authorization_code")]).await,
        400,
        "invalid_request",
    );
    assert_error(
        &scene.ask(&code_fields(&code)[..3]).await,
        400,
        "invalid_request",
    );
    assert_error(
        &scene.ask(&[("grant_type", "refresh_token")]).await,
        400,
        "invalid_request",
    );
    let twice: Vec<_> = code_fields(&code)
        .into_iter()
        .chain([("code", "x")])
        .collect();
    assert_error(&scene.ask(&twice).await, 400, "invalid_request");
    let json = scene
        .client
        .json("/oauth/token", &json!({"grant_type": "authorization_code"}))
        .await;
    assert_error(&json, 400, "invalid_request");
    // None of these used the code up.
    assert_eq!(scene.exchange(&code).await.status, StatusCode::OK);
}

#[tokio::test]
async fn r32_an_unknown_client_is_told_so_that_it_registers_again() {
    let mut scene = Scene::new().await;
    scene.client_id = "unknown".into();
    assert_error(&scene.refresh("x").await, 401, "invalid_client");
    let answer = scene
        .client
        .form("/oauth/token", &[("grant_type", "refresh_token")], &[])
        .await;
    assert_error(&answer, 401, "invalid_client");
    let basic = format!("Basic {}", STANDARD.encode("unknown:x"));
    let headers = [("authorization", basic.as_str())];
    let answer = scene
        .client
        .form("/oauth/token", &[("grant_type", "refresh_token")], &headers)
        .await;
    assert_error(&answer, 401, "invalid_client");
    assert_eq!(answer.header("www-authenticate"), "Basic realm=berth");
}

#[tokio::test]
async fn r32_a_client_with_a_secret_must_show_it_in_either_way() {
    let mut scene = Scene::new().await;
    let client = register(
        &mut scene.client,
        &json!({"token_endpoint_auth_method": "client_secret_basic"}),
    )
    .await;
    scene.client_id = client["client_id"].as_str().unwrap().to_owned();
    let secret = client["client_secret"].as_str().unwrap().to_owned();

    let code = scene.code().await;
    assert_error(&scene.exchange(&code).await, 401, "invalid_client");
    let wrong: Vec<_> = code_fields(&code)
        .into_iter()
        .chain([("client_secret", "wrong")])
        .collect();
    assert_error(&scene.ask(&wrong).await, 401, "invalid_client");
    let post: Vec<_> = code_fields(&code)
        .into_iter()
        .chain([("client_secret", secret.as_str())])
        .collect();
    assert_eq!(scene.ask(&post).await.status, StatusCode::OK);

    let code = scene.code().await;
    let basic = format!(
        "Basic {}",
        STANDARD.encode(format!("{}:{secret}", scene.client_id))
    );
    let headers = [("authorization", basic.as_str())];
    assert_error(
        &scene.client.form("/oauth/token", &post, &headers).await,
        400,
        "invalid_request",
    );
    let answer = scene
        .client
        .form("/oauth/token", &code_fields(&code), &headers)
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
}

#[tokio::test]
async fn r32_a_client_gives_its_tokens_back() {
    let mut scene = Scene::new().await;
    for kind in ["refresh_token", "access_token"] {
        let tokens = scene.tokens().await;
        let client_id = scene.client_id.clone();
        let token = tokens[kind].as_str().unwrap();
        let before = scene.revoked().await.len();
        let version = routes_version(&scene.app).await;

        let other = register(&mut scene.client, &json!({})).await["client_id"]
            .as_str()
            .unwrap()
            .to_owned();
        let fields = [("client_id", other.as_str()), ("token", token)];
        assert_eq!(
            scene
                .client
                .form("/oauth/revoke", &fields, &[])
                .await
                .status,
            StatusCode::OK
        );
        assert_eq!(
            scene.revoked().await.len(),
            before,
            "another client's token"
        );

        let fields = [
            ("client_id", client_id.as_str()),
            ("token", token),
            ("token_type_hint", kind),
        ];
        assert_eq!(
            scene
                .client
                .form("/oauth/revoke", &fields, &[])
                .await
                .status,
            StatusCode::OK
        );
        assert_eq!(scene.revoked().await.len(), before + 1);
        assert_eq!(
            routes_version(&scene.app).await,
            version + 1,
            "edges are told"
        );
        assert_error(
            &scene
                .refresh(tokens["refresh_token"].as_str().unwrap())
                .await,
            400,
            "invalid_grant",
        );
        assert_eq!(
            scene
                .client
                .form("/oauth/revoke", &fields, &[])
                .await
                .status,
            StatusCode::OK,
            "again"
        );
    }
    let client_id = scene.client_id.clone();
    let nonsense = [("client_id", client_id.as_str()), ("token", "nonsense")];
    assert_eq!(
        scene
            .client
            .form("/oauth/revoke", &nonsense, &[])
            .await
            .status,
        StatusCode::OK
    );
    assert_error(
        &scene
            .client
            .form("/oauth/revoke", &nonsense[..1], &[])
            .await,
        400,
        "invalid_request",
    );
    assert_error(
        &scene
            .client
            .form("/oauth/revoke", &nonsense[1..], &[])
            .await,
        401,
        "invalid_client",
    );
}

async fn routes_version(app: &App) -> i64 {
    let mut db = app.db.acquire().await.unwrap();
    crate::db::version(&mut db, crate::db::Changed::Routes)
        .await
        .unwrap()
}

#[tokio::test]
async fn the_command_line_gets_one_grant_per_project_and_person() {
    let scene = Scene::new().await;
    let owner = testing::owner(&scene.app).await;
    let mut tx = scene.app.db.begin().await.unwrap();
    let project = crate::projects::find_by_name(&mut tx, "hello")
        .await
        .unwrap()
        .unwrap();
    let first = super::super::mint_for_person(&scene.app, &mut tx, owner.id, &project)
        .await
        .unwrap();
    let second = super::super::mint_for_person(&scene.app, &mut tx, owner.id, &project)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let (first, second) = (
        claims(&scene.app, &first.access_token),
        claims(&scene.app, &second.access_token),
    );
    assert_eq!(first["client_id"], "berth-cli");
    assert_eq!(first["gid"], second["gid"]);
    assert_ne!(first["jti"], second["jti"]);
}

#[tokio::test]
async fn the_command_line_gets_no_token_where_none_is_taken_or_allowed() {
    let scene = Scene::new().await;
    let owner = testing::owner(&scene.app).await;
    for (statement, status) in [
        (
            "update projects set access_mode = 'public'",
            StatusCode::CONFLICT,
        ),
        (
            "update projects set access_mode = 'platform', callers = 'chosen'",
            StatusCode::FORBIDDEN,
        ),
    ] {
        scene.sql(statement).await;
        let mut db = scene.app.db.acquire().await.unwrap();
        let project = crate::projects::find_by_name(&mut db, "hello")
            .await
            .unwrap()
            .unwrap();
        let refused = super::super::mint_for_person(&scene.app, &mut db, owner.id, &project)
            .await
            .unwrap_err();
        assert_eq!(refused.status(), status, "{refused}");
    }
    assert_eq!(scene.count("grants").await, 0);
}

#[tokio::test]
async fn parallel_calls_of_the_command_line_share_one_grant() {
    let scene = Scene::new().await;
    let owner = testing::owner(&scene.app).await.id;
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let app = scene.app.clone();
        set.spawn(async move {
            let mut tx = app.db.begin().await.unwrap();
            let project = crate::projects::find_by_name(&mut tx, "hello")
                .await
                .unwrap()
                .unwrap();
            super::super::mint_for_person(&app, &mut tx, owner, &project)
                .await
                .unwrap();
            tx.commit().await.unwrap();
        });
    }
    set.join_all().await;
    assert_eq!(scene.count("grants").await, 1);
}

#[tokio::test]
async fn guesses_are_limited_by_address_and_honest_bursts_are_not() {
    let mut scene = Scene::new().await;
    let tokens = scene.tokens().await;
    let token = tokens["refresh_token"].as_str().unwrap().to_owned();
    for _ in 0..599 {
        assert_error(&scene.refresh("guess").await, 400, "invalid_grant");
    }
    for _ in 0..4 {
        assert_eq!(scene.refresh(&token).await.status, StatusCode::OK);
    }
    assert_error(&scene.refresh("guess").await, 400, "invalid_grant");
    let refused = scene.refresh(&token).await;
    assert_error(&refused, 429, "temporarily_unavailable");
    assert_eq!(refused.header("retry-after"), "60");
    scene.app.clock.advance(time::Duration::MINUTE);
    assert_eq!(scene.refresh(&token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn revocations_are_limited_by_address() {
    let mut scene = Scene::new().await;
    let tokens = scene.tokens().await;
    let token = tokens["refresh_token"].as_str().unwrap().to_owned();
    let client = scene.client_id.clone();
    let guess = [("client_id", &*client), ("token", "guess")];
    for _ in 0..600 {
        let answer = scene.client.form("/oauth/revoke", &guess, &[]).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    let real = [("client_id", &*client), ("token", &*token)];
    let refused = scene.client.form("/oauth/revoke", &real, &[]).await;
    assert_error(&refused, 429, "temporarily_unavailable");
    assert_eq!(refused.header("retry-after"), "60");
    assert_eq!(scene.refresh(&token).await.status, StatusCode::OK);
    scene.app.clock.advance(time::Duration::MINUTE);
    let answer = scene.client.form("/oauth/revoke", &real, &[]).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_error(&scene.refresh(&token).await, 400, "invalid_grant");
}
