//! Who may call a project. Opening it to everyone is asked for twice.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Frame;
use crate::access::{self, Access as Now, Callers, Candidate, Change, Mode};
use crate::app::App;
use crate::error::{Error, Result};
use crate::pages::error::{PageResult, page};
use crate::pages::view::{Done, Shell};
use crate::projects::{self, Membership, Project};
use crate::signin::{CsrfForm, SignedIn};

#[derive(Template)]
#[template(path = "project/access.html")]
struct Access {
    shell: Shell,
    project: Frame,
    form: Form,
    key_url: String,
    problems: Problems,
    /// What the wanted mode means, when that has to be confirmed first.
    confirm: Option<String>,
}

/// What is wrong, field by field.
#[derive(Default)]
struct Problems {
    chosen: Option<String>,
    public_paths: Option<String>,
    allowed_origins: Option<String>,
}

/// The form, as it is sent and as it comes back.
struct Form {
    mode: Mode,
    callers: Callers,
    people: Vec<Choice>,
    accounts: Vec<Choice>,
    /// One a line.
    public_paths: String,
    /// One a line.
    allowed_origins: String,
}

/// Someone who can be chosen.
struct Choice {
    candidate: Candidate,
    chosen: bool,
}

impl Form {
    /// As it stands.
    async fn load(db: &mut PgConnection, project: &Project) -> Result<Self> {
        let now = access::get(db, project.id).await?;
        let candidates = access::list_candidates(db, project.organization_id).await?;
        let choices = candidates.into_iter().map(|candidate| Choice {
            chosen: now.chosen.contains(&candidate),
            candidate,
        });
        let (people, accounts) = choices.partition(|it| it.candidate.email.is_some());
        let Now {
            mode,
            callers,
            public_paths,
            allowed_origins,
            ..
        } = now;
        Ok(Self {
            mode,
            callers,
            people,
            accounts,
            public_paths: public_paths.join("\n"),
            allowed_origins: allowed_origins.join("\n"),
        })
    }

    /// As it was sent. Checkboxes come as repeated fields.
    fn fill(&mut self, fields: &[(String, String)]) {
        let is_ticked = |id: Uuid| {
            let id = id.to_string();
            fields.iter().any(|it| it.0 == "chosen" && it.1 == id)
        };
        for choice in self.people.iter_mut().chain(&mut self.accounts) {
            choice.chosen = is_ticked(choice.candidate.id);
        }
        for (name, value) in fields {
            match name.as_str() {
                "mode" => self.mode = Mode::parse(value),
                "callers" => self.callers = Callers::parse(value),
                "public_paths" => self.public_paths.clone_from(value),
                "allowed_origins" => self.allowed_origins.clone_from(value),
                _ => {}
            }
        }
    }

    /// What it asks for. Parts that the mode has no use for stay as they are.
    fn change(&self) -> Change {
        let lines = |text: &str| Some(text.lines().map(str::to_owned).collect());
        let guarded = self.mode == Mode::Platform;
        let choices = self.people.iter().chain(&self.accounts);
        let chosen = choices
            .filter(|it| it.chosen)
            .map(|it| it.candidate.id.to_string());
        Change {
            mode: Some(self.mode),
            callers: guarded.then_some(self.callers),
            chosen: (guarded && self.callers == Callers::Chosen).then(|| chosen.collect()),
            public_paths: lines(&self.public_paths).filter(|_| guarded),
            allowed_origins: lines(&self.allowed_origins),
        }
    }
}

impl Access {
    async fn load(app: &App, person: &SignedIn, name: &str) -> Result<(Self, Membership)> {
        let mut db = app.db.acquire().await?;
        let member = projects::get_for(&mut db, person.user.id, name).await?;
        let template = Self {
            shell: Shell::new(person, "projects"),
            project: Frame::new(&app.config, &member, "access"),
            form: Form::load(&mut db, &member.project).await?,
            key_url: app.config.project_key_url(&member.project.name),
            problems: Problems::default(),
            confirm: None,
        };
        Ok((template, member))
    }

    /// Whether this is the mode of the form.
    fn is(&self, mode: &str) -> bool {
        self.form.mode.name() == mode
    }

    /// Whether these are the callers of the form.
    fn lets(&self, callers: &str) -> bool {
        self.form.callers.name() == callers
    }

    /// Shows what is wrong beside its field; the rest is handed back.
    fn refuse(&mut self, error: Error) -> Result<()> {
        let Error::Invalid(fields) = error else {
            return Err(error);
        };
        for field in fields {
            let slot = match field.name {
                "public_paths" => &mut self.problems.public_paths,
                "allowed_origins" => &mut self.problems.allowed_origins,
                _ => &mut self.problems.chosen,
            };
            *slot = Some(field.message);
        }
        Ok(())
    }
}

/// `GET /projects/{project}/access`
pub async fn show(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    Query(done): Query<Done>,
) -> PageResult {
    let (mut template, _) = Access::load(&app, &person, &name).await?;
    template.shell = template.shell.after(&done);
    page(StatusCode::OK, &template)
}

/// `POST /projects/{project}/access`
pub async fn save(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    CsrfForm(fields): CsrfForm<Vec<(String, String)>>,
) -> PageResult {
    let (mut template, member) = Access::load(&app, &person, &name).await?;
    let project = member.changeable()?;
    let before = template.form.mode;
    template.form.fill(&fields);
    let wanted = template.form.mode;
    let confirmed = fields
        .iter()
        .any(|(name, value)| name == "confirm" && value == wanted.name());
    let change = template.form.change();
    let opens = wanted != Mode::Platform && wanted != before && !confirmed;
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    match access::change(&mut tx, &project, &change, &person.actor(), now).await {
        Err(error) => {
            template.refuse(error)?;
            page(StatusCode::UNPROCESSABLE_ENTITY, &template)
        }
        // Left without a commit: nothing has changed.
        Ok(_) if opens => {
            template.confirm = Some(wanted.meaning(&project.name));
            page(StatusCode::OK, &template)
        }
        Ok(_) => {
            tx.commit().await?;
            let url = format!("/projects/{name}/access?done=saved");
            Ok(Redirect::to(&url).into_response())
        }
    }
}
