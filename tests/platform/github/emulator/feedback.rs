//! What Apps say about commits and pull requests.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::hooks::told;
use super::setting::{Setting, body};

pub fn feedback() -> Result<()> {
    let setting = Setting::new()?;
    let (repo, token) = (&setting.repo, setting.token()?);
    let sha = repo.push("change", &[("server.py", "two\n")], "Second")?;
    let number = repo.open_pull("change", "main", "Change")?;
    let annotation = json!({
        "path": "server.py", "start_line": 1, "end_line": 1, "annotation_level": "failure",
        "message": "It does not start.",
    });
    let asked = json!({
        "name": "Berth", "head_sha": sha, "status": "in_progress",
        "output": { "title": "Building", "summary": "…", "annotations": [annotation] },
    });
    let path = "/repos/ada/tools/check-runs";
    let made = body(setting.post(path, &token, &asked)?, 201)?;
    ensure!(made["pull_requests"][0]["number"] == number, "{made}");
    let id = made["id"].as_u64().context("no id")?;
    let path = format!("/repos/ada/tools/check-runs/{id}");
    let many = json!({
        "output": { "title": "t", "summary": "s", "annotations": vec![annotation; 51] },
    });
    ensure!(
        setting.patch(&path, &token, &many)?.status() == 422,
        "51 annotations"
    );
    let wrong = setting.github.take_mismatches();
    ensure!(
        wrong.iter().any(|one| one.contains("annotations")),
        "{wrong:?}"
    );
    let ended = json!({ "status": "completed", "conclusion": "failure" });
    let ended = body(setting.patch(&path, &token, &ended)?, 200)?;
    ensure!(ended["conclusion"] == "failure", "{ended}");
    setting.read(&path, &token)?;
    let annotations = setting.read(&format!("{path}/annotations"), &token)?;
    ensure!(annotations[0]["path"] == "server.py", "{annotations}");
    let listed = setting.read(
        &format!("/repos/ada/tools/commits/{sha}/check-runs"),
        &token,
    )?;
    ensure!(listed["total_count"] == 1, "{listed}");
    setting.github.settle()?;
    setting.github.hold();
    setting.github.rerequest_check(id)?;
    setting.github.rerequest_suite(repo, "change")?;
    let told = told(&setting.github);
    ensure!(
        told == ["check_run.rerequested", "check_suite.rerequested"],
        "{told:?}"
    );
    ensure!(
        repo.checks()[0].conclusion.as_deref() == Some("failure"),
        "not kept"
    );

    let path = format!("/repos/ada/tools/statuses/{sha}");
    let status = json!({ "state": "success", "context": "berth", "description": "Live" });
    body(setting.post(&path, &token, &status)?, 201)?;
    ensure!(repo.statuses()[0].context == "berth", "not kept");

    let path = "/repos/ada/tools/deployments";
    let asked = json!({ "ref": sha, "environment": "preview", "transient_environment": true });
    // The check failed, and nothing was said about required contexts.
    ensure!(
        setting.post(path, &token, &asked)?.status() == 409,
        "checks failed"
    );
    let asked = json!({
        "ref": sha, "environment": "preview", "transient_environment": true,
        "required_contexts": [], "auto_merge": false,
    });
    let made = body(setting.post(path, &token, &asked)?, 201)?;
    let id = made["id"].as_u64().context("no id")?;
    let status = json!({
        "state": "success", "environment_url": "http://tools--pr-1.example/mcp",
        "log_url": "http://berth.example/log", "description": "Live",
    });
    let statuses = format!("{path}/{id}/statuses");
    body(setting.post(&statuses, &token, &status)?, 201)?;
    setting.read(&statuses, &token)?;
    setting.read(&format!("{path}/{id}"), &token)?;
    let listed = setting.read(&format!("{path}?environment=preview"), &token)?;
    ensure!(listed[0]["id"] == id, "{listed}");
    ensure!(
        repo.deployments()[0].statuses[0].state == "success",
        "not kept"
    );

    let path = format!("/repos/ada/tools/issues/{number}/comments");
    let made = body(
        setting.post(&path, &token, &json!({ "body": "Building" }))?,
        201,
    )?;
    ensure!(made["user"]["login"] == "berth-of-ada[bot]", "{made}");
    let id = made["id"].as_u64().context("no id")?;
    let edited = format!("/repos/ada/tools/issues/comments/{id}");
    body(
        setting.patch(&edited, &token, &json!({ "body": "Live" }))?,
        200,
    )?;
    setting.read(&edited, &token)?;
    let others = repo.comment(number, "ada", "Mine.")?;
    let foreign = format!("/repos/ada/tools/issues/comments/{others}");
    let refused = setting.patch(&foreign, &token, &json!({ "body": "Yours" }))?;
    ensure!(refused.status() == 403, "{}", refused.status());
    let comments = setting.read(&path, &token)?;
    ensure!(
        comments.as_array().is_some_and(|all| all.len() == 2),
        "{comments}"
    );
    ensure!(repo.comments(number)[0].edits == 1, "not counted");
    setting.github.finish()
}
