//! People sign in, make Apps and install them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::blocking::Client;
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::github::{Github, walk};
use tests::oauth::{CHALLENGE, VERIFIER, parameter, parameters};
use tests::wait;
use thirtyfour::prelude::*;

use super::setting::{Setting, body, client, manifest_of};
use crate::github::receiver::Hook;

/// A browser's cookie after signing in on the page.
fn browser(github: &Github, http: &Client, login: &str) -> Result<String> {
    let answer = http
        .post(format!("{}/session", github.url()))
        .form(&[("login", login), ("return_to", "/")])
        .send()?;
    let cookie = answer.headers().get("set-cookie").context("no cookie")?;
    let cookie = cookie.to_str()?.split(';').next().unwrap_or_default();
    Ok(cookie.to_owned())
}

pub fn sign_in() -> Result<()> {
    let setting = Setting::new()?;
    let (github, http, app) = (&setting.github, &setting.http, &setting.app);
    let callback = "http://berth.example/signin/github";
    let mut url = url::Url::parse(&format!("{}/login/oauth/authorize", github.url()))?;
    url.query_pairs_mut()
        .append_pair("client_id", &app.client_id)
        .append_pair("redirect_uri", callback)
        .append_pair("state", "a state")
        .append_pair("code_challenge", CHALLENGE)
        .append_pair("code_challenge_method", "S256");
    let stranger = http.get(url.clone()).send()?;
    let to = stranger.headers().get("location").context("no redirect")?;
    ensure!(to.to_str()?.starts_with("/login?return_to="), "{to:?}");

    let cookie = browser(github, http, "ada")?;
    let look = || http.get(url.clone()).header("cookie", &cookie).send();
    let page = look()?.error_for_status()?.text()?;
    ensure!(page.contains("Authorize Berth of Ada"), "{page}");
    let decide = |decision: &str| {
        http.post(format!("{}/login/oauth/authorize", github.url()))
            .header("cookie", &cookie)
            .form(&[
                ("query", url.query().unwrap_or_default()),
                ("authorize", decision),
            ])
            .send()
    };
    let denied = parameters(&decide("0")?)?;
    ensure!(
        parameter(&denied, "error")? == "access_denied",
        "{denied:?}"
    );
    let allowed = parameters(&decide("1")?)?;
    ensure!(parameter(&allowed, "state")? == "a state", "{allowed:?}");
    // From now on nobody is asked.
    let silent = parameters(&look()?)?;

    let exchange = |code: &str, verifier: &str, secret: &str| -> Result<Value> {
        let answer = http
            .post(format!("{}/login/oauth/access_token", github.url()))
            .header("accept", "application/json")
            .form(&[
                ("client_id", &*app.client_id),
                ("client_secret", secret),
                ("code", code),
                ("redirect_uri", callback),
                ("code_verifier", verifier),
            ])
            .send()?;
        body(answer, 200)
    };
    let code = parameter(&allowed, "code")?;
    let wrong = exchange(&code, VERIFIER, "wrong")?;
    ensure!(wrong["error"] == "incorrect_client_credentials", "{wrong}");
    let token = exchange(&code, VERIFIER, &app.client_secret)?;
    let token = token["access_token"].as_str().context("no token")?;
    ensure!(token.starts_with("ghu_"), "{token}");
    let again = exchange(&code, VERIFIER, &app.client_secret)?;
    ensure!(again["error"] == "bad_verification_code", "{again}");
    let code = parameter(&silent, "code")?;
    let other = exchange(
        &code,
        "another verifier, long enough to be one of its kind",
        &app.client_secret,
    )?;
    ensure!(other["error"] == "bad_verification_code", "{other}");

    let ada = setting.read("/user", token)?;
    ensure!(
        ada["login"] == "ada" && ada["id"] == github.account("ada")?,
        "{ada}"
    );
    let installations = setting.read("/user/installations", token)?;
    ensure!(installations["total_count"] == 1, "{installations}");
    let path = format!("/user/installations/{}/repositories", setting.installation);
    let repositories = setting.read(&path, token)?;
    ensure!(
        repositories["repositories"][0]["full_name"] == "ada/tools",
        "{repositories}"
    );

    let team = github.organization("team", &["ada", "bob"]);
    github.install(app.id, "team", None)?;
    let organizations = setting.read("/user/orgs", token)?;
    ensure!(organizations[0]["id"] == team, "{organizations}");
    let membership = setting.read("/user/memberships/orgs/team", token)?;
    ensure!(membership["state"] == "active", "{membership}");
    let member = setting.get("/orgs/team/members/bob", token)?.status();
    let stranger = setting.get("/orgs/team/members/nobody", token)?.status();
    ensure!(
        (member.as_u16(), stranger.as_u16()) == (204, 404),
        "{member} {stranger}"
    );
    github.leave("team", "ada")?;
    let left = setting.get("/user/memberships/orgs/team", token)?.status();
    ensure!(left == 404, "{left}");

    // No token is kept after signing in.
    let revoked = http
        .delete(format!(
            "{}/applications/{}/token",
            github.api_url(),
            app.client_id
        ))
        .basic_auth(&app.client_id, Some(&app.client_secret))
        .json(&json!({ "access_token": token }))
        .send()?;
    ensure!(revoked.status() == 204, "{}", revoked.status());
    let gone = setting.get("/user", token)?.status();
    ensure!(gone == 401 && github.user_tokens() == 0, "{gone}");

    // A code goes to the App's own addresses only.
    let elsewhere = url.as_str().replace("berth.example", "evil.example");
    let refused = http
        .get(elsewhere)
        .header("cookie", &cookie)
        .send()?
        .status();
    ensure!(refused == 400, "{refused}");
    setting.github.finish()
}

pub fn manifest() -> Result<()> {
    let hook = Hook::listen()?;
    let (github, http) = (Github::start()?, client()?);
    github.user("ada");
    github.organization("team", &["ada"]);
    let repo = github.repository("team", "tools", true)?;
    let cookie = browser(&github, &http, "ada")?;
    let manifest = manifest_of(&hook.url);
    let kept = http
        .post(format!(
            "{}/organizations/team/settings/apps/new?state=abc",
            github.url()
        ))
        .form(&[("manifest", manifest.to_string())])
        .send()?;
    let to = kept
        .headers()
        .get("location")
        .context("no redirect")?
        .to_str()?;
    let key = parameter_of(to, "manifest_token")?;
    let page = http
        .get(format!("{}{to}", github.url()))
        .header("cookie", &cookie)
        .send()?;
    ensure!(page.text()?.contains("Create GitHub App"), "no button");
    let made = http
        .post(format!("{}/settings/apps/create", github.url()))
        .header("cookie", &cookie)
        .form(&[("manifest_token", &*key), ("app_name", "Berth two")])
        .send()?;
    let answered = parameters(&made)?;
    ensure!(parameter(&answered, "state")? == "abc", "{answered:?}");
    let convert = |code: &str| {
        let url = format!("{}/app-manifests/{code}/conversions", github.api_url());
        http.post(url).send()
    };
    let code = parameter(&answered, "code")?;
    let app = body(convert(&code)?, 201)?;
    ensure!(
        app["slug"] == "berth-two" && app["owner"]["login"] == "team",
        "{app}"
    );
    ensure!(convert(&code)?.status() == 404, "a code is good once");
    let pem = app["pem"].as_str().context("no key")?;
    ensure!(
        pem.starts_with("-----BEGIN RSA PRIVATE KEY-----"),
        "no PKCS#1"
    );

    // The first event: the platform cannot know the secret yet.
    let ping = hook.next()?;
    ensure!(
        ping.header("x-github-event") == "ping",
        "{:?}",
        ping.headers
    );

    let keys = github.app_keys(app["id"].as_u64().context("no id")?)?;
    ensure!(
        app["webhook_secret"] == keys.webhook_secret.as_str(),
        "another secret"
    );
    // Installed on the page, for one repository.
    let url = format!(
        "{}/apps/berth-two/installations/new?state=def",
        github.url()
    );
    let accounts = http.get(&url).header("cookie", &cookie).send()?.text()?;
    ensure!(accounts.contains(">team<"), "{accounts}");
    let url = format!(
        "{}/apps/berth-two/installations/new/permissions",
        github.url()
    );
    let installed = http
        .post(url)
        .header("cookie", &cookie)
        .form(&[
            ("account", "team"),
            ("state", "def"),
            ("install_target", "selected"),
            ("repository_ids", &repo.id().to_string()),
        ])
        .send()?;
    let answered = parameters(&installed)?;
    ensure!(
        parameter(&answered, "setup_action")? == "install",
        "{answered:?}"
    );
    ensure!(parameter(&answered, "state")? == "def", "{answered:?}");
    let told = hook.next()?;
    let payload: Value = serde_json::from_slice(&told.body)?;
    ensure!(payload["action"] == "created", "{payload}");
    ensure!(
        payload["repositories"][0]["full_name"] == "team/tools",
        "{payload}"
    );

    // Events without the permission for them.
    let mut greedy = manifest_of(&hook.url);
    greedy["name"] = "Greedy".into();
    greedy["default_permissions"] = json!({ "metadata": "read" });
    ensure!(
        github.app("ada", &greedy).is_err(),
        "events without permission"
    );
    github.finish()
}

fn parameter_of(url: &str, name: &str) -> Result<String> {
    let url = url::Url::parse("http://localhost")?.join(url)?;
    let mut pairs = url.query_pairs();
    let found = pairs.find(|(known, _)| known == name);
    Ok(found.context("no such parameter")?.1.into_owned())
}

/// A real browser goes through all pages.
pub fn in_a_browser() -> Result<()> {
    let hook = Hook::listen()?;
    let github = Github::start()?;
    github.organization("team", &["ada"]);
    let repo = github.repository("team", "tools", true)?;
    github.repository("team", "other", true)?;
    let mut manifest = manifest_of(&hook.url);
    for address in ["redirect_url", "setup_url"] {
        manifest[address] = hook.url.clone().into();
    }
    manifest["callback_urls"] = json!([hook.url]);
    let browser = Browser::start()?;
    // Each way ends at the App's own address.
    let arrived = |name: &str| {
        wait::until("the browser to come back", Duration::from_secs(30), || {
            let here = browser.run(async |driver| driver.current_url().await)?;
            let back = here.as_str().starts_with(&hook.url);
            Ok(back.then(|| parameter_of(here.as_str(), name)))
        })?
    };

    let form = format!(
        "<form method=post action='{}/settings/apps/new?state=one'>\
         <input name=manifest value='{manifest}'><button>Go</button></form>",
        github.url()
    );
    let page: String = url::form_urlencoded::byte_serialize(form.as_bytes()).collect();
    let page = format!("data:text/html,{}", page.replace('+', "%20"));
    browser.run(async |driver| {
        driver.goto(page).await?;
        driver
            .query(By::Css("button"))
            .first()
            .await?
            .click()
            .await?;
        walk::sign_in(driver, "ada").await?;
        walk::create_app(driver).await
    })?;
    let code = arrived("code")?;
    let url = format!("{}/app-manifests/{code}/conversions", github.api_url());
    let app = body(client()?.post(url).send()?, 201)?;

    let url = format!(
        "{}/apps/berth-of-ada/installations/new?state=two",
        github.url()
    );
    browser.run(async |driver| {
        driver.goto(url).await?;
        walk::choose_account(driver, "team").await?;
        walk::install(driver, Some(&[&repo])).await
    })?;
    let installation: u64 = arrived("installation_id")?.parse()?;
    let made = github.installations();
    ensure!(made.len() == 1 && made[0].id == installation, "{made:?}");
    ensure!(arrived("state")? == "two", "another state");

    let client_id = app["client_id"].as_str().context("no client id")?;
    let url = format!(
        "{}/login/oauth/authorize?client_id={client_id}&state=three",
        github.url()
    );
    browser.run(async |driver| {
        driver.goto(&url).await?;
        walk::authorize(driver).await
    })?;
    ensure!(arrived("state")? == "three", "another state");
    // The second time nobody asks.
    let url = url.replace("three", "four");
    browser.run(async |driver| driver.goto(&url).await)?;
    ensure!(arrived("state")? == "four", "another state");
    github.finish()
}
