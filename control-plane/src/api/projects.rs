//! Projects.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgConnection;
use time::format_description::well_known::Rfc3339;

use super::Caller;
use super::problem::{ApiResult, Body};
use crate::app::App;
use crate::error::invalid;
use crate::github::{choices, links};
use crate::projects::{self, Project, Settings};
use crate::variables::Standing;
use crate::{access, deployments, volumes};

/// A project as the API shows it.
async fn face(app: &App, db: &mut PgConnection, project: &Project) -> ApiResult<Value> {
    let live = deployments::find_live(db, project.id).await?;
    let variables = Standing::read(db, project.id).await?;
    Ok(json!({
        "id": project.id,
        "name": project.name,
        "organization": project.organization_id,
        "url": app.config.project_url(&project.name),
        "access": access::mode_of(db, project.id).await?,
        "dashboard_url": format!("{}/projects/{}", app.config.issuer(), project.name),
        "source_url": project.source_url,
        "source_branch": project.source_branch,
        "entrypoint": project.entrypoint,
        "hold_breaking": project.hold_breaking,
        "redis": project.redis,
        "previews": project.previews,
        "github": links::find(db, project.id).await?.map(|link| json!({
            "repository": link.repository_id,
            "installation": link.installation_id,
            "head": link.head,
            "problem": link.problem,
        })),
        "volumes": volumes::list(db, project.id).await?,
        "live": live.map(|d| json!({ "number": d.number, "id": d.id, "commit": d.commit_id })),
        "variables": variables,
        "created_at": project.created_at.format(&Rfc3339).unwrap_or_default(),
    }))
}

/// `GET /projects`
pub async fn list(State(app): State<App>, caller: Caller) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    let mut faces = Vec::new();
    for project in projects::list_for(&mut db, caller.user.id).await? {
        faces.push(face(&app, &mut db, &project).await?);
    }
    Ok(Json(json!({ "projects": faces })))
}

/// Body of `POST /projects`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct New {
    name: String,
    source_url: Option<String>,
    github_repository: Option<i64>,
    source_branch: Option<String>,
    entrypoint: Option<String>,
    #[serde(default)]
    hold_breaking: bool,
    #[serde(default)]
    redis: bool,
    previews: Option<bool>,
}

/// What is said of a repository at GitHub and an address together.
pub(super) const TWO_SOURCES: &str =
    "Give either github_repository or source_url: the address follows from the repository.";

/// `POST /projects`. A repository of GitHub is deployed at once, since its pushes are.
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<New>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    let choice = match (new.github_repository, &new.source_url) {
        (Some(_), Some(_)) => return Err(invalid("source_url", TWO_SOURCES).into()),
        (Some(id), None) => {
            Some(choices::choose(&app, caller.user.id, id, new.source_branch.as_deref()).await?)
        }
        (None, _) => None,
    };
    let (source_url, source_branch) = match &choice {
        Some(choice) => (
            Some(app.config.clone_url(&choice.repository.full_name)),
            Some(choice.branch.clone()),
        ),
        None => (new.source_url, new.source_branch),
    };
    let settings = Settings {
        source_url,
        source_branch,
        entrypoint: new.entrypoint,
        hold_breaking: new.hold_breaking,
        redis: new.redis,
        previews: new.previews.unwrap_or(true),
    }
    .check(&app.config.sources())?;
    let mut tx = app.db.begin().await?;
    let organization = match &choice {
        Some(choice) => choice.organization,
        None => projects::home_of(&mut tx, caller.user.id).await?,
    };
    let project = projects::create(
        &mut tx,
        organization,
        &new.name,
        &settings,
        &caller.actor,
        app.clock.now(),
    )
    .await?;
    if let Some(choice) = &choice {
        let (actor, now) = (&caller.actor, app.clock.now());
        let (repository, head) = (&choice.repository, &choice.head);
        links::create(&mut tx, &project, repository, head, actor, now).await?;
        deployments::queue(&mut tx, &project, choice.request(), "api", actor, now).await?;
    }
    let face = face(&app, &mut tx, &project).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(face)))
}

/// `GET /projects/{project}`
pub async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    let member = projects::get_for(&mut db, caller.user.id, &project).await?;
    Ok(Json(face(&app, &mut db, &member.project).await?))
}

/// Body of `PATCH /projects/{project}`: what is absent stays, what is `null` is cleared.
#[expect(
    clippy::option_option,
    reason = "absent, null and a value are three things in a merge patch (RFC 7396)"
)]
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    #[serde(default, deserialize_with = "present")]
    source_url: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    source_branch: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    entrypoint: Option<Option<String>>,
    hold_breaking: Option<bool>,
    redis: Option<bool>,
    previews: Option<bool>,
}

/// Tells an absent member (`None`) from a `null` one (`Some(None)`).
#[expect(
    clippy::option_option,
    reason = "absent, null and a value are three things in a merge patch (RFC 7396)"
)]
fn present<'de, D: serde::Deserializer<'de>>(
    member: D,
) -> Result<Option<Option<String>>, D::Error> {
    serde::Deserialize::deserialize(member).map(Some)
}

/// `PATCH /projects/{project}`
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
    let settings = Settings {
        source_url: change
            .source_url
            .unwrap_or_else(|| project.source_url.clone()),
        source_branch: change
            .source_branch
            .unwrap_or_else(|| project.source_branch.clone()),
        entrypoint: change
            .entrypoint
            .unwrap_or_else(|| project.entrypoint.clone()),
        hold_breaking: change.hold_breaking.unwrap_or(project.hold_breaking),
        redis: change.redis.unwrap_or(project.redis),
        previews: change.previews.unwrap_or(project.previews),
    }
    .check(&app.config.sources())?;
    let project =
        projects::change(&mut tx, &project, &settings, &caller.actor, app.clock.now()).await?;
    let face = face(&app, &mut tx, &project).await?;
    tx.commit().await?;
    Ok(Json(face))
}

/// `DELETE /projects/{project}`
pub async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
) -> ApiResult<StatusCode> {
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, caller.user.id, &project)
        .await?
        .deletable()?
        .project;
    projects::delete(&mut tx, &project, &caller.actor, app.clock.now()).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
