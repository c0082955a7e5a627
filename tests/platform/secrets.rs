//! Nothing secret stands in clear in the database, in a log, or in the engine's records.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::mcp::Caller;
use tests::platform::{Options, Platform};
use tests::repository::Repository;

use crate::Test;

pub const TESTS: &[Test] = &[("secrets::nothing_stands_in_clear", nothing_stands_in_clear)];

/// A server that does what it should not: it prints its secret, plain and encoded.
const LEAKY: &str = r#"
import base64, os
from fastmcp import FastMCP

secret = os.environ["API_KEY"]
print("the key is", secret, flush=True)
print("encoded", base64.b64encode(secret.encode()).decode(), flush=True)
mcp = FastMCP("leaky")

@mcp.tool
def key_is_right(expected_end: str) -> bool:
    return secret.endswith(expected_end)
"#;

/// A redirect address that nobody listens at: the browser shows the code in its address bar.
const REDIRECT: &str = "http://127.0.0.1:9/callback";

fn nothing_stands_in_clear() -> Result<()> {
    let platform = Platform::start(Options::default())?;
    let mut canaries: BTreeMap<String, String> = BTreeMap::new();
    let mut canary = |name: &str, value: &str| canaries.insert(name.to_owned(), value.to_owned());
    canary("password", platform.password());
    canary("API token", platform.token()?);

    let repository =
        Repository::new(&[("main.py", LEAKY), ("requirements.txt", "fastmcp==4.1.2\n")])?;
    let secret = format!("sk-canary-{}", uuid::Uuid::new_v4().simple());
    canary("secret variable", &secret);
    create_project(&platform, &repository)?;
    // By standard input: the command line is visible to every process.
    let lines = format!("API_KEY={secret}\n");
    let file = platform.data().join("variables.env");
    std::fs::write(&file, lines)?;
    platform
        .berth(&["env", "leaky", "import", &file.to_string_lossy()])?
        .success()?;
    std::fs::remove_file(&file)?;
    platform.deploy_live("leaky", &repository.url(), &[])?;

    let caller = Caller::new(&platform, "leaky")?;
    canary("access token", caller.token());
    let answer = caller.call(
        "key_is_right",
        &json!({ "expected_end": &secret[secret.len() - 6..] }),
    )?;
    ensure!(answer.text()?.contains("true"), "the server has its secret");

    for (name, value) in authorize(&platform)? {
        canary(&name, &value);
    }
    let created = platform
        .berth(&["tokens", "create", "canary", "--json"])?
        .success()?
        .json()?;
    canary(
        "second API token",
        created["token"].as_str().context("no token")?,
    );

    let seen = everything_kept(&platform)?;
    for (place, text) in &seen {
        ensure!(
            !text.is_empty(),
            "{place} is empty, so the test looks in the wrong place"
        );
        for (name, value) in &canaries {
            ensure!(!text.contains(value.as_str()), "{place} holds the {name}");
        }
    }
    let shown = platform.berth(&["logs", "leaky"])?.success()?.text();
    ensure!(
        shown.contains("the key is •••"),
        "the log masks the secret: {shown}"
    );
    Ok(())
}

fn create_project(platform: &Platform, repository: &Repository) -> Result<()> {
    reqwest::blocking::Client::new()
        .post(format!("{}/api/v1/projects", platform.url()))
        .bearer_auth(platform.token()?)
        .json(&json!({ "name": "leaky", "source_url": repository.url() }))
        .send()?
        .error_for_status()?;
    Ok(())
}

/// One authorization code flow by hand; answers its cookie, code and tokens.
fn authorize(platform: &Platform) -> Result<Vec<(String, String)>> {
    // RFC 7636 appendix B.
    let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    let http = reqwest::blocking::Client::new();
    let metadata: Value = http
        .get(format!(
            "{}/.well-known/oauth-authorization-server",
            platform.url()
        ))
        .send()?
        .json()?;
    let endpoint = |name: &str| {
        metadata[name]
            .as_str()
            .map(str::to_owned)
            .with_context(|| format!("no {name}"))
    };
    let client: Value = http
        .post(endpoint("registration_endpoint")?)
        .json(&json!({ "redirect_uris": [REDIRECT], "client_name": "canary", "token_endpoint_auth_method": "none" }))
        .send()?
        .json()?;
    let id = client["client_id"].as_str().context("no client_id")?;
    let resource = platform.mcp_url("leaky");
    let mut url = url::Url::parse(&endpoint("authorization_endpoint")?)?;
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", id)
        .append_pair("redirect_uri", REDIRECT)
        .append_pair("code_challenge", challenge)
        .append_pair("code_challenge_method", "S256")
        .append_pair("scope", "mcp offline_access")
        .append_pair("resource", &resource);
    let browser = Browser::start()?;
    browser.authorize(platform, url.as_str())?;
    let landed = tests::wait::until(
        "the redirect to the client",
        std::time::Duration::from_secs(20),
        || {
            let url = browser.run(async |driver| driver.current_url().await)?;
            Ok(url.as_str().starts_with(REDIRECT).then_some(url))
        },
    )?;
    let code = landed
        .query_pairs()
        .find(|(name, _)| name == "code")
        .map(|(_, value)| value.into_owned())
        .with_context(|| format!("no code in {landed}"))?;
    browser.run(async |driver| driver.goto(platform.url()).await)?;
    let cookie = browser.run(async |driver| driver.get_named_cookie("__Host-berth").await)?;
    let exchange = |form: &[(&str, &str)]| -> Result<Value> {
        Ok(http
            .post(endpoint("token_endpoint")?)
            .form(form)
            .send()?
            .error_for_status()?
            .json()?)
    };
    let tokens = exchange(&[
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("code_verifier", verifier),
        ("redirect_uri", REDIRECT),
        ("client_id", id),
        ("resource", &resource),
    ])?;
    let refresh = tokens["refresh_token"]
        .as_str()
        .context("no refresh token")?
        .to_owned();
    let again = exchange(&[
        ("grant_type", "refresh_token"),
        ("refresh_token", &refresh),
        ("client_id", id),
    ])?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(vec![
        ("session cookie".into(), cookie.value),
        ("authorization code".into(), code),
        ("code verifier".into(), verifier.into()),
        ("first access token".into(), text(&tokens["access_token"])),
        ("first refresh token".into(), refresh),
        ("second access token".into(), text(&again["access_token"])),
        ("second refresh token".into(), text(&again["refresh_token"])),
    ])
}

/// The database's dump, every log, and what the engine keeps of every container.
fn everything_kept(platform: &Platform) -> Result<BTreeMap<String, String>> {
    let mut kept = BTreeMap::new();
    let dump = Command::new("pg_dump")
        .arg("--dbname")
        .arg(platform.database_url()?)
        .output()?;
    ensure!(
        dump.status.success(),
        "{}",
        String::from_utf8_lossy(&dump.stderr)
    );
    kept.insert(
        "the database".to_owned(),
        String::from_utf8_lossy(&dump.stdout).into_owned(),
    );
    kept.insert(
        "the platform's log".to_owned(),
        std::fs::read_to_string(platform.log_path())?,
    );
    for container in platform.containers()? {
        let inspect = Command::new("docker")
            .args(["inspect", "--", &container])
            .output()?;
        kept.insert(
            format!("docker inspect {container}"),
            String::from_utf8_lossy(&inspect.stdout).into_owned(),
        );
    }
    ensure!(kept.len() > 2, "no container to look at");
    Ok(kept)
}
