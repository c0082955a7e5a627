//! R31, R35, R39, R40 and R42: client documents, consent, access modes and who may call.

use std::io::Read as _;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use reqwest::blocking::Response;
use serde_json::{Value, json};
use tests::documents::Documents;
use tests::oauth::{self, App, REDIRECT_URI, field, parameter};
use tests::platform::{self, Options, Platform};
use tests::{python, wait};

use super::gateway::SOON;
use super::{Echo, PROJECT, api, arrived, echo, ensure_json_rpc_error};
use crate::Test;

pub const TESTS: &[Test] = &[
    ("r31_a_client_may_be_a_document", r31),
    ("r35_consent_belongs_to_its_browser_and_works_once", r35),
    (
        "r39_platform_mode_keeps_tokens_and_tells_who_calls",
        r39_platform,
    ),
    ("r39_public_and_tenant_modes_pass_everything", r39_others),
    ("r39_api_tokens_call_at_both_addresses", r39_api_tokens),
    ("r39_an_assertion_is_verified_with_fastmcp", r39_assertion),
    ("r40_who_may_call_is_asked_at_every_request", r40),
    (
        "r40_an_open_stream_ends_with_its_callers_access",
        r40_stream,
    ),
    ("r42_other_paths_are_denied_unless_public", r42),
];

/// Sets who may call, and waits until the edge goes by it.
fn set_access(echo: &Echo, access: &Value, holds: impl Fn() -> Result<bool>) -> Result<()> {
    let path = format!("/projects/{}/access", echo.project);
    api(&echo.platform, Method::PATCH, &path, access)?;
    wait::until("the edge to go by the new access", SOON, || {
        Ok(holds()?.then_some(()))
    })
}

fn r31() -> Result<()> {
    let documents = Documents::serve()?;
    let platform = std::sync::Arc::new(Platform::start(Options {
        settings: documents.settings(),
    })?);
    let echo = Echo::deploy(platform.clone(), "documented", &super::repository()?)?;
    let good = |path: &str| {
        json!({
            "client_id": documents.url(path), "client_name": "Documented",
            "redirect_uris": [REDIRECT_URI, "https://app.example/cb"],
            "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
            "token_endpoint_auth_method": "none",
        })
    };
    documents.put("/client.json", &good("/client.json"))?;
    let app = App::known(&platform, &documents.url("/client.json"))?;
    let page = app.look(&app.authorize_url("documented", &[])?)?.text()?;
    ensure!(
        page.contains(documents.host()),
        "the page shows whose document it is"
    );
    ensure!(page.contains("127.0.0.1"), "and where the answer goes");
    let tokens = app.tokens("documented")?;
    let token = tokens["access_token"].as_str().context("no token")?;
    let answer = echo
        .bare(Method::POST, "/mcp")
        .bearer_auth(token)
        .header("x-test", "echo")
        .body("{}")
        .send()?;
    ensure!(answer.status() == 200, "{answer:?}");
    let asked = documents.requests("/client.json")?;
    app.look(&app.authorize_url("documented", &[])?)?;
    ensure!(
        documents.requests("/client.json")? == asked,
        "it is kept for a while"
    );

    let refused = |path: &str| -> Result<()> {
        let app = App::known(&platform, &documents.url(path))?;
        let answer = app.look(&app.authorize_url("documented", &[])?)?;
        let status = answer.status();
        ensure!(status == 400, "{path}: {status}: {}", answer.text()?);
        Ok(())
    };
    for (path, changed) in [
        (
            "/other-id.json",
            json!({ "client_id": documents.url("/client.json") }),
        ),
        ("/secret.json", json!({ "client_secret": "x" })),
        (
            "/secret-method.json",
            json!({ "token_endpoint_auth_method": "client_secret_basic" }),
        ),
        (
            "/bad-redirect.json",
            json!({ "redirect_uris": ["javascript:alert(1)"] }),
        ),
    ] {
        let mut document = good(path);
        for (name, value) in changed.as_object().context("members")? {
            document[name] = value.clone();
        }
        documents.put(path, &document)?;
        refused(path)?;
    }
    // One address may cause ten fetches a minute; the fetcher's own tests hold every other case.
    for path in ["/redirect.json", "/huge.json", "/slow.json"] {
        refused(path)?;
    }
    // Names that lead inside are not asked at all: nothing there may be reached.
    for inside in [
        "https://127.0.0.1/client.json",
        "https://localhost/client.json",
        "https://[::1]/client.json",
        "https://[::ffff:127.0.0.1]/client.json",
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.1/c.json",
        "https://2130706433/c.json",
        "http://client.example/client.json",
    ] {
        let app = App::known(&platform, inside)?;
        let answer = app.look(&app.authorize_url("documented", &[])?)?;
        ensure!(answer.status() == 400, "{inside}: {answer:?}");
    }
    Ok(())
}

/// Sign-in is by password so far; what stands here holds for every way to sign in.
fn r35() -> Result<()> {
    let echo = echo()?;
    let app = App::register(&echo.platform, &json!({}))?;
    let (one, two) = (
        app.authorize_url(PROJECT, &[("state", "one")])?,
        app.authorize_url(PROJECT, &[("state", "two")])?,
    );
    let answer = app.look(&one)?;
    let policy = answer.headers()["content-security-policy"]
        .to_str()?
        .to_owned();
    ensure!(policy.contains("frame-ancestors 'none'"), "{policy}");
    let (first, second) = (answer.text()?, app.look(&two)?.text()?);
    let post = |page: &str,
                cookie: Option<&str>,
                csrf: &str,
                origin: &str|
     -> Result<reqwest::blocking::Response> {
        let request = app
            .http
            .post(format!("{}/oauth/consent", echo.platform.url()))
            .header("origin", origin)
            .form(&[
                ("csrf", csrf),
                ("request", field(page, "request")?),
                ("decision", "allow"),
            ]);
        Ok(match cookie {
            Some(cookie) => request.header("cookie", cookie),
            None => request,
        }
        .send()?)
    };
    let own = echo.platform.url();
    let cookie = echo.platform.cookie()?;
    ensure!(
        cookie.starts_with("__Host-"),
        "the cookie is bound to its host"
    );
    for (what, cookie, csrf, origin) in [
        ("another browser", None, field(&first, "csrf")?, &*own),
        ("without the page's token", Some(cookie), "x", &own),
        (
            "from another site",
            Some(cookie),
            field(&first, "csrf")?,
            "https://evil.example",
        ),
    ] {
        let answer = post(&first, cookie, csrf, origin)?;
        ensure!(
            !answer.status().is_success()
                && answer
                    .headers()
                    .get("location")
                    .is_none_or(|to| !to.to_str().unwrap_or_default().contains("code=")),
            "{what}: {answer:?}"
        );
    }
    // Two pages at once: each is answered for itself, and once.
    for (page, state) in [(&second, "two"), (&first, "one")] {
        let answer = post(page, Some(cookie), field(page, "csrf")?, &own)?;
        let told = oauth::parameters(&answer)?;
        ensure!(parameter(&told, "state")? == state, "{told:?}");
        parameter(&told, "code")?;
        let again = post(page, Some(cookie), field(page, "csrf")?, &own)?;
        ensure!(again.status() == 400, "{again:?}");
    }
    Ok(())
}

fn r39_platform() -> Result<()> {
    let echo = echo()?;
    let forged = [
        ("berth-user", "root"),
        ("berth-user-email", "root@evil.example"),
        ("berth-client", "root"),
        ("berth-scopes", "all"),
        ("berth-assertion", "a.b.c"),
        ("berth_user", "root"),
        ("Berth-Anything", "x"),
    ];
    let mut request = echo.post("echo").header("cookie", "a=1").body("{}");
    for (name, value) in forged {
        request = request.header(name, value);
    }
    let seen = arrived(request)?;
    ensure!(
        seen.headers("authorization").is_empty() && seen.headers("cookie").is_empty(),
        "{seen:?}"
    );
    ensure!(
        seen.headers("berth-anything").is_empty() && seen.headers("berth_user").is_empty(),
        "{seen:?}"
    );
    uuid::Uuid::parse_str(seen.header("berth-user")?)?;
    ensure!(
        seen.header("berth-user-email")? == platform::OWNER_EMAIL,
        "{seen:?}"
    );
    ensure!(seen.header("berth-client")? == "berth-cli", "{seen:?}");
    ensure!(seen.header("berth-scopes")? == "mcp", "{seen:?}");
    ensure!(
        seen.header("berth-assertion")?.split('.').count() == 3,
        "{seen:?}"
    );
    Ok(())
}

fn r39_others() -> Result<()> {
    let echo = Echo::deploy(platform::shared()?, "modes", &super::repository()?)?;
    let reached = |path: &str| -> Result<bool> {
        let answer = echo
            .bare(Method::GET, path)
            .header("x-test", "echo")
            .send()?;
        Ok(answer.status() == 200)
    };
    let bare = |method: Method, path: &str| {
        echo.bare(method, path)
            .header("x-test", "echo")
            .header("authorization", "Bearer the-tenants-own")
            .header("cookie", "session=1")
            .header("berth-user", "forged")
            .header("x-forwarded-for", "6.6.6.6")
    };
    // The edge answers preflights itself, unless the server is to.
    let preflight = || -> Result<bool> {
        let answer = echo
            .bare(Method::OPTIONS, "/mcp")
            .header("x-test", "echo")
            .send()?;
        Ok(answer.status() == 200)
    };
    for mode in ["public", "tenant"] {
        set_access(&echo, &json!({ "mode": mode }), || {
            Ok(reached("/mcp")? && preflight()? == (mode == "tenant"))
        })?;
        let seen = arrived(bare(Method::POST, "/mcp").body("{}"))?;
        ensure!(
            seen.header("authorization")? == "Bearer the-tenants-own",
            "{mode}: {seen:?}"
        );
        ensure!(seen.header("cookie")? == "session=1", "{mode}: {seen:?}");
        for name in [
            "berth-user",
            "berth-user-email",
            "berth-client",
            "berth-scopes",
            "berth-assertion",
        ] {
            ensure!(seen.headers(name).is_empty(), "{mode} {name}: {seen:?}");
        }
        ensure!(
            seen.header("x-forwarded-for")? != "6.6.6.6",
            "{mode}: {seen:?}"
        );
    }
    // Everything is the tenant's: paths, challenges, preflights, foreign origins.
    for path in [
        "/.well-known/oauth-protected-resource/mcp",
        "/.well-known/oauth-authorization-server",
        "/authorize",
        "/token",
        "/register",
        "/auth/callback",
        "/consent",
        "/anything",
    ] {
        let seen = arrived(bare(Method::GET, path).header("origin", "https://foreign.example"))?;
        ensure!(seen.text("path") == path, "{path}: {seen:?}");
    }
    let preflight = arrived(bare(Method::OPTIONS, "/mcp"))?;
    ensure!(preflight.text("method") == "OPTIONS", "{preflight:?}");
    // And no token of the platform is issued for it.
    let app = App::register(&echo.platform, &json!({}))?;
    let told = oauth::parameters(&app.look(&app.authorize_url("modes", &[])?)?)?;
    ensure!(parameter(&told, "error")? == "invalid_target", "{told:?}");
    Ok(())
}

fn r39_api_tokens() -> Result<()> {
    let echo = Echo::deploy(platform::shared()?, "keyed", &super::repository()?)?;
    let create = |more: &[&str]| -> Result<String> {
        let mut arguments = vec!["tokens", "create", "calls", "--calls", "--json"];
        arguments.extend_from_slice(more);
        let created = echo.platform.berth(&arguments)?.success()?.json()?;
        Ok(created["token"].as_str().context("no token")?.to_owned())
    };
    let here = create(&["--project", "keyed"])?;
    let elsewhere = create(&["--project", PROJECT]).or_else(|_| {
        super::echo()?;
        create(&["--project", PROJECT])
    })?;
    let key_host = format!("http://keyed--key.localhost:{}", echo.platform.port());
    let call = |origin: &str, token: Option<&str>| -> Result<reqwest::blocking::Response> {
        let request = echo
            .http
            .post(format!("{origin}/mcp"))
            .header("x-test", "echo")
            .body("{}");
        Ok(match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
        .send()?)
    };
    for origin in [&*echo.origin(), &key_host] {
        let seen = wait::until("the edge to know the token", SOON, || {
            let answer = call(origin, Some(&here))?;
            Ok((answer.status() == 200).then_some(answer))
        })?;
        let seen = super::Seen::read(seen)?;
        ensure!(seen.headers("authorization").is_empty(), "{seen:?}");
        ensure!(
            seen.header("berth-client")?.starts_with("api-token:"),
            "{seen:?}"
        );
        ensure!(
            seen.header("host")? == echo.authority(),
            "the public host: {seen:?}"
        );
        ensure!(
            call(origin, Some(&elsewhere))?.status() != 200,
            "another project's token"
        );
    }
    // The second address never leads to a sign-in.
    for token in [None, Some("brt_wrong"), Some(&*echo.token)] {
        let answer = call(&key_host, token)?;
        ensure!(answer.status() == 401, "{answer:?}");
        let challenge = answer.headers()["www-authenticate"].to_str()?.to_owned();
        ensure!(
            challenge.starts_with("Bearer") && !challenge.contains("resource_metadata"),
            "{challenge}"
        );
    }
    for path in [
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/mcp",
        "/.well-known/oauth-authorization-server",
        "/register",
    ] {
        ensure!(
            echo.http.get(format!("{key_host}{path}")).send()?.status() == 404,
            "{path}"
        );
    }
    // For calls only: the API refuses it.
    let answer = reqwest::blocking::Client::new()
        .get(format!("{}/api/v1/projects", echo.platform.url()))
        .bearer_auth(&here)
        .send()?;
    ensure!(answer.status() == 403, "{answer:?}");
    // Revoked, it ends at once.
    let tokens = echo
        .platform
        .berth(&["tokens", "list", "--json"])?
        .success()?
        .json()?;
    let tokens = tokens
        .as_array()
        .or_else(|| tokens["tokens"].as_array())
        .cloned()
        .context("a list")?;
    for token in tokens.iter().filter(|token| token["name"] == "calls") {
        echo.platform
            .berth(&["tokens", "revoke", token["id"].as_str().unwrap_or_default()])?
            .success()?;
    }
    wait::until("the token to end", SOON, || {
        Ok((call(&echo.origin(), Some(&here))?.status() == 401).then_some(()))
    })
}

/// The assertion that an instance is given, checked as its code would.
fn r39_assertion() -> Result<()> {
    let echo = echo()?;
    let seen = arrived(echo.post("echo").body("{}"))?;
    let python = python::environment("client-fastmcp-4", &["fastmcp==4.1.2"])?;
    let output = std::process::Command::new(python)
        .arg(python::client("verify_assertion.py"))
        .args([
            &format!("{}/oauth/keys", echo.platform.url()),
            &echo.platform.url(),
            &echo.platform.mcp_url(PROJECT),
        ])
        .env("ASSERTION", seen.header("berth-assertion")?)
        .output()?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let claims: Value = serde_json::from_str(stdout.lines().last().context("no output")?)?;
    ensure!(claims["sub"] == seen.header("berth-user")?, "{claims}");
    ensure!(claims["email"] == platform::OWNER_EMAIL, "{claims}");
    ensure!(
        claims["wrong_audience"] == false,
        "another project's server refuses it: {claims}"
    );
    Ok(())
}

/// One that listens and nothing else notices; a second one goes on.
fn r40_stream() -> Result<()> {
    let echo = super::echo()?;
    let listen = |token: &str, behaviour: &str| -> Result<Response> {
        let request = echo
            .bare(Method::GET, "/mcp")
            .bearer_auth(token)
            .header("x-test", behaviour);
        Ok(request.timeout(SOON * 3).send()?.error_for_status()?)
    };
    let app = App::register(&echo.platform, &json!({}))?;
    let tokens = app.tokens(&echo.project)?;
    let token = tokens["access_token"].as_str().context("no token")?;
    let mut ends = listen(token, "stream:r40-stream")?;
    let mut first = [0_u8; 8];
    ends.read_exact(&mut first)?;
    let stays = listen(&echo.token, "gate:r40-stays")?;
    app.http
        .post(format!("{}/oauth/revoke", echo.platform.url()))
        .form(&[("client_id", &*app.id), ("token", token)])
        .send()?
        .error_for_status()?;
    let began = Instant::now();
    let rest = ends.read_to_end(&mut Vec::new());
    ensure!(rest.is_err(), "it breaks off: {rest:?}");
    ensure!(began.elapsed() < SOON, "by the edge, not by this client");
    wait::until("the server to hear of it", SOON, || {
        let names: Vec<String> = echo.post("disconnected").send()?.json()?;
        Ok(names.iter().any(|name| name == "r40-stream").then_some(()))
    })?;
    echo.post("open:r40-stays").send()?.error_for_status()?;
    ensure!(stays.text()? == "data: first\n\ndata: second\n\n");
    Ok(())
}

fn r40() -> Result<()> {
    let echo = Echo::deploy(platform::shared()?, "restricted", &super::repository()?)?;
    // Somebody of the organization, with a token of their own.
    let added = api(
        &echo.platform,
        Method::POST,
        "/service-accounts",
        &json!({ "name": "r40" }),
    )?;
    let account = added["id"].as_str().context("no id")?.to_owned();
    let token = echo
        .platform
        .berth(&[
            "tokens",
            "create",
            "r40",
            "--calls",
            "--service-account",
            "r40",
            "--json",
        ])?
        .success()?
        .json()?;
    let token = token["token"].as_str().context("no token")?.to_owned();
    let session = std::cell::RefCell::new(None::<String>);
    let call = || -> Result<u16> {
        let mut request = echo
            .bare(Method::POST, "/mcp")
            .bearer_auth(&token)
            .header("x-test", "session")
            .json(&json!({ "jsonrpc": "2.0", "id": 40, "method": "x" }));
        if let Some(id) = &*session.borrow() {
            request = request.header("mcp-session-id", id);
        }
        let answer = request.send()?;
        let status = answer.status().as_u16();
        if let Some(id) = answer.headers().get("mcp-session-id") {
            *session.borrow_mut() = Some(id.to_str()?.to_owned());
        }
        if status == 403 {
            ensure_json_rpc_error(answer, 403, &json!(40))?;
        }
        Ok(status)
    };
    wait::until("the edge to know the token", SOON, || {
        Ok((call()? == 200).then_some(()))
    })?;
    ensure!(session.borrow().is_some(), "a session is open");
    // Each rule, on the open session's next request.
    set_access(&echo, &json!({ "callers": "owner" }), || Ok(call()? == 403))?;
    set_access(
        &echo,
        &json!({ "callers": "chosen", "chosen": [account] }),
        || Ok(call()? == 200),
    )?;
    set_access(
        &echo,
        &json!({ "callers": "chosen", "chosen": [platform::OWNER_EMAIL] }),
        || Ok(call()? == 403),
    )?;
    set_access(
        &echo,
        &json!({ "callers": "anyone" }),
        || Ok(call()? == 200),
    )?;
    set_access(&echo, &json!({ "callers": "organization" }), || {
        Ok(call()? == 200)
    })?;
    api(
        &echo.platform,
        Method::DELETE,
        &format!("/service-accounts/{account}"),
        &json!({}),
    )?;
    wait::until("the account's tokens to end", SOON, || {
        Ok((call()? == 401).then_some(()))
    })
}

fn r42() -> Result<()> {
    let echo = Echo::deploy(platform::shared()?, "paths", &super::repository()?)?;
    let status = |path: &str| -> Result<u16> {
        Ok(echo
            .bare(Method::GET, path)
            .header("x-test", "echo")
            .send()?
            .status()
            .as_u16())
    };
    for path in ["/health", "/hooks/github", "/", "/consent", "/.env"] {
        ensure!(status(path)? == 404, "{path}");
        // Not with a token either.
        let answer = echo.request(Method::GET, path, "echo").send()?;
        ensure!(answer.status() == 404, "{path}: {answer:?}");
    }
    set_access(
        &echo,
        &json!({ "public_paths": ["/health", "/hooks/*"] }),
        || Ok(status("/health")? == 200),
    )?;
    for path in ["/hooks/github", "/hooks/a/b?x=1"] {
        ensure!(status(path)? == 200, "{path}");
    }
    for path in [
        "/healthy",
        "/health/x",
        "/hooks",
        "/hooks/../secret",
        "/hooks/%2e%2e/secret",
        "/hooks//x",
        "/hooks/%2Fx",
        "/",
    ] {
        // Sent as it is: a library would tidy it.
        let raw = raw_status(&echo, path)?;
        ensure!(raw == 404 || raw == 400, "{path}: {raw}");
    }
    let hook = echo
        .bare(Method::POST, "/hooks/github")
        .header("x-test", "echo")
        .header("berth-user", "forged")
        .bearer_auth(&echo.token)
        .body("{}");
    let seen = arrived(hook)?;
    ensure!(
        seen.headers("berth-user").is_empty(),
        "nobody is vouched for: {seen:?}"
    );
    ensure!(
        !seen
            .headers("authorization")
            .iter()
            .any(|value| value.contains(&echo.token)),
        "the token stays here: {seen:?}"
    );
    ensure!(
        echo.bare(Method::POST, "/mcp").body("{}").send()?.status() == 401,
        "the MCP path needs a token as before"
    );
    Ok(())
}

fn raw_status(echo: &Echo, path: &str) -> Result<u16> {
    use std::io::{Read as _, Write as _};
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", echo.platform.port()))?;
    socket.set_read_timeout(Some(SOON))?;
    write!(
        socket,
        "GET {path} HTTP/1.1\r\nHost: {}\r\nX-Test: echo\r\nConnection: close\r\n\r\n",
        echo.authority()
    )?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .with_context(|| answer.clone())
}
