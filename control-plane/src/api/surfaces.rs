//! What a deployment's server offers, and what changed since the one before.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::Caller;
use super::problem::{ApiResult, Params};
use crate::app::App;
use crate::{deployments, projects, surface};

/// `GET /projects/{project}/deployments/{deployment}/surface`: as the server said at the probe;
/// `null` while it has said nothing.
pub async fn show(
    State(app): State<App>,
    caller: Caller,
    Path((project, deployment)): Path<(String, String)>,
) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    let project = projects::get_for(&mut db, caller.user.id, &project)
        .await?
        .project;
    let deployment = deployments::get(&mut db, project.id, &deployment).await?;
    Ok(Json(
        json!({ "deployment": deployment.number, "surface": deployment.surface }),
    ))
}

/// `?with=`
#[derive(Debug, serde::Deserialize)]
pub struct With {
    with: Option<String>,
}

/// `GET /projects/{project}/deployments/{deployment}/diff?with=`: the changes since the deployment
/// that it replaced, or would replace.
pub async fn diff(
    State(app): State<App>,
    caller: Caller,
    Path((project, deployment)): Path<(String, String)>,
    Params(With { with }): Params<With>,
) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    let project = projects::get_for(&mut db, caller.user.id, &project)
        .await?
        .project;
    let deployment = deployments::get(&mut db, project.id, &deployment).await?;
    let before = match with {
        Some(with) => Some(deployments::get(&mut db, project.id, &with).await?),
        None => deployments::find_before(&mut db, &deployment).await?,
    };
    let old = before.as_ref().and_then(deployments::Deployment::offers);
    let changes = old
        .zip(deployment.offers())
        .map(|(old, new)| surface::diff(&old, &new));
    Ok(Json(json!({
        "deployment": deployment.number,
        "state": deployment.state.name(),
        "with": before.map(|before| before.number),
        "compared": changes.is_some(),
        "breaking": changes.as_deref().is_some_and(surface::breaks),
        "changes": changes.unwrap_or_default(),
    })))
}
