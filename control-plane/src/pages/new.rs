//! A new project: its repository, its name, its variables; one form, one transaction.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use runner::protocol::Package;
use serde::Deserialize;
use sqlx::PgConnection;

use super::error::{PageResult, page};
use super::view::{Problems, Shell};
use crate::app::App;
use crate::deployments::{self, Deployment, Request};
use crate::error::{Error, Result, invalid};
use crate::projects::{self, Settings};
use crate::signin::{CsrfForm, SignedIn};
use crate::variables::{self, NewVariable};

#[derive(Template)]
#[template(path = "new.html")]
struct New {
    shell: Shell,
    form: Form,
    problems: Problems,
    domain: String,
    allow_file: bool,
}

impl New {
    fn page(
        app: &App,
        person: &SignedIn,
        form: Form,
        problems: Problems,
        status: StatusCode,
    ) -> PageResult {
        let template = Self {
            shell: Shell::new(person, "projects"),
            form,
            problems,
            domain: app.config.apps_domain.clone(),
            allow_file: app.config.allow_file_sources,
        };
        page(status, &template)
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
    variables: String,
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
    New::page(&app, &person, form, Problems::default(), StatusCode::OK)
}

/// `POST /new`
pub async fn create(
    State(app): State<App>,
    person: SignedIn,
    CsrfForm(form): CsrfForm<Form>,
) -> PageResult {
    let mut problems = Problems::default();
    if let Some(checked) = check(&form, app.config.allow_file_sources, &mut problems)? {
        let mut tx = app.db.begin().await?;
        match create_in(&mut tx, &app, &person, &checked).await {
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
}

struct Checked {
    name: String,
    settings: Settings,
    variables: Vec<NewVariable>,
}

/// Every field is looked at, so that a person sees all problems at once.
fn check(form: &Form, allow_file: bool, problems: &mut Problems) -> Result<Option<Checked>> {
    let name = form.name.trim().to_owned();
    if let Err(error) = projects::check_name(&name) {
        problems.add(error)?;
    }
    let given = Settings {
        source_url: Some(form.source_url.clone()),
        source_branch: Some(form.source_branch.clone()),
        entrypoint: Some(form.entrypoint.clone()),
    };
    let settings = match given.check(allow_file) {
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
    Ok(match (settings, variables) {
        (Some(settings), Some(variables)) if !problems.any() => Some(Checked {
            name,
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
) -> Result<Deployment> {
    let (actor, now) = (person.actor(), app.clock.now());
    let organization = projects::home_of(db, person.user.id).await?;
    let project = projects::create(db, organization, &new.name, &new.settings, &actor, now)
        .await
        .map_err(
            // The only thing a new project collides with is another one's name.
            |error| match error {
                Error::Conflict(sentence) => invalid("name", sentence),
                other => other,
            },
        )?;
    if !new.variables.is_empty() {
        variables::change(db, &project, &new.variables, &[], &actor, now).await?;
    }
    deployments::queue(db, &project, Request::default(), "page", &actor, now).await
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
