//! How a project is built: its settings, its variables for builds, and what a build resolved.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use runner::protocol::BuildSettings;
use serde_json::{Value, json};

use super::Caller;
use super::problem::{ApiResult, Body};
use crate::app::App;
use crate::error::Error;
use crate::variables::NewVariable;
use crate::{build_settings, build_variables, deployments, locks, projects};

/// The settings as the API shows them: every member, also those that are not set.
fn face(settings: &BuildSettings) -> Json<Value> {
    Json(json!({
        "root_directory": settings.root_directory,
        "dependency_file": settings.dependency_file,
        "dockerfile": settings.dockerfile,
        "system_packages": settings.system_packages,
        "build_command": settings.build_command,
        "start_command": settings.start_command,
    }))
}

/// `GET /projects/{project}/build`
pub async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    let project = projects::get_for(&mut db, caller.user.id, &project)
        .await?
        .project;
    Ok(face(&build_settings::get(&mut db, project.id).await?))
}

/// Body of `PATCH /projects/{project}/build`: what is absent stays, what is `null` or empty is
/// cleared.
#[expect(
    clippy::option_option,
    reason = "absent, null and a value are three things in a merge patch (RFC 7396)"
)]
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Change {
    #[serde(deserialize_with = "present")]
    root_directory: Option<Option<String>>,
    #[serde(deserialize_with = "present")]
    dependency_file: Option<Option<String>>,
    #[serde(deserialize_with = "present")]
    dockerfile: Option<Option<String>>,
    #[serde(deserialize_with = "present")]
    system_packages: Option<Option<Vec<String>>>,
    #[serde(deserialize_with = "present")]
    build_command: Option<Option<Vec<String>>>,
    #[serde(deserialize_with = "present")]
    start_command: Option<Option<Vec<String>>>,
}

/// Tells an absent member (`None`) from a `null` one (`Some(None)`).
#[expect(
    clippy::option_option,
    reason = "absent, null and a value are three things in a merge patch (RFC 7396)"
)]
fn present<'de, T: serde::Deserialize<'de>, D: serde::Deserializer<'de>>(
    member: D,
) -> Result<Option<Option<T>>, D::Error> {
    serde::Deserialize::deserialize(member).map(Some)
}

impl Change {
    /// What the settings are once this is applied.
    fn onto(self, old: BuildSettings) -> BuildSettings {
        let words =
            |new: Option<Option<Vec<String>>>, old| new.map_or(old, Option::unwrap_or_default);
        BuildSettings {
            root_directory: self.root_directory.unwrap_or(old.root_directory),
            dependency_file: self.dependency_file.unwrap_or(old.dependency_file),
            dockerfile: self.dockerfile.unwrap_or(old.dockerfile),
            system_packages: words(self.system_packages, old.system_packages),
            build_command: words(self.build_command, old.build_command),
            start_command: words(self.start_command, old.start_command),
        }
    }
}

/// `PATCH /projects/{project}/build`
pub async fn change(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
    Body(change): Body<Change>,
) -> ApiResult<Json<Value>> {
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, caller.user.id, &project)
        .await?
        .changeable()?;
    let old = build_settings::get(&mut tx, project.id).await?;
    let settings = build_settings::check(change.onto(old))?;
    build_settings::set(&mut tx, &project, &settings, &caller.actor, app.clock.now()).await?;
    tx.commit().await?;
    Ok(face(&settings))
}

/// `GET /projects/{project}/build-variables`; secrets without their values.
pub async fn list_variables(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    let project = projects::get_for(&mut db, caller.user.id, &project)
        .await?
        .project;
    let list = build_variables::list(&mut db, project.id).await?;
    Ok(Json(json!({ "variables": list })))
}

/// Body of `PATCH /projects/{project}/build-variables`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeVariables {
    #[serde(default)]
    set: Vec<NewVariable>,
    #[serde(default)]
    unset: Vec<String>,
}

/// `PATCH /projects/{project}/build-variables`: all or none; they apply from the next build.
pub async fn change_variables(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
    Body(change): Body<ChangeVariables>,
) -> ApiResult<Json<Value>> {
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, caller.user.id, &project)
        .await?
        .changeable()?;
    build_variables::change(
        &mut tx,
        &project,
        &change.set,
        &change.unset,
        &caller.actor,
        app.clock.now(),
    )
    .await?;
    let list = build_variables::list(&mut tx, project.id).await?;
    tx.commit().await?;
    Ok(Json(json!({ "variables": list })))
}

/// `GET /projects/{project}/deployments/{deployment}/lock`: the requirements with their hashes that
/// the build installed, as a file.
pub async fn lock(
    State(app): State<App>,
    caller: Caller,
    Path((project, deployment)): Path<(String, String)>,
) -> ApiResult<Response> {
    let mut db = app.db.acquire().await?;
    let project = projects::get_for(&mut db, caller.user.id, &project)
        .await?
        .project;
    let deployment = deployments::get(&mut db, project.id, &deployment).await?;
    let text = locks::find(&mut db, deployment.id)
        .await?
        .ok_or(Error::NotFound("lock"))?;
    Ok((locks::FILE_HEADERS, text).into_response())
}
