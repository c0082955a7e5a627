//! Deployments of a project.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Caller;
use super::problem::{ApiResult, Body, Params};
use crate::app::App;
use crate::deployments::{self, Deployment, Request};
use crate::github::references;
use crate::projects::{self, Project};
use crate::{edges, previews, variables};

/// Most deployments of one answer.
const MAX_PAGE: i64 = 200;

/// Deployments of one answer unless asked otherwise.
const PAGE: i64 = 50;

fn time(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

/// A deployment as the API shows it; `in_use` is the oldest version of the routes at any edge.
pub(super) fn face(
    app: &App,
    project: &Project,
    deployment: &Deployment,
    in_use: Option<i64>,
) -> Value {
    let diagnosis = deployment.diagnosis.clone().map(|mut diagnosis| {
        let page = diagnosis["code"]
            .as_str()
            .map(|code| format!("{}/docs/errors#{code}", app.config.issuer()));
        diagnosis["page"] = json!(page);
        diagnosis
    });
    json!({
        "id": deployment.id,
        "number": deployment.number,
        "project": project.name,
        "preview": deployment.preview,
        "state": deployment.state.name(),
        "commit": deployment.commit_id,
        "commit_subject": deployment.commit_subject,
        "commit_author": deployment.commit_author,
        "branch": deployment.branch(),
        "entrypoint": deployment.entrypoint,
        "origin": deployment.origin,
        "variables_revision": deployment.variables_revision,
        "build_of": deployment.build_of,
        "created_by": deployment.created_by,
        "created_at": time(deployment.created_at),
        "live_at": deployment.live_at.map(time),
        "served": deployment.is_served(in_use, app.clock.now()),
        "finished_at": deployment.finished_at.map(time),
        "sessions": deployment.sessions,
        "drain_until": deployment.drain_until.map(time),
        "url": match &deployment.preview {
            Some(slug) => app.config.project_url(&previews::label(&project.name, slug)),
            None => app.config.project_url(&project.name),
        },
        "dashboard_url": format!(
            "{}/projects/{}/deployments/{}", app.config.issuer(), project.name, deployment.number
        ),
        "diagnosis": diagnosis,
        "held_for": deployment.held_for,
        "timings": deployment.timings,
        "plan": deployment.plan,
    })
}

/// `?limit=&preview=`
#[derive(Debug, serde::Deserialize)]
pub struct Wanted {
    limit: Option<i64>,
    /// A preview's slug, or `none` for those of production alone.
    preview: Option<String>,
}

/// `GET /projects/{project}/deployments`, newest first.
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
    Params(wanted): Params<Wanted>,
) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    let project = projects::get_for(&mut db, caller.user.id, &project)
        .await?
        .project;
    let limit = wanted.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE);
    let list = match wanted.preview.as_deref() {
        None => deployments::list(&mut db, project.id, limit).await?,
        Some("none") => deployments::list_in(&mut db, project.id, None, limit).await?,
        Some(slug) => {
            let preview = previews::get(&mut db, project.id, slug).await?;
            deployments::list_in(&mut db, project.id, Some(preview.id), limit).await?
        }
    };
    let in_use = edges::oldest_in_use(&mut db, app.clock.now()).await?;
    let faces = list.iter().map(|d| face(&app, &project, d, in_use));
    Ok(Json(
        json!({ "deployments": faces.collect::<Vec<Value>>() }),
    ))
}

/// Body of `POST /projects/{project}/deployments`; every member may be absent.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct New {
    branch: Option<String>,
    commit: Option<String>,
    entrypoint: Option<String>,
    upload: Option<String>,
}

/// `POST /projects/{project}/deployments`
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
    Body(new): Body<New>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    let checked = projects::Settings {
        source_url: None,
        source_branch: new.branch,
        entrypoint: new.entrypoint,
        ..projects::Settings::default()
    }
    .check(&projects::Sources::default())?;
    let commit = match &new.commit {
        Some(text) => {
            let mut db = app.db.acquire().await?;
            let project = projects::get_for(&mut db, caller.user.id, &project)
                .await?
                .changeable()?;
            drop(db);
            Some(references::commit_of(&app, &project, text).await?)
        }
        None => None,
    };
    let request = Request {
        branch: checked.source_branch,
        commit,
        entrypoint: checked.entrypoint,
        upload: new.upload,
    };
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, caller.user.id, &project)
        .await?
        .changeable()?;
    let deployment = deployments::queue(
        &mut tx,
        &project,
        request,
        "api",
        &caller.actor,
        app.clock.now(),
    )
    .await?;
    tx.commit().await?;
    Ok((
        StatusCode::CREATED,
        Json(face(&app, &project, &deployment, None)),
    ))
}

/// `GET /projects/{project}/deployments/{deployment}`
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
    let in_use = edges::oldest_in_use(&mut db, app.clock.now()).await?;
    let needed = variables::needed_by(
        &mut db,
        project.id,
        deployment.preview_id,
        deployment.plan.as_ref(),
    )
    .await?;
    let mut face = face(&app, &project, &deployment, in_use);
    face["missing_variables"] = json!(variables::missing(&needed));
    Ok(Json(face))
}

/// `POST /projects/{project}/deployments/{deployment}/cancel`
pub async fn cancel(
    State(app): State<App>,
    caller: Caller,
    Path((project, deployment)): Path<(String, String)>,
) -> ApiResult<Json<Value>> {
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, caller.user.id, &project)
        .await?
        .changeable()?;
    let deployment = deployments::get(&mut tx, project.id, &deployment).await?;
    let canceled = deployments::cancel(
        &mut tx,
        &project,
        &deployment,
        &caller.actor,
        app.clock.now(),
    )
    .await?;
    tx.commit().await?;
    Ok(Json(face(&app, &project, &canceled, None)))
}

/// `POST /projects/{project}/deployments/{deployment}/promote`
pub async fn promote(
    State(app): State<App>,
    caller: Caller,
    Path((project, deployment)): Path<(String, String)>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, caller.user.id, &project)
        .await?
        .changeable()?;
    let earlier = deployments::get(&mut tx, project.id, &deployment).await?;
    let (drain, now) = (app.config.drain(), app.clock.now());
    let queued =
        deployments::promote(&mut tx, &project, &earlier, drain, &caller.actor, now).await?;
    tx.commit().await?;
    Ok((
        StatusCode::CREATED,
        Json(face(&app, &project, &queued, None)),
    ))
}

/// `POST /projects/{project}/rollback`
pub async fn roll_back(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, caller.user.id, &project)
        .await?
        .changeable()?;
    let queued = deployments::roll_back(&mut tx, &project, &caller.actor, app.clock.now()).await?;
    tx.commit().await?;
    Ok((
        StatusCode::CREATED,
        Json(face(&app, &project, &queued, None)),
    ))
}
