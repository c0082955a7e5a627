//! How a project is built and started, and the variables that its builds alone get.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use runner::protocol::BuildSettings;
use serde::Deserialize;

use super::Frame;
use crate::app::App;
use crate::build_variables::{self, BuildVariable};
use crate::error::{Error, Result, invalid};
use crate::pages::error::{PageResult, page};
use crate::pages::view::{Done, Shell};
use crate::signin::{CsrfForm, SignedIn};
use crate::variables::parse_lines;
use crate::{build_settings, projects};

#[derive(Template)]
#[template(path = "project/build.html")]
struct Build {
    shell: Shell,
    project: Frame,
    form: Form,
    variables: Vec<BuildVariable>,
    lines: String,
    secret: bool,
    problems: Problems,
}

/// What is wrong, by field; what belongs to none is under `general`.
#[derive(Debug, Default)]
pub(super) struct Problems(BTreeMap<&'static str, String>);

impl Problems {
    /// What an error says of the form; a fault of ours is handed back.
    pub(super) fn of(error: Error) -> Result<Self> {
        let mut problems = Self::default();
        match error {
            Error::Invalid(fields) => {
                for field in fields {
                    problems.0.entry(field.name).or_insert(field.message);
                }
            }
            Error::Conflict(sentence)
            | Error::Forbidden(sentence)
            | Error::Unavailable(sentence) => {
                problems.0.insert("general", sentence);
            }
            other => return Err(other),
        }
        Ok(problems)
    }

    pub(super) fn about(&self, field: &str) -> Option<&String> {
        self.0.get(field)
    }

    /// All of them in a row, for a form of one field.
    pub(super) fn sentence(&self) -> String {
        self.0.values().cloned().collect::<Vec<_>>().join(" ")
    }
}

/// The settings as they are typed: lists as lines or words.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Form {
    root_directory: String,
    dependency_file: String,
    dockerfile: String,
    system_packages: String,
    build_command: String,
    start_command: String,
}

impl Form {
    fn of(settings: &BuildSettings) -> Self {
        Self {
            root_directory: settings.root_directory.clone().unwrap_or_default(),
            dependency_file: settings.dependency_file.clone().unwrap_or_default(),
            dockerfile: settings.dockerfile.clone().unwrap_or_default(),
            system_packages: settings.system_packages.join(" "),
            build_command: shell_words::join(&settings.build_command),
            start_command: shell_words::join(&settings.start_command),
        }
    }

    /// Commands are split as a shell would, and run by none.
    fn read(&self) -> Result<BuildSettings> {
        let words = |name: &'static str, text: &str| {
            shell_words::split(text).map_err(|_| {
                invalid(
                    name,
                    "A quote is not closed; close it, or escape it with \\.",
                )
            })
        };
        let packages = self.system_packages.split([' ', '\t', '\r', '\n', ',']);
        build_settings::check(BuildSettings {
            root_directory: Some(self.root_directory.clone()),
            dependency_file: Some(self.dependency_file.clone()),
            dockerfile: Some(self.dockerfile.clone()),
            system_packages: packages
                .filter(|package| !package.is_empty())
                .map(str::to_owned)
                .collect(),
            build_command: words("build_command", &self.build_command)?,
            start_command: words("start_command", &self.start_command)?,
        })
    }
}

impl Build {
    async fn load(app: &App, person: &SignedIn, name: &str) -> Result<Self> {
        let mut db = app.db.acquire().await?;
        let member = projects::get_for(&mut db, person.user.id, name).await?;
        let settings = build_settings::get(&mut db, member.project.id).await?;
        Ok(Self {
            shell: Shell::new(person, "projects"),
            project: Frame::new(&app.config, &member, "build"),
            form: Form::of(&settings),
            variables: build_variables::list(&mut db, member.project.id).await?,
            lines: String::new(),
            secret: true,
            problems: Problems::default(),
        })
    }
}

/// `GET /projects/{project}/build`
pub async fn show(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    Query(done): Query<Done>,
) -> PageResult {
    let mut template = Build::load(&app, &person, &name).await?;
    template.shell = template.shell.after(&done);
    page(StatusCode::OK, &template)
}

/// `POST /projects/{project}/build`
pub async fn save(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    CsrfForm(form): CsrfForm<Form>,
) -> PageResult {
    let problems = match save_in(&app, &person, &name, &form).await {
        Ok(()) => return Ok(back(&name, "saved")),
        Err(error) => Problems::of(error)?,
    };
    let mut template = Build::load(&app, &person, &name).await?;
    template.problems = problems;
    template.form = form;
    page(StatusCode::UNPROCESSABLE_ENTITY, &template)
}

async fn save_in(app: &App, person: &SignedIn, name: &str, form: &Form) -> Result<()> {
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, person.user.id, name)
        .await?
        .changeable()?;
    let settings = form.read()?;
    let now = app.clock.now();
    build_settings::set(&mut tx, &project, &settings, &person.actor(), now).await?;
    tx.commit().await?;
    Ok(())
}

/// The form that takes `KEY=value` lines.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Lines {
    lines: String,
    secret: Option<String>,
}

/// `POST /projects/{project}/build/variables`
pub async fn set_variables(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    CsrfForm(form): CsrfForm<Lines>,
) -> PageResult {
    let problems = match set_in(&app, &person, &name, &form).await {
        Ok(()) => return Ok(back(&name, "saved")),
        Err(error) => Problems::of(error)?,
    };
    let mut template = Build::load(&app, &person, &name).await?;
    template.problems = problems;
    template.lines = form.lines;
    template.secret = form.secret.is_some();
    page(StatusCode::UNPROCESSABLE_ENTITY, &template)
}

async fn set_in(app: &App, person: &SignedIn, name: &str, form: &Lines) -> Result<()> {
    let mut set = parse_lines(&form.lines)?;
    if set.is_empty() {
        return Err(invalid(
            "variables",
            "There is no KEY=value line; write at least one.",
        ));
    }
    for variable in &mut set {
        variable.secret = form.secret.is_some();
    }
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, person.user.id, name)
        .await?
        .changeable()?;
    let now = app.clock.now();
    build_variables::change(&mut tx, &project, &set, &[], &person.actor(), now).await?;
    tx.commit().await?;
    Ok(())
}

/// The form that removes one.
#[derive(Debug, Deserialize)]
pub struct Remove {
    name: String,
}

/// `POST /projects/{project}/build/variables/remove`
pub async fn remove_variable(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    CsrfForm(remove): CsrfForm<Remove>,
) -> PageResult {
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, person.user.id, &name)
        .await?
        .changeable()?;
    let (gone, now) = ([remove.name], app.clock.now());
    build_variables::change(&mut tx, &project, &[], &gone, &person.actor(), now).await?;
    tx.commit().await?;
    Ok(back(&name, "removed"))
}

fn back(name: &str, done: &str) -> axum::response::Response {
    Redirect::to(&format!("/projects/{name}/build?done={done}")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_read_and_comes_back() {
        let form = Form {
            system_packages: "jq, libmagic1\r\nffmpeg".into(),
            build_command: "python gen.py 'a b'".into(),
            ..Form::default()
        };
        let settings = form.read().unwrap();
        assert_eq!(settings.system_packages, ["jq", "libmagic1", "ffmpeg"]);
        assert_eq!(settings.build_command, ["python", "gen.py", "a b"]);
        assert_eq!(settings.root_directory, None);
        assert_eq!(Form::of(&settings).build_command, "python gen.py 'a b'");
        let open = Form {
            start_command: "run 'it".into(),
            ..Form::default()
        };
        let problems = Problems::of(open.read().unwrap_err()).unwrap();
        assert!(problems.about("start_command").is_some());
    }
}
