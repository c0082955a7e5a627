//! `berth login` signs in through a real browser.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::browser::Browser;
use tests::platform::{self, OWNER_EMAIL, Platform};
use tests::{berth_binary, python, wait};

use crate::Test;

pub const TESTS: &[Test] = &[("login::a_browser_signs_the_command_line_in", browser)];

/// `berth` as someone runs it who has set nothing but keeps settings in `home`.
fn berth(home: &Path) -> Command {
    let mut command = Command::new(berth_binary());
    command
        .env_remove("BERTH_SERVER")
        .env_remove("BERTH_TOKEN")
        .env("XDG_CONFIG_HOME", home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn json(mut command: Command) -> Result<Value> {
    let output = command.arg("--json").output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {said}");
    let stdout = String::from_utf8(output.stdout)?;
    Ok(serde_json::from_str(
        stdout.lines().last().context("no output")?,
    )?)
}

/// Starts to sign in and goes as far as the browser can; the command is not waited for.
fn start(platform: &Platform, browser: &Browser, home: &Path) -> Result<(Child, Result<()>)> {
    let url_file = home.join("authorize-url");
    let login = berth(home)
        .args(["login", "--json", "--server", &platform.url()])
        .env(
            "BROWSER",
            format!("{} %s", python::client("open_url.py").display()),
        )
        .env("TEST_URL_FILE", &url_file)
        .spawn()?;
    let opened = wait::until(
        "berth login to open the browser",
        Duration::from_mins(1),
        || Ok(std::fs::read_to_string(&url_file).ok()),
    );
    let allowed = opened.and_then(|url| {
        browser.authorize(platform, &url)?;
        wait::until(
            "the browser to come back to the command",
            Duration::from_secs(30),
            || {
                let text = browser.run(async |driver| driver.source().await)?;
                Ok(text.contains("Go back to the terminal").then_some(()))
            },
        )
    });
    Ok((login, allowed))
}

fn browser() -> Result<()> {
    let platform = platform::shared()?;
    let home = tempfile::TempDir::new()?;
    let browser = Browser::start()?;
    let (mut login, allowed) = start(&platform, &browser, home.path())?;
    if let Err(error) = allowed {
        let picture = tests::cache().join("login-failed.png");
        browser.screenshot(&picture)?;
        login.kill()?;
        let output = login.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(error.context(format!(
            "see {}; berth login said: {said}",
            picture.display()
        )));
    }
    let output = login.wait_with_output()?;
    ensure!(
        output.status.success(),
        "berth login failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let signed_in: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(signed_in["user"]["email"] == OWNER_EMAIL, "{signed_in}");
    ensure!(signed_in["server"] == platform.url(), "{signed_in}");

    let file = home.path().join("berth/credentials.json");
    let mode = std::fs::metadata(&file)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "the credentials have mode {mode:o}");
    let kept: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    let token = kept["servers"][platform.url()]["token"]
        .as_str()
        .context("no token was kept")?;
    ensure!(token.starts_with("brt_"), "another token was kept");
    ensure!(
        !String::from_utf8_lossy(&output.stderr).contains(token),
        "the token was printed"
    );

    let mut projects = berth(home.path());
    projects.arg("projects");
    ensure!(
        json(projects)?.is_array(),
        "the kept credentials do not work"
    );
    let mut tokens = berth(home.path());
    tokens.args(["tokens", "list"]);
    let tokens = json(tokens)?;
    let named = |token: &Value| {
        token["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("berth login on "))
    };
    ensure!(
        tokens
            .as_array()
            .is_some_and(|tokens| tokens.iter().any(named)),
        "{tokens}"
    );
    Ok(())
}
