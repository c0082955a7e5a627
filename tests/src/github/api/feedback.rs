//! Commit statuses and deployments.

use serde_json::{Value, json};

use super::comments::writer;
use super::{Call, Handler, Reply, Stop};
use crate::github::Shared;
use crate::github::call::{Level, invalid, not_found, refused};
use crate::github::git;
use crate::github::state::{self, Deployment, DeploymentStatus, Repository, State, Status};
use crate::github::views::{node_id, time};

pub(super) const ROUTES: &[(&str, &str, Handler)] = &[
    (
        "POST",
        "/repos/{owner}/{repo}/statuses/{sha}",
        create_status,
    ),
    (
        "POST",
        "/repos/{owner}/{repo}/deployments",
        create_deployment,
    ),
    ("GET", "/repos/{owner}/{repo}/deployments", deployments),
    (
        "GET",
        "/repos/{owner}/{repo}/deployments/{deployment_id}",
        deployment,
    ),
    (
        "POST",
        "/repos/{owner}/{repo}/deployments/{deployment_id}/statuses",
        create_deployment_status,
    ),
    (
        "GET",
        "/repos/{owner}/{repo}/deployments/{deployment_id}/statuses",
        deployment_statuses,
    ),
];

/// The longest description of a status, in characters.
const DESCRIPTION: usize = 140;

fn create_status(call: &Call<'_>) -> Result<Reply, Stop> {
    let mut state = call.shared.state();
    let repository = call.repository(&state, "statuses", Level::Write)?;
    let (creator, _) = writer(call, &state)?;
    let git = call.shared.git(repository.id)?;
    let sha = call.param("sha").to_owned();
    if sha
        .parse()
        .ok()
        .and_then(|id| git.find_commit(id).ok())
        .is_none()
    {
        return Err(refused(422, &format!("No commit found for SHA: {sha}")));
    }
    let description = call.text("description");
    if description
        .as_ref()
        .is_some_and(|text| text.chars().count() > DESCRIPTION)
    {
        return Err(invalid("Status", "description", "custom"));
    }
    let status = Status {
        id: state.id(),
        repository: repository.id,
        sha,
        state: call.text("state").unwrap_or_default(),
        context: call.text("context").unwrap_or_else(|| "default".to_owned()),
        description,
        target_url: call.text("target_url"),
        creator,
        created_at: state::now(),
    };
    let places = call.shared.places(&state.full_name(&repository));
    let creator = call.shared.user(&state.accounts[&creator]);
    let shown = json!({
        "url": format!("{}/statuses/{}", places.api, status.sha),
        "avatar_url": creator["avatar_url"],
        "id": status.id,
        "node_id": node_id("StatusContext", status.id),
        "state": status.state,
        "description": status.description,
        "target_url": status.target_url,
        "context": status.context,
        "created_at": time(status.created_at),
        "updated_at": time(status.created_at),
        "creator": creator,
    });
    state.statuses.push(status);
    Ok(Reply::json(201, shown))
}

fn create_deployment(call: &Call<'_>) -> Result<Reply, Stop> {
    let mut state = call.shared.state();
    let repository = call.repository(&state, "deployments", Level::Write)?;
    let (creator, app) = writer(call, &state)?;
    let git = call.shared.git(repository.id)?;
    let reference = call.text("ref").unwrap_or_default();
    let sha = git::resolve(&git, &reference)
        .ok_or_else(|| refused(422, &format!("No ref found for: {reference}")))?
        .id()
        .to_string();
    // Contexts that must have succeeded: by default every one that the commit has.
    let contexts = call.member("required_contexts").as_array();
    if contexts.is_none_or(|some| !some.is_empty()) && unsuccessful(&state, &repository, &sha) {
        return Err(refused(
            409,
            "Conflict: Commit status checks failed for the ref.",
        ));
    }
    let deployment = Deployment {
        id: state.id(),
        repository: repository.id,
        app,
        creator,
        sha,
        reference,
        task: call.text("task").unwrap_or_else(|| "deploy".to_owned()),
        environment: call
            .text("environment")
            .unwrap_or_else(|| "production".to_owned()),
        description: call.text("description"),
        payload: match call.member("payload") {
            Value::Null => json!({}),
            given => given.clone(),
        },
        transient: call
            .member("transient_environment")
            .as_bool()
            .unwrap_or(false),
        production: call
            .member("production_environment")
            .as_bool()
            .unwrap_or_else(|| {
                call.text("environment")
                    .is_none_or(|name| name == "production")
            }),
        created_at: state::now(),
        statuses: Vec::new(),
    };
    let shown = show_deployment(call.shared, &state, &deployment);
    state.deployments.insert(deployment.id, deployment);
    Ok(Reply::json(201, shown))
}

/// Whether a commit has a status or check that did not succeed (GitHub's documentation, "Create a
/// deployment").
fn unsuccessful(state: &State, repository: &Repository, sha: &str) -> bool {
    let mut newest = std::collections::BTreeMap::new();
    for one in state
        .statuses
        .iter()
        .filter(|one| one.repository == repository.id && one.sha == sha)
    {
        newest.insert(&one.context, one.state == "success");
    }
    let checks = state
        .checks
        .values()
        .filter(|one| one.repository == repository.id && one.head_sha == sha);
    let fine = |conclusion: &Option<String>| {
        matches!(
            conclusion.as_deref(),
            Some("success" | "neutral" | "skipped")
        )
    };
    newest.values().any(|fine| !fine) || checks.into_iter().any(|one| !fine(&one.conclusion))
}

fn show_deployment(shared: &Shared, state: &State, one: &Deployment) -> Value {
    let repository = &state.repositories[&one.repository];
    let api = shared.places(&state.full_name(repository)).api;
    let url = format!("{api}/deployments/{}", one.id);
    let mut shown = json!({
        "url": url,
        "id": one.id,
        "node_id": node_id("Deployment", one.id),
        "sha": one.sha,
        "ref": one.reference,
        "task": one.task,
        "payload": one.payload,
        "original_environment": one.environment,
        "environment": one.environment,
        "description": one.description,
        "creator": shared.user(&state.accounts[&one.creator]),
        "created_at": time(one.created_at),
        "updated_at": time(one.created_at),
        "statuses_url": format!("{url}/statuses"),
        "repository_url": api,
        "transient_environment": one.transient,
        "production_environment": one.production,
    });
    if let Some(app) = one.app {
        shown["performed_via_github_app"] = shared.app(state, &state.apps[&app]);
    }
    shown
}

/// Newest first.
fn deployments(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let repository = call.repository(&state, "deployments", Level::Read)?;
    let matches = |name: &str, value: &str| call.query(name).is_none_or(|wanted| wanted == value);
    let shown = state
        .deployments
        .values()
        .rev()
        .filter(|one| one.repository == repository.id)
        .filter(|one| matches("environment", &one.environment) && matches("sha", &one.sha))
        .filter(|one| matches("ref", &one.reference) && matches("task", &one.task))
        .map(|one| show_deployment(call.shared, &state, one))
        .collect();
    Ok(call.list(shown))
}

fn find<'s>(
    call: &Call<'_>,
    state: &'s State,
    repository: &Repository,
) -> Result<&'s Deployment, Stop> {
    let found = state.deployments.get(&call.number("deployment_id")?);
    found
        .filter(|one| one.repository == repository.id)
        .ok_or_else(not_found)
}

fn deployment(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let repository = call.repository(&state, "deployments", Level::Read)?;
    let found = find(call, &state, &repository)?;
    Ok(Reply::json(
        200,
        show_deployment(call.shared, &state, found),
    ))
}

fn create_deployment_status(call: &Call<'_>) -> Result<Reply, Stop> {
    let mut state = call.shared.state();
    let repository = call.repository(&state, "deployments", Level::Write)?;
    let deployment = find(call, &state, &repository)?.clone();
    let description = call.text("description").unwrap_or_default();
    if description.chars().count() > DESCRIPTION {
        return Err(invalid("DeploymentStatus", "description", "custom"));
    }
    let target = call.text("log_url").or_else(|| call.text("target_url"));
    let status = DeploymentStatus {
        id: state.id(),
        state: call.text("state").unwrap_or_default(),
        description,
        environment: call
            .text("environment")
            .unwrap_or_else(|| deployment.environment.clone()),
        environment_url: call.text("environment_url").unwrap_or_default(),
        log_url: target.unwrap_or_default(),
        created_at: state::now(),
    };
    // Success makes earlier ones of the environment inactive, unless they are transient or the
    // caller does not want it.
    if status.state == "success" && call.member("auto_inactive") != &Value::Bool(false) {
        retire(&mut state, &deployment);
    }
    let shown = show_deployment_status(call.shared, &state, &deployment, &status);
    if let Some(kept) = state.deployments.get_mut(&deployment.id) {
        kept.statuses.push(status);
    }
    Ok(Reply::json(201, shown))
}

fn retire(state: &mut State, newest: &Deployment) {
    let id = state.id();
    for one in state.deployments.values_mut() {
        let successful = one
            .statuses
            .last()
            .is_some_and(|last| last.state == "success");
        if one.repository == newest.repository
            && one.environment == newest.environment
            && one.id < newest.id
            && !one.transient
            && !one.production
            && successful
        {
            one.statuses.push(DeploymentStatus {
                id,
                state: "inactive".to_owned(),
                description: String::new(),
                environment: one.environment.clone(),
                environment_url: String::new(),
                log_url: String::new(),
                created_at: state::now(),
            });
        }
    }
}

fn show_deployment_status(
    shared: &Shared,
    state: &State,
    deployment: &Deployment,
    one: &DeploymentStatus,
) -> Value {
    let repository = &state.repositories[&deployment.repository];
    let api = shared.places(&state.full_name(repository)).api;
    let url = format!("{api}/deployments/{}", deployment.id);
    let mut shown = json!({
        "url": format!("{url}/statuses/{}", one.id),
        "id": one.id,
        "node_id": node_id("DeploymentStatus", one.id),
        "state": one.state,
        "creator": shared.user(&state.accounts[&deployment.creator]),
        "description": one.description,
        "environment": one.environment,
        "target_url": one.log_url,
        "created_at": time(one.created_at),
        "updated_at": time(one.created_at),
        "deployment_url": url,
        "repository_url": api,
        "environment_url": one.environment_url,
        "log_url": one.log_url,
    });
    if let Some(app) = deployment.app {
        shown["performed_via_github_app"] = shared.app(state, &state.apps[&app]);
    }
    shown
}

fn deployment_statuses(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let repository = call.repository(&state, "deployments", Level::Read)?;
    let deployment = find(call, &state, &repository)?;
    let shown = deployment
        .statuses
        .iter()
        .rev()
        .map(|one| show_deployment_status(call.shared, &state, deployment, one))
        .collect();
    Ok(call.list(shown))
}
