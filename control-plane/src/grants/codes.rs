//! Authorization codes (RFC 6749 section 4.1.2): one use, one minute.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{Grant, revoke};
use crate::audit::Actor;
use crate::crypto::sha256;
use crate::error::Result;
use crate::ids;

/// How long a code is good: the client redeems it at once.
pub const LIFETIME: Duration = Duration::MINUTE;

/// Used codes are kept this long after they expired, so that a second use is noticed.
const KEPT: Duration = Duration::DAY;

/// A code that was just used up, with what it is bound to.
#[derive(Debug)]
pub struct Code {
    /// Its grant.
    pub grant: Grant,
    /// The redirect URI of the authorization request.
    pub redirect_uri: String,
    /// The PKCE challenge, S256 (RFC 7636).
    pub challenge: String,
}

/// What came of presenting a code.
#[derive(Debug)]
pub enum Redeemed {
    /// Its first use, in time.
    Fresh(Box<Code>),
    /// It was used before; its grant is revoked now (RFC 6749 section 4.1.2).
    Reused,
    /// Unknown, expired, or the person may not use the project any more.
    Unknown,
}

/// Issues a code of a grant.
pub async fn issue(
    db: &mut PgConnection,
    grant: Uuid,
    redirect_uri: &str,
    challenge: &str,
    now: OffsetDateTime,
) -> Result<String> {
    let code = ids::random_token("");
    sqlx::query!(
        "insert into authorization_codes (code_hash, grant_id, redirect_uri, code_challenge, expires_at)
         values ($1, $2, $3, $4, $5)",
        sha256(&code),
        grant,
        redirect_uri,
        challenge,
        now + LIFETIME,
    )
    .execute(db)
    .await?;
    Ok(code)
}

/// Uses a code up. Any presentation does, right or wrong in the rest, so that a stolen code
/// allows one guess. Holds the grant until the caller commits, in every case, so that a revocation
/// comes wholly before or wholly after.
pub async fn redeem(db: &mut PgConnection, code: &str, now: OffsetDateTime) -> Result<Redeemed> {
    let used = sqlx::query!(
        r#"with family as materialized (
             select g.id, g.user_id, g.client_id, g.project_id, g.resource, g.scope, g.revoked_at
             from authorization_codes c join grants g on g.id = c.grant_id
             where c.code_hash = $1 and c.used_at is null
             for no key update of g
         )
         update authorization_codes c set used_at = $2 from family g
         where c.code_hash = $1 and c.used_at is null
         returning c.redirect_uri, c.code_challenge, g.id as "id!", g.user_id as "user_id!",
             g.client_id as "client_id!", g.project_id as "project_id!", g.resource as "resource!",
             g.scope as "scope!",
             (c.expires_at > $2 and g.revoked_at is null
              and may_call(g.user_id, g.project_id)) as "usable!""#,
        sha256(code),
        now,
    )
    .fetch_optional(&mut *db)
    .await?;
    if let Some(row) = used {
        if !row.usable {
            return Ok(Redeemed::Unknown);
        }
        let grant = Grant {
            id: row.id,
            user_id: row.user_id,
            client_id: row.client_id,
            project_id: row.project_id,
            resource: row.resource,
            scope: row.scope,
        };
        let code = Code {
            grant,
            redirect_uri: row.redirect_uri,
            challenge: row.code_challenge,
        };
        return Ok(Redeemed::Fresh(Box::new(code)));
    }
    let reused = sqlx::query_scalar!(
        "select grant_id from authorization_codes where code_hash = $1",
        sha256(code)
    )
    .fetch_optional(&mut *db)
    .await?;
    let Some(grant) = reused else {
        return Ok(Redeemed::Unknown);
    };
    revoke(
        db,
        grant,
        &Actor::System,
        "authorization code used twice",
        now,
    )
    .await?;
    Ok(Redeemed::Reused)
}

/// Forgets codes that are long over.
pub async fn purge_expired(db: &mut PgConnection, now: OffsetDateTime) -> Result<()> {
    sqlx::query!(
        "delete from authorization_codes where expires_at < $1",
        now - KEPT
    )
    .execute(db)
    .await?;
    Ok(())
}
