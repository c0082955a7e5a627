//! Apps and their tokens.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::setting::{Setting, body, jwt_of, manifest_of};
use crate::github::receiver::Hook;

pub fn jwt() -> Result<()> {
    let setting = Setting::new()?;
    let app = setting.read("/app", &setting.jwt()?)?;
    ensure!(
        app["id"] == setting.app.id && app["installations_count"] == 1,
        "{app}"
    );
    let listed = setting.read("/app/installations", &setting.jwt()?)?;
    ensure!(listed[0]["id"] == setting.installation, "{listed}");
    let path = format!("/app/installations/{}", setting.installation);
    setting.read(&path, &setting.jwt()?)?;
    for (issued, expires) in [(-600, -1), (-60, 700), (60, 500)] {
        let answer = setting.get("/app", &jwt_of(&setting.app, issued, expires)?)?;
        ensure!(
            answer.status() == 401,
            "{issued} {expires}: {}",
            answer.status()
        );
    }
    let mut forged = setting.jwt()?;
    forged.truncate(forged.len() - 4);
    ensure!(
        setting.get("/app", &forged)?.status() == 401,
        "a forged signature"
    );
    let other = setting.github.app("ada", &{
        let mut manifest = manifest_of("http://127.0.0.1:9/");
        manifest["name"] = "Other".into();
        manifest["hook_attributes"]["active"] = false.into();
        manifest
    })?;
    let path = format!("/app/installations/{}/access_tokens", setting.installation);
    let stolen = setting.post(&path, &jwt_of(&other, -60, 540)?, &json!({}))?;
    ensure!(stolen.status() == 404, "another App's installation");
    ensure!(
        setting.github.tokens_minted(setting.installation) == 0,
        "minted"
    );
    setting.token()?;
    ensure!(
        setting.github.tokens_minted(setting.installation) == 1,
        "not counted"
    );
    let answer = setting.get("/app", "nonsense")?;
    let limit = answer.headers().get("x-ratelimit-remaining").cloned();
    ensure!(limit.is_some(), "no rate limit");
    ensure!(
        answer.headers().contains_key("x-github-request-id"),
        "no request id"
    );
    let refused = body(answer, 401)?;
    ensure!(refused["message"] == "Bad credentials", "{refused}");
    setting.github.suspend(setting.installation);
    let suspended = setting.post(&path, &setting.jwt()?, &json!({}))?;
    ensure!(suspended.status() == 403, "{}", suspended.status());
    setting.github.finish()
}

pub fn narrowed() -> Result<()> {
    let setting = Setting::new()?;
    let second = setting.github.repository("ada", "second", true)?;
    setting
        .github
        .add_repositories(setting.installation, &[&second]);
    let path = format!("/app/installations/{}/access_tokens", setting.installation);
    let asked = json!({
        "repository_ids": [second.id()], "permissions": { "contents": "read" },
    });
    let made = body(setting.post(&path, &setting.jwt()?, &asked)?, 201)?;
    ensure!(made["repository_selection"] == "selected", "{made}");
    let token = made["token"].as_str().context("no token")?;
    let listed = setting.read("/installation/repositories", token)?;
    ensure!(listed["total_count"] == 1, "{listed}");
    ensure!(
        setting.get("/repos/ada/tools", token)?.status() == 404,
        "too much"
    );
    let status = json!({ "state": "success" });
    second.push("main", &[("a", "a")], "First")?;
    let path = format!("/repos/ada/second/statuses/{}", second.head("main")?);
    let refused = body(setting.post(&path, token, &status)?, 403)?;
    ensure!(
        refused["message"] == "Resource not accessible by integration",
        "{refused}"
    );
    let path = format!("/app/installations/{}/access_tokens", setting.installation);
    for asked in [
        json!({ "permissions": { "contents": "write" } }),
        json!({ "repository_ids": [1] }),
    ] {
        let refused = setting.post(&path, &setting.jwt()?, &asked)?;
        ensure!(refused.status() == 422, "{asked}: {}", refused.status());
    }
    setting.github.finish()
}

/// What an App does about itself, and with the accounts it is on.
pub fn themselves() -> Result<()> {
    let (first, second) = (Hook::listen()?, Hook::listen()?);
    let setting = Setting::with_hook(&first.url)?;
    let (github, jwt) = (&setting.github, setting.jwt()?);
    github.settle()?;
    let changed = json!({ "url": second.url, "secret": "another secret" });
    let changed = body(setting.patch("/app/hook/config", &jwt, &changed)?, 200)?;
    ensure!(
        changed == setting.read("/app/hook/config", &jwt)?,
        "{changed}"
    );
    setting.repo.push("main", &[("a", "a")], "Second")?;
    let received = second.next()?;
    let signature = tests::github::sign("another secret", &received.body);
    ensure!(
        received.header("x-hub-signature-256") == signature,
        "the former secret"
    );
    github.settle()?;
    let listed = setting.read("/app/hook/deliveries", &jwt)?;
    let id = listed[0]["id"].as_u64().context("no delivery")?;
    let again = format!("{}/app/hook/deliveries/{id}/attempts", github.api_url());
    body(setting.http.post(again).bearer_auth(&jwt).send()?, 202)?;
    github.settle()?;
    let listed = setting.read("/app/hook/deliveries", &jwt)?;
    ensure!(listed[0]["redelivery"] == true, "{listed}");

    let token = setting.token()?;
    let delete = |path: &str, token: &str| -> Result<u16> {
        let url = format!("{}{path}", github.api_url());
        Ok(setting
            .http
            .delete(url)
            .bearer_auth(token)
            .send()?
            .status()
            .as_u16())
    };
    let number = {
        setting.repo.push("change", &[("a", "b")], "Third")?;
        setting.repo.open_pull("change", "main", "Change")?
    };
    let path = format!("/repos/ada/tools/issues/{number}/comments");
    let comment = body(
        setting.post(&path, &token, &json!({ "body": "Live" }))?,
        201,
    )?;
    let path = format!("/repos/ada/tools/issues/comments/{}", comment["id"]);
    ensure!(delete(&path, &token)? == 204, "a comment stays");
    let limit = setting.read("/rate_limit", &token)?;
    ensure!(limit["rate"]["limit"] == 5000, "{limit}");
    ensure!(
        delete("/installation/token", &token)? == 204,
        "a token stays"
    );
    ensure!(
        setting.get("/repos/ada/tools", &token)?.status() == 401,
        "a token stays"
    );

    let ada = github.account("ada")?;
    github.organization("team", &["ada"]);
    let person = github.user_token("ada", setting.app.id)?;
    for path in ["/users/ada", &format!("/user/{ada}")] {
        let found = setting.read(path, &person)?;
        ensure!(found["id"] == ada, "{found}");
    }
    let team = setting.read("/orgs/team", &person)?;
    ensure!(team["type"] == "Organization", "{team}");
    let made = json!({ "name": "made", "private": true });
    let made = body(setting.post("/user/repos", &person, &made)?, 201)?;
    ensure!(made["full_name"] == "ada/made", "{made}");
    let forgotten = setting
        .http
        .delete(format!(
            "{}/applications/{}/grant",
            github.api_url(),
            setting.app.client_id
        ))
        .basic_auth(&setting.app.client_id, Some(&setting.app.client_secret))
        .json(&json!({ "access_token": person }))
        .send()?;
    ensure!(forgotten.status() == 204, "{}", forgotten.status());
    ensure!(
        setting.get("/user", &person)?.status() == 401,
        "a token stays"
    );

    let path = format!("/app/installations/{}", setting.installation);
    ensure!(delete(&path, &jwt)? == 204, "an installation stays");
    ensure!(
        setting.get(&path, &jwt)?.status() == 404,
        "an installation stays"
    );
    setting.github.finish()
}
