//! Refresh tokens (RFC 6749 section 6), rotated at every use (RFC 9700 section 4.14.2).

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{Grant, revoke};
use crate::audit::Actor;
use crate::crypto::sha256;
use crate::error::Result;
use crate::ids;

/// How long a refresh token is good when it is not used. Each use gives a new one.
pub const LIFETIME: Duration = Duration::days(30);

/// A token that was just rotated still works for this long: several processes of one client share
/// a token and refresh at the same moment, and an answer may get lost. After it, a second use
/// means that someone else has the token.
pub const GRACE: Duration = Duration::MINUTE;

/// What came of presenting a refresh token.
#[derive(Debug)]
pub enum Rotated {
    /// It is good; it was used up, or used up within [`GRACE`].
    Fresh(Grant),
    /// It was used up before; its grant is revoked now.
    Replayed,
    /// Unknown, expired, revoked, another client's, or the person may not use the project any more.
    Unknown,
}

/// Issues a refresh token of a grant.
pub async fn issue(db: &mut PgConnection, grant: Uuid, now: OffsetDateTime) -> Result<String> {
    let token = ids::random_token("brr_");
    sqlx::query!(
        "insert into refresh_tokens (token_hash, grant_id, created_at, expires_at) values ($1, $2, $3, $4)",
        sha256(&token),
        grant,
        now,
        now + LIFETIME,
    )
    .execute(db)
    .await?;
    Ok(token)
}

/// Uses a refresh token up, in one statement, so that of any number of parallel uses one is the
/// first. The caller commits in every case.
pub async fn rotate(
    db: &mut PgConnection,
    token: &str,
    client: &str,
    now: OffsetDateTime,
) -> Result<Rotated> {
    let hash = sha256(token);
    let used = sqlx::query_as!(
        Grant,
        "update refresh_tokens r set used_at = coalesce(r.used_at, $3)
         from grants g join projects p on p.id = g.project_id
         where r.token_hash = $1 and r.expires_at > $3 and (r.used_at is null or r.used_at > $4)
           and g.id = r.grant_id and g.client_id = $2 and g.revoked_at is null
           and exists (select 1 from members m
                       where m.organization_id = p.organization_id and m.user_id = g.user_id)
         returning g.id, g.user_id, g.client_id, g.project_id, g.resource, g.scope",
        hash,
        client,
        now,
        now - GRACE,
    )
    .fetch_optional(&mut *db)
    .await?;
    if let Some(grant) = used {
        return Ok(Rotated::Fresh(grant));
    }
    let replayed = sqlx::query_scalar!(
        "select r.grant_id from refresh_tokens r join grants g on g.id = r.grant_id
         where r.token_hash = $1 and g.client_id = $2 and r.used_at <= $3",
        hash,
        client,
        now - GRACE,
    )
    .fetch_optional(&mut *db)
    .await?;
    let Some(grant) = replayed else {
        return Ok(Rotated::Unknown);
    };
    revoke(db, grant, &Actor::System, "refresh token used twice", now).await?;
    Ok(Rotated::Replayed)
}

/// The grant of a client's refresh token, used up or not; for revocation (RFC 7009).
pub async fn find_grant(db: &mut PgConnection, token: &str, client: &str) -> Result<Option<Uuid>> {
    Ok(sqlx::query_scalar!(
        "select r.grant_id from refresh_tokens r join grants g on g.id = r.grant_id
         where r.token_hash = $1 and g.client_id = $2",
        sha256(token),
        client,
    )
    .fetch_optional(db)
    .await?)
}

/// Forgets tokens that have expired.
pub async fn purge_expired(db: &mut PgConnection, now: OffsetDateTime) -> Result<()> {
    sqlx::query!("delete from refresh_tokens where expires_at <= $1", now)
        .execute(db)
        .await?;
    Ok(())
}
