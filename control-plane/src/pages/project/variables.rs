//! A project's variables: list, set one, paste many, remove.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use serde::Deserialize;

use super::{Frame, can_deploy};
use crate::app::App;
use crate::deployments;
use crate::error::{Error, Result, invalid};
use crate::pages::error::{PageResult, page};
use crate::pages::view::{Done, Moment, Problems, Shell};
use crate::projects;
use crate::signin::{CsrfForm, SignedIn};
use crate::variables::{self, NewVariable};

#[derive(Template)]
#[template(path = "project/variables.html")]
struct Variables {
    shell: Shell,
    project: Frame,
    list: Vec<Row>,
    /// Some were set after the live deployment was asked for.
    waiting: bool,
    can_deploy: bool,
    form: Form,
    one_problem: Option<String>,
    many_problem: Option<String>,
}

struct Row {
    name: String,
    value: Option<String>,
    updated: Moment,
}

/// What both forms of the page hold.
struct Form {
    name: String,
    value: String,
    secret: bool,
    lines: String,
    lines_secret: bool,
}

impl Default for Form {
    fn default() -> Self {
        Self {
            name: String::new(),
            value: String::new(),
            secret: true,
            lines: String::new(),
            lines_secret: true,
        }
    }
}

impl Variables {
    async fn load(app: &App, person: &SignedIn, name: &str) -> Result<Self> {
        let now = app.clock.now();
        let mut db = app.db.acquire().await?;
        let member = projects::get_for(&mut db, person.user.id, name).await?;
        let list = variables::list(&mut db, member.project.id).await?;
        let live = deployments::find_live(&mut db, member.project.id).await?;
        let deployed = !deployments::list(&mut db, member.project.id, 1)
            .await?
            .is_empty();
        Ok(Self {
            shell: Shell::new(person, "projects"),
            project: Frame::new(&app.config, &member, "variables"),
            waiting: live.is_some_and(|live| {
                list.iter()
                    .any(|variable| variable.updated_at > live.created_at)
            }),
            can_deploy: can_deploy(&member.project, deployed),
            list: list
                .into_iter()
                .map(|it| Row {
                    name: it.name,
                    value: it.value,
                    updated: Moment::new(it.updated_at, now),
                })
                .collect(),
            form: Form::default(),
            one_problem: None,
            many_problem: None,
        })
    }
}

/// `?name=` fills the name in, to replace a value.
#[derive(Debug, Deserialize)]
pub struct Wanted {
    #[serde(default)]
    name: String,
}

/// `GET /projects/{project}/variables`
pub async fn show(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    Query(done): Query<Done>,
    Query(wanted): Query<Wanted>,
) -> PageResult {
    let mut template = Variables::load(&app, &person, &name).await?;
    template.shell = template.shell.after(&done);
    if let Some(row) = template.list.iter().find(|row| row.name == wanted.name) {
        template.form.secret = row.value.is_none();
        template.form.value = row.value.clone().unwrap_or_default();
        template.form.name = wanted.name;
    }
    page(StatusCode::OK, &template)
}

/// The form that sets one.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
pub struct One {
    name: String,
    value: String,
    secret: Option<String>,
}

/// `POST /projects/{project}/variables`
pub async fn set(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    CsrfForm(one): CsrfForm<One>,
) -> PageResult {
    // Browsers send line ends of a form as CR LF (HTML section 4.10.21.8).
    let value = one.value.replace("\r\n", "\n");
    let variable = NewVariable {
        name: one.name.trim().to_owned(),
        value,
        secret: one.secret.is_some(),
    };
    let problem = match change(&app, &person, &name, &[variable], &[]).await {
        Ok(()) => return Ok(back(&name, "saved")),
        Err(error) => sentence(error)?,
    };
    let mut template = Variables::load(&app, &person, &name).await?;
    template.one_problem = Some(problem);
    template.form.secret = one.secret.is_some();
    (template.form.name, template.form.value) = (one.name, one.value);
    page(StatusCode::UNPROCESSABLE_ENTITY, &template)
}

/// The form that takes `KEY=value` lines.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
pub struct Many {
    lines: String,
    secret: Option<String>,
}

/// `POST /projects/{project}/variables/import`
pub async fn import(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    CsrfForm(many): CsrfForm<Many>,
) -> PageResult {
    let problem = match import_in(&app, &person, &name, &many).await {
        Ok(()) => return Ok(back(&name, "saved")),
        Err(error) => sentence(error)?,
    };
    let mut template = Variables::load(&app, &person, &name).await?;
    template.many_problem = Some(problem);
    template.form.lines_secret = many.secret.is_some();
    template.form.lines = many.lines;
    page(StatusCode::UNPROCESSABLE_ENTITY, &template)
}

async fn import_in(app: &App, person: &SignedIn, name: &str, many: &Many) -> Result<()> {
    let mut set = variables::parse_lines(&many.lines)?;
    if set.is_empty() {
        return Err(invalid(
            "variables",
            "There is no KEY=value line; paste at least one.",
        ));
    }
    for variable in &mut set {
        variable.secret = many.secret.is_some();
    }
    change(app, person, name, &set, &[]).await
}

/// The form that removes one.
#[derive(Debug, Deserialize)]
pub struct Remove {
    name: String,
}

/// `POST /projects/{project}/variables/remove`
pub async fn remove(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    CsrfForm(remove): CsrfForm<Remove>,
) -> PageResult {
    change(&app, &person, &name, &[], &[remove.name]).await?;
    Ok(back(&name, "removed"))
}

async fn change(
    app: &App,
    person: &SignedIn,
    name: &str,
    set: &[NewVariable],
    unset: &[String],
) -> Result<()> {
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, person.user.id, name)
        .await?
        .changeable()?;
    variables::change(
        &mut tx,
        &project,
        set,
        unset,
        &person.actor(),
        app.clock.now(),
    )
    .await?;
    tx.commit().await?;
    Ok(())
}

fn back(name: &str, done: &str) -> axum::response::Response {
    Redirect::to(&format!("/projects/{name}/variables?done={done}")).into_response()
}

/// What is said beside the form.
fn sentence(error: Error) -> Result<String> {
    if matches!(error, Error::Forbidden(_)) {
        return Err(error);
    }
    let mut problems = Problems::default();
    problems.add(error)?;
    Ok(problems.variables.or(problems.general).unwrap_or_default())
}
