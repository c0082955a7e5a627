//! Standing grants: those without a code, which the command line and service accounts use again
//! and again.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{Grant, NewGrant, record_created};
use crate::error::Result;
use crate::ids;

/// The one standing grant of client, user and project, made at its first use. Used by parallel
/// requests it stays one.
pub async fn ensure(
    db: &mut PgConnection,
    new: NewGrant<'_>,
    now: OffsetDateTime,
) -> Result<Grant> {
    let id = ids::new_id();
    let grant = sqlx::query_as!(
        Grant,
        "insert into grants
             (id, user_id, client_id, project_id, resource, scope, created_at, last_used_at, standing)
         values ($1, $2, $3, $4, $5, $6, $7, $7, true)
         on conflict (client_id, project_id, user_id, resource) where standing and revoked_at is null
         do update set last_used_at = excluded.last_used_at
         returning id, user_id, client_id, project_id, resource, scope",
        id,
        new.user,
        new.client_id,
        new.project.id,
        new.resource,
        new.scope,
        now,
    )
    .fetch_one(&mut *db)
    .await?;
    if grant.id == id {
        record_created(db, &grant, new.project, now).await?;
    }
    Ok(grant)
}
