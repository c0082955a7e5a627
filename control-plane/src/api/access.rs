//! Who may call a project.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::Caller;
use super::problem::{ApiResult, Body};
use crate::access::{self, Access, Change};
use crate::app::App;
use crate::projects::{self, Project};

fn face(app: &App, project: &Project, access: &Access) -> ApiResult<Value> {
    let mut face = serde_json::to_value(access)?;
    face["meaning"] = json!(access.mode.meaning(&project.name));
    face["url"] = json!(app.config.project_url(&project.name));
    face["key_url"] = json!(app.config.project_key_url(&project.name));
    Ok(face)
}

/// `GET /projects/{project}/access`
pub async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    let project = projects::get_for(&mut db, caller.user.id, &project)
        .await?
        .project;
    let access = access::get(&mut db, project.id).await?;
    Ok(Json(face(&app, &project, &access)?))
}

/// `PATCH /projects/{project}/access`
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
    let now = app.clock.now();
    let access = access::change(&mut tx, &project, &change, &caller.actor, now).await?;
    tx.commit().await?;
    Ok(Json(face(&app, &project, &access)?))
}
