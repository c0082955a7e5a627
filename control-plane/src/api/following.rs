//! What a project follows at GitHub.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Caller;
use super::problem::{ApiResult, Body};
use super::projects;
use crate::app::App;
use crate::github::choices::{self, Named};
use crate::github::following::{self, Following};
use crate::projects::get_for;

/// What a project follows at GitHub.
pub(super) fn face(app: &App, it: &Following) -> Value {
    let time = |at: OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
    let (link, interval) = (&it.link, app.config.github_reconcile_seconds);
    json!({
        "repository": link.repository_id,
        "full_name": it.repository,
        "private": it.private,
        "installation": link.installation_id,
        "head": link.head,
        "skipped": link.skipped.as_ref().map(|commit| json!({
            "commit": commit,
            "why": link.skipped_why,
        })),
        "problem": link.problem,
        "unreached_since": link.unreached_since(interval, app.clock.now()).map(time),
        "checked_at": link.checked_at.map(time),
        "last_delivery": it.delivery.as_ref().map(|told| json!({
            "event": told.event,
            "action": told.action,
            "state": told.state,
            "received_at": time(told.received_at),
        })),
    })
}

/// Body of `PUT /projects/{project}/github`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    repository: Named,
    branch: Option<String>,
}

/// `PUT /projects/{project}/github`: pushes to the repository's branch come live from now on.
pub async fn connect(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
    Body(wanted): Body<Connect>,
) -> ApiResult<Json<Value>> {
    let project = {
        let mut db = app.db.acquire().await?;
        get_for(&mut db, caller.user.id, &project)
            .await?
            .changeable()?
    };
    let (named, branch) = (&wanted.repository, wanted.branch.as_deref());
    let choice = choices::choose_for(&app, caller.user.id, &project, named, branch).await?;
    let mut tx = app.db.begin().await?;
    let project = following::connect(&app, &mut tx, &project, &choice, &caller.actor).await?;
    let face = projects::face(&app, &mut tx, &project).await?;
    tx.commit().await?;
    Ok(Json(face))
}

/// `DELETE /projects/{project}/github`: pushes do not come live any more.
pub async fn disconnect(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
) -> ApiResult<StatusCode> {
    let mut tx = app.db.begin().await?;
    let project = get_for(&mut tx, caller.user.id, &project)
        .await?
        .changeable()?;
    following::disconnect(&mut tx, &project, &caller.actor, app.clock.now()).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
