//! Previews of a project's pull requests.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgConnection;
use time::format_description::well_known::Rfc3339;

use super::Caller;
use super::problem::{ApiResult, Body};
use crate::app::App;
use crate::previews::approval::{self, Approval, Approver};
use crate::previews::standing::Standing;
use crate::previews::{self, Preview, closing, turns};
use crate::projects::{self, Project};

/// Previews in one answer, more than a project can have open and waiting.
const MOST: u8 = 200;

/// A preview as the API shows it.
async fn face(
    app: &App,
    db: &mut PgConnection,
    project: &Project,
    preview: &Preview,
) -> ApiResult<Value> {
    let standing = Standing::read(db, preview).await?;
    Ok(show(app, project, preview, &standing))
}

fn show(app: &App, project: &Project, preview: &Preview, standing: &Standing) -> Value {
    json!({
        "slug": preview.slug,
        "pull_request": preview.pull_request,
        "pull_request_url": preview.page(project.source_url.as_deref()),
        "title": preview.title,
        "author": preview.author,
        "branch": preview.branch,
        "commit": preview.head,
        "fork": preview.fork,
        "state": preview.state.name(),
        "about": standing.about(preview),
        "approved_commit": preview.approved_commit,
        "with_secrets": preview.with_secrets,
        "asleep": preview.asleep,
        "url": preview.url(&app.config, &project.name),
        "deployment": standing.newest.map(|newest| newest.number),
        "last_used_at": preview.last_used_at.format(&Rfc3339).unwrap_or_default(),
    })
}

/// `GET /projects/{project}/previews`, newest pull request first and those that wait for a member last.
/// `more` says that there are others.
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    let project = projects::get_for(&mut db, caller.user.id, &project)
        .await?
        .project;
    let mut some = previews::list_some(&mut db, project.id, i64::from(MOST) + 1).await?;
    let more = some.len() > usize::from(MOST);
    some.truncate(MOST.into());
    let standings = Standing::read_all(&mut db, &some).await?;
    let faces = some.iter().map(|preview| {
        let standing = standings.get(&preview.id).copied().unwrap_or_default();
        show(&app, &project, preview, &standing)
    });
    Ok(Json(
        json!({ "previews": faces.collect::<Vec<Value>>(), "more": more }),
    ))
}

/// `POST /projects/{project}/previews/{preview}/approve`
pub async fn approve(
    State(app): State<App>,
    caller: Caller,
    Path((project, preview)): Path<(String, String)>,
    Body(approval): Body<Approval>,
) -> ApiResult<Json<Value>> {
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, caller.user.id, &project)
        .await?
        .changeable()?;
    let by = Approver {
        user: caller.user.id,
        actor: &caller.actor,
    };
    let bounds = (app.config.previews_per_project.into(), app.clock.now());
    let (approved, _) =
        approval::approve(&mut tx, (&project, &preview), &approval, by, bounds).await?;
    let face = face(&app, &mut tx, &project, &approved).await?;
    tx.commit().await?;
    Ok(Json(face))
}

/// `POST /projects/{project}/previews/{preview}/deploy`
pub async fn deploy(
    State(app): State<App>,
    caller: Caller,
    Path((project, preview)): Path<(String, String)>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, caller.user.id, &project)
        .await?
        .changeable()?;
    let now = app.clock.now();
    let queued = turns::deploy(&mut tx, &project, &preview, &caller.actor, now).await?;
    tx.commit().await?;
    let face = super::deployments::face(&app, &project, &queued, None);
    Ok((StatusCode::CREATED, Json(face)))
}

/// `POST /projects/{project}/previews/{preview}/close`
pub async fn close(
    State(app): State<App>,
    caller: Caller,
    Path((project, preview)): Path<(String, String)>,
) -> ApiResult<Json<Value>> {
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, caller.user.id, &project)
        .await?
        .changeable()?;
    let bounds = (app.config.previews_per_project.into(), app.clock.now());
    let named = (&project, preview.as_str());
    let closed = closing::close_by_hand(&mut tx, named, &caller.actor, bounds).await?;
    let face = face(&app, &mut tx, &project, &closed).await?;
    tx.commit().await?;
    Ok(Json(face))
}
