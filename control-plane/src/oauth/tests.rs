//! The authorization server as clients and browsers meet it.

mod apps;
mod assertions;
mod authorize;
mod client_credentials;
mod consent;
mod documents;
mod introspect;
mod login;
mod previews;
mod refresh;
mod register;
mod timeline;
mod token;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::{Value, json};

use crate::app::App;
use crate::crypto::sha256;
use crate::testing::{self, Answer, Browser};

const REDIRECT_URI: &str = "http://localhost:49152/callback";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const RESOURCE: &str = "http://hello.localhost:8080/mcp";

const AUTH_METHODS: [&str; 4] = [
    "none",
    "client_secret_post",
    "client_secret_basic",
    "private_key_jwt",
];
const ALGORITHMS: [&str; 4] = ["ES256", "RS256", "PS256", "EdDSA"];

fn challenge() -> String {
    URL_SAFE_NO_PAD.encode(sha256(VERIFIER))
}

/// A platform with the project `hello`, its owner's browser, and a registered client.
struct Scene {
    app: App,
    browser: Browser,
    client: Browser,
    client_id: String,
}

impl Scene {
    async fn new() -> Self {
        let app = testing::app().await;
        testing::project(&app, "hello").await;
        let browser = Browser::signed_in(&app).await;
        let mut client = Browser::new(&app);
        let client_id = register(&mut client, &json!({})).await["client_id"]
            .as_str()
            .unwrap()
            .to_owned();
        Self {
            app,
            browser,
            client,
            client_id,
        }
    }

    /// The authorization request with some parameters replaced; an empty value leaves one out.
    fn request(&self, changed: &[(&str, &str)]) -> String {
        let challenge = challenge();
        let mut parameters = vec![
            ("response_type", "code"),
            ("client_id", &self.client_id),
            ("redirect_uri", REDIRECT_URI),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("resource", RESOURCE),
            ("state", "s t&a=te"),
        ];
        parameters.retain(|(name, _)| !changed.iter().any(|(other, _)| other == name));
        parameters.extend(changed.iter().filter(|(_, value)| !value.is_empty()));
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(parameters)
            .finish();
        format!("/oauth/authorize?{query}")
    }

    /// Asks, and answers the consent page.
    async fn decide(&mut self, changed: &[(&str, &str)], decision: &str) -> Answer {
        let path = self.request(changed);
        let page = self.browser.get(&path).await;
        answer(&mut self.browser, &page, decision).await
    }

    /// A code for the standard request.
    async fn code(&mut self) -> String {
        let path = self.request(&[]);
        let page = self.browser.get(&path).await;
        let answer = if page.status == StatusCode::OK {
            answer(&mut self.browser, &page, "allow").await
        } else {
            page
        };
        answer
            .parameter("code")
            .unwrap_or_else(|| panic!("no code: {}", answer.location()))
    }

    /// A token request of the client.
    async fn ask(&mut self, fields: &[(&str, &str)]) -> Answer {
        let client_id = self.client_id.clone();
        let fields: Vec<_> = [("client_id", client_id.as_str())]
            .into_iter()
            .chain(fields.iter().copied())
            .collect();
        self.client.form("/oauth/token", &fields, &[]).await
    }

    async fn exchange(&mut self, code: &str) -> Answer {
        self.ask(&code_fields(code)).await
    }

    async fn refresh(&mut self, token: &str) -> Answer {
        self.ask(&[("grant_type", "refresh_token"), ("refresh_token", token)])
            .await
    }

    /// The tokens of a new grant.
    async fn tokens(&mut self) -> Value {
        let code = self.code().await;
        let answer = self.exchange(&code).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.value()
    }

    /// As after a restart: nothing is left but the database.
    fn restart(&mut self) {
        self.client = Browser::new(&self.app);
        self.browser = Browser::new(&self.app);
    }

    /// How many rows a table has.
    async fn count(&self, table: &str) -> i64 {
        let sql = sqlx::AssertSqlSafe(format!("select count(*) from {table}"));
        sqlx::query_scalar(sql)
            .fetch_one(&self.app.db)
            .await
            .unwrap()
    }

    /// Runs a statement on the database.
    async fn sql(&self, statement: &'static str) {
        sqlx::query(statement).execute(&self.app.db).await.unwrap();
    }

    /// Grants that edges are told to refuse.
    async fn revoked(&self) -> Vec<uuid::Uuid> {
        let mut db = self.app.db.acquire().await.unwrap();
        crate::grants::revoked_recently(&mut db, self.app.clock.now())
            .await
            .unwrap()
    }
}

fn code_fields(code: &str) -> [(&str, &str); 4] {
    [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", REDIRECT_URI),
        ("code_verifier", VERIFIER),
    ]
}

async fn answer(browser: &mut Browser, page: &Answer, decision: &str) -> Answer {
    let fields = [
        ("csrf", &*page.field("csrf")),
        ("request", &page.field("request")),
        ("decision", decision),
    ];
    browser.submit("/oauth/consent", &fields).await
}

/// Registers a client as FastMCP does, with some members replaced.
async fn register(client: &mut Browser, changed: &Value) -> Value {
    let mut body = json!({
        "client_name": "FastMCP Client",
        "redirect_uris": [REDIRECT_URI],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
    });
    for (name, value) in changed.as_object().unwrap() {
        body[name] = value.clone();
    }
    let answer = client.json("/oauth/register", &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    answer.value()
}

/// The claims of an access token, after checking its signature as an edge does.
fn claims(app: &App, token: &str) -> Value {
    let header = jsonwebtoken::decode_header(token).unwrap();
    assert_eq!(header.typ.as_deref(), Some("at+jwt"));
    let keys: jsonwebtoken::jwk::JwkSet = serde_json::from_value(app.keys.jwks()).unwrap();
    let key =
        jsonwebtoken::DecodingKey::from_jwk(keys.find(&header.kid.unwrap()).unwrap()).unwrap();
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    rules.validate_exp = false;
    rules.set_audience(&[RESOURCE]);
    rules.set_issuer(&[testing::ORIGIN]);
    jsonwebtoken::decode::<Value>(token, &key, &rules)
        .unwrap()
        .claims
}

fn assert_error(answer: &Answer, status: u16, code: &str) {
    assert_eq!(
        (answer.status.as_u16(), &answer.value()["error"]),
        (status, &json!(code)),
        "{}",
        answer.body
    );
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("access-control-allow-origin"), "*");
}

#[tokio::test]
async fn metadata_names_every_endpoint_and_each_answers_browsers_of_any_origin() {
    let app = testing::app().await;
    let mut client = Browser::new(&app);
    let metadata = client.get("/.well-known/oauth-authorization-server").await;
    assert_eq!(metadata.header("content-type"), "application/json");
    assert_eq!(metadata.header("access-control-allow-origin"), "*");
    assert_eq!(
        metadata.value(),
        json!({
            "issuer": "http://localhost:8080",
            "authorization_endpoint": "http://localhost:8080/oauth/authorize",
            "token_endpoint": "http://localhost:8080/oauth/token",
            "registration_endpoint": "http://localhost:8080/oauth/register",
            "revocation_endpoint": "http://localhost:8080/oauth/revoke",
            "introspection_endpoint": "http://localhost:8080/oauth/introspect",
            "jwks_uri": "http://localhost:8080/oauth/keys",
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": AUTH_METHODS,
            "token_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
            "revocation_endpoint_auth_methods_supported": AUTH_METHODS,
            "revocation_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
            "introspection_endpoint_auth_methods_supported": AUTH_METHODS,
            "introspection_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
            "scopes_supported": ["mcp", "offline_access"],
            "authorization_response_iss_parameter_supported": true,
            "client_id_metadata_document_supported": true,
        })
    );
    for path in [
        "/.well-known/oauth-authorization-server",
        "/oauth/token",
        "/oauth/register",
        "/oauth/revoke",
        "/oauth/introspect",
        "/oauth/keys",
    ] {
        let headers = [
            ("origin", "https://inspector.example"),
            ("access-control-request-method", "POST"),
        ];
        let preflight = client
            .send(
                http::Method::OPTIONS,
                path,
                &headers,
                axum::body::Body::empty(),
            )
            .await;
        assert_eq!(preflight.status, StatusCode::NO_CONTENT, "{path}");
        assert_eq!(preflight.header("access-control-allow-origin"), "*");
        assert!(
            preflight
                .header("access-control-allow-headers")
                .contains("MCP-Protocol-Version")
        );
    }
    let keys = client.get("/oauth/keys").await.value();
    assert_eq!(keys["keys"][0]["alg"], "ES256");
    assert!(keys["keys"][0].get("d").is_none());
}

#[tokio::test]
async fn the_whole_flow_ends_in_a_token_for_this_project_alone() {
    let mut scene = Scene::new().await;
    let tokens = scene.tokens().await;
    assert_eq!(tokens["token_type"], "Bearer");
    assert_eq!(tokens["expires_in"], 3600);
    assert_eq!(tokens["scope"], "mcp");
    let claims = claims(&scene.app, tokens["access_token"].as_str().unwrap());
    let now = scene.app.clock.now().unix_timestamp();
    assert_eq!(claims["aud"], RESOURCE);
    assert_eq!(claims["iss"], "http://localhost:8080");
    assert_eq!(claims["client_id"], json!(scene.client_id));
    assert_eq!(claims["sub"], json!(testing::owner(&scene.app).await.id));
    assert_eq!(
        (&claims["iat"], &claims["exp"]),
        (&json!(now), &json!(now + 3600))
    );
    assert!(claims["gid"].is_string() && claims["jti"].is_string());
    let project =
        sqlx::query_scalar::<_, uuid::Uuid>("select id from projects where name = 'hello'")
            .fetch_one(&scene.app.db)
            .await
            .unwrap();
    assert_eq!(claims["pid"], json!(project));
}

#[tokio::test]
async fn nothing_that_opens_a_door_is_kept_in_clear() {
    let mut scene = Scene::new().await;
    let code = scene.code().await;
    let tokens = scene.exchange(&code).await.value();
    let refresh = tokens["refresh_token"].as_str().unwrap().to_owned();
    let path = scene.request(&[("prompt", "consent")]);
    let request = scene.browser.get(&path).await.field("request");
    let cookie = scene.browser.cookies["__Host-berth"].clone();
    let mut kept = String::new();
    for table in [
        "authorization_codes",
        "refresh_tokens",
        "sessions",
        "pending_authorizations",
        "clients",
        "audit_log",
        "grants",
        "users",
    ] {
        let sql = sqlx::AssertSqlSafe(format!(
            "select coalesce(string_agg(t::text, ' '), '') from {table} t"
        ));
        let rows: String = sqlx::query_scalar(sql)
            .fetch_one(&scene.app.db)
            .await
            .unwrap();
        assert!(!rows.is_empty(), "{table} is empty");
        kept.push_str(&rows);
    }
    for secret in [
        &*code,
        &refresh,
        &request,
        &cookie,
        VERIFIER,
        testing::PASSWORD,
        tokens["access_token"].as_str().unwrap(),
    ] {
        assert!(!kept.contains(secret), "{secret} is in the database");
    }
}
