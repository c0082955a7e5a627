//! What a project follows at GitHub, and which pushes come live.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use serde::Deserialize;

use super::build::Problems;
use super::follows::Follows;
use super::{Frame, Nothing};
use crate::app::App;
use crate::branch_rules::{self, Rules};
use crate::error::{Error, Result, invalid};
use crate::github::choices::{self, Named};
use crate::github::following::{self, Following};
use crate::github::installations::{self, Readable};
use crate::github::{registration, rest, worker};
use crate::pages::error::{PageResult, page};
use crate::pages::view::{Done, Shell};
use crate::projects::{self, Project, Settings};
use crate::signin::{CsrfForm, SignedIn};
use crate::{build_settings, deployments};

/// Repositories and branches that the forms suggest; any other can be typed.
const SUGGESTED: usize = 300;

#[derive(Template)]
#[template(path = "project/github.html")]
struct Page {
    shell: Shell,
    project: Frame,
    /// Whether the platform has an App.
    exists: bool,
    following: Option<Following>,
    follows: Follows,
    /// What may be connected, by name.
    names: Vec<String>,
    branches: Vec<String>,
    /// The directory that is built, if it is not the whole repository.
    root: Option<String>,
    form: Form,
    connect: Connect,
    problems: Problems,
}

/// The branch and its rules, as they are typed.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Form {
    source_branch: String,
    auto_promote: Option<String>,
    watch_paths: String,
    ignored_paths: String,
}

impl Form {
    fn of(project: &Project, rules: &Rules) -> Self {
        Self {
            source_branch: project.source_branch.clone().unwrap_or_default(),
            auto_promote: rules.auto_promote.then(|| "yes".to_owned()),
            watch_paths: rules.watch_paths.join("\n"),
            ignored_paths: rules.ignored_paths.join("\n"),
        }
    }

    fn rules(&self) -> Result<Rules> {
        let lines = |text: &str| text.lines().map(str::to_owned).collect();
        let rules = Rules {
            auto_promote: self.auto_promote.is_some(),
            watch_paths: lines(&self.watch_paths),
            ignored_paths: lines(&self.ignored_paths),
        };
        rules.check()
    }
}

/// The repository that a project is to follow.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Connect {
    repository: String,
    branch: String,
}

impl Page {
    async fn load(app: &App, person: &SignedIn, name: &str) -> Result<Self> {
        let mut db = app.db.acquire().await?;
        let member = projects::get_for(&mut db, person.user.id, name).await?;
        let frame = Frame::new(&app.config, &member, "settings");
        let project = member.project;
        let rules = branch_rules::get(&mut db, project.id).await?;
        let following = following::find(&mut db, &project).await?;
        let most = i64::try_from(SUGGESTED).unwrap_or(i64::MAX);
        let names = match following {
            Some(_) => Vec::new(),
            None => installations::list_names_of(&mut db, project.organization_id, most).await?,
        };
        let newest = deployments::find_newest(&mut db, project.id, None).await?;
        let link = following.as_ref().map(|it| &it.link);
        let follows = Follows::of(app, link, newest.as_ref());
        let readable = match link.filter(|_| frame.may_change) {
            Some(link) => {
                let organization = project.organization_id;
                installations::find_readable_of(&mut db, organization, link.repository_id).await?
            }
            None => None,
        };
        let template = Self {
            shell: Shell::new(person, "projects"),
            exists: registration::exists(&mut db).await?,
            root: build_settings::get(&mut db, project.id)
                .await?
                .root_directory,
            form: Form::of(&project, &rules),
            follows,
            names,
            branches: Vec::new(),
            connect: Connect::default(),
            problems: Problems::default(),
            project: frame,
            following,
        };
        drop(db);
        Ok(template.with_branches(app, readable).await)
    }

    /// With the branches of the repository, if the organization may read it now. Without GitHub's answer
    /// the branch is typed.
    async fn with_branches(mut self, app: &App, readable: Option<Readable>) -> Self {
        if let Some(it) = &readable {
            let (installation, name) = (it.installation_id, &it.full_name);
            let found = rest::branches(app, installation, name, SUGGESTED).await;
            let names = found.unwrap_or_default().into_iter().map(|it| it.name);
            self.branches = names.take(SUGGESTED).collect();
        }
        self
    }
}

/// `GET /projects/{project}/github`
pub async fn show(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    Query(done): Query<Done>,
) -> PageResult {
    let mut template = Page::load(&app, &person, &name).await?;
    template.shell = template.shell.after(&done);
    page(StatusCode::OK, &template)
}

/// `POST /projects/{project}/github`: the branch and its rules.
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
    let mut template = Page::load(&app, &person, &name).await?;
    (template.problems, template.form) = (problems, form);
    page(StatusCode::UNPROCESSABLE_ENTITY, &template)
}

fn back(name: &str, done: &str) -> axum::response::Response {
    Redirect::to(&format!("/projects/{name}/github?done={done}")).into_response()
}

async fn save_in(app: &App, person: &SignedIn, name: &str, form: &Form) -> Result<()> {
    let (actor, now) = (person.actor(), app.clock.now());
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, person.user.id, name)
        .await?
        .changeable()?;
    let settings = Settings {
        source_branch: Some(form.source_branch.clone()),
        ..Settings::of(&project)
    }
    .check(&app.config.sources())?;
    let rules = form.rules()?;
    // First, since it takes the link before the project, as whoever looks at the branch does.
    if rules != branch_rules::get(&mut tx, project.id).await? {
        branch_rules::set(&mut tx, &project, &rules, &actor, now).await?;
    }
    if settings.source_branch != project.source_branch {
        projects::change(&mut tx, &project, &settings, &actor, now).await?;
    }
    tx.commit().await?;
    // What keeps it from being compared is on the page.
    worker::look_now(app, project.id).await?;
    Ok(())
}

/// `POST /projects/{project}/github/connect`
pub async fn connect(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    CsrfForm(form): CsrfForm<Connect>,
) -> PageResult {
    let problems = match connect_in(&app, &person, &name, &form).await {
        Ok(()) => return Ok(back(&name, "connected")),
        Err(error) => Problems::of(error)?,
    };
    let mut template = Page::load(&app, &person, &name).await?;
    (template.problems, template.connect) = (problems, form);
    page(StatusCode::UNPROCESSABLE_ENTITY, &template)
}

async fn connect_in(app: &App, person: &SignedIn, name: &str, form: &Connect) -> Result<()> {
    let user = person.user.id;
    let project = {
        let mut db = app.db.acquire().await?;
        projects::get_for(&mut db, user, name).await?.changeable()?
    };
    let named = Named::parse(&form.repository);
    let choice = choices::choose_for(app, user, &project, &named, Some(&form.branch))
        .await
        .map_err(|error| match error {
            Error::NotFound(_) => invalid(
                "repository",
                "There is no such repository for you; write owner/name, and press “Update from GitHub” on the page GitHub if it is new.",
            ),
            other => other,
        })?;
    let mut tx = app.db.begin().await?;
    following::connect(app, &mut tx, &project, &choice, &person.actor()).await?;
    tx.commit().await?;
    Ok(())
}

/// `POST /projects/{project}/github/disconnect`
pub async fn disconnect(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    CsrfForm(Nothing {}): CsrfForm<Nothing>,
) -> PageResult {
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, person.user.id, &name)
        .await?
        .changeable()?;
    following::disconnect(&mut tx, &project, &person.actor(), app.clock.now()).await?;
    tx.commit().await?;
    Ok(back(&name, "unlinked"))
}
