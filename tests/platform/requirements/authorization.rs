//! R21–R23, R25–R30, R32–R34, R36, R38: the authorization server and what leads to it.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use reqwest::blocking::Response;
use serde_json::{Value, json};
use tests::oauth::{self, App, CHALLENGE, REDIRECT_URI, VERIFIER, parameter};
use tests::platform;

use super::{Echo, PROJECT, echo};
use crate::Test;

pub const TESTS: &[Test] = &[
    ("r21_the_metadata_names_everything", r21),
    ("r22_resource_metadata_stands_at_three_places", r22),
    ("r23_challenges_lead_to_authorization", r23),
    ("r25_codes_are_bound_and_work_once", r25),
    ("r26_four_spellings_are_one_audience", r26),
    ("r27_answers_name_the_issuer_and_echo_the_state", r27),
    ("r28_asking_twice_changes_nothing", r28),
    ("r29_registrations_of_known_clients_are_taken", r29),
    ("r30_loopback_redirects_may_use_any_port", r30),
    ("r32_the_token_endpoint_speaks_plainly", r32),
    ("r33_refreshing_at_once_and_again", r33),
    ("r34_consent_is_remembered_asked_anew_and_withdrawn", r34),
    ("r36_nothing_that_opens_a_door_is_kept", r36),
    ("r38_old_discovery_ends_in_a_clean_404", r38),
];

fn r21() -> Result<()> {
    let platform = platform::shared()?;
    let answer = oauth::http(&platform)?
        .get(format!(
            "{}/.well-known/oauth-authorization-server",
            platform.url()
        ))
        .header("mcp-protocol-version", "2025-11-25")
        .send()?;
    ensure!(answer.status() == 200, "{answer:?}");
    ensure!(
        answer.headers()["content-type"] == "application/json",
        "{answer:?}"
    );
    let metadata: Value = answer.json()?;
    let base = platform.url();
    ensure!(metadata["issuer"] == base, "{metadata}");
    for (name, path) in [
        ("authorization_endpoint", "/oauth/authorize"),
        ("token_endpoint", "/oauth/token"),
        ("registration_endpoint", "/oauth/register"),
        ("revocation_endpoint", "/oauth/revoke"),
        ("introspection_endpoint", "/oauth/introspect"),
        ("jwks_uri", "/oauth/keys"),
    ] {
        ensure!(
            metadata[name] == format!("{base}{path}"),
            "{name}: {metadata}"
        );
    }
    let has = |name: &str, wanted: &[&str]| -> Result<()> {
        let values = metadata[name].as_array().with_context(|| name.to_owned())?;
        for value in wanted {
            ensure!(values.contains(&json!(value)), "{name} {value}: {metadata}");
        }
        Ok(())
    };
    ensure!(
        metadata["response_types_supported"] == json!(["code"]),
        "{metadata}"
    );
    ensure!(
        metadata["code_challenge_methods_supported"] == json!(["S256"]),
        "{metadata}"
    );
    has(
        "grant_types_supported",
        &["authorization_code", "refresh_token", "client_credentials"],
    )?;
    has(
        "token_endpoint_auth_methods_supported",
        &[
            "none",
            "client_secret_post",
            "client_secret_basic",
            "private_key_jwt",
        ],
    )?;
    has(
        "token_endpoint_auth_signing_alg_values_supported",
        &["ES256", "RS256"],
    )?;
    has("scopes_supported", &["mcp", "offline_access"])?;
    ensure!(
        metadata["authorization_response_iss_parameter_supported"] == true,
        "{metadata}"
    );
    ensure!(
        metadata["client_id_metadata_document_supported"] == true,
        "{metadata}"
    );
    Ok(())
}

fn resource_metadata(echo: &Echo, path: &str) -> Result<Value> {
    let answer = echo.bare(Method::GET, path).send()?;
    ensure!(answer.status() == 200, "{path}: {answer:?}");
    ensure!(
        answer.headers()["content-type"] == "application/json",
        "{answer:?}"
    );
    ensure!(
        answer.headers()["access-control-allow-origin"] == "*",
        "{answer:?}"
    );
    Ok(answer.json()?)
}

fn r22() -> Result<()> {
    let echo = echo()?;
    let well_known = "/.well-known/oauth-protected-resource";
    for (path, resource) in [
        (
            format!("{well_known}/mcp"),
            format!("{}/mcp", echo.origin()),
        ),
        (
            format!("{well_known}/mcp/"),
            format!("{}/mcp/", echo.origin()),
        ),
        (well_known.to_owned(), echo.origin()),
    ] {
        let metadata = resource_metadata(&echo, &path)?;
        ensure!(metadata["resource"] == resource, "{path}: {metadata}");
        ensure!(
            metadata["authorization_servers"] == json!([echo.platform.url()]),
            "{metadata}"
        );
        ensure!(metadata["scopes_supported"] == json!(["mcp"]), "{metadata}");
        ensure!(
            metadata["bearer_methods_supported"] == json!(["header"]),
            "{metadata}"
        );
        ensure!(metadata["resource_name"] == PROJECT, "{metadata}");
    }
    Ok(())
}

fn challenge(answer: &Response, status: u16) -> Result<String> {
    ensure!(answer.status() == status, "{answer:?}");
    let mut all = answer.headers().get_all("www-authenticate").iter();
    let one = all.next().context("no challenge")?.to_str()?.to_owned();
    ensure!(all.next().is_none(), "one header line: {answer:?}");
    Ok(one)
}

fn r23() -> Result<()> {
    let echo = echo()?;
    let metadata = format!("{}/.well-known/oauth-protected-resource/mcp", echo.origin());
    let without = format!(r#"Bearer resource_metadata="{metadata}", scope="mcp""#);
    for method in [Method::POST, Method::GET, Method::DELETE, Method::HEAD] {
        let answer = echo.bare(method, "/mcp").send()?;
        ensure!(
            challenge(&answer, 401)? == without,
            "no error without a token"
        );
    }
    let other = super::Echo::deploy(platform::shared()?, "r23-other", &super::repository()?)?;
    for token in ["nonsense", "a.b.c", &other.token] {
        let answer = echo
            .bare(Method::POST, "/mcp")
            .bearer_auth(token)
            .body("{}")
            .send()?;
        let shown = challenge(&answer, 401)?;
        ensure!(shown.starts_with("Bearer "), "{shown}");
        for part in [
            r#"error="invalid_token""#,
            &*format!(r#"resource_metadata="{metadata}""#),
            r#"scope="mcp""#,
        ] {
            ensure!(shown.contains(part), "{part}: {shown}");
        }
    }
    // A token without the scope: told all that is needed, at once. The authorization server grants it
    // to everyone who asks, so the grant is narrowed behind its back.
    let app = App::register(&echo.platform, &json!({}))?;
    let tokens = app.tokens(PROJECT)?;
    echo.platform.sql(&format!(
        "update grants set scope = 'offline_access' where client_id = '{}'",
        app.id
    ))?;
    let refresh = tokens["refresh_token"]
        .as_str()
        .context("no refresh token")?;
    let narrowed: Value = app.refresh(refresh)?.error_for_status()?.json()?;
    let token = narrowed["access_token"].as_str().context("no token")?;
    let answer = echo
        .bare(Method::POST, "/mcp")
        .bearer_auth(token)
        .body("{}")
        .send()?;
    let shown = challenge(&answer, 403)?;
    for part in [
        r#"error="insufficient_scope""#,
        r#"scope="mcp""#,
        "resource_metadata=",
    ] {
        ensure!(shown.contains(part), "{part}: {shown}");
    }
    Ok(())
}

fn refused(answer: Response, status: u16, code: &str) -> Result<()> {
    ensure!(answer.status() == status, "{code}: {answer:?}");
    ensure!(
        answer.headers()["content-type"] == "application/json",
        "{answer:?}"
    );
    ensure!(
        answer.headers()["cache-control"] == "no-store",
        "{answer:?}"
    );
    let body: Value = answer.json()?;
    ensure!(body["error"] == code, "{code}: {body}");
    ensure!(body["error_description"].is_string(), "{body}");
    Ok(())
}

fn r25() -> Result<()> {
    let echo = echo()?;
    let app = App::register(&echo.platform, &json!({}))?;
    for changed in [
        &[("code_challenge", ""), ("code_challenge_method", "")][..],
        &[("code_challenge_method", "plain")],
        &[("code_challenge_method", "")],
        &[("code_challenge", "short")],
    ] {
        let answer = app.look(&app.authorize_url(PROJECT, changed)?)?;
        let told = oauth::parameters(&answer)?;
        ensure!(
            parameter(&told, "error")? == "invalid_request",
            "{changed:?}: {told:?}"
        );
    }
    let exchange = |code: &str, changed: &[(&str, &str)]| {
        let usual = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", REDIRECT_URI),
            ("code_verifier", VERIFIER),
        ];
        let fields: Vec<_> = usual
            .into_iter()
            .filter(|(name, _)| !changed.iter().any(|(other, _)| other == name))
            .chain(changed.iter().copied())
            .collect();
        app.token(&fields)
    };
    for changed in [
        (
            "code_verifier",
            "another-verifier-that-is-long-enough-to-be-one",
        ),
        ("redirect_uri", "http://127.0.0.1:1/callback"),
    ] {
        let code = app.code(PROJECT)?;
        refused(exchange(&code, &[changed])?, 400, "invalid_grant")?;
        // One guess only.
        refused(exchange(&code, &[])?, 400, "invalid_grant")?;
    }
    let code = app.code(PROJECT)?;
    let stranger = App::register(&echo.platform, &json!({}))?;
    refused(stranger.exchange(&code)?, 400, "invalid_grant")?;
    let code = app.code(PROJECT)?;
    let tokens: Value = app.exchange(&code)?.error_for_status()?.json()?;
    let access = tokens["access_token"].as_str().context("no token")?;
    ensure!(works(&echo, access)?, "a good token");
    refused(app.exchange(&code)?, 400, "invalid_grant")?;
    tests::wait::until(
        "the tokens of a reused code to end",
        super::gateway::SOON,
        || Ok((!works(&echo, access)?).then_some(())),
    )?;
    let refresh = tokens["refresh_token"]
        .as_str()
        .context("no refresh token")?;
    refused(app.refresh(refresh)?, 400, "invalid_grant")
}

fn works(echo: &Echo, token: &str) -> Result<bool> {
    let answer = echo
        .bare(Method::POST, "/mcp")
        .bearer_auth(token)
        .header("x-test", "echo")
        .body("{}")
        .send()?;
    ensure!(
        answer.status() == 200 || answer.status() == 401,
        "{answer:?}"
    );
    Ok(answer.status() == 200)
}

fn r26() -> Result<()> {
    let echo = echo()?;
    let app = App::register(&echo.platform, &json!({}))?;
    let upper = format!(
        "HTTP://{}.LOCALHOST:{}/mcp",
        PROJECT.to_uppercase(),
        echo.platform.port()
    );
    for spelling in [
        echo.origin(),
        format!("{}/", echo.origin()),
        format!("{}/mcp", echo.origin()),
        format!("{}/mcp/", echo.origin()),
        upper,
    ] {
        let url = app.authorize_url(PROJECT, &[("resource", &spelling)])?;
        let code = parameter(&app.decide(&url, "allow")?, "code")?;
        let answer = app.token(&[
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", REDIRECT_URI),
            ("code_verifier", VERIFIER),
            ("resource", &spelling),
        ])?;
        let tokens: Value = answer.error_for_status()?.json()?;
        ensure!(
            works(&echo, tokens["access_token"].as_str().unwrap_or_default())?,
            "{spelling}"
        );
    }
    for unknown in [
        "https://example.com/mcp",
        "nonsense",
        &*format!("{}/other", echo.origin()),
    ] {
        let told =
            oauth::parameters(&app.look(&app.authorize_url(PROJECT, &[("resource", unknown)])?)?)?;
        ensure!(
            parameter(&told, "error")? == "invalid_target",
            "{unknown}: {told:?}"
        );
    }
    // Bound: left out it stays, another is refused.
    let tokens = app.tokens(PROJECT)?;
    let refresh = tokens["refresh_token"]
        .as_str()
        .context("no refresh token")?;
    let other = format!("http://another.localhost:{}/mcp", echo.platform.port());
    let answer = app.token(&[
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh),
        ("resource", &other),
    ])?;
    refused(answer, 400, "invalid_target")?;
    let renewed: Value = app.refresh(refresh)?.error_for_status()?.json()?;
    ensure!(works(
        &echo,
        renewed["access_token"].as_str().unwrap_or_default()
    )?);
    Ok(())
}

fn r27() -> Result<()> {
    let echo = echo()?;
    let app = App::register(&echo.platform, &json!({}))?;
    let names = |told: &[(String, String)]| -> BTreeSet<String> {
        told.iter().map(|(name, _)| name.clone()).collect()
    };
    for (state, decision) in [
        ("a state", "allow"),
        ("", "allow"),
        ("a state", "deny"),
        ("", "deny"),
    ] {
        let url = app.authorize_url(PROJECT, &[("state", state), ("prompt", "consent")])?;
        let told = app.decide(&url, decision)?;
        ensure!(parameter(&told, "iss")? == echo.platform.url(), "{told:?}");
        let (main, other) = if decision == "allow" {
            ("code", "error")
        } else {
            ("error", "code")
        };
        ensure!(
            names(&told).contains(main) && !names(&told).contains(other),
            "{told:?}"
        );
        if state.is_empty() {
            ensure!(!names(&told).contains("state"), "{told:?}");
        } else {
            ensure!(parameter(&told, "state")? == state, "{told:?}");
        }
    }
    Ok(())
}

fn r28() -> Result<()> {
    let echo = echo()?;
    let app = App::register(&echo.platform, &json!({}))?;
    let url = app.authorize_url(PROJECT, &[])?;
    let preflight = app.http.get(url.clone()).send()?;
    ensure!(
        matches!(preflight.status().as_u16(), 200 | 302 | 303 | 307 | 308),
        "{preflight:?}"
    );
    for _ in 0..2 {
        ensure!(app.look(&url)?.status() == 200, "the consent page");
    }
    parameter(&app.decide(&url, "allow")?, "code")?;
    let unknown = App::known(&echo.platform, "brc_unknown")?;
    let answer = unknown
        .http
        .get(unknown.authorize_url(PROJECT, &[])?)
        .send()?;
    ensure!(
        answer.status() == 400,
        "clients register anew at 400: {answer:?}"
    );
    Ok(())
}

fn r29() -> Result<()> {
    let platform = platform::shared()?;
    let http = oauth::http(&platform)?;
    let register = |body: &Value| {
        http.post(format!("{}/oauth/register", platform.url()))
            .json(body)
            .send()
    };
    let both = json!(["authorization_code", "refresh_token"]);
    let known = [
        (
            "FastMCP 2 and 3",
            json!({ "client_name": "FastMCP Client", "redirect_uris": ["http://localhost:49152/callback"], "grant_types": both, "response_types": ["code"], "scope": "mcp" }),
        ),
        (
            "FastMCP 4",
            json!({ "client_name": "FastMCP Client", "redirect_uris": ["http://localhost:49152/callback"], "token_endpoint_auth_method": "none", "application_type": "native", "grant_types": both, "response_types": ["code"], "scope": "mcp offline_access" }),
        ),
        (
            "Cursor",
            json!({ "client_name": "Cursor", "redirect_uris": ["http://localhost:8787/callback", "cursor://anysphere.cursor-mcp/oauth/callback", "https://www.cursor.com/agents/mcp/oauth/callback"], "grant_types": both, "response_types": ["code"], "token_endpoint_auth_method": "none" }),
        ),
        (
            "VS Code",
            json!({ "client_name": "Visual Studio Code", "redirect_uris": ["https://insiders.vscode.dev/redirect", "https://vscode.dev/redirect", "http://127.0.0.1/", "http://127.0.0.1:33418/"], "grant_types": both, "response_types": ["code"], "token_endpoint_auth_method": "none" }),
        ),
        (
            "Claude",
            json!({ "client_name": "Claude", "redirect_uris": ["https://claude.ai/api/mcp/auth_callback"], "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:jwt-bearer"], "response_types": ["code"], "token_endpoint_auth_method": "none", "unknown": { "member": true } }),
        ),
        (
            "ChatGPT",
            json!({ "client_name": "ChatGPT", "redirect_uris": ["https://chatgpt.com/connector_platform_oauth_redirect"], "grant_types": both, "response_types": ["code"], "token_endpoint_auth_method": "none" }),
        ),
    ];
    for (name, body) in known {
        let answer = register(&body)?;
        ensure!(answer.status() == 201, "{name}: {}", answer.text()?);
        ensure!(answer.headers()["cache-control"] == "no-store", "{name}");
        let registered: Value = answer.json()?;
        ensure!(
            registered["redirect_uris"] == body["redirect_uris"],
            "{name}: {registered}"
        );
        ensure!(registered["client_id"].is_string(), "{name}: {registered}");
    }
    for bad in [
        "javascript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "http://example.com/cb",
        "https://example.com/cb#f",
        "https://user@example.com/cb",
        "/relative",
        "",
    ] {
        let answer = register(&json!({ "redirect_uris": [REDIRECT_URI, bad] }))?;
        refused(answer, 400, "invalid_redirect_uri")?;
    }
    Ok(())
}

fn r30() -> Result<()> {
    let echo = echo()?;
    let app = App::register(
        &echo.platform,
        &json!({ "redirect_uris": ["http://localhost/callback", "http://127.0.0.1:33418/", "https://app.example/cb"] }),
    )?;
    let taken = |uri: &str| -> Result<bool> {
        let answer = app.look(&app.authorize_url(PROJECT, &[("redirect_uri", uri)])?)?;
        ensure!(
            answer.status() == 200 || answer.status() == 400,
            "{uri}: {answer:?}"
        );
        Ok(answer.status() == 200)
    };
    for good in [
        "http://localhost:1234/callback",
        "http://localhost/callback",
        "http://127.0.0.1:9/",
        "https://app.example/cb",
    ] {
        ensure!(taken(good)?, "{good}");
    }
    for bad in [
        "http://localhost:1234/other",
        "http://127.0.0.1:1234/callback",
        "http://localhost:1/callback?x=1",
        "https://app.example:444/cb",
        "https://app.example/cb/",
        "https://app.example.evil/cb",
        "https://localhost:1/callback",
    ] {
        ensure!(!taken(bad)?, "{bad}");
    }
    Ok(())
}

fn r32() -> Result<()> {
    let echo = echo()?;
    let app = App::register(&echo.platform, &json!({}))?;
    let code = app.code(PROJECT)?;
    let answer = app.exchange(&code)?;
    ensure!(
        answer.headers()["content-type"] == "application/json",
        "{answer:?}"
    );
    ensure!(
        answer.headers()["cache-control"] == "no-store",
        "{answer:?}"
    );
    let tokens: Value = answer.json()?;
    ensure!(
        tokens["token_type"] == "Bearer"
            && tokens["expires_in"].is_i64()
            && tokens["scope"] == "mcp",
        "{tokens}"
    );
    let unknown = App::known(&echo.platform, "brc_unknown")?;
    refused(unknown.exchange("x")?, 401, "invalid_client")?;
    refused(
        app.token(&[("grant_type", "password")])?,
        400,
        "unsupported_grant_type",
    )?;
    refused(app.token(&[])?, 400, "invalid_request")?;
    let endpoint = format!("{}/oauth/token", echo.platform.url());
    for method in ["client_secret_post", "client_secret_basic"] {
        // Characters that must be URL-encoded in Basic stand in no secret of ours, but in ids of others.
        let body = json!({ "redirect_uris": [REDIRECT_URI], "token_endpoint_auth_method": method });
        let registered: Value = app
            .http
            .post(format!("{}/oauth/register", echo.platform.url()))
            .json(&body)
            .send()?
            .json()?;
        let id = registered["client_id"].as_str().context("no id")?;
        let secret = registered["client_secret"].as_str().context("no secret")?;
        let confidential = App::known(&echo.platform, id)?;
        let code = confidential.code(PROJECT)?;
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", &*code),
            ("redirect_uri", REDIRECT_URI),
            ("code_verifier", VERIFIER),
        ];
        refused(confidential.token(&fields)?, 401, "invalid_client")?;
        let request = app.http.post(&endpoint);
        let answer = if method == "client_secret_basic" {
            let encoded: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
            request
                .basic_auth(encoded, Some(secret))
                .form(&fields)
                .send()?
        } else {
            let mut fields = fields.to_vec();
            fields.extend([("client_id", id), ("client_secret", secret)]);
            request.form(&fields).send()?
        };
        ensure!(answer.status() == 200, "{method}: {}", answer.text()?);
    }
    Ok(())
}

fn r33() -> Result<()> {
    let echo = echo()?;
    let app = App::register(&echo.platform, &json!({}))?;
    let tokens = app.tokens(PROJECT)?;
    let refresh = tokens["refresh_token"]
        .as_str()
        .context("registered, so issued")?;
    let renewed: Vec<Value> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..64)
            .map(|_| {
                scope.spawn(|| -> Result<Value> {
                    Ok(app.refresh(refresh)?.error_for_status()?.json()?)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect::<Result<_>>()
    })?;
    ensure!(renewed.len() == 64);
    for tokens in &renewed {
        ensure!(works(
            &echo,
            tokens["access_token"].as_str().unwrap_or_default()
        )?);
    }
    let families = echo.platform.sql(&format!(
        "select count(*) from grants where client_id = '{}'",
        app.id
    ))?;
    ensure!(families.trim() == "1", "one family: {families}");
    // After the grace the same token is a replay, and ends the family.
    echo.platform.sql("update refresh_tokens set used_at = used_at - interval '5 minutes' where used_at is not null")?;
    refused(app.refresh(refresh)?, 400, "invalid_grant")?;
    for tokens in &renewed {
        let token = tokens["refresh_token"].as_str().context("rotated")?;
        refused(app.refresh(token)?, 400, "invalid_grant")?;
    }
    let access = renewed[0]["access_token"].as_str().context("no token")?;
    tests::wait::until("the access tokens to end", super::gateway::SOON, || {
        Ok((!works(&echo, access)?).then_some(()))
    })
}

fn r34() -> Result<()> {
    let echo = echo()?;
    let app = App::register(&echo.platform, &json!({}))?;
    let url = app.authorize_url(PROJECT, &[])?;
    let asks = |url: &url::Url| -> Result<bool> { Ok(app.look(url)?.status() == 200) };
    ensure!(asks(&url)?, "never allowed");
    let tokens = app.tokens(PROJECT)?;
    ensure!(!asks(&url)?, "remembered");
    ensure!(
        asks(&app.authorize_url(PROJECT, &[("prompt", "consent")])?)?,
        "asked for"
    );
    ensure!(
        asks(&app.authorize_url(PROJECT, &[("scope", "mcp offline_access")])?)?,
        "more than before"
    );
    let access = tokens["access_token"]
        .as_str()
        .context("no token")?
        .to_owned();
    ensure!(works(&echo, &access)?);
    let apps: Value = reqwest::blocking::Client::new()
        .get(format!("{}/api/v1/apps", echo.platform.url()))
        .bearer_auth(echo.platform.token()?)
        .send()?
        .error_for_status()?
        .json()?;
    let list = apps
        .as_array()
        .or_else(|| apps["apps"].as_array())
        .context("a list")?;
    let grant = list
        .iter()
        .find(|one| one["client_id"] == app.id.as_str())
        .and_then(|one| one["id"].as_str())
        .with_context(|| format!("the app is listed: {apps}"))?;
    let outcome = echo.platform.berth(&["apps", "revoke", grant])?;
    outcome.success()?;
    tests::wait::until("the withdrawn tokens to end", super::gateway::SOON, || {
        Ok((!works(&echo, &access)?).then_some(()))
    })?;
    let refresh = tokens["refresh_token"]
        .as_str()
        .context("no refresh token")?;
    refused(app.refresh(refresh)?, 400, "invalid_grant")?;
    ensure!(asks(&url)?, "forgotten");
    Ok(())
}

fn r36() -> Result<()> {
    let echo = echo()?;
    let app = App::register(&echo.platform, &json!({}))?;
    let code = app.code(PROJECT)?;
    let tokens: Value = app.exchange(&code)?.error_for_status()?.json()?;
    let secrets = [
        &*code,
        tokens["access_token"].as_str().context("no access token")?,
        tokens["refresh_token"]
            .as_str()
            .context("no refresh token")?,
        VERIFIER,
    ];
    let dump = std::process::Command::new("pg_dump")
        .args(["--data-only", "--inserts", "--dbname"])
        .arg(echo.platform.database_url()?)
        .output()?;
    ensure!(dump.status.success(), "{dump:?}");
    let dump = String::from_utf8_lossy(&dump.stdout).into_owned();
    ensure!(dump.contains(&app.id), "the dump holds the client");
    let log = std::fs::read_to_string(echo.platform.log_path())?;
    for (index, secret) in secrets.iter().enumerate() {
        ensure!(!dump.contains(secret), "secret {index} is in the database");
        ensure!(!log.contains(secret), "secret {index} is in the log");
    }
    ensure!(
        !log.contains(CHALLENGE),
        "authorization requests are not logged"
    );
    Ok(())
}

fn r38() -> Result<()> {
    let echo = echo()?;
    for path in [
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-authorization-server/mcp",
        "/.well-known/openid-configuration",
        "/register",
        "/authorize",
        "/token",
    ] {
        for method in [Method::GET, Method::POST] {
            let answer = echo
                .bare(method, path)
                .header("mcp-protocol-version", "2025-03-26")
                .send()?;
            ensure!(answer.status() == 404, "{path}: {answer:?}");
            ensure!(
                answer.headers()["content-type"] == "application/json",
                "{path}"
            );
            ensure!(answer.headers().get("www-authenticate").is_none(), "{path}");
            let _: Value = answer.json()?;
        }
    }
    Ok(())
}
