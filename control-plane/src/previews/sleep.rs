//! A preview that nobody calls is stopped, and started again by the next call: edges hold the call
//! and tell of it.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::lock_project;
use crate::audit::Actor;
use crate::db::{Changed, bump};
use crate::deployments;
use crate::error::Result;
use crate::projects;

/// When a preview was called is written at most this often.
const LAST_USED_EVERY: Duration = Duration::MINUTE;

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

/// Stops the instances of previews that nobody called for `idle`, and that answer nothing at the
/// moment; how many. Their routes stay.
pub async fn put_to_sleep(
    db: &mut PgConnection,
    idle: Duration,
    now: OffsetDateTime,
) -> Result<usize> {
    let idle_ones = sqlx::query_scalar!(
        "select v.id from previews v join deployments d on d.preview_id = v.id and d.state = 'live'
         where v.state = 'open' and not v.asleep and greatest(v.last_used_at, d.live_at) <= $1
             and not exists (select from edge_instances i where i.deployment_id = d.id and i.requests > 0)
             and not exists (select from deployments o
                 where o.preview_id = v.id and o.state in ('queued', 'building', 'starting', 'checking'))
         order by v.id for update of v skip locked",
        now - idle,
    )
    .fetch_all(&mut *db)
    .await?;
    for preview in &idle_ones {
        sqlx::query!("update previews set asleep = true where id = $1", preview)
            .execute(&mut *db)
            .await?;
        deployments::end_preview(db, *preview, now).await?;
    }
    Ok(idle_ones.len())
}

/// Starts the previews that are asleep, of these that somebody calls: the same build again.
pub async fn wake(db: &mut PgConnection, called: &[Uuid], now: OffsetDateTime) -> Result<()> {
    let asleep = sqlx::query!(
        "select id, project_id from previews where id = any($1) and asleep and state = 'open' order by project_id, id",
        called,
    )
    .fetch_all(&mut *db)
    .await?;
    for row in asleep {
        // Two edges may hold calls for the same one.
        if !lock_project(db, row.project_id).await? || !rouse(db, row.id, now).await? {
            continue;
        }
        let Some(project) = projects::find(db, row.project_id).await? else {
            continue;
        };
        if let Some(served) = last_served(db, &project, row.id).await? {
            deployments::redeploy(db, &project, &served, "wake", &Actor::System, now).await?;
        }
        bump(db, Changed::Routes).await?;
    }
    Ok(())
}

/// Whether it was asleep.
async fn rouse(db: &mut PgConnection, preview: Uuid, now: OffsetDateTime) -> sqlx::Result<bool> {
    let roused = sqlx::query!(
        "update previews set asleep = false, last_used_at = $2 where id = $1 and asleep and state = 'open'",
        preview,
        now,
    )
    .execute(db)
    .await?;
    Ok(roused.rows_affected() == 1)
}

/// What served before it fell asleep: the newest that ever did.
async fn last_served(
    db: &mut PgConnection,
    project: &projects::Project,
    preview: Uuid,
) -> Result<Option<deployments::Deployment>> {
    let number = sqlx::query_scalar!(
        "select number from deployments
         where preview_id = $1 and live_at is not null order by number desc limit 1",
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
