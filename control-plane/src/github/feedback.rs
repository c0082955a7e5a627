//! What GitHub shows of deployments: check runs, deployments, and one comment on each pull request that
//! has a preview.
//!
//! It is an outbox by comparison: nothing is queued but that something is to be looked at
//! ([`items`]). How it is to look follows from how things stand then ([`facts`]), what differs from
//! what was sent last is sent, and so changes in between cost nothing, and one that was lost is told
//! with the next. GitHub's trouble puts off what is told, and never touches a deployment.

mod annotations;
mod api;
mod check;
mod comment;
mod deployment;
pub mod facts;
pub mod items;
mod markdown;
pub mod permissions;
mod summary;

use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::failure::Failure;
use super::{registration, worker};
use crate::app::App;
use crate::audit::{self, Actor};
use crate::crypto::sha256;
use crate::error::Result;
use crate::projects::Project;
use facts::{Facts, Found};
use items::{Item, Kind, TOPIC};

/// Things that are told at once: one that GitHub is slow with holds back no other project's.
pub const WORKERS: usize = 2;

/// Without news and with nothing put off, it is looked at this often.
const IDLE: Duration = Duration::from_secs(30);

/// After a failure of the database.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// An attempt is given up after so many: half a day of growing waits. The next change begins anew.
const MAX_ATTEMPTS: i32 = 20;

/// While the repository is out of reach, it is looked at again after this long.
const OUT_OF_REACH: time::Duration = time::Duration::HOUR;

/// What GitHub never heard of is not told any more after this long, if there is something newer: once a
/// permission is granted that was missing, the past does not come all at once.
const STALE: time::Duration = time::Duration::DAY;

/// What GitHub says to a token that lacks a permission.
const NOT_GRANTED: [&str; 2] = [
    "Resource not accessible by integration",
    "permissions requested are not granted",
];

/// What came of telling.
#[derive(Debug)]
enum Outcome {
    /// GitHub shows what has this digest.
    Told(Vec<u8>),
    /// There is nothing to show.
    Nothing,
    /// A person deleted the comment at this head.
    Deleted(String),
    /// It is of no use any more.
    Gone,
    /// It cannot be told now; why, and when to try again.
    Later(String, OffsetDateTime),
}

/// Names what is sent.
fn digest(body: &Value) -> Vec<u8> {
    sha256(body.to_string())
}

/// Tells GitHub until shut down.
pub async fn run(app: App, shutdown: CancellationToken) {
    let mut waiter = app.changes.subscribe();
    loop {
        // What is begun is ended: a request that was dropped would have to be looked for.
        let pause = match tell_next(&app).await {
            Ok(true) if !shutdown.is_cancelled() => continue,
            Ok(_) => until_due(&app).await.unwrap_or(AFTER_FAILURE),
            Err(error) => {
                worker::log(&error, "GitHub cannot be told of deployments");
                AFTER_FAILURE
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = waiter.changed(TOPIC, Instant::now() + pause) => {}
        }
    }
}

async fn until_due(app: &App) -> Result<Duration> {
    let mut db = app.db.acquire().await?;
    if !registration::exists(&mut db).await? {
        return Ok(IDLE);
    }
    let due = items::next_due(&mut db).await?;
    Ok(due.map_or(IDLE, |due| {
        let wait = (due - app.clock.now()).whole_milliseconds();
        Duration::from_millis(u64::try_from(wait).unwrap_or(0)).clamp(AFTER_FAILURE, IDLE)
    }))
}

/// Tells one thing; `false` when none is due.
pub async fn tell_next(app: &App) -> Result<bool> {
    let now = app.clock.now();
    let claimed = {
        let mut db = app.db.acquire().await?;
        if !registration::exists(&mut db).await? {
            return Ok(false);
        }
        items::claim(&mut db, now).await?
    };
    let Some(item) = claimed else {
        return Ok(false);
    };
    let told = tell(app, &item).await;
    let mut db = app.db.acquire().await?;
    let now = app.clock.now();
    match told {
        Ok(Outcome::Told(sent)) => items::finish(&mut db, &item, Some(&sent), now).await?,
        Ok(Outcome::Nothing) => items::finish(&mut db, &item, None, now).await?,
        Ok(Outcome::Deleted(head)) => items::note_deleted(&mut db, &item, &head, now).await?,
        Ok(Outcome::Gone) => items::forget(&mut db, &item).await?,
        Ok(Outcome::Later(why, until)) => {
            items::put_off(&mut db, &item, &why, until, false).await?;
        }
        Err(failure) => fail(&mut db, &item, &failure, now).await?,
    }
    Ok(true)
}

async fn tell(app: &App, item: &Item) -> std::result::Result<Outcome, Failure> {
    let now = app.clock.now();
    let facts = match Facts::load(app, item).await? {
        Found::Gone => return Ok(Outcome::Gone),
        Found::OutOfReach(why) => return Ok(Outcome::Later(why.to_owned(), now + OUT_OF_REACH)),
        Found::Here(facts) => facts,
    };
    let is_stale = |it: &facts::Deployed| it.newer.is_some() && it.it.created_at + STALE < now;
    if item.remote.is_none() && facts.deployed.as_ref().is_some_and(is_stale) {
        return Ok(Outcome::Nothing);
    }
    let (installation, name) = (facts.link.installation_id, item.kind.permission());
    if let Some(later) = lacking(app, installation, name, now).await? {
        return Ok(later);
    }
    let told = match item.kind {
        Kind::Check => check::tell(app, item, &facts).await,
        Kind::Deployment => deployment::tell(app, item, &facts).await,
        Kind::Comment => comment::tell(app, item, &facts).await,
    };
    match told {
        Err(Failure::Refused(why)) if NOT_GRANTED.iter().any(|it| why.contains(it)) => {
            if lacking(app, installation, name, now).await?.is_none() {
                permissions::note_refused(app, installation, name).await?;
            }
            let later = lacking(app, installation, name, now).await?;
            later.ok_or(Failure::Refused(why))
        }
        told => told,
    }
}

async fn lacking(
    app: &App,
    installation: i64,
    name: &str,
    now: OffsetDateTime,
) -> std::result::Result<Option<Outcome>, Failure> {
    let mut db = app.db.acquire().await?;
    let until = permissions::lacking_until(&mut db, installation, name, now).await?;
    Ok(until.map(|until| {
        let why = format!("The App was not granted the permission {name} (write) at GitHub.");
        Outcome::Later(why, until)
    }))
}

async fn fail(
    db: &mut sqlx::PgConnection,
    item: &Item,
    failure: &Failure,
    now: OffsetDateTime,
) -> Result<()> {
    let why = failure.to_string();
    tracing::warn!(kind = item.kind.name(), subject = %item.subject, why, "GitHub was not told of a deployment");
    // A token that is not accepted was forgotten, and the next one may be.
    let may_pass = failure.may_pass() || matches!(failure, Failure::Unauthorized(_));
    if !may_pass || item.attempts >= MAX_ATTEMPTS {
        return items::give_up(db, item, &why, now).await;
    }
    let until = worker::retry_at(failure, item.attempts - 1, now);
    // What a limit kept away did not reach GitHub.
    let counts = !matches!(failure, Failure::Limited { .. });
    items::put_off(db, item, &why, until, counts).await
}

/// Whether a project's pull requests get comments; `None` for one without a repository of the App.
pub async fn find_comments(
    db: &mut sqlx::PgConnection,
    project: Uuid,
) -> sqlx::Result<Option<bool>> {
    sqlx::query_scalar!(
        "select p.github_comments from projects p join github_links l on l.project_id = p.id where p.id = $1",
        project,
    )
    .fetch_optional(db)
    .await
}

/// Switches comments on or off; those that are there stay as they are.
pub async fn set_comments(
    db: &mut sqlx::PgConnection,
    project: &Project,
    on: bool,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "update projects set github_comments = $2 where id = $1",
        project.id,
        on
    )
    .execute(&mut *db)
    .await?;
    let entry = audit::Entry {
        at: now,
        actor,
        action: "project.github_comments",
        organization: Some(project.organization_id),
        project: Some(project.id),
        subject: serde_json::json!({ "on": on }),
    };
    audit::record(db, entry).await?;
    Ok(())
}
