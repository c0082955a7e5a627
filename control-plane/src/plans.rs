//! Plans of sources that somebody wants to see before anything is built. A runner fetches the
//! source and plans it; nothing of it is run.

use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use time::{Duration, OffsetDateTime};
use tokio::time::Instant;
use uuid::Uuid;

use runner::protocol::{BuildSettings, Package, PlanAnswer, PlanRequest, Source};

use crate::changes::Changes;
use crate::db::{Changed, bump, notify};
use crate::error::{Error, Result, invalid};
use crate::ids;
use crate::projects::Settings;

/// Most questions of one person that are open at once: each has a runner fetch a repository.
const MAX_OPEN: i64 = 5;

/// A question that a runner has not answered by then is another's: its longest fetch, and some.
const ABANDONED: Duration = Duration::minutes(2);

/// How long a plan is kept.
const KEPT: Duration = Duration::hours(1);

/// The topic on which the answer to a question is told ([`crate::changes`]).
pub fn topic(id: Uuid) -> String {
    format!("plans:{id}")
}

/// Asks for the plan of a source. Runners are told when the transaction commits.
pub async fn ask(
    db: &mut PgConnection,
    user: Uuid,
    source: &Source,
    entrypoint: Option<&str>,
    build: &BuildSettings,
    now: OffsetDateTime,
) -> Result<Uuid> {
    let open = sqlx::query_scalar!(
        r#"select count(*) as "count!" from plans where user_id = $1 and answered_at is null"#,
        user,
    )
    .fetch_one(&mut *db)
    .await?;
    if open >= MAX_OPEN {
        return Err(Error::Conflict(format!(
            "You have {MAX_OPEN} plans under way; wait until one of them is there."
        )));
    }
    let id = ids::new_id();
    sqlx::query!(
        "insert into plans (id, user_id, source, entrypoint, build, created_at)
         values ($1, $2, $3, $4, $5, $6)",
        id,
        user,
        serde_json::to_value(source)?,
        entrypoint,
        serde_json::to_value(build)?,
        now,
    )
    .execute(&mut *db)
    .await?;
    bump(db, Changed::Sync).await?;
    Ok(id)
}

/// The source that a person's settings, which are checked, stand for.
pub fn source_of(settings: &Settings) -> Result<Source> {
    let url = settings.source_url.clone().ok_or_else(|| {
        invalid(
            "source_url",
            "Name a repository, like https://github.com/you/server.git; a directory is planned with `berth plan PATH`.",
        )
    })?;
    if Package::is_meant(&url) {
        let package = Package::parse(&url).map_err(|why| invalid("source_url", why))?;
        return Ok(Source::Package(package));
    }
    Ok(Source::Git {
        url,
        repository: None,
        reference: settings.source_branch.clone(),
        commit: None,
    })
}

/// Waits for the answer to a person's own question until `deadline`.
pub async fn wait(
    db: &PgPool,
    changes: &Changes,
    user: Uuid,
    id: Uuid,
    deadline: Instant,
) -> Result<Option<PlanAnswer>> {
    let mut waiter = changes.subscribe();
    loop {
        let answer = find(&mut *db.acquire().await?, user, id).await?;
        if answer.is_some() || Instant::now() >= deadline {
            return Ok(answer);
        }
        waiter.changed(&topic(id), deadline).await;
    }
}

/// Gives a runner the questions that nobody works on, and lists all that are its own.
pub async fn claim(
    db: &mut PgConnection,
    runner: Uuid,
    now: OffsetDateTime,
) -> Result<Vec<PlanRequest>> {
    sqlx::query!(
        "update plans set runner_id = $1, claimed_at = $2 where id in (
             select id from plans where answered_at is null
               and (runner_id is null or claimed_at < $3 and runner_id <> $1)
             for update skip locked)",
        runner,
        now,
        now - ABANDONED,
    )
    .execute(&mut *db)
    .await?;
    let rows = sqlx::query!(
        r#"select id, source, entrypoint, build as "build: Json<BuildSettings>" from plans
         where runner_id = $1 and answered_at is null order by created_at"#,
        runner,
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(PlanRequest {
                id: row.id,
                source: serde_json::from_value(row.source)?,
                entrypoint: row.entrypoint,
                build: row.build.0,
            })
        })
        .collect()
}

/// Takes an answer; one to a question that is gone or answered changes nothing.
pub async fn answer(db: &mut PgConnection, answer: &PlanAnswer, now: OffsetDateTime) -> Result<()> {
    sqlx::query!(
        "update plans set answer = $2, answered_at = $3 where id = $1 and answered_at is null",
        answer.id,
        serde_json::to_value(answer)?,
        now,
    )
    .execute(&mut *db)
    .await?;
    notify(db, &topic(answer.id)).await?;
    Ok(())
}

/// The answer to a person's own question: `None` while there is none, not found when it is not
/// theirs or long gone.
pub async fn find(db: &mut PgConnection, user: Uuid, id: Uuid) -> Result<Option<PlanAnswer>> {
    let answer = sqlx::query_scalar!(
        "select answer from plans where id = $1 and user_id = $2",
        id,
        user,
    )
    .fetch_optional(db)
    .await?
    .ok_or(Error::NotFound("plan"))?;
    Ok(answer.map(serde_json::from_value).transpose()?)
}

/// Removes what is old, answered or not.
pub async fn purge(db: &mut PgConnection, now: OffsetDateTime) -> sqlx::Result<()> {
    sqlx::query!("delete from plans where created_at < $1", now - KEPT)
        .execute(db)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests;
