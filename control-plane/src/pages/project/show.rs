//! A project's page: is it up, how do I connect, what does it offer, what was deployed.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use runner::protocol::{Package, Surface};
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::attempt::{Attempt, Standing, read};
use super::build::Problems;
use super::connect::{Choice, Connect};
use super::follows::Follows;
use super::previews::Previews;
use super::tools::{self, Tool};
use super::{Frame, Seen, can_deploy, runner_is_away};
use crate::app::App;
use crate::connect::Target;
use crate::deployments::{self, Deployment};
use crate::error::Result;
use crate::github::feedback::permissions;
use crate::github::links;
use crate::pages::error::{PageResult, page};
use crate::pages::view::{Done, People, Shell};
use crate::projects::{self, Project};
use crate::signin::SignedIn;
use crate::usage::{self, Usage};
use crate::variables;
use crate::volumes::{self, Volume, amount};

/// Deployments on the page; who looks for older ones asks the API.
const SHOWN: i64 = 20;

/// The page.
#[derive(Template)]
#[template(path = "project/show.html")]
pub struct Show {
    shell: Shell,
    project: Frame,
    source: Option<String>,
    another: Another,
    /// Why what the project itself names was not deployed.
    problem: Option<String>,
    /// Whether the page asks how the deployment under way goes on. What came of a form does not: it would
    /// be sent again with the page.
    polls: bool,
    kind: &'static str,
    label: &'static str,
    can_deploy: bool,
    /// The deployment that a roll-back would bring back.
    earlier: Option<i32>,
    connect: Connect,
    upload_command: String,
    tools: Vec<Tool>,
    /// Whether the live server shows them only to those who sign in with it.
    own_sign_in: bool,
    extras: Option<String>,
    server: Option<String>,
    protocol: Option<String>,
    live: Option<Attempt>,
    pending: Option<Attempt>,
    failed: Option<Attempt>,
    held: Option<Attempt>,
    deployments: Vec<Attempt>,
    waits_for_runner: bool,
    mark: String,
    /// Names of variables that the code reads, fails without, and that are not set.
    missing: Vec<String>,
    /// How much the server is called.
    calls: Option<String>,
    storage: Vec<Stored>,
    follows: Follows,
    /// The previews of pull requests, where there can be any.
    previews: Option<Previews>,
    previews_on: bool,
    /// What GitHub does not show, and where that is granted.
    unshown: Option<(String, String)>,
}

/// The form of another commit.
struct Another {
    /// What it asks for.
    asks: &'static str,
    /// What was typed.
    typed: String,
    /// Why that was not deployed.
    problem: Option<String>,
}

/// Persistent files, in words.
struct Stored {
    what: &'static str,
    amount: String,
    /// Why their size is only watched, if so.
    watched: Option<String>,
}

impl Stored {
    fn new(volume: Volume) -> Self {
        let used = volume.used_bytes.map_or("not seen yet".to_owned(), amount);
        Self {
            what: if volume.kind == "data" {
                "/data"
            } else {
                "Redis"
            },
            amount: match volume.size_bytes {
                Some(size) => format!("{used} of {}", amount(size)),
                None => used,
            },
            watched: volume.watched,
        }
    }
}

/// The part of the page that changes while a deployment is under way.
#[derive(Template)]
#[template(path = "project/show.html", block = "status")]
struct Status {
    project: Frame,
    live: Option<Attempt>,
    pending: Option<Attempt>,
    failed: Option<Attempt>,
    held: Option<Attempt>,
    waits_for_runner: bool,
    mark: String,
    polls: bool,
}

/// A project's deployments as both of the above need them.
struct Facts {
    live: Option<Deployment>,
    pending: Option<Deployment>,
    failed: Option<Deployment>,
    /// The newest that waits for a member.
    held: Option<Deployment>,
    all: Vec<Deployment>,
    /// The state of the newest of production.
    newest: Option<deployments::State>,
    waits_for_runner: bool,
    missing: Vec<String>,
    calls: Option<String>,
    volumes: Vec<Volume>,
    follows: Follows,
    /// The deployment that a roll-back would bring back.
    earlier: Option<i32>,
}

impl Facts {
    async fn read(app: &App, db: &mut PgConnection, project: &Project) -> Result<Self> {
        let now = app.clock.now();
        let link = links::find(db, project.id).await?;
        let all = deployments::list(db, project.id, SHOWN).await?;
        let newest = deployments::find_newest(db, project.id, None).await?;
        let pending = newest.clone().filter(|newest| newest.state.is_pending());
        let needed = variables::needed(db, project.id).await?;
        let queued = pending
            .as_ref()
            .is_some_and(|it| it.state == deployments::State::Queued);
        Ok(Self {
            follows: Follows::of(app, link.as_ref(), newest.as_ref()),
            live: deployments::find_live(db, project.id).await?,
            held: deployments::find_held(db, project.id).await?,
            earlier: deployments::find_earlier(db, project.id).await?,
            newest: newest.as_ref().map(|newest| newest.state),
            failed: newest.filter(|newest| newest.state == deployments::State::Failed),
            waits_for_runner: queued && runner_is_away(db, now).await?,
            missing: variables::missing(&needed)
                .into_iter()
                .map(str::to_owned)
                .collect(),
            calls: calls(
                usage::since(db, project.id, now - Duration::HOUR).await?,
                usage::since(db, project.id, now - Duration::DAY).await?,
            ),
            volumes: volumes::list(db, project.id).await?,
            pending,
            all,
        })
    }

    fn mark(&self) -> String {
        let state = self.pending.as_ref().map_or("none", |it| it.state.name());
        format!("{}-{state}-{}", self.all.len(), self.waits_for_runner)
    }
}

/// How much is called, if anything is.
fn calls(hour: Usage, day: Usage) -> Option<String> {
    let errors = match day.errors {
        0 => String::new(),
        errors => format!(", {errors} of them failed"),
    };
    (day.calls > 0).then(|| {
        format!(
            "{} in the last hour, {} in 24 hours{errors}",
            hour.calls, day.calls
        )
    })
}

/// `GET /projects/{project}`
pub async fn show(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    Query(done): Query<Done>,
    Query(choice): Query<Choice>,
) -> PageResult {
    let mut template = Show::load(&app, &person, &name, &choice).await?;
    template.shell = template.shell.after(&done);
    page(StatusCode::OK, &template)
}

impl Show {
    /// The page as somebody may see it.
    pub async fn load(app: &App, person: &SignedIn, name: &str, choice: &Choice) -> Result<Self> {
        let now = app.clock.now();
        let mut db = app.db.acquire().await?;
        let member = projects::get_for(&mut db, person.user.id, name).await?;
        let facts = Facts::read(app, &mut db, &member.project).await?;
        let people = People::of(&mut db, member.project.organization_id).await?;
        let frame = Frame::new(&app.config, &member, "overview");
        let shell = Shell::new(person, "projects");
        let target = Target::of(&mut db, &app.config, &member.project).await?;
        let connect = Connect::new(&target, &frame.name, choice);
        let lacking = permissions::find_lacking(&mut db, member.project.id).await?;
        let mut template = Self::new(shell, frame, &member.project, facts, &people, connect, now);
        template.previews = Previews::read(&mut db, &app.config, &member.project).await?;
        template.unshown = lacking.map(|it| (it.what(), it.page(app.config.github())));
        Ok(template)
    }

    /// Says why nothing was deployed: beside the field what was typed there, and otherwise on top.
    pub(super) fn refuse(&mut self, typed: String, problems: &Problems) {
        let why = Some(problems.sentence());
        if typed.is_empty() || self.source.is_none() {
            self.problem = why;
        } else {
            self.another.problem = why;
        }
        self.another.typed = typed;
        self.polls = false;
    }

    fn new(
        shell: Shell,
        frame: Frame,
        project: &Project,
        facts: Facts,
        people: &People,
        connect: Connect,
        now: OffsetDateTime,
    ) -> Self {
        let standing = Standing::of(facts.live.is_some(), facts.newest);
        let surface: Option<Surface> = facts
            .live
            .as_ref()
            .and_then(|live| read(live.surface.as_ref()));
        let own_sign_in = facts.live.is_some() && surface.is_none();
        let surface = surface.unwrap_or_default();
        let attempt = |it| Attempt::new(it, people, now);
        Self {
            another: Another::of(project),
            problem: None,
            polls: true,
            source: project.source_url.clone(),
            kind: standing.kind(),
            label: standing.label(),
            can_deploy: can_deploy(project, !facts.all.is_empty()),
            earlier: facts.earlier.filter(|_| facts.live.is_some()),
            connect,
            upload_command: format!("berth deploy . --project {}", frame.name),
            tools: tools::tools(&frame.name, &surface),
            own_sign_in,
            extras: tools::extras(&surface),
            server: tools::server(&surface),
            protocol: Some(surface.protocol_version).filter(|version| !version.is_empty()),
            mark: facts.mark(),
            waits_for_runner: facts.waits_for_runner,
            missing: facts.missing,
            calls: facts.calls,
            previews: None,
            previews_on: project.previews,
            follows: facts.follows,
            unshown: None,
            storage: facts.volumes.into_iter().map(Stored::new).collect(),
            live: facts.live.map(attempt),
            pending: facts.pending.map(attempt),
            failed: facts.failed.map(attempt),
            held: facts.held.map(attempt),
            deployments: facts.all.into_iter().map(attempt).collect(),
            project: frame,
            shell,
        }
    }
}

impl Another {
    fn of(project: &Project) -> Self {
        let is_package = project.source_url.as_deref().is_some_and(Package::is_meant);
        Self {
            asks: if is_package {
                "version"
            } else {
                "branch, tag or commit"
            },
            typed: String::new(),
            problem: None,
        }
    }
}

/// `GET /projects/{project}/status?seen=`: nothing while nothing changed; the whole page anew once
/// the deployment under way has ended.
pub async fn status(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    Query(Seen { seen }): Query<Seen>,
) -> PageResult {
    let now = app.clock.now();
    let mut db = app.db.acquire().await?;
    let member = projects::get_for(&mut db, person.user.id, &name).await?;
    let facts = Facts::read(&app, &mut db, &member.project).await?;
    if facts.pending.is_none() {
        return Ok(([("hx-refresh", "true")], "").into_response());
    }
    if facts.mark() == seen {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let people = People::default();
    let attempt = |it| Attempt::new(it, &people, now);
    let template = Status {
        project: Frame::new(&app.config, &member, "overview"),
        mark: facts.mark(),
        polls: true,
        waits_for_runner: facts.waits_for_runner,
        live: facts.live.map(attempt),
        pending: facts.pending.map(attempt),
        failed: facts.failed.map(attempt),
        held: facts.held.map(attempt),
    };
    page(StatusCode::OK, &template)
}
