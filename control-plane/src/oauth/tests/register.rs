use super::*;

/// What clients are known to send, by their names.
fn bodies() -> Vec<(&'static str, Value)> {
    let both = json!(["authorization_code", "refresh_token"]);
    vec![
        (
            "FastMCP 2 and 3",
            json!({"client_name": "FastMCP Client", "redirect_uris": ["http://localhost:51234/callback"],
            "grant_types": both, "response_types": ["code"], "scope": "mcp"}),
        ),
        (
            "FastMCP 4",
            json!({"client_name": "FastMCP Client", "redirect_uris": ["http://localhost:51234/callback"],
            "grant_types": both, "response_types": ["code"], "token_endpoint_auth_method": "none",
            "application_type": "native", "scope": "mcp offline_access"}),
        ),
        (
            "Python SDK 1",
            json!({"client_name": "Simple Auth Client", "redirect_uris": ["http://localhost:3030/callback"],
            "grant_types": both, "response_types": ["code"], "scope": "mcp"}),
        ),
        (
            "Python SDK 1, with a secret",
            json!({"client_name": "Simple Auth Client", "grant_types": both,
            "redirect_uris": ["http://localhost:3030/callback"], "response_types": ["code"],
            "token_endpoint_auth_method": "client_secret_post"}),
        ),
        (
            "Python SDK 2",
            json!({"client_name": "Simple Auth Client", "redirect_uris": ["http://127.0.0.1:3030/callback"],
            "grant_types": both, "response_types": ["code"], "scope": "mcp offline_access",
            "application_type": "native", "token_endpoint_auth_method": "none"}),
        ),
        (
            "TypeScript SDK 1",
            json!({"client_name": "Simple OAuth MCP Client", "scope": "mcp", "grant_types": both,
            "redirect_uris": ["http://localhost:8090/callback"], "response_types": ["code"],
            "token_endpoint_auth_method": "client_secret_post"}),
        ),
        (
            "TypeScript SDK 2",
            json!({"client_name": "Simple OAuth MCP Client", "application_type": "native",
            "redirect_uris": ["http://localhost:8090/callback"], "grant_types": both, "response_types": ["code"],
            "token_endpoint_auth_method": "none", "scope": "mcp offline_access"}),
        ),
        (
            "TypeScript SDK 2 on the web",
            json!({"client_name": "An app", "application_type": "web", "grant_types": both,
            "redirect_uris": ["https://app.example/callback"], "response_types": ["code"],
            "token_endpoint_auth_method": "client_secret_basic"}),
        ),
        (
            "Inspector in the browser",
            json!({"client_name": "MCP Inspector", "grant_types": both, "scope": "",
            "client_uri": "https://github.com/modelcontextprotocol/inspector", "response_types": ["code"],
            "redirect_uris": ["http://localhost:6274/oauth/callback"], "token_endpoint_auth_method": "none"}),
        ),
        (
            "Inspector 1",
            json!({"client_name": "MCP Inspector", "grant_types": both, "response_types": ["code"],
            "redirect_uris": ["http://localhost:6274/oauth/callback", "http://localhost:6274/oauth/callback/debug"],
            "client_uri": "https://github.com/modelcontextprotocol/inspector", "token_endpoint_auth_method": "none"}),
        ),
        (
            "Inspector on the command line",
            json!({"client_name": "MCP Inspector", "application_type": "native",
            "redirect_uris": ["http://127.0.0.1:6276/oauth/callback"], "grant_types": both,
            "response_types": ["code"], "token_endpoint_auth_method": "none"}),
        ),
        (
            "Cursor",
            json!({"client_name": "Cursor", "token_endpoint_auth_method": "none", "grant_types": both,
            "response_types": ["code"], "redirect_uris": ["http://localhost:8787/callback",
                "cursor://anysphere.cursor-mcp/oauth/callback", "https://www.cursor.com/agents/mcp/oauth/callback"]}),
        ),
        (
            "VS Code",
            json!({"client_name": "Visual Studio Code", "client_uri": "https://code.visualstudio.com",
            "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
            "response_types": ["code"], "token_endpoint_auth_method": "none", "application_type": "native",
            "redirect_uris": ["https://insiders.vscode.dev/redirect", "https://vscode.dev/redirect",
                "http://127.0.0.1/", "http://127.0.0.1:33418/"]}),
        ),
        (
            "Claude",
            json!({"client_name": "Claude", "redirect_uris": ["https://claude.ai/api/mcp/auth_callback"],
            "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:jwt-bearer"],
            "response_types": ["code"], "token_endpoint_auth_method": "none", "scope": "mcp offline_access"}),
        ),
        (
            "Claude, both addresses",
            json!({"client_name": "Claude", "response_types": ["code"], "grant_types": both,
            "redirect_uris": ["https://claude.ai/api/mcp/auth_callback", "https://claude.com/api/mcp/auth_callback"],
            "token_endpoint_auth_method": "client_secret_post"}),
        ),
        (
            "Claude Code",
            json!({"client_name": "Claude Code (berth)", "token_endpoint_auth_method": "none",
            "redirect_uris": ["http://localhost:54545/callback"], "grant_types": both, "response_types": ["code"]}),
        ),
        (
            "ChatGPT",
            json!({"client_name": "ChatGPT", "redirect_uris": ["https://chatgpt.com/connector/oauth/abc"],
            "token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://chatgpt.com/oauth/jwks.json",
            "grant_types": both, "response_types": ["code"]}),
        ),
        (
            "ChatGPT, public",
            json!({"client_name": "ChatGPT", "grant_types": both, "response_types": ["code"],
            "redirect_uris": ["https://chatgpt.com/connector_platform_oauth_redirect"],
            "token_endpoint_auth_method": "none"}),
        ),
        (
            "Codex",
            json!({"client_name": "Codex", "redirect_uris": ["http://127.0.0.1:1455/callback/7f3a"],
            "grant_types": both, "response_types": ["code"], "token_endpoint_auth_method": "none"}),
        ),
        (
            "Gemini CLI",
            json!({"client_name": "Gemini CLI MCP Client", "scope": "mcp", "grant_types": both,
            "redirect_uris": ["http://localhost:7777/oauth/callback"], "response_types": ["code"],
            "token_endpoint_auth_method": "none", "code_challenge_method": ["S256"]}),
        ),
        (
            "mcp-remote",
            json!({"client_name": "MCP CLI Proxy", "client_uri": "https://github.com/modelcontextprotocol/mcp-cli",
            "redirect_uris": ["http://localhost:3334/oauth/callback"], "token_endpoint_auth_method": "none",
            "grant_types": both, "response_types": ["code"], "software_id": "2e6dc280-f3c3-4e01-99a7-8181dbd1d23d",
            "software_version": "0.1.30"}),
        ),
        (
            "Zed",
            json!({"client_name": "Zed", "redirect_uris": ["http://127.0.0.1/callback"], "grant_types": both,
            "response_types": ["code"], "token_endpoint_auth_method": "none"}),
        ),
        (
            "Kiro",
            json!({"client_name": "Kiro", "redirect_uris": ["http://localhost:49153"], "grant_types": both,
            "response_types": ["code"], "token_endpoint_auth_method": "none"}),
        ),
        (
            "OpenCode",
            json!({"client_name": "OpenCode", "client_uri": "https://opencode.ai", "grant_types": both,
            "redirect_uris": ["http://127.0.0.1:19876/mcp/oauth/callback"], "response_types": ["code"],
            "token_endpoint_auth_method": "none", "application_type": "native"}),
        ),
        (
            "the least, with members of odd types that nobody reads",
            json!({"redirect_uris": ["com.example.app:/callback"],
            "contacts": 7, "logo_uri": null, "client_name": null, "x": {"y": []}}),
        ),
    ]
}

#[tokio::test]
async fn r29_every_known_client_is_registered_with_all_its_addresses() {
    let app = testing::app().await;
    let mut client = Browser::new(&app);
    for (name, body) in bodies() {
        let answer = client.json("/oauth/register", &body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{name} {}", answer.body);
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        let value = answer.value();
        assert_eq!(value["redirect_uris"], body["redirect_uris"], "{name}");
        assert_eq!(
            value["grant_types"],
            json!(["authorization_code", "refresh_token"]),
            "{name}"
        );
        assert_eq!(value["application_type"], body["application_type"]);
        assert_eq!(value["jwks_uri"], body["jwks_uri"]);
        let method = value["token_endpoint_auth_method"].as_str().unwrap();
        let asked = body["token_endpoint_auth_method"].as_str();
        assert_eq!(method, asked.unwrap_or("none"), "{name}");
        let has_secret = method.starts_with("client_secret");
        assert_eq!(value.get("client_secret").is_some(), has_secret, "{name}");
        assert_eq!(value.get("client_secret_expires_at").is_some(), has_secret);
    }
}

#[tokio::test]
async fn r29_what_cannot_be_registered_is_refused_with_the_reason() {
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
        (
            json!({"redirect_uris": ["http://localhost/cb"], "token_endpoint_auth_method": "private_key_jwt"}),
            "invalid_client_metadata",
        ),
        (
            json!({"redirect_uris": ["http://localhost/cb"], "token_endpoint_auth_method": "private_key_jwt",
                "jwks_uri": "https://169.254.169.254/keys"}),
            "invalid_client_metadata",
        ),
        (
            json!({"redirect_uris": ["http://localhost/cb"], "token_endpoint_auth_method": "private_key_jwt",
                "jwks": {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}}),
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
async fn r29_one_address_cannot_register_without_end() {
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
async fn r29_clients_that_nobody_uses_are_bounded_in_number() {
    let mut scene = Scene::new().await;
    scene.tokens().await;
    let fill = "insert into clients (id, kind, name, redirect_uris, grant_types, token_endpoint_auth_method, metadata, created_at)
         select 'brc_' || n, 'registered', 'x', '{http://localhost/cb}', '{authorization_code}', 'none', '{}', $1
         from generate_series(1, $2) n";
    sqlx::query(fill)
        .bind(scene.app.clock.now())
        .bind(i32::try_from(crate::clients::MOST_UNUSED).unwrap())
        .execute(&scene.app.db)
        .await
        .unwrap();
    let body = json!({"redirect_uris": ["http://localhost/cb"]});
    let refused = scene.client.json("/oauth/register", &body).await;
    assert_error(&refused, 503, "temporarily_unavailable");
    assert!(
        refused.body.contains("try again in an hour"),
        "{}",
        refused.body
    );
    // Those that could have been used by now make room, and those that were used stay.
    scene.app.clock.advance(time::Duration::minutes(61));
    let taken = scene.client.json("/oauth/register", &body).await;
    assert_eq!(taken.status, StatusCode::CREATED, "{}", taken.body);
    let mut left: Vec<String> =
        sqlx::query_scalar("select id from clients where kind = 'registered'")
            .fetch_all(&scene.app.db)
            .await
            .unwrap();
    left.sort();
    let mut expected = [
        scene.client_id.clone(),
        taken.value()["client_id"].as_str().unwrap().to_owned(),
    ];
    expected.sort();
    assert_eq!(left, expected);
}

#[tokio::test]
async fn r29_clients_that_nobody_uses_are_forgotten() {
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
