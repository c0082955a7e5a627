//! Signing in through a real browser: `berth login`, and passwords that are lost and changed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::browser::Browser;
use tests::platform::{self, OWNER_EMAIL, Platform};
use tests::{berth_binary, python, wait};
use thirtyfour::prelude::*;

use crate::Test;

pub const TESTS: &[Test] = &[
    ("login::a_browser_signs_the_command_line_in", browser),
    ("login::a_lost_password_is_reset_and_changed", password),
];

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

/// A member whose password the operator resets: signed out, they choose another by the link, and
/// change it on their page.
fn password() -> Result<()> {
    let platform = platform::shared()?;
    let email = "forgetful@example.com";
    let invited = platform.berth(&["members", "add", email, "--json"])?;
    let invited = invited.success()?.json()?;
    let link = invited["setup_url"].as_str().context("no link")?;
    let browser = Browser::start()?;
    choose(&browser, link, "the first password")?;
    ensure!(path(&browser)? == "/", "the link signs in");

    let mut reset = berth(platform.data());
    reset.args(["admin", "reset-password", email, "--data"]);
    reset.arg(platform.data());
    let reset = json(reset)?;
    let account = format!("{}/account", platform.url());
    browser.run(async |driver| driver.goto(&account).await)?;
    ensure!(path(&browser)? == "/signin", "they are signed out");
    sign_in(&browser, email, "the first password")?;
    let page = browser.run(async |driver| driver.source().await)?;
    for says in ["E-mail or password is wrong", "berth admin reset-password"] {
        ensure!(page.contains(says), "{page}");
    }

    let link = reset["url"].as_str().context("no link")?;
    choose(&browser, link, "the second password")?;
    browser.run(async |driver| {
        driver.goto(&account).await?;
        for (field, text) in [
            ("current", "the second password"),
            ("password", "the third password"),
        ] {
            let field = driver.query(By::Name(field)).first().await?;
            field.send_keys(text).await?;
        }
        let change = driver.query(By::Css("form[action='/account/password'] button"));
        change.first().await?.click().await?;
        driver.query(By::Css(".notice.good")).first().await?;
        let out = driver.query(By::Css("form[action='/signout'] button"));
        out.first().await?.click().await?;
        driver.query(By::Id("email")).first().await
    })?;
    sign_in(&browser, email, "the third password")?;
    ensure!(path(&browser)? == "/", "the new password signs in");
    platform.berth(&["members", "remove", email])?.success()?;
    Ok(())
}

/// Opens a one-time link and chooses a password by it.
fn choose(browser: &Browser, link: &str, password: &str) -> Result<()> {
    browser.run(async |driver| {
        driver.goto(link).await?;
        let field = driver.query(By::Name("password")).first().await?;
        field.send_keys(password).await?;
        field.send_keys(Key::Enter + "").await?;
        driver.query(By::Css("nav[aria-label=Main]")).first().await
    })?;
    Ok(())
}

/// Sends the form of the sign-in page, which is open, and waits for the answer.
fn sign_in(browser: &Browser, email: &str, password: &str) -> Result<()> {
    browser.run(async |driver| {
        let field = driver.query(By::Name("email")).first().await?;
        field.send_keys(email).await?;
        let field = driver.query(By::Name("password")).first().await?;
        field.send_keys(password).await?;
        field.send_keys(Key::Enter + "").await?;
        let answer = By::Css(".notice.bad, nav[aria-label=Main]");
        driver.query(answer).first().await
    })?;
    Ok(())
}

fn path(browser: &Browser) -> Result<String> {
    let address = browser.run(async |driver| driver.current_url().await)?;
    Ok(address.path().to_owned())
}
