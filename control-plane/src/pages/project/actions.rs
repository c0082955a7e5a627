//! The buttons of a project and its deployments. Each leads to the deployment it made or changed.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::Nothing;
use super::build::Problems;
use super::connect::Choice;
use super::show::Show;
use crate::app::App;
use crate::deployments::{self, Deployment};
use crate::error::Result;
use crate::github::references;
use crate::pages::error::{PageResult, page};
use crate::projects::{self, Project};
use crate::signin::{CsrfForm, SignedIn};

async fn changeable(app: &App, person: &SignedIn, name: &str) -> Result<Project> {
    let mut db = app.db.acquire().await?;
    projects::get_for(&mut db, person.user.id, name)
        .await?
        .changeable()
}

fn to(project: &Project, deployment: &Deployment) -> Response {
    Redirect::to(&format!(
        "/projects/{}/deployments/{}",
        project.name, deployment.number
    ))
    .into_response()
}

/// What to deploy; nothing for what the project itself names.
#[derive(Debug, Deserialize)]
pub struct What {
    /// A branch, a tag, a commit or its beginning; of a package a version.
    #[serde(default)]
    reference: String,
}

/// `POST /projects/{project}/deploy`: the branch's newest commit, or another. What cannot be deployed is
/// said on the project's page.
pub async fn deploy(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    CsrfForm(what): CsrfForm<What>,
) -> PageResult {
    let project = changeable(&app, &person, &name).await?;
    let problems = match deploy_in(&app, &person, &project, &what).await {
        Ok(queued) => return Ok(to(&project, &queued)),
        Err(error) => Problems::of(error)?,
    };
    let mut template = Show::load(&app, &person, &name, &Choice::default()).await?;
    template.refuse(what.reference, &problems);
    page(StatusCode::UNPROCESSABLE_ENTITY, &template)
}

async fn deploy_in(
    app: &App,
    person: &SignedIn,
    project: &Project,
    what: &What,
) -> Result<Deployment> {
    let request = references::resolve(app, project, &what.reference).await?;
    let (actor, now) = (person.actor(), app.clock.now());
    let mut tx = app.db.begin().await?;
    let queued = deployments::queue(&mut tx, project, request, "page", &actor, now).await?;
    tx.commit().await?;
    Ok(queued)
}

/// `POST /projects/{project}/rollback`: what was live before.
pub async fn roll_back(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    CsrfForm(Nothing {}): CsrfForm<Nothing>,
) -> PageResult {
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, person.user.id, &name)
        .await?
        .changeable()?;
    let queued =
        deployments::roll_back(&mut tx, &project, &person.actor(), app.clock.now()).await?;
    tx.commit().await?;
    Ok(to(&project, &queued))
}

/// `POST /projects/{project}/deployments/{deployment}/promote`: exactly this commit again, or the one that
/// is held.
pub async fn promote(
    State(app): State<App>,
    person: SignedIn,
    Path((name, deployment)): Path<(String, String)>,
    CsrfForm(Nothing {}): CsrfForm<Nothing>,
) -> PageResult {
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, person.user.id, &name)
        .await?
        .changeable()?;
    let earlier = deployments::get(&mut tx, project.id, &deployment).await?;
    let (drain, actor, now) = (app.config.drain(), person.actor(), app.clock.now());
    let queued = deployments::promote(&mut tx, &project, &earlier, drain, &actor, now).await?;
    tx.commit().await?;
    Ok(to(&project, &queued))
}

/// `POST /projects/{project}/deployments/{deployment}/cancel`
pub async fn cancel(
    State(app): State<App>,
    person: SignedIn,
    Path((name, deployment)): Path<(String, String)>,
    CsrfForm(Nothing {}): CsrfForm<Nothing>,
) -> PageResult {
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, person.user.id, &name)
        .await?
        .changeable()?;
    let it = deployments::get(&mut tx, project.id, &deployment).await?;
    deployments::cancel(&mut tx, &project, &it, &person.actor(), app.clock.now()).await?;
    tx.commit().await?;
    Ok(to(&project, &it))
}
