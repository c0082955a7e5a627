//! Processes the inbox, and compares branches and pull requests with GitHub by the clock.

use std::time::Duration;

use sqlx::Connection as _;
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::deliveries::{self, Delivery, TOPIC};
use super::events::{self, Outcome};
use super::failure::Failure;
use super::feedback::permissions;
use super::{installations, links, pull_requests, registration};
use crate::app::App;
use crate::crypto::fill_random;
use crate::error::{Error, Result};

/// Deliveries of different repositories that are worked on at once. Each holds a connection while
/// GitHub answers.
pub const WORKERS: usize = 3;

/// Without news and with nothing put off, the inbox is looked at this often.
const IDLE: Duration = Duration::from_secs(30);

/// After a failure of the database.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// A delivery is given up after this many attempts: three quarters of an hour of waits, or somewhat
/// more. What it was about is healed by the comparison of branches.
const MAX_ATTEMPTS: i32 = 10;

/// The first wait after a failed attempt, seconds; it doubles with each, up to the longest.
const FIRST_WAIT: f64 = 5.0;

/// The longest wait, seconds: an end for whoever raises the number of attempts.
const LONGEST_WAIT: f64 = 3_600.0;

/// Branches that one round compares at the most; the others are first in the next.
const ROUND: i64 = 100;

/// So many failures of GitHub in a row mean that it is away, and not one repository of it.
const AWAY: u32 = 3;

/// Processes deliveries until shut down.
pub async fn run(app: App, shutdown: CancellationToken) {
    let mut waiter = app.changes.subscribe();
    loop {
        let worked = tokio::select! {
            () = shutdown.cancelled() => return,
            worked = process_next(&app) => worked,
        };
        let pause = match worked {
            Ok(true) => continue,
            Ok(false) => until_due(&app).await.unwrap_or(AFTER_FAILURE),
            Err(error) => {
                log(&error, "the inbox of webhooks cannot be worked on");
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
    let due = deliveries::next_due(&mut *app.db.acquire().await?).await?;
    Ok(due.map_or(IDLE, |due| {
        let wait = (due - app.clock.now()).whole_milliseconds();
        // One that is due and was not taken is another worker's, or stands behind one.
        Duration::from_millis(u64::try_from(wait).unwrap_or(0)).clamp(AFTER_FAILURE, IDLE)
    }))
}

/// Processes one delivery; `false` when none is due. It is done once what it changes is committed: if
/// this process dies in between, the next one does the same again, which changes nothing more.
pub async fn process_next(app: &App) -> Result<bool> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let Some(delivery) = deliveries::claim(&mut tx, now).await? else {
        return Ok(false);
    };
    // What reads here may fail in the database; the delivery is put off in any case.
    let mut attempt = tx.begin().await?;
    let outcome = events::process(app, &mut attempt, &delivery).await;
    attempt.rollback().await?;
    match outcome {
        Ok(Outcome::Done(what)) => {
            deliveries::finish(&mut tx, &delivery.id, "done", &what, app.clock.now()).await?;
        }
        Ok(Outcome::Ignored(why)) => {
            deliveries::finish(&mut tx, &delivery.id, "ignored", why, app.clock.now()).await?;
        }
        Err(failure) => fail(app, &mut tx, &delivery, &failure).await?,
    }
    tx.commit().await?;
    Ok(true)
}

async fn fail(
    app: &App,
    db: &mut sqlx::PgConnection,
    delivery: &Delivery,
    failure: &Failure,
) -> Result<()> {
    let now = app.clock.now();
    let why = failure.to_string();
    tracing::warn!(
        delivery = delivery.id,
        event = delivery.event,
        why,
        "a webhook was not processed"
    );
    if !failure.may_pass() || delivery.attempts + 1 >= MAX_ATTEMPTS {
        return deliveries::finish(db, &delivery.id, "failed", &why, now).await;
    }
    deliveries::put_off(
        db,
        &delivery.id,
        &why,
        retry_at(failure, delivery.attempts, now),
    )
    .await
}

/// When to try again: after a limit is over, or after a wait that doubles; each with up to half as
/// much again, so that what failed together does not come back together.
pub(super) fn retry_at(failure: &Failure, attempts: i32, now: OffsetDateTime) -> OffsetDateTime {
    let (from, wait) = match failure {
        Failure::Limited { until } => (*until, FIRST_WAIT),
        _ => (now, (FIRST_WAIT * 2_f64.powi(attempts)).min(LONGEST_WAIT)),
    };
    from + time::Duration::seconds_f64(wait * (1.0 + jitter() / 2.0))
}

/// Between 0 and 1.
fn jitter() -> f64 {
    let mut byte = [0_u8; 1];
    fill_random(&mut byte);
    f64::from(byte[0]) / 255.0
}

/// Compares branches with GitHub by the clock, until shut down: what heals lost deliveries, and
/// repositories that were renamed or deleted unheard.
pub async fn reconcile(app: App, shutdown: CancellationToken) {
    let interval = f64::from(app.config.github_reconcile_seconds);
    loop {
        // A fifth of the interval, give or take: so each branch is looked at in time, and not all
        // at once.
        let pause = Duration::from_secs_f64(interval / 5.0 * (0.75 + jitter() / 2.0));
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let round = tokio::select! {
            () = shutdown.cancelled() => return,
            round = compare(&app) => round,
        };
        if let Err(error) = round {
            log(&error, "branches could not be compared with GitHub");
        }
    }
}

/// Compares the branches that are due; ends early when GitHub is away. Installations that were
/// suspended or gone are asked for first.
pub async fn compare(app: &App) -> Result<()> {
    let interval = time::Duration::seconds(app.config.github_reconcile_seconds.into());
    // In time means within the interval, so it begins before.
    let before = app.clock.now() - interval * 3 / 5;
    if !registration::exists(&mut *app.db.acquire().await?).await? {
        return Ok(());
    }
    revive(app, before).await?;
    let due = links::list_due(&mut *app.db.acquire().await?, before, ROUND).await?;
    let mut failures = 0;
    for (at, project) in due.iter().enumerate() {
        let failed = look_now(app, *project).await?;
        // Of less weight than the branch, and often fails for a lack of permission alone.
        if failed.is_none()
            && let Err(failure) = pull_requests::compare(app, *project).await
        {
            tracing::warn!(project.id = %project, why = %failure, "pull requests could not be compared with GitHub");
        }
        failures = match &failed {
            // Others have limits of their own, so this says nothing of GitHub.
            Some(Failure::Limited { .. }) => failures,
            Some(Failure::Unavailable(_)) => failures + 1,
            None | Some(_) => 0,
        };
        if failures >= AWAY {
            let why = failed.map(|failure| failure.to_string());
            tracing::warn!(why, "the comparison with GitHub goes on later");
            let mut db = app.db.acquire().await?;
            links::note_unreached(&mut db, &due[at..], app.clock.now()).await?;
            break;
        }
    }
    Ok(())
}

/// Looks at a project's branch at once. What kept it from being compared is noted, and given back.
pub async fn look_now(app: &App, project: Uuid) -> Result<Option<Failure>> {
    let mut tx = app.db.begin().await?;
    let Err(failure) = links::look(app, &mut tx, project).await else {
        tx.commit().await?;
        return Ok(None);
    };
    tx.rollback().await?;
    note(app, project, &failure).await?;
    Ok(Some(failure))
}

/// Notes that a project's branch could not be compared: every failure ends its turn, and the page
/// tells of those that do not pass by themselves.
pub(super) async fn note(app: &App, project: Uuid, failure: &Failure) -> Result<()> {
    let mut db = app.db.acquire().await?;
    let now = app.clock.now();
    if failure.may_pass() {
        links::note_attempt(&mut db, project, now).await?;
    } else {
        tracing::warn!(project.id = %project, why = %failure, "a branch could not be compared with GitHub");
        links::note_failure(&mut db, project, &failure.to_string(), now).await?;
    }
    Ok(())
}

/// Asks how installations stand that were suspended or gone, once in an interval: the delivery that
/// told of their return may be lost.
async fn revive(app: &App, before: OffsetDateTime) -> Result<()> {
    let ids = {
        let mut db = app.db.acquire().await?;
        installations::list_inactive(&mut db, before, ROUND).await?
    };
    for id in ids {
        {
            let mut db = app.db.acquire().await?;
            installations::note_asked(&mut db, id, app.clock.now()).await?;
        }
        match installations::update(app, id).await {
            Ok("active") => {
                let mut db = app.db.acquire().await?;
                links::make_due(&mut db, id).await?;
                // What could not be told meanwhile.
                permissions::changed(&mut db, id, app.clock.now()).await?;
            }
            Ok(_) => {}
            Err(failure) => {
                tracing::warn!(installation = id, why = %failure, "GitHub did not say how an installation stands");
                // The App's own limit, or a GitHub that is away: the same for all of them.
                return Ok(());
            }
        }
    }
    Ok(())
}

pub(super) fn log(error: &Error, what: &str) {
    let cause = match error {
        Error::Internal(cause) => format!("{cause:#}"),
        other => other.to_string(),
    };
    tracing::warn!(error = cause, "{what}; trying again");
}
