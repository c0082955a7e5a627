//! A preview that nobody calls is stopped, and started again by the next call: edges hold the call
//! and tell of it.

use std::collections::BTreeMap;

use sqlx::{PgConnection, PgPool};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::lock_project;
use crate::audit::Actor;
use crate::deployments;
use crate::error::{Error, Result};
use crate::projects;

/// When a preview was called is written at most this often.
const LAST_USED_EVERY: Duration = Duration::MINUTE;

/// After a deployment of a preview failed or was canceled, calls start none before this: what cannot come
/// up is not tried with every call.
const BETWEEN_TRIES: Duration = Duration::MINUTE;

/// Notes when previews were called, by their ids; other ids are passed over.
pub async fn touch(
    db: &mut PgConnection,
    called: &BTreeMap<Uuid, OffsetDateTime>,
) -> sqlx::Result<()> {
    if called.is_empty() {
        return Ok(());
    }
    let (ids, ats): (Vec<Uuid>, Vec<OffsetDateTime>) = called.iter().unzip();
    // A row that is locked is being changed this moment, and is noted with the next report.
    sqlx::query!(
        "with due as (
             select v.id, u.at from unnest($1::uuid[], $2::timestamptz[]) as u (id, at)
             join previews v on v.id = u.id
             where v.last_used_at <= u.at - make_interval(secs => $3)
             for update of v skip locked)
         update previews v set last_used_at = due.at from due where v.id = due.id",
        &ids,
        &ats,
        LAST_USED_EVERY.as_seconds_f64(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A preview and its project.
#[derive(Debug, Clone, Copy)]
struct Place {
    preview: Uuid,
    project: Uuid,
}

/// Stops the instances of previews that nobody called for `idle`, and that answer nothing at the
/// moment; how many. Their routes stay. Each in a transaction of its own, which has the project first;
/// what fails is logged, and looked at again the next time.
pub async fn put_to_sleep(pool: &PgPool, idle: Duration, now: OffsetDateTime) -> Result<usize> {
    let candidates = list_idle(&mut *pool.acquire().await?, None, now - idle).await?;
    let mut stopped = 0;
    for place in candidates {
        match stop_if_idle(pool, place, idle, now).await {
            Ok(true) => stopped += 1,
            Ok(false) => {}
            Err(error) => log(place, &error, "a preview that nobody calls was not stopped"),
        }
    }
    Ok(stopped)
}

async fn stop_if_idle(
    pool: &PgPool,
    place: Place,
    idle: Duration,
    now: OffsetDateTime,
) -> Result<bool> {
    let mut tx = pool.begin().await?;
    if !lock_project(&mut tx, place.project).await? {
        return Ok(false);
    }
    // It may have been called, closed or deployed meanwhile.
    let still = list_idle(&mut tx, Some(place.preview), now - idle).await?;
    if still.is_empty() {
        return Ok(false);
    }
    sqlx::query!(
        "update previews set asleep = true where id = $1",
        place.preview
    )
    .execute(&mut *tx)
    .await?;
    deployments::end_preview(&mut tx, place.preview, now).await?;
    tx.commit().await?;
    Ok(true)
}

/// What is live and was not called since, or this one if it is so.
async fn list_idle(
    db: &mut PgConnection,
    only: Option<Uuid>,
    since: OffsetDateTime,
) -> sqlx::Result<Vec<Place>> {
    sqlx::query_as!(
        Place,
        "select v.id as preview, v.project_id as project
         from previews v join deployments d on d.preview_id = v.id and d.state = 'live'
         where v.state = 'open' and greatest(v.last_used_at, d.live_at) <= $1 and ($2::uuid is null or v.id = $2)
             and not exists (select from edge_instances i where i.deployment_id = d.id and i.requests > 0)
             and not exists (select from deployments o
                 where o.preview_id = v.id and o.state in ('queued', 'building', 'starting', 'checking'))
         order by v.id",
        since,
        only,
    )
    .fetch_all(db)
    .await
}

/// Starts the previews that are asleep, of these that somebody calls: the same build again. Each in a
/// transaction of its own; one that cannot be started is logged and keeps no other from it.
pub async fn wake(pool: &PgPool, called: &[Uuid], now: OffsetDateTime) -> Result<()> {
    for place in list_asleep(&mut *pool.acquire().await?, called, now).await? {
        if let Err(error) = rouse(pool, place, now).await {
            log(place, &error, "a preview that is called was not started");
        }
    }
    Ok(())
}

/// Those that may be started: what ended badly waits a little before it is tried again.
async fn list_asleep(
    db: &mut PgConnection,
    called: &[Uuid],
    now: OffsetDateTime,
) -> sqlx::Result<Vec<Place>> {
    sqlx::query_as!(
        Place,
        "select v.id as preview, v.project_id as project from previews v
         where v.id = any($1) and v.asleep and v.state = 'open' and not exists (
             select from deployments d where d.preview_id = v.id and d.state in ('failed', 'canceled')
                 and d.finished_at > $2
                 and d.number = (select max(number) from deployments n where n.preview_id = v.id))
         order by v.project_id, v.id",
        called,
        now - BETWEEN_TRIES,
    )
    .fetch_all(db)
    .await
}

async fn rouse(pool: &PgPool, place: Place, now: OffsetDateTime) -> Result<()> {
    let mut tx = pool.begin().await?;
    if !lock_project(&mut tx, place.project).await? {
        return Ok(());
    }
    // Two edges may hold calls for the same one.
    let still = list_asleep(&mut tx, &[place.preview], now).await?;
    let (false, Some(project)) = (
        still.is_empty(),
        projects::find(&mut tx, place.project).await?,
    ) else {
        return Ok(());
    };
    if let Some(served) = last_served(&mut tx, &project, place.preview).await? {
        deployments::redeploy(&mut tx, &project, &served, "wake", &Actor::System, now).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// After a deployment has ended: an open preview that served once, and of which nothing serves and
/// nothing is under way, is asleep, so that the next call starts it. The project is locked.
pub async fn after_end(db: &mut PgConnection, preview: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        "update previews v set asleep = true
         where v.id = $1 and v.state = 'open' and not v.asleep
             and not exists (select from deployments d where d.preview_id = v.id
                 and d.state in ('queued', 'building', 'starting', 'checking', 'live'))
             and exists (select from deployments d where d.preview_id = v.id and d.live_at is not null
                 and (not v.fork or d.source->>'commit' = v.approved_commit))",
        preview,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// What served before it fell asleep: the newest that ever did. Of a fork, what is approved now.
async fn last_served(
    db: &mut PgConnection,
    project: &projects::Project,
    preview: Uuid,
) -> Result<Option<deployments::Deployment>> {
    let number = sqlx::query_scalar!(
        "select d.number from deployments d join previews v on v.id = d.preview_id
         where v.id = $1 and d.live_at is not null and (not v.fork or d.source->>'commit' = v.approved_commit)
         order by d.number desc limit 1",
        preview,
    )
    .fetch_optional(&mut *db)
    .await?;
    match number {
        Some(number) => Ok(Some(
            deployments::get(db, project.id, &number.to_string()).await?,
        )),
        None => Ok(None),
    }
}

fn log(place: Place, error: &Error, what: &str) {
    let cause = match error {
        Error::Internal(cause) => format!("{cause:#}"),
        other => other.to_string(),
    };
    tracing::warn!(preview.id = %place.preview, project.id = %place.project, error = cause, "{what}");
}
