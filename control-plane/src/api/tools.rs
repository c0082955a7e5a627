//! What the live server offers.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::Caller;
use super::problem::ApiResult;
use crate::app::App;
use crate::error::Error;
use crate::{deployments, projects};

/// `GET /projects/{project}/tools`: the live deployment's tools, as the server listed them.
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    let project = projects::get_for(&mut db, caller.user.id, &project)
        .await?
        .project;
    let live = deployments::find_live(&mut db, project.id)
        .await?
        .ok_or_else(|| {
            Error::Conflict(format!(
                "Nothing of {} is live yet; deploy it first.",
                project.name
            ))
        })?;
    let mut surface = live.surface.ok_or_else(|| {
        Error::Conflict(format!(
            "The server of {} asks for its own sign-in, so what it offers is not known here; list its tools with an MCP client.",
            project.name
        ))
    })?;
    Ok(Json(
        json!({ "deployment": live.number, "tools": surface["tools"].take() }),
    ))
}
