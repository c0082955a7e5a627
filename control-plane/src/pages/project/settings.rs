//! Where a project's code comes from.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use serde::Deserialize;

use super::Frame;
use crate::app::App;
use crate::error::Result;
use crate::github::{feedback, following, worker};
use crate::pages::error::{PageResult, page};
use crate::pages::view::{Done, Problems, Shell};
use crate::projects::{self, Settings as Given};
use crate::signin::{CsrfForm, SignedIn};

#[derive(Template)]
#[template(path = "project/settings.html")]
struct Settings {
    shell: Shell,
    project: Frame,
    /// What it follows at GitHub.
    repository: Option<String>,
    form: Form,
    problems: Problems,
    /// Whether pull requests get comments; `None` without a repository of GitHub's App.
    comments: Option<bool>,
}

/// The form, as it is sent and as it comes back.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Form {
    source_url: String,
    source_branch: String,
    entrypoint: String,
    hold_breaking: Option<String>,
    redis: Option<String>,
    previews: Option<String>,
}

impl Settings {
    async fn load(app: &App, person: &SignedIn, name: &str) -> Result<Self> {
        let mut db = app.db.acquire().await?;
        let member = projects::get_for(&mut db, person.user.id, name).await?;
        let frame = Frame::new(&app.config, &member, "settings");
        let project = member.project;
        let following = following::find(&mut db, &project).await?;
        let comments = feedback::find_comments(&mut db, project.id).await?;
        Ok(Self {
            repository: following.map(|it| it.repository),
            shell: Shell::new(person, "projects"),
            project: frame,
            form: Form {
                source_url: project.source_url.unwrap_or_default(),
                source_branch: project.source_branch.unwrap_or_default(),
                entrypoint: project.entrypoint.unwrap_or_default(),
                hold_breaking: project.hold_breaking.then(|| "yes".to_owned()),
                redis: project.redis.then(|| "yes".to_owned()),
                previews: project.previews.then(|| "yes".to_owned()),
            },
            problems: Problems::default(),
            comments,
        })
    }
}

/// `GET /projects/{project}/settings`
pub async fn show(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    Query(done): Query<Done>,
) -> PageResult {
    let mut template = Settings::load(&app, &person, &name).await?;
    template.shell = template.shell.after(&done);
    page(StatusCode::OK, &template)
}

/// `POST /projects/{project}/settings`
pub async fn save(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    CsrfForm(form): CsrfForm<Form>,
) -> PageResult {
    let mut problems = Problems::default();
    match save_in(&app, &person, &name, &form).await {
        Ok(()) => {
            return Ok(
                Redirect::to(&format!("/projects/{name}/settings?done=saved")).into_response(),
            );
        }
        Err(error) => problems.add(error)?,
    }
    let mut template = Settings::load(&app, &person, &name).await?;
    template.problems = problems;
    template.form = form;
    page(StatusCode::UNPROCESSABLE_ENTITY, &template)
}

async fn save_in(app: &App, person: &SignedIn, name: &str, form: &Form) -> Result<()> {
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, person.user.id, name)
        .await?
        .changeable()?;
    let given = Given {
        source_url: Some(form.source_url.clone()),
        source_branch: Some(form.source_branch.clone()),
        entrypoint: Some(form.entrypoint.clone()),
        hold_breaking: form.hold_breaking.is_some(),
        redis: form.redis.is_some(),
        previews: form.previews.is_some(),
    };
    let settings = given.check(&app.config.sources())?;
    let changed = projects::change(
        &mut tx,
        &project,
        &settings,
        &person.actor(),
        app.clock.now(),
    )
    .await?;
    tx.commit().await?;
    if changed.source_branch != project.source_branch {
        worker::look_now(app, project.id).await?;
    }
    Ok(())
}

/// The box about comments.
#[derive(Deserialize)]
pub struct Comments {
    comments: Option<String>,
}

/// `POST /projects/{project}/settings/comments`
pub async fn set_comments(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    CsrfForm(form): CsrfForm<Comments>,
) -> PageResult {
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, person.user.id, &name)
        .await?
        .changeable()?;
    let (on, now) = (form.comments.is_some(), app.clock.now());
    feedback::set_comments(&mut tx, &project, on, &person.actor(), now).await?;
    tx.commit().await?;
    Ok(Redirect::to(&format!("/projects/{name}/settings?done=saved")).into_response())
}
