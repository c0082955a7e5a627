//! Check runs and their annotations.

use serde_json::{Value, json};

use super::{Call, Handler, Reply, Stop, Who};
use crate::github::Shared;
use crate::github::call::{Level, invalid, not_accessible, not_found, refused};
use crate::github::git;
use crate::github::state::{self, Check, State};
use crate::github::views::{self, node_id};

pub(super) const ROUTES: &[(&str, &str, Handler)] = &[
    ("POST", "/repos/{owner}/{repo}/check-runs", create),
    (
        "GET",
        "/repos/{owner}/{repo}/check-runs/{check_run_id}",
        one,
    ),
    (
        "PATCH",
        "/repos/{owner}/{repo}/check-runs/{check_run_id}",
        update,
    ),
    (
        "GET",
        "/repos/{owner}/{repo}/check-runs/{check_run_id}/annotations",
        annotations,
    ),
    (
        "GET",
        "/repos/{owner}/{repo}/commits/{ref}/check-runs",
        of_commit,
    ),
];

/// Annotations in one request (GitHub's documentation, "Create a check run").
const ANNOTATIONS: usize = 50;

/// Characters of a summary, and of a text.
const TEXT: usize = 65_535;

/// Only Apps write checks.
fn writer(call: &Call<'_>, state: &State) -> Result<u64, Stop> {
    match &call.who {
        Who::Installation { id, .. } => Ok(state.installations[id].app),
        Who::Nobody => Err(refused(401, "Requires authentication")),
        _ => Err(not_accessible()),
    }
}

fn create(call: &Call<'_>) -> Result<Reply, Stop> {
    let mut state = call.shared.state();
    let repository = call.repository(&state, "checks", Level::Write)?;
    let app = writer(call, &state)?;
    let name = call.text("name").unwrap_or_default();
    if name.is_empty() {
        return Err(invalid("CheckRun", "name", "missing_field"));
    }
    let git = call.shared.git(repository.id)?;
    let head_sha = call.text("head_sha").unwrap_or_default();
    if head_sha
        .parse()
        .ok()
        .and_then(|id| git.find_commit(id).ok())
        .is_none()
    {
        return Err(refused(
            422,
            &format!("No commit found for SHA: {head_sha}"),
        ));
    }
    let mut check = Check {
        id: state.id(),
        suite: state.suite(repository.id, app, &head_sha),
        repository: repository.id,
        app,
        name,
        head_sha,
        status: "queued".to_owned(),
        conclusion: None,
        details_url: None,
        external_id: None,
        started_at: Some(views::time(state::now())),
        completed_at: None,
        title: None,
        summary: None,
        text: None,
        annotations: Vec::new(),
    };
    change(call, &mut check)?;
    let shown = show(call.shared, &state, &check);
    state.checks.insert(check.id, check);
    Ok(Reply::json(201, shown))
}

fn update(call: &Call<'_>) -> Result<Reply, Stop> {
    let mut state = call.shared.state();
    let repository = call.repository(&state, "checks", Level::Write)?;
    let app = writer(call, &state)?;
    let found = state.checks.get(&call.number("check_run_id")?).cloned();
    let found = found.filter(|one| one.repository == repository.id);
    let mut check = found.ok_or_else(not_found)?;
    if check.app != app {
        return Err(refused(
            403,
            &format!(
                "Invalid app_id `{app}` - check run can only be modified by the GitHub App that created it."
            ),
        ));
    }
    if let Some(name) = call.text("name") {
        check.name = name;
    }
    change(call, &mut check)?;
    let shown = show(call.shared, &state, &check);
    state.checks.insert(check.id, check);
    Ok(Reply::json(200, shown))
}

/// What creating and updating have in common.
fn change(call: &Call<'_>, check: &mut Check) -> Result<(), Stop> {
    let now = || views::time(state::now());
    if let Some(status) = call.text("status") {
        if status != "completed" {
            check.conclusion = None;
            check.completed_at = None;
        }
        check.status = status;
    }
    if let Some(conclusion) = call.text("conclusion") {
        // It completes the run by itself.
        "completed".clone_into(&mut check.status);
        check.conclusion = Some(conclusion);
        check.completed_at = Some(now());
    }
    if check.status == "completed" && check.conclusion.is_none() {
        return Err(invalid("CheckRun", "conclusion", "missing_field"));
    }
    for (member, kept) in [
        ("details_url", &mut check.details_url),
        ("external_id", &mut check.external_id),
        ("started_at", &mut check.started_at),
        ("completed_at", &mut check.completed_at),
    ] {
        if let Some(text) = call.text(member) {
            *kept = Some(text);
        }
    }
    let output = call.member("output");
    for (member, kept) in [
        ("title", &mut check.title),
        ("summary", &mut check.summary),
        ("text", &mut check.text),
    ] {
        if let Some(text) = output[member].as_str() {
            if text.chars().count() > TEXT {
                return Err(refused(
                    422,
                    &format!(
                        "Invalid request.\n\nOnly {TEXT} characters are allowed; {} were supplied.",
                        text.chars().count()
                    ),
                ));
            }
            *kept = Some(text.to_owned());
        }
    }
    if let Some(more) = output["annotations"].as_array() {
        if more.len() > ANNOTATIONS {
            return Err(refused(
                422,
                &format!(
                    "Invalid request.\n\nNo more than {ANNOTATIONS} items are allowed; {} were supplied.",
                    more.len()
                ),
            ));
        }
        check.annotations.extend(more.iter().cloned());
    }
    Ok(())
}

/// A check run (`check-run`).
pub(crate) fn show(shared: &Shared, state: &State, check: &Check) -> Value {
    let repository = &state.repositories[&check.repository];
    let places = shared.places(&state.full_name(repository));
    let url = format!("{}/check-runs/{}", places.api, check.id);
    let page = format!("{}/runs/{}", places.page, check.id);
    let side = |branch: &str, sha: &str| {
        json!({
            "ref": branch,
            "sha": sha,
            "repo": { "id": repository.id, "url": places.api, "name": repository.name },
        })
    };
    let pulls: Vec<Value> = repository
        .pulls
        .values()
        .filter(|one| one.open && one.head_sha == check.head_sha)
        .filter(|one| one.head_repository == repository.id)
        .map(|one| {
            json!({
                "id": one.id,
                "number": one.number,
                "url": format!("{}/pulls/{}", places.api, one.number),
                "head": side(&one.head_branch, &one.head_sha),
                "base": side(&one.base_branch, &one.base_sha),
            })
        })
        .collect();
    json!({
        "id": check.id,
        "head_sha": check.head_sha,
        "node_id": node_id("CheckRun", check.id),
        "external_id": check.external_id.as_deref().unwrap_or_default(),
        "url": url,
        "html_url": page,
        "details_url": check.details_url.as_deref().unwrap_or(&page),
        "status": check.status,
        "conclusion": check.conclusion,
        "started_at": check.started_at,
        "completed_at": check.completed_at,
        "output": {
            "title": check.title,
            "summary": check.summary,
            "text": check.text,
            "annotations_count": check.annotations.len(),
            "annotations_url": format!("{url}/annotations"),
        },
        "name": check.name,
        "check_suite": { "id": check.suite },
        "app": shared.app(state, &state.apps[&check.app]),
        "pull_requests": pulls,
    })
}

fn one(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let repository = call.repository(&state, "checks", Level::Read)?;
    let check = state.checks.get(&call.number("check_run_id")?);
    let check = check.filter(|one| one.repository == repository.id);
    Ok(Reply::json(
        200,
        show(call.shared, &state, check.ok_or_else(not_found)?),
    ))
}

fn annotations(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let repository = call.repository(&state, "checks", Level::Read)?;
    let places = call.shared.places(&state.full_name(&repository));
    let check = state.checks.get(&call.number("check_run_id")?);
    let check = check.filter(|one| one.repository == repository.id);
    let check = check.ok_or_else(not_found)?;
    let shown = check
        .annotations
        .iter()
        .map(|one| {
            let path = git::encode_path(one["path"].as_str().unwrap_or_default());
            json!({
                "path": one["path"],
                "start_line": one["start_line"],
                "end_line": one["end_line"],
                "start_column": one["start_column"],
                "end_column": one["end_column"],
                "annotation_level": one["annotation_level"],
                "title": one["title"],
                "message": one["message"],
                "raw_details": one["raw_details"],
                "blob_href": format!("{}/blob/{}/{path}", places.page, check.head_sha),
            })
        })
        .collect();
    Ok(call.list(shown))
}

/// The newest of each name, unless all are asked for.
fn of_commit(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let repository = call.repository(&state, "checks", Level::Read)?;
    let git = call.shared.git(repository.id)?;
    let sha = git::resolve(&git, call.param("ref"))
        .ok_or_else(not_found)?
        .id()
        .to_string();
    let all = call.query("filter") == Some("all");
    let mut names = std::collections::BTreeSet::new();
    let shown = state
        .checks
        .values()
        .rev()
        .filter(|one| one.repository == repository.id && one.head_sha == sha)
        .filter(|one| call.query("check_name").is_none_or(|name| one.name == name))
        .filter(|one| {
            call.query("status")
                .is_none_or(|status| one.status == status)
        })
        .filter(|one| names.insert((one.app, one.name.clone())) || all)
        .map(|one| show(call.shared, &state, one))
        .collect();
    Ok(call.counted("check_runs", shown, json!({})))
}
