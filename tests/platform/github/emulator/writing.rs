//! Repositories that are made by the API, and files that are written into them.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::setting::{Setting, body, manifest_of};

fn sha(value: &Value) -> Result<String> {
    value["sha"].as_str().map(str::to_owned).context("no sha")
}

/// Writes `server.py` as one commit on `main`, as whoever has the token.
fn write(setting: &Setting, name: &str, token: &str) -> Result<()> {
    let at = |rest: &str| format!("/repos/{name}{rest}");
    let head = setting.read(&at("/branches/main"), token)?;
    let file = json!({ "path": "server.py", "mode": "100644", "type": "blob", "content": "one\n" });
    let tree = json!({ "tree": [file] });
    let tree = sha(&body(setting.post(&at("/git/trees"), token, &tree)?, 201)?)?;
    let begun = sha(&head["commit"])?;
    let commit = json!({ "message": "First", "tree": tree, "parents": [begun] });
    let commit = sha(&body(
        setting.post(&at("/git/commits"), token, &commit)?,
        201,
    )?)?;
    let to = json!({ "sha": commit });
    let path = at("/git/refs/heads/main");
    let moved = body(setting.patch(&path, token, &to)?, 200)?;
    ensure!(moved["object"]["sha"] == *commit, "{moved}");
    let listed = setting.read(&at("/contents/"), token)?;
    ensure!(listed.as_array().map_or(0, Vec::len) == 1, "{listed}");
    ensure!(listed[0]["name"] == "server.py", "{listed}");
    // Back is not forward.
    let back = json!({ "sha": begun, "force": false });
    body(setting.patch(&path, token, &back)?, 422).map(drop)
}

pub fn repositories() -> Result<()> {
    let setting = Setting::new()?;
    let github = &setting.github;
    github.organization("team", &["ada"]);
    github.user("eve");
    let new = |name: &str| json!({ "name": name, "private": true, "auto_init": true });
    let ada = github.user_token("ada", setting.app.id)?;
    let eve = github.user_token("eve", setting.app.id)?;
    let path = "/orgs/team/repos";
    let refused = |path: &str, token: &str| -> Result<()> {
        body(setting.post(path, token, &new("made"))?, 403).map(drop)
    };
    // Not before the App is installed there; not by strangers; not by the App for a person.
    refused(path, &ada)?;
    let team = github.install(setting.app.id, "team", None)?;
    refused(path, &eve)?;
    refused("/user/repos", &setting.token()?)?;
    refused(path, &setting.token()?)?;
    let made = body(setting.post(path, &ada, &new("made"))?, 201)?;
    ensure!(
        made["full_name"] == "team/made" && made["private"] == true,
        "{made}"
    );
    let taken = body(setting.post(path, &ada, &new("Made"))?, 422)?;
    ensure!(
        taken["errors"][0]["message"] == "name already exists on this account",
        "{taken}"
    );

    // `contents: read` is not enough to write.
    let tree =
        json!({ "tree": [{ "path": "a", "mode": "100644", "type": "blob", "content": "a" }] });
    body(
        setting.post("/repos/team/made/git/trees", &ada, &tree)?,
        403,
    )?;
    let empty = github.repository("team", "empty", true)?;
    let mut manifest = manifest_of("http://127.0.0.1:1/hook");
    manifest["default_permissions"]["contents"] = json!("write");
    manifest["name"] = json!("Writer of Ada");
    let writer = github.app("ada", &manifest)?;
    let installation = github.install(writer.id, "team", None)?;
    let person = github.user_token("ada", writer.id)?;
    write(&setting, "team/made", &person)?;
    body(
        setting.post("/repos/team/empty/git/trees", &person, &tree)?,
        409,
    )?;
    ensure!(empty.head("main").is_err(), "it is empty");

    // An installation by itself, with these permissions alone.
    let path = format!("/app/installations/{installation}/access_tokens");
    let narrowed = json!({ "permissions": { "administration": "write", "contents": "write" } });
    let assertion = super::setting::jwt_of(&writer, -60, 540)?;
    let token = body(setting.post(&path, &assertion, &narrowed)?, 201)?;
    let token = token["token"].as_str().context("no token")?;
    body(setting.post("/orgs/team/repos", token, &new("own"))?, 201)?;
    write(&setting, "team/own", token)?;
    ensure!(github.find("team/own")?.id() != empty.id(), "two");
    github.uninstall(team);
    setting.github.finish()
}
