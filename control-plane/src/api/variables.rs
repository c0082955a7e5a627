//! Variables of a project.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::Caller;
use super::problem::{ApiResult, Body};
use crate::app::App;
use crate::projects;
use crate::variables::{self, NewVariable};

/// `GET /projects/{project}/variables`; secrets without their values.
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    let project = projects::get_for(&mut db, caller.user.id, &project)
        .await?
        .project;
    Ok(Json(
        json!({ "variables": variables::list(&mut db, project.id).await? }),
    ))
}

/// Body of `PATCH /projects/{project}/variables`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    #[serde(default)]
    set: Vec<NewVariable>,
    #[serde(default)]
    unset: Vec<String>,
}

/// `PATCH /projects/{project}/variables`: all or none; they apply from the next deployment.
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
    variables::change(
        &mut tx,
        &project,
        &change.set,
        &change.unset,
        &caller.actor,
        app.clock.now(),
    )
    .await?;
    let list = variables::list(&mut tx, project.id).await?;
    tx.commit().await?;
    Ok(Json(json!({ "variables": list })))
}
