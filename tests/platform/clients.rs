//! Real clients complete the whole authorization in a real browser.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::browser::Browser;
use tests::repository::Repository;
use tests::{platform, python, wait};

use crate::Test;
use crate::servers::FASTMCP;

pub const TESTS: &[Test] = &[
    (
        "clients::without_a_token_the_answer_leads_to_authorization",
        challenge,
    ),
    ("clients::fastmcp_2_14_7", || {
        whole_flow("client-fastmcp-2", "2.14.7")
    }),
    ("clients::fastmcp_3_4_10", || {
        whole_flow("client-fastmcp-3", "3.4.10")
    }),
    ("clients::fastmcp_4_1_2", || {
        whole_flow("client-fastmcp-4", "4.1.2")
    }),
];

/// Every client here talks to one server.
const PROJECT: &str = "for-clients";

fn deploy(platform: &platform::Platform) -> Result<()> {
    static ONCE: std::sync::Mutex<bool> = std::sync::Mutex::new(false);
    let mut done = ONCE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if !*done {
        let repository = Repository::new(&[
            ("main.py", FASTMCP),
            ("requirements.txt", "fastmcp==4.1.2\n"),
        ])?;
        platform.deploy_live(PROJECT, &repository.url(), &[])?;
        *done = true;
    }
    Ok(())
}

fn challenge() -> Result<()> {
    let platform = platform::shared()?;
    deploy(&platform)?;
    let http = reqwest::blocking::Client::builder()
        .resolve(
            &format!("{PROJECT}.localhost"),
            ([127, 0, 0, 1], platform.port()).into(),
        )
        .build()?;
    let answer = http.post(platform.mcp_url(PROJECT)).body("{}").send()?;
    ensure!(answer.status() == 401, "{answer:?}");
    let challenge = answer.headers()["www-authenticate"].to_str()?.to_owned();
    let metadata = format!(
        "http://{PROJECT}.localhost:{}/.well-known/oauth-protected-resource/mcp",
        platform.port()
    );
    ensure!(
        challenge == format!(r#"Bearer resource_metadata="{metadata}", scope="mcp""#),
        "RFC 9728 section 5.1, RFC 6750 section 3.1: {challenge}"
    );
    let resource: Value = http.get(&metadata).send()?.error_for_status()?.json()?;
    ensure!(
        resource["resource"] == platform.mcp_url(PROJECT),
        "{resource}"
    );
    let issuer = resource["authorization_servers"][0]
        .as_str()
        .context("no authorization server")?;
    ensure!(issuer == platform.url(), "{resource}");
    let server: Value = http
        .get(format!("{issuer}/.well-known/oauth-authorization-server"))
        .send()?
        .error_for_status()?
        .json()?;
    ensure!(server["issuer"] == issuer, "{server}");
    ensure!(
        server["code_challenge_methods_supported"] == serde_json::json!(["S256"]),
        "{server}"
    );
    // A token that is no token says so.
    let answer = http
        .post(platform.mcp_url(PROJECT))
        .bearer_auth("nonsense")
        .body("{}")
        .send()?;
    ensure!(answer.status() == 401, "{answer:?}");
    let challenge = answer.headers()["www-authenticate"].to_str()?.to_owned();
    ensure!(
        challenge.contains(r#"error="invalid_token""#),
        "{challenge}"
    );
    Ok(())
}

/// Discovery, registration, sign-in, consent, tools, a call.
fn whole_flow(environment: &str, version: &str) -> Result<()> {
    let platform = platform::shared()?;
    deploy(&platform)?;
    let python = python::environment(environment, &[&format!("fastmcp=={version}")])?;
    let home = tempfile::TempDir::new()?;
    let url_file = home.path().join("authorize-url");
    let client = Command::new(python)
        .arg(python::client("fastmcp_oauth.py"))
        .args([&platform.mcp_url(PROJECT), "add", r#"{"a":40,"b":2}"#])
        .env("HOME", home.path())
        .env("FASTMCP_HOME", home.path())
        .env(
            "BROWSER",
            format!("{} %s", python::client("open_url.py").display()),
        )
        .env("TEST_URL_FILE", &url_file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let browser = Browser::start()?;
    let opened = wait::until(
        "the client to open its browser",
        Duration::from_mins(1),
        || Ok(std::fs::read_to_string(&url_file).ok()),
    );
    let authorized = opened.and_then(|url| browser.authorize(&platform, &url));
    if let Err(error) = authorized {
        let picture = tests::cache().join(format!("{environment}-failed.png"));
        browser.screenshot(&picture)?;
        let mut client = client;
        client.kill()?;
        let output = client.wait_with_output()?;
        return Err(error.context(format!(
            "see {}; the client said: {}",
            picture.display(),
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    let output = client.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the client failed: {said}");
    let stdout = String::from_utf8(output.stdout)?;
    let answer: Value = serde_json::from_str(stdout.lines().last().context("no output")?)?;
    ensure!(answer["version"] == version, "{answer}");
    ensure!(answer["text"] == serde_json::json!(["42"]), "{answer}");
    ensure!(
        answer["tools"] == serde_json::json!(["add", "commit"]),
        "{answer}"
    );
    Ok(())
}
