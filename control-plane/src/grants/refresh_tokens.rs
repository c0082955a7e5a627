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
/// a token and refresh at the same moment, and an answer may get lost. Bursts of real clients last
/// up to 76 s. After it, a second use means that someone else has the token.
pub const GRACE: Duration = Duration::minutes(2);

/// What came of presenting a refresh token.
#[derive(Debug)]
pub enum Rotated {
    /// It is good; it was used up, or used up within [`GRACE`].
    Fresh(Fresh),
    /// It was used up before; its grant is revoked now.
    Replayed,
    /// It is good, but for another resource. It was not used up.
    OtherResource,
    /// Unknown, expired, revoked, another client's, or the person may not use the project any more.
    Unknown,
}

/// What a good refresh token gave.
#[derive(Debug)]
pub struct Fresh {
    /// Its grant.
    pub grant: Grant,
    /// The next token of the family.
    pub refresh_token: String,
}

/// A refresh token as its client sees it.
#[derive(Debug)]
pub struct Known {
    /// Its grant.
    pub grant: Grant,
    /// When it was issued.
    pub created_at: OffsetDateTime,
    /// When it ends if nobody uses it.
    pub expires_at: OffsetDateTime,
    /// Whether it would be taken now.
    pub is_active: bool,
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

/// Uses a refresh token up and issues the next, all in one statement that holds the grant: of any
/// number of parallel uses one is the first and all get a token of their own, and a revocation
/// comes wholly before or wholly after. `resource` is what the client named, in our spelling. The
/// caller commits in every case.
pub async fn rotate(
    db: &mut PgConnection,
    token: &str,
    client: &str,
    resource: Option<&str>,
    now: OffsetDateTime,
) -> Result<Rotated> {
    let hash = sha256(token);
    let next = ids::random_token("brr_");
    let used = sqlx::query_as!(
        Grant,
        r#"with family as materialized (
             select g.id, g.user_id, g.client_id, g.project_id, g.resource, g.scope
             from refresh_tokens r join grants g on g.id = r.grant_id
             where r.token_hash = $1 and r.expires_at > $3 and g.client_id = $2
               and g.revoked_at is null and ($4::text is null or g.resource = $4)
             for no key update of g
         ), used as (
             update refresh_tokens r set used_at = coalesce(r.used_at, $3) from family f
             where r.token_hash = $1 and (r.used_at is null or r.used_at > $5)
               and may_call(f.user_id, f.project_id)
             returning f.id, f.user_id, f.client_id, f.project_id, f.resource, f.scope
         ), next as (
             insert into refresh_tokens (token_hash, grant_id, created_at, expires_at)
             select $6, used.id, $3, $7 from used
         ), seen as (
             update grants g set last_used_at = $3 from used where g.id = used.id
         )
         select id as "id!", user_id as "user_id!", client_id as "client_id!",
             project_id as "project_id!", resource as "resource!", scope as "scope!" from used"#,
        hash,
        client,
        now,
        resource,
        now - GRACE,
        sha256(&next),
        now + LIFETIME,
    )
    .fetch_optional(&mut *db)
    .await?;
    match used {
        Some(grant) => Ok(Rotated::Fresh(Fresh {
            grant,
            refresh_token: next,
        })),
        None => refuse(db, &hash, client, resource, now).await,
    }
}

/// Why a token was not taken. A replay ends its family.
async fn refuse(
    db: &mut PgConnection,
    hash: &[u8],
    client: &str,
    resource: Option<&str>,
    now: OffsetDateTime,
) -> Result<Rotated> {
    let found = sqlx::query!(
        r#"select r.grant_id, coalesce(r.used_at <= $3, false) as "replayed!",
             (g.revoked_at is null and r.expires_at > $4) as "alive!", g.resource
         from refresh_tokens r join grants g on g.id = r.grant_id
         where r.token_hash = $1 and g.client_id = $2"#,
        hash,
        client,
        now - GRACE,
        now,
    )
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = found else {
        return Ok(Rotated::Unknown);
    };
    if row.replayed {
        let why = "refresh token used twice";
        revoke(db, row.grant_id, &Actor::System, why, now).await?;
        return Ok(Rotated::Replayed);
    }
    if row.alive && resource.is_some_and(|resource| resource != row.resource) {
        return Ok(Rotated::OtherResource);
    }
    Ok(Rotated::Unknown)
}

/// A client's refresh token, used up or not; for revocation and introspection (RFC 7009, RFC 7662).
pub async fn find(
    db: &mut PgConnection,
    token: &str,
    client: &str,
    now: OffsetDateTime,
) -> Result<Option<Known>> {
    let found = sqlx::query!(
        r#"select g.id, g.user_id, g.client_id, g.project_id, g.resource, g.scope,
             r.created_at, r.expires_at,
             (r.expires_at > $3 and (r.used_at is null or r.used_at > $4) and g.revoked_at is null
              and may_call(g.user_id, g.project_id)) as "is_active!"
         from refresh_tokens r join grants g on g.id = r.grant_id
         where r.token_hash = $1 and g.client_id = $2"#,
        sha256(token),
        client,
        now,
        now - GRACE,
    )
    .fetch_optional(db)
    .await?;
    Ok(found.map(|row| Known {
        grant: Grant {
            id: row.id,
            user_id: row.user_id,
            client_id: row.client_id,
            project_id: row.project_id,
            resource: row.resource,
            scope: row.scope,
        },
        created_at: row.created_at,
        expires_at: row.expires_at,
        is_active: row.is_active,
    }))
}

/// Forgets tokens that have expired.
pub async fn purge_expired(db: &mut PgConnection, now: OffsetDateTime) -> Result<()> {
    sqlx::query!("delete from refresh_tokens where expires_at <= $1", now)
        .execute(db)
        .await?;
    Ok(())
}
