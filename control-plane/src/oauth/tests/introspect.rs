use super::*;

impl Scene {
    /// What the scene's client is told of a token.
    pub(super) async fn introspect(&mut self, token: &str) -> Value {
        let client_id = self.client_id.clone();
        let fields = [("client_id", &*client_id), ("token", token)];
        let answer = self.client.form("/oauth/introspect", &fields, &[]).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        answer.value()
    }
}

#[tokio::test]
async fn r32_a_client_is_told_what_its_own_tokens_are() {
    let mut scene = Scene::new().await;
    let tokens = scene.tokens().await;
    let access = tokens["access_token"].as_str().unwrap();
    let refresh = tokens["refresh_token"].as_str().unwrap();
    let owner = testing::owner(&scene.app).await.id;
    let now = scene.app.clock.now().unix_timestamp();
    let mut told = scene.introspect(access).await;
    assert!(told["jti"].take().is_string());
    assert_eq!(
        told,
        json!({
            "active": true, "token_type": "Bearer", "scope": "mcp", "client_id": scene.client_id,
            "sub": owner, "aud": RESOURCE, "iss": testing::ORIGIN, "jti": null,
            "iat": now, "exp": now + 3_600,
        })
    );
    assert_eq!(
        scene.introspect(refresh).await,
        json!({
            "active": true, "scope": "mcp", "client_id": scene.client_id, "sub": owner,
            "aud": RESOURCE, "iss": testing::ORIGIN, "iat": now, "exp": now + 30 * 24 * 3_600,
        })
    );
}

#[tokio::test]
async fn r32_of_everything_else_it_is_told_nothing() {
    let mut scene = Scene::new().await;
    let inactive = json!({ "active": false });
    let tokens = scene.tokens().await;
    let access = tokens["access_token"].as_str().unwrap().to_owned();
    let refresh = tokens["refresh_token"].as_str().unwrap().to_owned();
    let (head, signature) = access.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
    for token in ["nonsense", "a.b.c", "brt_x", "brr_x", &forged] {
        assert_eq!(scene.introspect(token).await, inactive, "{token}");
    }

    // Another client's.
    let own = scene.client_id.clone();
    scene.client_id = register(&mut scene.client, &json!({})).await["client_id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(scene.introspect(&access).await, inactive);
    assert_eq!(scene.introspect(&refresh).await, inactive);
    scene.client_id = own;

    // Of one who may not call for a while.
    scene.sql("update projects set callers = 'chosen'").await;
    assert_eq!(scene.introspect(&access).await, inactive);
    assert_eq!(scene.introspect(&refresh).await, inactive);
    scene
        .sql("update projects set callers = 'organization'")
        .await;
    assert_eq!(scene.introspect(&access).await["active"], true);

    // Expired.
    scene.app.clock.advance(time::Duration::HOUR);
    assert_eq!(scene.introspect(&access).await, inactive);
    assert_eq!(scene.introspect(&refresh).await["active"], true);
    // Used up, and past the grace.
    assert_eq!(scene.refresh(&refresh).await.status, StatusCode::OK);
    assert_eq!(scene.introspect(&refresh).await["active"], true);
    scene
        .app
        .clock
        .advance(crate::grants::refresh_tokens::GRACE);
    assert_eq!(scene.introspect(&refresh).await, inactive);
    assert!(scene.revoked().await.is_empty(), "asking is no use");
}

#[tokio::test]
async fn r32_whoever_asks_must_be_a_client_and_show_its_secret() {
    let mut scene = Scene::new().await;
    let tokens = scene.tokens().await;
    let access = tokens["access_token"].as_str().unwrap();
    let secret = json!({"token_endpoint_auth_method": "client_secret_post"});
    let confidential = register(&mut scene.client, &secret).await;
    let id = confidential["client_id"].as_str().unwrap();
    let own = scene.client_id.clone();
    for (fields, status, error) in [
        (vec![("token", access)], 401, "invalid_client"),
        (
            vec![("client_id", "unknown"), ("token", access)],
            401,
            "invalid_client",
        ),
        (
            vec![("client_id", id), ("token", access)],
            401,
            "invalid_client",
        ),
        (vec![("client_id", &*own)], 400, "invalid_request"),
        (
            vec![("client_id", &*own), ("token", "a"), ("token", "b")],
            400,
            "invalid_request",
        ),
    ] {
        let answer = scene.client.form("/oauth/introspect", &fields, &[]).await;
        assert_error(&answer, status, error);
    }
    let secret = confidential["client_secret"].as_str().unwrap();
    let fields = [
        ("client_id", id),
        ("client_secret", secret),
        ("token", access),
        ("token_type_hint", "refresh_token"),
    ];
    let answer = scene.client.form("/oauth/introspect", &fields, &[]).await;
    assert_eq!(answer.value(), json!({ "active": false }));
}
