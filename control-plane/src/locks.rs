//! What builds resolved, by content: the lock file of a build whose source has none.

use http::header::{self, HeaderName};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::crypto::hex;
use crate::error::{Result, invalid};

/// Longest lock, bytes: more than a thousand packages with the hashes of all their wheels.
pub const MAX_LOCK_BYTES: usize = 16 * 1024 * 1024;

/// How it is given as a file.
pub const FILE_HEADERS: [(HeaderName, &str); 2] = [
    (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
    (
        header::CONTENT_DISPOSITION,
        "attachment; filename=\"requirements.lock.txt\"",
    ),
];

/// Notes which lock a deployment was installed from.
pub async fn note(db: &mut PgConnection, deployment: Uuid, sha256: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "update deployments set lock_sha256 = $2
         where id = $1 and lock_sha256 is distinct from $2",
        deployment,
        sha256,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Locks that deployments of a runner name and whose text is not here.
pub async fn list_wanted(db: &mut PgConnection, runner: Uuid) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"select distinct d.lock_sha256 as "lock!" from deployments d
         where d.runner_id = $1 and d.lock_sha256 is not null
           and d.state not in ('stopped', 'failed', 'canceled')
           and not exists (select from locks l where l.sha256 = d.lock_sha256)"#,
        runner,
    )
    .fetch_all(db)
    .await
}

/// Keeps the text of a lock, if it is the one of that name.
pub async fn keep(
    db: &mut PgConnection,
    sha256: &str,
    text: &str,
    now: OffsetDateTime,
) -> Result<()> {
    if hex(&crate::crypto::sha256(text)) != sha256 || text.contains('\0') {
        return Err(invalid("lock", "The text is not the lock of this name."));
    }
    sqlx::query!(
        "insert into locks (sha256, text, created_at) values ($1, $2, $3)
         on conflict (sha256) do nothing",
        sha256,
        text,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The text of a deployment's lock, once it is here.
pub async fn find(db: &mut PgConnection, deployment: Uuid) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        "select l.text from locks l join deployments d on d.lock_sha256 = l.sha256 where d.id = $1",
        deployment,
    )
    .fetch_optional(db)
    .await
}

/// Whether there is one.
pub async fn exists(db: &mut PgConnection, deployment: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists(select from locks l join deployments d on d.lock_sha256 = l.sha256
             where d.id = $1) as "exists!""#,
        deployment,
    )
    .fetch_one(db)
    .await
}

/// Removes what no deployment names any more.
pub async fn sweep(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from locks l where not exists (
             select from deployments d where d.lock_sha256 = l.sha256)"
    )
    .execute(db)
    .await?;
    Ok(())
}
