//! A new project: its repository, its name, its variables; one form, one transaction.

use std::time::Duration;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use runner::protocol::{BuildSettings, Diagnosis, Package, Plan, PlanAnswer};
use serde::Deserialize;
use sqlx::PgConnection;
use tokio::time::Instant;

use super::error::{PageResult, page};
use super::view::{Problems, Shell};
use crate::app::App;
use crate::deployments::{self, Deployment, Request};
use crate::error::{Error, Result, invalid};
use crate::github::choices::{self, Choice, Named};
use crate::github::{installations, links, registration, rest};
use crate::projects::{self, Settings, Sources};
use crate::signin::{CsrfForm, SignedIn};
use crate::variables::{self, NewVariable};
use crate::{build_settings, plans};

#[derive(Template)]
#[template(path = "new.html")]
struct New {
    shell: Shell,
    form: Form,
    problems: Problems,
    domain: String,
    allow_file: bool,
    plan: Option<Plan>,
    diagnosis: Option<Diagnosis>,
    /// Whether repositories of GitHub can be picked.
    github: bool,
    /// The one that was.
    picked: Option<Picked>,
}

/// A repository of GitHub that the project is to follow.
struct Picked {
    full_name: String,
    private: bool,
    branches: Vec<String>,
}

/// Branches that the form suggests; any other can be typed.
const MOST_BRANCHES: usize = 300;

impl New {
    async fn page(
        app: &App,
        person: &SignedIn,
        form: Form,
        problems: Problems,
        status: StatusCode,
    ) -> PageResult {
        page(status, &Self::with(app, person, form, problems).await?)
    }

    async fn with(app: &App, person: &SignedIn, form: Form, problems: Problems) -> Result<Self> {
        let mut new = Self {
            shell: Shell::new(person, "projects"),
            form,
            problems,
            domain: app.config.apps_domain.clone(),
            allow_file: app.config.allow_file_sources,
            plan: None,
            diagnosis: None,
            github: registration::exists(&mut *app.db.acquire().await?).await?,
            picked: None,
        };
        if let Some(id) = new.form.repository() {
            new.pick(app, person, id).await?;
        }
        Ok(new)
    }

    /// What the form shows of a repository. Without GitHub's answer the branch is typed.
    async fn pick(&mut self, app: &App, person: &SignedIn, id: i64) -> Result<()> {
        let found =
            installations::get_readable(&mut *app.db.acquire().await?, person.user.id, id).await?;
        let now = choices::current(app, person.user.id, id).await;
        let (found, branches) = match now {
            Ok(now) => {
                let branches =
                    rest::branches(app, now.installation_id, &now.full_name, MOST_BRANCHES).await;
                (now, branches.map_err(|failure| failure.to_string()))
            }
            Err(error @ (Error::Unavailable(_) | Error::Conflict(_))) => {
                (found, Err(error.to_string()))
            }
            Err(error) => return Err(error),
        };
        let mut branches: Vec<String> = match branches {
            Ok(found) => found.into_iter().map(|branch| branch.name).collect(),
            Err(why) => {
                self.problems.general.get_or_insert(why);
                Vec::new()
            }
        };
        branches.truncate(MOST_BRANCHES);
        self.form.source_url = app.config.clone_url(&found.full_name);
        if self.form.source_branch.is_empty() {
            self.form.source_branch = found.default_branch.unwrap_or_default();
        }
        if self.form.name.is_empty() {
            self.form.name = name_of(&found.full_name);
        }
        self.picked = Some(Picked {
            full_name: found.full_name,
            private: found.private,
            branches,
        });
        Ok(())
    }
}

/// The form, as it is sent and as it comes back.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Form {
    name: String,
    source_url: String,
    source_branch: String,
    entrypoint: String,
    root_directory: String,
    variables: String,
    /// GitHub's number of the repository, when one was picked.
    repository: String,
}

impl Form {
    fn repository(&self) -> Option<i64> {
        self.repository.trim().parse().ok()
    }

    /// What was picked at GitHub, with what is there now; the address then follows from it.
    async fn choose(&mut self, app: &App, person: &SignedIn) -> Result<Option<Choice>> {
        let Some(id) = self.repository() else {
            return Ok(None);
        };
        let choice = choices::choose(
            app,
            person.user.id,
            &Named::Number(id),
            Some(&self.source_branch),
        )
        .await?;
        self.source_url = app.config.clone_url(&choice.repository.full_name);
        self.source_branch.clone_from(&choice.branch);
        Ok(Some(choice))
    }

    fn settings(&self, allowed: &Sources) -> Result<Settings> {
        let given = Settings {
            source_url: Some(self.source_url.clone()),
            source_branch: Some(self.source_branch.clone()),
            entrypoint: Some(self.entrypoint.clone()),
            ..Settings::default()
        };
        given.check(allowed)
    }

    fn build(&self) -> Result<BuildSettings> {
        build_settings::check(BuildSettings {
            root_directory: Some(self.root_directory.clone()),
            ..BuildSettings::default()
        })
    }
}

/// `GET /new`; `?source_url=` fills the form in and suggests a name.
pub async fn show(
    State(app): State<App>,
    person: SignedIn,
    Query(mut form): Query<Form>,
) -> PageResult {
    if form.name.is_empty() {
        form.name = name_of(&form.source_url);
    }
    // Values must not come from a link that someone else may have made.
    form.variables.clear();
    New::page(&app, &person, form, Problems::default(), StatusCode::OK).await
}

/// `POST /new`
pub async fn create(
    State(app): State<App>,
    person: SignedIn,
    CsrfForm(mut form): CsrfForm<Form>,
) -> PageResult {
    let mut problems = Problems::default();
    let choice = match form.choose(&app, &person).await {
        Ok(choice) => choice,
        Err(error) => {
            problems.add(error)?;
            None
        }
    };
    if let Some(checked) = check(&form, &app.config.sources(), &mut problems)? {
        let mut tx = app.db.begin().await?;
        match create_in(&mut tx, &app, &person, &checked, choice.as_ref()).await {
            Ok(deployment) => {
                tx.commit().await?;
                let to = format!(
                    "/projects/{}/deployments/{}",
                    checked.name, deployment.number
                );
                return Ok(Redirect::to(&to).into_response());
            }
            Err(error) => problems.add(error)?,
        }
    }
    New::page(
        &app,
        &person,
        form,
        problems,
        StatusCode::UNPROCESSABLE_ENTITY,
    )
    .await
}

/// How long the page waits for a plan: a small repository is there in seconds, and a large one is
/// better deployed, where its progress is shown.
const PLAN_WAIT: Duration = Duration::from_secs(25);

/// `POST /new/plan`: the same form, and what would be built.
pub async fn plan(
    State(app): State<App>,
    person: SignedIn,
    CsrfForm(mut form): CsrfForm<Form>,
) -> PageResult {
    let mut problems = Problems::default();
    let answer = match plan_of(&app, &person, &mut form).await {
        Ok(Some(answer)) => Some(answer),
        Ok(None) => {
            problems.general = Some("The plan takes longer than usual; check with `berth doctor` that a runner is connected, or deploy and follow it there.".into());
            None
        }
        Err(error) => {
            problems.add(error)?;
            None
        }
    };
    let status = if problems.any() {
        StatusCode::UNPROCESSABLE_ENTITY
    } else {
        StatusCode::OK
    };
    let mut template = New::with(&app, &person, form, problems).await?;
    if template.form.name.is_empty() {
        template.form.name = name_of(&template.form.source_url);
    }
    if let Some(answer) = answer {
        template.plan = answer.plan;
        template.diagnosis = answer.diagnosis;
    }
    page(status, &template)
}

async fn plan_of(app: &App, person: &SignedIn, form: &mut Form) -> Result<Option<PlanAnswer>> {
    let choice = form.choose(app, person).await?;
    let settings = form.settings(&app.config.sources())?;
    let source = match &choice {
        Some(choice) => choice.source(app),
        None => plans::source_of(&settings)?,
    };
    let build = form.build()?;
    let (user, entrypoint) = (person.user.id, settings.entrypoint.as_deref());
    let mut tx = app.db.begin().await?;
    let id = plans::ask(&mut tx, user, &source, entrypoint, &build, app.clock.now()).await?;
    tx.commit().await?;
    plans::wait(&app.db, &app.changes, user, id, Instant::now() + PLAN_WAIT).await
}

struct Checked {
    name: String,
    build: BuildSettings,
    settings: Settings,
    variables: Vec<NewVariable>,
}

/// Every field is looked at, so that a person sees all problems at once.
fn check(form: &Form, allowed: &Sources, problems: &mut Problems) -> Result<Option<Checked>> {
    let name = form.name.trim().to_owned();
    if let Err(error) = projects::check_name(&name) {
        problems.add(error)?;
    }
    let build = match form.build() {
        Ok(build) => Some(build),
        Err(error) => {
            problems.add(error)?;
            None
        }
    };
    let settings = match form.settings(allowed) {
        Ok(settings) if settings.source_url.is_none() => {
            problems.add(invalid(
                "source_url",
                "Name a repository, like https://github.com/you/server.git, or a package, like pypi:mcp-server-time; or deploy a directory with `berth deploy PATH`.",
            ))?;
            None
        }
        Ok(settings) => Some(settings),
        Err(error) => {
            problems.add(error)?;
            None
        }
    };
    let variables = match variables::parse_lines(&form.variables) {
        Ok(variables) => Some(variables),
        Err(error) => {
            problems.add(error)?;
            None
        }
    };
    Ok(match (settings, build, variables) {
        (Some(settings), Some(build), Some(variables)) if !problems.any() => Some(Checked {
            name,
            build,
            settings,
            variables,
        }),
        _ => None,
    })
}

async fn create_in(
    db: &mut PgConnection,
    app: &App,
    person: &SignedIn,
    new: &Checked,
    choice: Option<&Choice>,
) -> Result<Deployment> {
    let (actor, now) = (person.actor(), app.clock.now());
    let organization = match choice {
        Some(choice) => choice.organization,
        None => projects::home_of(db, person.user.id).await?,
    };
    let project = projects::create(db, organization, &new.name, &new.settings, &actor, now)
        .await
        .map_err(
            // The only thing a new project collides with is another one's name.
            |error| match error {
                Error::Conflict(sentence) => invalid("name", sentence),
                other => other,
            },
        )?;
    if new.build != BuildSettings::default() {
        build_settings::set(db, &project, &new.build, &actor, now).await?;
    }
    if !new.variables.is_empty() {
        let change = variables::Change {
            set: new.variables.clone(),
            ..variables::Change::default()
        };
        variables::change(db, &project, &change, &actor, now).await?;
    }
    let request = match choice {
        Some(choice) => {
            let (repository, head) = (&choice.repository, &choice.head);
            links::create(db, &project, repository, head, &actor, now).await?;
            choice.request()
        }
        None => Request::default(),
    };
    deployments::queue(db, &project, request, "page", &actor, now).await
}

/// A project's name that a repository's address or a package suggests: its last part, as a host label.
fn name_of(url: &str) -> String {
    let package = Package::parse(url.trim()).map(|package| package.name);
    let last = package
        .as_deref()
        .unwrap_or(url)
        .trim()
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let last = last.strip_suffix(".git").unwrap_or(last).to_lowercase();
    let words = last
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    let mut name = words.collect::<Vec<_>>().join("-");
    name.truncate(projects::MAX_NAME);
    name.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_suggests_a_name() {
        assert_eq!(name_of("https://github.com/you/My_Server.git"), "my-server");
        assert_eq!(name_of("https://example.com/a/b/"), "b");
        assert_eq!(name_of("file:///srv/hello"), "hello");
        assert_eq!(name_of("pypi:mcp-server-time==1.2"), "mcp-server-time");
        assert_eq!(name_of("npm:@scope/server@1.0.0"), "server");
        assert_eq!(name_of(""), "");
        assert_eq!(
            name_of(&format!("https://x/{}-b", "a".repeat(39))),
            "a".repeat(39)
        );
    }
}
