//! Faults on demand, and GitHub's own description.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::github::{Fault, Github, examples};

use super::setting::Setting;

pub fn faults() -> Result<()> {
    let setting = Setting::new()?;
    let token = setting.token()?;
    let github = &setting.github;
    let route = "GET /repos/{owner}/{repo}";
    let ask = || setting.get("/repos/ada/tools", &token);
    github.fail(route, Fault::RateLimit(60), Some(1));
    let limited = ask()?;
    ensure!(
        limited.headers()["x-ratelimit-remaining"] == "0",
        "{limited:?}"
    );
    ensure!(
        limited.status() == 403 && ask()?.status() == 200,
        "not once"
    );
    github.fail(route, Fault::SecondaryLimit(7), Some(1));
    ensure!(ask()?.headers()["retry-after"] == "7", "no retry-after");
    github.fail(route, Fault::TooMany(7), Some(1));
    ensure!(ask()?.status() == 429, "no 429");
    let down = github.fail("GET *", Fault::BadGateway, None);
    ensure!(ask()?.status() == 502 && ask()?.status() == 502, "no 502");
    github.lift(down);
    github.fail(route, Fault::Drop, Some(1));
    ensure!(ask().is_err() && ask()?.status() == 200, "not dropped");
    github.fail(route, Fault::Slow(Duration::from_millis(300)), Some(1));
    let began = Instant::now();
    ask()?;
    ensure!(began.elapsed() >= Duration::from_millis(300), "not slow");
    let counted = github
        .requests()
        .iter()
        .filter(|one| one.route == "/repos/{owner}/{repo}")
        .count();
    ensure!(counted == 8, "{counted}");
    setting.github.finish()
}

/// Each of these differs from the description, and is found.
pub fn held() -> Result<()> {
    let setting = Setting::new()?;
    let (github, token) = (&setting.github, setting.token()?);
    let found = |what: &str| {
        let all = github.take_mismatches();
        ensure!(all.iter().any(|one| one.contains(what)), "{what}: {all:?}");
        Ok(())
    };
    setting.get("/repos/ada/tools?nonsense=1", &token)?;
    found("nonsense")?;
    setting.get("/repos/ada/tools/branches?per_page=many", &token)?;
    found("per_page")?;
    let sha = setting.repo.head("main")?;
    let path = format!("/repos/ada/tools/statuses/{sha}");
    setting.post(&path, &token, &json!({ "state": "fine" }))?;
    found("fine")?;
    setting.post(&path, &token, &json!({ "state": "success", "invented": 1 }))?;
    found("invented")?;
    let versioned = |version: &str| {
        let url = format!("{}/app", github.api_url());
        let request = setting.http.get(url).bearer_auth(setting.jwt()?);
        anyhow::Ok(
            request
                .header("x-github-api-version", version)
                .send()?
                .status(),
        )
    };
    ensure!(versioned("2022-11-28")? == 200 && versioned("2021-01-01")? == 400);
    found("2021-01-01")?;
    setting.get("/no/such/route", &token)?;
    found("no such route")?;
    setting
        .http
        .get(format!("{}/meta", github.api_url()))
        .send()?;
    found("/meta")?;
    let answer = |change: fn(&mut Value)| -> Result<Vec<String>> {
        let mut body = setting.read("/repos/ada/tools", &token)?;
        change(&mut body);
        Ok(github.check_answer("GET", "/repos/{owner}/{repo}", 200, &body))
    };
    let right = answer(|_| {})?;
    ensure!(right.is_empty(), "{right:?}");
    let changes: [fn(&mut Value); 4] = [
        |body| body["id"] = "1".into(),
        |body| body["owner"]["login"] = Value::Null,
        |body| body["invented"] = 1.into(),
        |body| {
            let members = body
                .as_object_mut()
                .map(|members| members.remove("default_branch"));
            drop(members);
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        ensure!(answer(change)?.len() == 1, "change {number} was not found");
    }
    let status = github.check_answer("GET", "/repos/{owner}/{repo}", 418, &json!({}));
    ensure!(status.len() == 1, "{status:?}");
    setting.get("/invented", &token)?;
    let failed = setting.github.finish();
    ensure!(failed.is_err(), "a mismatch is no failure");
    Ok(())
}

/// The examples are real, so what they say of the schemas holds for the emulator's own payloads.
pub fn real_payloads() -> Result<()> {
    let all = examples()?;
    ensure!(all.len() > 60, "only {}", all.len());
    let events: BTreeSet<&str> = all.iter().map(|(event, _, _)| &**event).collect();
    ensure!(events.len() == 10, "{events:?}");
    Ok(())
}

/// No route is the emulator's own invention.
pub fn described() -> Result<()> {
    let github = Github::start()?;
    for (method, route) in Github::routes() {
        ensure!(github.is_described(method, route), "{method} {route}");
    }
    ensure!(
        !github.is_described("GET", "/invented"),
        "anything is described"
    );
    github.finish()
}
