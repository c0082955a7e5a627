//! API tokens (`brt_…`): how programs and the command line show who they are.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::audit::{self, Actor};
use crate::crypto::sha256;
use crate::error::{Error, Result, invalid};
use crate::ids;
use crate::users::User;

/// What every token begins with, so that secret scanners and people recognise one.
pub const PREFIX: &str = "brt_";

/// Longest name of a token, in characters.
const MAX_NAME: usize = 100;

/// `last_used_at` is written at most this often: a busy script must not cost a write per request.
const LAST_USED_EVERY: Duration = Duration::MINUTE;

/// A token as its owner sees it. The token itself is shown once and not kept.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ApiToken {
    /// Its id.
    pub id: Uuid,
    /// What it is for.
    pub name: String,
    /// When it was created.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it stops working; `None` means not before it is revoked.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// When it was last used, to the minute.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_used_at: Option<OffsetDateTime>,
}

/// Who a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    /// The token's id, for [`Actor::ApiToken`].
    pub token: Uuid,
    /// The person.
    pub user: User,
}

/// Creates a token; the second value is the token itself, which is shown once.
pub async fn create(
    db: &mut PgConnection,
    user: Uuid,
    name: &str,
    expires_at: Option<OffsetDateTime>,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<(ApiToken, String)> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(invalid(
            "name",
            format!("Give the token a name of 1 to {MAX_NAME} characters."),
        ));
    }
    if expires_at.is_some_and(|at| at <= now) {
        return Err(invalid(
            "expires_at",
            "The token would already have expired; choose a later time.",
        ));
    }
    let token = ids::random_token(PREFIX);
    let row = ApiToken {
        id: ids::new_id(),
        name: name.to_owned(),
        created_at: now,
        expires_at,
        last_used_at: None,
    };
    sqlx::query!(
        "insert into api_tokens (id, user_id, name, token_hash, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6)",
        row.id,
        user,
        row.name,
        sha256(&token),
        now,
        expires_at,
    )
    .execute(&mut *db)
    .await?;
    record(db, actor, "token.create", row.id, now).await?;
    Ok((row, token))
}

/// Someone's tokens that still work, newest first.
pub async fn list(db: &mut PgConnection, user: Uuid, now: OffsetDateTime) -> Result<Vec<ApiToken>> {
    Ok(sqlx::query_as!(
        ApiToken,
        "select id, name, created_at, expires_at, last_used_at from api_tokens
         where user_id = $1 and revoked_at is null and (expires_at is null or expires_at > $2)
         order by id desc",
        user,
        now,
    )
    .fetch_all(db)
    .await?)
}

/// Ends one of someone's tokens at once.
pub async fn revoke(
    db: &mut PgConnection,
    user: Uuid,
    id: Uuid,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<()> {
    let found = sqlx::query!(
        "update api_tokens set revoked_at = $3 where id = $1 and user_id = $2 and revoked_at is null",
        id,
        user,
        now,
    )
    .execute(&mut *db)
    .await?;
    if found.rows_affected() == 0 {
        return Err(Error::NotFound("token"));
    }
    record(db, actor, "token.revoke", id, now).await
}

/// Who `token` speaks for; `None` when it is unknown, expired or revoked.
pub async fn authenticate(
    db: &mut PgConnection,
    token: &str,
    now: OffsetDateTime,
) -> Result<Option<Authenticated>> {
    if !token.starts_with(PREFIX) {
        return Ok(None);
    }
    let row = sqlx::query!(
        "select t.id as token, t.last_used_at, u.id, u.email, u.name
         from api_tokens t join users u on u.id = t.user_id
         where t.token_hash = $1 and t.revoked_at is null and (t.expires_at is null or t.expires_at > $2)",
        sha256(token),
        now,
    )
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    if row
        .last_used_at
        .is_none_or(|at| now - at >= LAST_USED_EVERY)
    {
        sqlx::query!(
            "update api_tokens set last_used_at = $2 where id = $1",
            row.token,
            now
        )
        .execute(db)
        .await?;
    }
    let user = User {
        id: row.id,
        email: row.email,
        name: row.name,
    };
    Ok(Some(Authenticated {
        token: row.token,
        user,
    }))
}

async fn record(
    db: &mut PgConnection,
    actor: &Actor,
    action: &str,
    token: Uuid,
    now: OffsetDateTime,
) -> Result<()> {
    let entry = audit::Entry {
        at: now,
        actor,
        action,
        organization: None,
        project: None,
        subject: serde_json::json!({ "token": token }),
    };
    audit::record(db, entry).await?;
    Ok(())
}
