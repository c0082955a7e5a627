//! Starting from a template: the bundled examples, each as an archive, for the command line, and as
//! a new repository at GitHub.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use uuid::Uuid;

use super::error::{PageResult, page};
use super::github::repositories::For;
use super::view::{Shell, toward};
use crate::app::App;
use crate::error::{Error, Result, invalid};
use crate::github::attempts::Purpose;
use crate::github::creation::{self, Order, Place};
use crate::github::installations::{self, Connected};
use crate::github::{authorize, registration};
use crate::organizations::{self, Organization};
use crate::projects;
use crate::signin::{CsrfForm, Report, SignedIn, find_report};
use crate::starters::{self, STARTERS, Starter};

/// What the address of an archive ends with.
const ARCHIVE: &str = ".tar.gz";

#[derive(Template)]
#[template(path = "starters.html")]
struct List {
    shell: Shell,
    starters: &'static [Starter],
}

/// `GET /new/templates`
pub async fn list(person: SignedIn) -> PageResult {
    let template = List {
        shell: Shell::new(&person, "projects"),
        starters: &STARTERS,
    };
    page(StatusCode::OK, &template)
}

#[derive(Template)]
#[template(path = "starter.html")]
struct Page {
    shell: Shell,
    starter: &'static Starter,
    commands: String,
    github: String,
    /// Whether the platform has an App.
    exists: bool,
    is_operator: bool,
    /// Accounts where a repository can be made.
    places: Vec<Place>,
    /// Those where none can, and why.
    closed: Vec<Place>,
    /// The organizations that may get the repository.
    homes: Vec<Organization>,
    form: Form,
    /// What is wrong with what was sent, or why it was not carried out.
    problem: Option<String>,
    /// A repository that an earlier attempt made and did not finish.
    unfinished: Option<Unfinished>,
}

struct Unfinished {
    full_name: String,
    page: String,
    /// Where the App's repositories are chosen.
    installation: Option<String>,
}

/// The form, as it is sent and as it comes back.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub struct Form {
    installation: String,
    name: String,
    private: Option<String>,
    organization: Option<Uuid>,
    /// The number of a repository that an earlier attempt made.
    made: String,
}

impl Form {
    /// What a new one suggests.
    fn new(starter: &Starter) -> Self {
        Self {
            name: starter.slug.to_owned(),
            private: Some("1".to_owned()),
            ..Self::default()
        }
    }

    fn of(report: &Report) -> Self {
        let order = &report.order;
        Self {
            installation: order.installation.to_string(),
            name: order.name.clone(),
            private: order.private.then(|| "1".to_owned()),
            organization: Some(report.organization),
            made: order.made.map(|id| id.to_string()).unwrap_or_default(),
        }
    }

    fn order(&self, starter: &Starter) -> Result<Order> {
        let installation = self.installation.parse();
        let order = Order {
            starter: starter.slug.to_owned(),
            installation: installation
                .map_err(|_| invalid("installation", "Choose the account at GitHub."))?,
            name: self.name.trim().to_owned(),
            private: self.private.is_some(),
            made: self.made.parse().ok(),
        };
        order.check()?;
        Ok(order)
    }

    /// Whether this organization is the chosen one.
    fn is_for(&self, home: &Organization) -> bool {
        self.organization == Some(home.id)
    }

    /// Whether this account is the chosen one.
    fn is_at(&self, place: &Place) -> bool {
        self.installation == place.installation.to_string()
    }
}

impl Page {
    async fn load(app: &App, person: &SignedIn, starter: &'static Starter) -> Result<Self> {
        let user = person.user.id;
        let mut db = app.db.acquire().await?;
        let exists = registration::exists(&mut db).await?;
        let known = installations::list_for(&mut db, user).await?;
        let mut homes = organizations::list_for(&mut db, user).await?;
        homes.retain(|it| projects::may_change(&it.role));
        let is_operator = organizations::is_operator(&mut db, user).await?;
        // GitHub is asked next; nobody else should wait for that.
        drop(db);
        let all = if exists && !homes.is_empty() {
            creation::list_places(app, &known).await
        } else {
            Vec::new()
        };
        let (places, closed) = all.into_iter().partition(|it| it.problem.is_none());
        Ok(Self {
            shell: Shell::new(person, "projects"),
            starter,
            commands: format!(
                "berth init {0}\nberth login --server {1}\nberth deploy {0} --project {0} --wait",
                starter.slug,
                app.config.issuer()
            ),
            github: app.config.github().to_owned(),
            exists,
            is_operator,
            places,
            closed,
            homes,
            form: Form::new(starter),
            problem: None,
            unfinished: None,
        })
    }

    /// What the last attempt left.
    async fn take_up(&mut self, app: &App, person: &SignedIn, report: Report) -> Result<()> {
        self.form = Form::of(&report);
        self.problem = Some(report.sentence);
        let Some(full_name) = report.repository else {
            return Ok(());
        };
        let mut db = app.db.acquire().await?;
        let known = installations::list_for(&mut db, person.user.id).await?;
        let found = known.iter().find(|it| it.id == report.order.installation);
        self.unfinished = Some(Unfinished {
            page: format!("{}/{full_name}", self.github),
            full_name,
            installation: found.map(|it| settings_of(&self.github, it)),
        });
        Ok(())
    }

    fn respond(&self, status: StatusCode, app: &App) -> PageResult {
        toward(page(status, self), &app.config.github_origin())
    }
}

/// Where the owner of an installation chooses its repositories.
fn settings_of(github: &str, it: &Connected) -> String {
    match it.account_kind.as_str() {
        "organization" => format!(
            "{github}/organizations/{}/settings/installations/{}",
            it.account, it.id
        ),
        _ => format!("{github}/settings/installations/{}", it.id),
    }
}

/// `?attempt=1` of who comes back from GitHub.
#[derive(Debug, Default, Deserialize)]
pub struct Back {
    attempt: Option<String>,
}

/// `GET /new/templates/{template}`, and the archive at the same address with `.tar.gz`.
pub async fn show(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    Query(back): Query<Back>,
) -> PageResult {
    if let Some(slug) = name.strip_suffix(ARCHIVE) {
        return archive(starters::get(slug)?);
    }
    let starter = starters::get(&name)?;
    let mut template = Page::load(&app, &person, starter).await?;
    let report = find_report(&person.session).await?;
    if let Some(report) = report.filter(|it| back.attempt.is_some() && it.order.starter == name) {
        template.take_up(&app, &person, report).await?;
    }
    template.respond(StatusCode::OK, &app)
}

fn archive(starter: &Starter) -> PageResult {
    let bytes = starter
        .archive()
        .map_err(|error| Error::Internal(error.into()))?;
    let name = format!("attachment; filename=\"{}{ARCHIVE}\"", starter.slug);
    let headers = [
        (header::CONTENT_TYPE, "application/gzip"),
        (header::CONTENT_DISPOSITION, &*name),
    ];
    Ok((headers, bytes).into_response())
}

/// `POST /new/templates/{template}`: sends the browser to GitHub, which says whether the person may.
pub async fn create(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    CsrfForm(form): CsrfForm<Form>,
) -> PageResult {
    let starter = starters::get(&name)?;
    match begin(&app, &person, starter, &form).await {
        Ok(onward) => Ok(onward),
        Err(error @ (Error::Invalid(_) | Error::Conflict(_))) => {
            let status = error.status();
            let mut template = Page::load(&app, &person, starter).await?;
            template.problem = Some(error.to_string());
            template.form = form;
            template.respond(status, &app)
        }
        Err(error) => Err(error.into()),
    }
}

async fn begin(app: &App, person: &SignedIn, starter: &Starter, form: &Form) -> Result<Response> {
    let order = form.order(starter)?;
    let home = For {
        organization: form.organization,
    };
    let mut db = app.db.acquire().await?;
    let registration = registration::get(&mut db, &app.kek).await?;
    let purpose = Purpose::CreateRepository {
        user: person.user.id,
        organization: home.home(&mut db, person).await?,
        order,
    };
    let url = authorize::begin(app, &mut db, &registration, &person.session, &purpose).await?;
    Ok(Redirect::to(&url).into_response())
}
