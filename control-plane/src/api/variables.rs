//! Variables of a project.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::Caller;
use super::problem::{ApiResult, Body};
use crate::app::App;
use crate::error::Result;
use crate::projects::{self, Project};
use crate::variables::{self, Generate, NewVariable, Scope, Standing};

/// The variables, and which of their revisions the live server has.
async fn face(db: &mut PgConnection, project: &Project) -> Result<Value> {
    let standing = Standing::read(db, project.id).await?;
    let mut face = serde_json::to_value(standing)?;
    face["needed"] = serde_json::to_value(variables::needed(db, project.id).await?)?;
    face["variables"] = serde_json::to_value(variables::list(db, project.id).await?)?;
    Ok(face)
}

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
    Ok(Json(face(&mut db, &project).await?))
}

/// Body of `PATCH /projects/{project}/variables`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    #[serde(default)]
    set: Vec<NewVariable>,
    #[serde(default)]
    unset: Vec<String>,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    branch: Option<String>,
}

/// `PATCH /projects/{project}/variables`: all or none. Those of production reach the live server
/// by a restart of the same build.
pub async fn change(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
    Body(change): Body<Change>,
) -> ApiResult<Json<Value>> {
    let wanted = variables::Change {
        scope: Scope::parse(change.scope.as_deref(), change.branch.as_deref())?,
        set: change.set,
        unset: change.unset,
    };
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, caller.user.id, &project)
        .await?
        .changeable()?;
    let changed =
        variables::change(&mut tx, &project, &wanted, &caller.actor, app.clock.now()).await?;
    let mut face = face(&mut tx, &project).await?;
    face["restart"] = json!(changed.restart);
    tx.commit().await?;
    Ok(Json(face))
}

/// Body of `POST /projects/{project}/variables/generate`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    replace: bool,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    branch: Option<String>,
}

/// `POST /projects/{project}/variables/generate`: random keys, sealed; no answer shows them.
pub async fn generate(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
    Body(keys): Body<Keys>,
) -> ApiResult<Json<Value>> {
    let wanted = Generate {
        scope: Scope::parse(keys.scope.as_deref(), keys.branch.as_deref())?,
        names: keys.names,
        replace: keys.replace,
    };
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, caller.user.id, &project)
        .await?
        .changeable()?;
    let changed =
        variables::generate(&mut tx, &project, &wanted, &caller.actor, app.clock.now()).await?;
    let mut face = face(&mut tx, &project).await?;
    face["restart"] = json!(changed.restart);
    tx.commit().await?;
    Ok(Json(face))
}
