//! One deployment: how far it is, what it is made of, why it failed, and its log as it is written.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use runner::protocol::LogStream;
use serde::Deserialize;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::attempt::{Attempt, sessions};
use super::log::Log;
use super::surface::{Comparison, Offer};
use super::{Frame, Seen, can_deploy, runner_is_away};
use crate::app::App;
use crate::deployments::{self, Deployment};
use crate::error::{Error, Result};
use crate::locks;
use crate::logs::Search;
use crate::pages::error::{PageResult, page};
use crate::pages::view::{People, Shell, took};
use crate::projects::{self, Membership};
use crate::signin::SignedIn;
use crate::variables;

#[derive(Template)]
#[template(path = "project/deployment.html")]
struct Page {
    shell: Shell,
    project: Frame,
    it: Attempt,
    live_number: Option<i32>,
    stay: Option<String>,
    can_deploy: bool,
    waits_for_runner: bool,
    has_lock: bool,
    offer: Option<Offer>,
    comparison: Option<Comparison>,
    /// Names of variables that the code reads, fails without, and that are not set.
    missing: Vec<String>,
    log: Log,
}

/// The part of the page that changes while the deployment is under way.
#[derive(Template)]
#[template(path = "project/deployment.html", block = "facts")]
struct Facts {
    shell: Shell,
    project: Frame,
    it: Attempt,
    live_number: Option<i32>,
    /// Whom a promotion concerns.
    stay: Option<String>,
    can_deploy: bool,
    waits_for_runner: bool,
    /// What its build resolved can be downloaded.
    has_lock: bool,
    offer: Option<Offer>,
    comparison: Option<Comparison>,
    /// Names of variables that the code reads, fails without, and that are not set.
    missing: Vec<String>,
}

impl Facts {
    async fn read(
        db: &mut PgConnection,
        app: &App,
        person: &SignedIn,
        member: &Membership,
        it: Deployment,
    ) -> Result<Self> {
        let now: OffsetDateTime = app.clock.now();
        let live = deployments::find_live_in(db, member.project.id, it.preview_id).await?;
        let queued = it.state == deployments::State::Queued;
        let before = deployments::find_before(db, &it).await?;
        let offered = it.offers();
        let needed =
            variables::needed_by(db, member.project.id, it.preview_id, it.plan.as_ref()).await?;
        let people = People::of(db, member.project.organization_id).await?;
        Ok(Self {
            shell: Shell::new(person, "projects"),
            project: Frame::new(&app.config, member, "").at(&app.config, it.preview.as_deref()),
            stay: live
                .as_ref()
                .and_then(|live| stay(live, app.config.drain())),
            live_number: live.map(|live| live.number),
            can_deploy: can_deploy(&member.project, true),
            waits_for_runner: queued && runner_is_away(db, now).await?,
            has_lock: locks::exists(db, it.id).await?,
            missing: variables::missing(&needed)
                .into_iter()
                .map(str::to_owned)
                .collect(),
            comparison: before.and_then(|before| Comparison::of(&before, &it)),
            offer: offered.map(|surface| Offer::of(&member.project.name, &surface)),
            it: Attempt::new(it, &people, now),
        })
    }
}

/// What becomes of the MCP sessions of the live one when another takes its place.
fn stay(live: &Deployment, longest: std::time::Duration) -> Option<String> {
    let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
    (live.sessions > 0).then(|| {
        format!(
            "{} of #{} would stay there until closed, for {} at the most.",
            sessions(live.sessions),
            live.number,
            took(longest)
        )
    })
}

/// `?stream=build` or `?stream=instance`, and `?q=` to search in it.
#[derive(Debug, Deserialize)]
pub struct Which {
    stream: Option<String>,
    q: Option<String>,
}

impl Which {
    /// The stream that is asked for, if one is.
    pub fn stream(&self) -> Option<LogStream> {
        match self.stream.as_deref()? {
            "build" => Some(LogStream::Build),
            "instance" => Some(LogStream::Instance),
            _ => None,
        }
    }

    /// What is searched for; what is too long to be searched for is nothing.
    pub fn search(&self) -> Search {
        Search::new(self.q.as_deref()).unwrap_or_default()
    }
}

/// `GET /projects/{project}/deployments/{deployment}`
pub async fn show(
    State(app): State<App>,
    person: SignedIn,
    Path((name, deployment)): Path<(String, String)>,
    Query(which): Query<Which>,
) -> PageResult {
    let mut db = app.db.acquire().await?;
    let member = projects::get_for(&mut db, person.user.id, &name).await?;
    let it = deployments::get(&mut db, member.project.id, &deployment).await?;
    let log = Log::read(&mut db, &it, &which).await?;
    let facts = Facts::read(&mut db, &app, &person, &member, it).await?;
    let template = Page {
        shell: facts.shell,
        project: facts.project,
        it: facts.it,
        live_number: facts.live_number,
        stay: facts.stay,
        can_deploy: facts.can_deploy,
        waits_for_runner: facts.waits_for_runner,
        has_lock: facts.has_lock,
        offer: facts.offer,
        comparison: facts.comparison,
        missing: facts.missing,
        log,
    };
    page(StatusCode::OK, &template)
}

/// `GET /projects/{project}/deployments/{deployment}/lock.txt`
pub async fn lock(
    State(app): State<App>,
    person: SignedIn,
    Path((name, deployment)): Path<(String, String)>,
) -> PageResult {
    let mut db = app.db.acquire().await?;
    let member = projects::get_for(&mut db, person.user.id, &name).await?;
    let it = deployments::get(&mut db, member.project.id, &deployment).await?;
    let text = locks::find(&mut db, it.id)
        .await?
        .ok_or(Error::NotFound("lock"))?;
    Ok((locks::FILE_HEADERS, text).into_response())
}

/// `GET /projects/{project}/deployments/{deployment}/facts?seen=`: nothing while nothing changed.
pub async fn facts(
    State(app): State<App>,
    person: SignedIn,
    Path((name, deployment)): Path<(String, String)>,
    Query(Seen { seen }): Query<Seen>,
) -> PageResult {
    let mut db = app.db.acquire().await?;
    let member = projects::get_for(&mut db, person.user.id, &name).await?;
    let it = deployments::get(&mut db, member.project.id, &deployment).await?;
    let facts = Facts::read(&mut db, &app, &person, &member, it).await?;
    if facts.it.mark == seen {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    page(StatusCode::OK, &facts)
}
