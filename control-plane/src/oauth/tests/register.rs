use super::*;

/// What clients are known to send.
fn bodies() -> Vec<Value> {
    vec![
        // FastMCP 2 and 3, Python SDK 1: no authentication method.
        json!({"client_name": "FastMCP Client", "redirect_uris": ["http://localhost:51234/callback"],
            "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"], "scope": "mcp"}),
        // FastMCP 4, Python SDK 2.
        json!({"client_name": "FastMCP Client", "redirect_uris": ["http://localhost:51234/callback"],
            "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
            "token_endpoint_auth_method": "none", "application_type": "native", "scope": "mcp offline_access"}),
        // TypeScript SDK 1 and 2.
        json!({"client_name": "ts", "redirect_uris": ["http://localhost:8090/callback"],
            "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
            "token_endpoint_auth_method": "client_secret_post", "scope": "mcp"}),
        json!({"client_name": "ts", "redirect_uris": ["https://app.example/callback"], "application_type": "web",
            "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
            "token_endpoint_auth_method": "client_secret_basic"}),
        json!({"client_name": "MCP Inspector", "client_uri": "https://github.com/modelcontextprotocol/inspector",
            "redirect_uris": ["http://localhost:6274/oauth/callback"], "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"], "scope": ""}),
        json!({"client_name": "Cursor", "token_endpoint_auth_method": "none", "redirect_uris": [
            "http://localhost:8787/callback", "cursor://anysphere.cursor-mcp/oauth/callback",
            "https://www.cursor.com/agents/mcp/oauth/callback"]}),
        json!({"client_name": "Visual Studio Code", "client_uri": "https://code.visualstudio.com",
            "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
            "response_types": ["code"], "token_endpoint_auth_method": "none", "application_type": "native",
            "redirect_uris": ["https://insiders.vscode.dev/redirect", "https://vscode.dev/redirect",
                "http://127.0.0.1/", "http://127.0.0.1:33418/"]}),
        json!({"client_name": "Claude", "redirect_uris": ["https://claude.ai/api/mcp/auth_callback"],
            "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:jwt-bearer"],
            "response_types": ["code"], "token_endpoint_auth_method": "none", "scope": "mcp offline_access"}),
        json!({"client_name": "ChatGPT", "redirect_uris": ["https://chatgpt.com/connector/oauth/abc"],
            "token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://chatgpt.com/oauth/jwks.json",
            "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"]}),
        // The least, with members of odd types among the ones nobody reads.
        json!({"redirect_uris": ["com.example.app:/callback"], "contacts": 7, "logo_uri": null, "x": {"y": []}}),
    ]
}

#[tokio::test]
async fn every_known_client_is_registered_with_all_its_addresses() {
    let app = testing::app().await;
    let mut client = Browser::new(&app);
    for body in bodies() {
        let answer = client.json("/oauth/register", &body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{body} {}", answer.body);
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        let value = answer.value();
        assert_eq!(value["redirect_uris"], body["redirect_uris"]);
        assert_eq!(
            value["grant_types"],
            json!(["authorization_code", "refresh_token"])
        );
        assert_eq!(value["application_type"], body["application_type"]);
        let method = value["token_endpoint_auth_method"].as_str().unwrap();
        let asked = body["token_endpoint_auth_method"]
            .as_str()
            .unwrap_or("none");
        assert_eq!(
            method,
            if asked == "private_key_jwt" {
                "none"
            } else {
                asked
            }
        );
        assert_eq!(value.get("client_secret").is_some(), method != "none");
        assert_eq!(
            value.get("client_secret_expires_at").is_some(),
            method != "none"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_registered_is_refused_with_the_reason() {
    let app = testing::app().await;
    let mut client = Browser::new(&app);
    for (body, code) in [
        (json!({}), "invalid_redirect_uri"),
        (json!({"redirect_uris": []}), "invalid_redirect_uri"),
        (
            json!({"redirect_uris": "http://localhost/cb"}),
            "invalid_redirect_uri",
        ),
        (json!({"redirect_uris": [1]}), "invalid_redirect_uri"),
        (
            json!({"redirect_uris": ["http://localhost/cb", "javascript:alert(1)"]}),
            "invalid_redirect_uri",
        ),
        (
            json!({"redirect_uris": ["http://example.com/cb"]}),
            "invalid_redirect_uri",
        ),
        (
            json!({"redirect_uris": vec!["http://localhost/cb"; 21]}),
            "invalid_redirect_uri",
        ),
        (
            json!({"redirect_uris": ["http://localhost/cb"], "response_types": ["token"]}),
            "invalid_client_metadata",
        ),
        (
            json!({"redirect_uris": ["http://localhost/cb"], "grant_types": ["client_credentials"]}),
            "invalid_client_metadata",
        ),
        (json!(["not an object"]), "invalid_client_metadata"),
    ] {
        assert_error(&client.json("/oauth/register", &body).await, 400, code);
    }
    let large = json!({"redirect_uris": ["http://localhost/cb"], "x": "a".repeat(70_000)});
    assert_error(
        &client.json("/oauth/register", &large).await,
        413,
        "invalid_client_metadata",
    );
}

#[tokio::test]
async fn one_address_cannot_register_without_end() {
    let app = testing::app().await;
    let mut client = Browser::new(&app);
    let body = json!({"redirect_uris": ["http://localhost/cb"]});
    for _ in 0..60 {
        assert_eq!(
            client.json("/oauth/register", &body).await.status,
            StatusCode::CREATED
        );
    }
    let refused = client.json("/oauth/register", &body).await;
    assert_error(&refused, 429, "temporarily_unavailable");
    assert_eq!(refused.header("retry-after"), "60");
    client
        .headers
        .insert("x-forwarded-for", "203.0.113.9".parse().unwrap());
    assert_eq!(
        client.json("/oauth/register", &body).await.status,
        StatusCode::CREATED
    );
    client.headers.clear();
    app.clock.advance(time::Duration::MINUTE);
    assert_eq!(
        client.json("/oauth/register", &body).await.status,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn clients_that_nobody_uses_are_forgotten() {
    let mut scene = Scene::new().await;
    let used = scene.client_id.clone();
    let unused = register(&mut scene.client, &json!({})).await["client_id"]
        .as_str()
        .unwrap()
        .to_owned();
    scene.tokens().await;
    scene.app.clock.advance(time::Duration::hours(25));
    let mut db = scene.app.db.acquire().await.unwrap();
    crate::grants::purge_expired(&mut db, scene.app.clock.now())
        .await
        .unwrap();
    assert!(
        crate::clients::find(&mut db, &used)
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        crate::clients::find(&mut db, &unused)
            .await
            .unwrap()
            .is_none()
    );
    scene.app.clock.advance(time::Duration::days(200));
    crate::grants::purge_expired(&mut db, scene.app.clock.now())
        .await
        .unwrap();
    assert!(
        crate::clients::find(&mut db, &used)
            .await
            .unwrap()
            .is_none()
    );
    let left: i64 = sqlx::query_scalar(
        "select (select count(*) from grants) + (select count(*) from refresh_tokens) + (select count(*) from authorization_codes)",
    )
    .fetch_one(&mut *db)
    .await
    .unwrap();
    assert_eq!(left, 0);
}
