//! A project's variables: list, set one, paste many, remove.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use runner::protocol::Need;
use serde::Deserialize;

use super::revision::Revision;
use super::{Frame, Seen, can_deploy};
use crate::app::App;
use crate::deployments;
use crate::error::{Error, Result, invalid};
use crate::pages::error::{PageResult, page};
use crate::pages::view::{Done, Moment, Problems, Shell};
use crate::projects;
use crate::signin::{CsrfForm, SignedIn};
use crate::variables::{self, Change, Generate, KEYS, Needed, NewVariable, Scope, Standing};

#[derive(Template)]
#[template(path = "project/variables.html")]
struct Variables {
    shell: Shell,
    project: Frame,
    list: Vec<Row>,
    revision: Revision,
    /// What the code reads and is not set.
    unset: Vec<Unset>,
    unset_problem: Option<String>,
    can_deploy: bool,
    keys: Vec<Key>,
    keys_problem: Option<String>,
    form: Form,
    one_problem: Option<String>,
    many_problem: Option<String>,
}

/// The part of the page that changes while a restart is under way.
#[derive(Template)]
#[template(path = "project/variables.html", block = "standing")]
struct Notice {
    shell: Shell,
    project: Frame,
    revision: Revision,
    can_deploy: bool,
}

/// A variable that the code reads, or its example lists, and that has no value.
struct Unset {
    needed: Needed,
    /// How much it is needed.
    tag: &'static str,
    /// What was typed before.
    value: String,
}

impl Unset {
    fn new(needed: Needed) -> Self {
        Self {
            tag: match needed.need {
                Some(Need::Required) => "required",
                Some(Need::Optional) => "may be needed",
                Some(Need::Default) => "has a default",
                None => "in the example",
            },
            value: String::new(),
            needed,
        }
    }
}

/// A key that can be generated for production.
struct Key {
    name: &'static str,
    about: &'static str,
    is_set: bool,
}

impl Key {
    fn new(name: &'static str, list: &[variables::Variable]) -> Self {
        let production = Scope::Production.name();
        Self {
            name,
            about: match name {
                "STORAGE_ENCRYPTION_KEY" => "encrypts what your server stores",
                _ => "signs the tokens of your server's own sign-in",
            },
            is_set: list
                .iter()
                .any(|it| it.name == name && it.scope == production),
        }
    }
}

struct Row {
    name: String,
    scope: String,
    /// Empty unless it is for one.
    branch: String,
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
    scope: String,
    branch: String,
}

impl Default for Form {
    fn default() -> Self {
        Self {
            name: String::new(),
            value: String::new(),
            secret: true,
            lines: String::new(),
            lines_secret: true,
            scope: Scope::Production.name().to_owned(),
            branch: String::new(),
        }
    }
}

impl Variables {
    async fn load(app: &App, person: &SignedIn, name: &str) -> Result<Self> {
        let now = app.clock.now();
        let mut db = app.db.acquire().await?;
        let member = projects::get_for(&mut db, person.user.id, name).await?;
        let list = variables::list(&mut db, member.project.id).await?;
        let standing = Standing::read(&mut db, member.project.id).await?;
        let needed = variables::needed(&mut db, member.project.id).await?;
        let deployed = !deployments::list(&mut db, member.project.id, 1)
            .await?
            .is_empty();
        Ok(Self {
            shell: Shell::new(person, "projects"),
            project: Frame::new(&app.config, &member, "variables"),
            revision: Revision::of(&standing),
            unset: needed
                .into_iter()
                .filter(|needed| !needed.set)
                .map(Unset::new)
                .collect(),
            unset_problem: None,
            can_deploy: can_deploy(&member.project, deployed),
            keys: KEYS.into_iter().map(|key| Key::new(key, &list)).collect(),
            keys_problem: None,
            list: list
                .into_iter()
                .map(|it| Row {
                    name: it.name,
                    scope: it.scope,
                    branch: it.branch.unwrap_or_default(),
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

/// `?name=&scope=&branch=` fills these in, to replace a value or to set a new one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Wanted {
    name: String,
    scope: String,
    branch: String,
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
    let scope = Some(wanted.scope.as_str()).filter(|scope| !scope.is_empty());
    let scope = scope.unwrap_or(Scope::Production.name());
    let is_wanted = |row: &&Row| {
        (&*row.name, &*row.scope, &*row.branch) == (&wanted.name, scope, &wanted.branch)
    };
    if let Some(row) = template.list.iter().find(is_wanted) {
        let form = Form {
            secret: row.value.is_none(),
            value: row.value.clone().unwrap_or_default(),
            name: row.name.clone(),
            scope: row.scope.clone(),
            branch: row.branch.clone(),
            ..Form::default()
        };
        template.form = form;
    } else if Scope::parse(Some(scope), Some(&wanted.branch)).is_ok() {
        template.form = Form {
            scope: scope.to_owned(),
            name: wanted.name,
            branch: wanted.branch,
            ..Form::default()
        };
    }
    page(StatusCode::OK, &template)
}

/// `GET /projects/{project}/variables/standing?seen=`: nothing while nothing changed.
pub async fn standing(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    Query(Seen { seen }): Query<Seen>,
) -> PageResult {
    let template = Variables::load(&app, &person, &name).await?;
    if template.revision.mark() == seen {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let notice = Notice {
        shell: template.shell,
        project: template.project,
        revision: template.revision,
        can_deploy: template.can_deploy,
    };
    page(StatusCode::OK, &notice)
}

/// The form that sets one.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
pub struct One {
    name: String,
    value: String,
    secret: Option<String>,
    scope: String,
    branch: String,
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
    let scope = (one.scope.as_str(), one.branch.as_str());
    let problem = match change(&app, &person, &name, scope, vec![variable], Vec::new()).await {
        Ok(()) => return Ok(back(&name, "saved")),
        Err(error) => sentence(error)?,
    };
    let mut template = Variables::load(&app, &person, &name).await?;
    template.one_problem = Some(problem);
    template.form.secret = one.secret.is_some();
    (template.form.name, template.form.value) = (one.name, one.value);
    (template.form.scope, template.form.branch) = (one.scope, one.branch);
    page(StatusCode::UNPROCESSABLE_ENTITY, &template)
}

/// The form that takes `KEY=value` lines.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
pub struct Many {
    lines: String,
    secret: Option<String>,
    scope: String,
    branch: String,
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
    (template.form.scope, template.form.branch) = (many.scope, many.branch);
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
    let scope = (many.scope.as_str(), many.branch.as_str());
    change(app, person, name, scope, set, Vec::new()).await
}

/// `POST /projects/{project}/variables/needed`: those that were filled in, of a form with a field
/// for each variable that the code reads. The boxes beside them say which are no secrets.
pub async fn fill_in(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    CsrfForm(fields): CsrfForm<Vec<(String, String)>>,
) -> PageResult {
    let plain = |variable: &str| {
        let field = format!("plain.{variable}");
        fields.iter().any(|(name, _)| *name == field)
    };
    let typed = |field: &(String, String)| -> Option<(String, String)> {
        let variable = field.0.strip_prefix("value.")?;
        (!field.1.is_empty()).then(|| (variable.to_owned(), field.1.replace("\r\n", "\n")))
    };
    let filled: Vec<(String, String)> = fields.iter().filter_map(typed).collect();
    let set: Vec<NewVariable> = filled
        .iter()
        .map(|(variable, value)| NewVariable {
            name: variable.clone(),
            value: value.clone(),
            secret: !plain(variable),
        })
        .collect();
    let outcome = if set.is_empty() {
        Err(invalid("variables", "Fill in at least one value."))
    } else {
        change(&app, &person, &name, ("production", ""), set, Vec::new()).await
    };
    let problem = match outcome {
        Ok(()) => return Ok(back(&name, "saved")),
        Err(error) => sentence(error)?,
    };
    let mut template = Variables::load(&app, &person, &name).await?;
    template.unset_problem = Some(problem);
    for row in &mut template.unset {
        if let Some((_, value)) = filled.iter().find(|(name, _)| *name == row.needed.name) {
            row.value.clone_from(value);
        }
    }
    page(StatusCode::UNPROCESSABLE_ENTITY, &template)
}

/// The form that generates a key.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct New {
    name: String,
    replace: Option<String>,
}

/// `POST /projects/{project}/variables/generate`: a random key for production.
pub async fn generate(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    CsrfForm(new): CsrfForm<New>,
) -> PageResult {
    let wanted = Generate {
        scope: Scope::Production,
        names: vec![new.name],
        replace: new.replace.is_some(),
    };
    let problem = match generate_in(&app, &person, &name, &wanted).await {
        Ok(()) => return Ok(back(&name, "generated")),
        Err(error) => sentence(error)?,
    };
    let mut template = Variables::load(&app, &person, &name).await?;
    template.keys_problem = Some(problem);
    page(StatusCode::UNPROCESSABLE_ENTITY, &template)
}

async fn generate_in(app: &App, person: &SignedIn, name: &str, wanted: &Generate) -> Result<()> {
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, person.user.id, name)
        .await?
        .changeable()?;
    let (actor, now) = (person.actor(), app.clock.now());
    variables::generate(&mut tx, &project, wanted, &actor, now).await?;
    tx.commit().await?;
    Ok(())
}

/// The form that removes one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Remove {
    name: String,
    scope: String,
    branch: String,
}

/// `POST /projects/{project}/variables/remove`
pub async fn remove(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    CsrfForm(remove): CsrfForm<Remove>,
) -> PageResult {
    let scope = (remove.scope.as_str(), remove.branch.as_str());
    change(&app, &person, &name, scope, Vec::new(), vec![remove.name]).await?;
    Ok(back(&name, "removed"))
}

async fn change(
    app: &App,
    person: &SignedIn,
    name: &str,
    (scope, branch): (&str, &str),
    set: Vec<NewVariable>,
    unset: Vec<String>,
) -> Result<()> {
    let wanted = Change {
        scope: Scope::parse(Some(scope), Some(branch))?,
        set,
        unset,
    };
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, person.user.id, name)
        .await?
        .changeable()?;
    let (actor, now) = (person.actor(), app.clock.now());
    variables::change(&mut tx, &project, &wanted, &actor, now).await?;
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
