//! API tokens (`brt_…`): how programs and the command line show who they are. Edges recognise them
//! from their snapshot, so that whatever changes here is told to edges.

#[cfg(test)]
mod tests;

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::audit::{self, Actor};
use crate::crypto::sha256;
use crate::db::{Changed, bump};
use crate::error::{Error, Result, invalid};
use crate::ids;
use crate::users::User;

/// What every token begins with, so that secret scanners and people recognise one.
pub const PREFIX: &str = "brt_";

/// Longest name of a token, in characters.
const MAX_NAME: usize = 100;

/// Most projects that a token can be limited to: edges hold every token in memory.
const MAX_PROJECTS: usize = 100;

/// `last_used_at` is written at most this often: a busy script must not cost a write per request.
const LAST_USED_EVERY: Duration = Duration::MINUTE;

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GoodFor {
    /// The API and calls, as the person. A service account has no such token.
    Everything,
    /// Calls of MCP servers alone.
    Calls,
}

impl GoodFor {
    /// As it stands in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::Calls => "calls",
        }
    }
}

/// A token as its owner sees it. The token itself is shown once and not kept.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ApiToken {
    /// Its id.
    pub id: Uuid,
    /// What it is for.
    pub name: String,
    /// `everything` or `calls`.
    pub good_for: String,
    /// The names of the projects it is good for; `None` for all that its owner may call.
    pub projects: Option<Vec<String>>,
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
    /// The person, or the service account.
    pub user: User,
    /// Whether it is good for calls of MCP servers alone.
    pub only_calls: bool,
    /// When it stops working.
    pub expires_at: Option<OffsetDateTime>,
}

/// What [`create`] needs.
#[derive(Debug)]
pub struct NewToken<'a> {
    /// Who it speaks for.
    pub user: Uuid,
    /// What it is for.
    pub name: &'a str,
    /// What it is good for.
    pub good_for: GoodFor,
    /// With [`GoodFor::Calls`]: the ids of the projects it is good for; `None` for all.
    pub projects: Option<&'a [Uuid]>,
    /// When it stops working; `None` for not before it is revoked.
    pub expires_at: Option<OffsetDateTime>,
}

impl<'a> NewToken<'a> {
    /// One that is good for everything.
    pub fn for_everything(user: Uuid, name: &'a str, expires_at: Option<OffsetDateTime>) -> Self {
        Self {
            user,
            name,
            good_for: GoodFor::Everything,
            projects: None,
            expires_at,
        }
    }
}

/// When a new token ends that is asked for with another one: not after that one, so that a token
/// that was lost is over at its own end.
pub fn end_within(
    wanted: Option<OffsetDateTime>,
    creator: Option<OffsetDateTime>,
) -> Result<Option<OffsetDateTime>> {
    match (wanted, creator) {
        (Some(wanted), Some(limit)) if wanted > limit => Err(invalid(
            "expires_in_days",
            format!(
                "The token you show ends on {}, and what it creates ends by then: choose fewer days, \
                 leave them out, or create it in the dashboard.",
                limit.date()
            ),
        )),
        (None, limit) => Ok(limit),
        (wanted, _) => Ok(wanted),
    }
}

/// Creates a token and returns its id and the token itself, which is shown once.
pub async fn create(
    db: &mut PgConnection,
    new: NewToken<'_>,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<(Uuid, String)> {
    let name = new.name.trim();
    check(&new, name, now)?;
    let token = ids::random_token(PREFIX);
    let id = ids::new_id();
    let organization = sqlx::query_scalar!(
        "insert into api_tokens (id, user_id, name, token_hash, good_for, project_ids, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         returning (select service_account_of from users where id = user_id)",
        id,
        new.user,
        name,
        sha256(&token),
        new.good_for.name(),
        new.projects,
        now,
        new.expires_at,
    )
    .fetch_one(&mut *db)
    .await?;
    bump(db, Changed::Routes).await?;
    record(db, actor, "token.create", (id, organization), now).await?;
    Ok((id, token))
}

fn check(new: &NewToken<'_>, name: &str, now: OffsetDateTime) -> Result<()> {
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(invalid(
            "name",
            format!("Give the token a name of 1 to {MAX_NAME} characters."),
        ));
    }
    if new.expires_at.is_some_and(|at| at <= now) {
        return Err(invalid(
            "expires_at",
            "The token would already have expired; choose a later time.",
        ));
    }
    match (new.good_for, new.projects) {
        (GoodFor::Everything, Some(_)) => Err(invalid(
            "projects",
            "Only a token that is good for calls alone can be limited to projects; make it one.",
        )),
        (GoodFor::Calls, Some([])) => Err(invalid(
            "projects",
            "Choose at least one project, or let the token call all that you may call.",
        )),
        (GoodFor::Calls, Some(projects)) if projects.len() > MAX_PROJECTS => Err(invalid(
            "projects",
            format!("A token can be limited to at most {MAX_PROJECTS} projects; leave some out."),
        )),
        _ => Ok(()),
    }
}

/// Someone's tokens that still work, newest first.
pub async fn list(db: &mut PgConnection, user: Uuid, now: OffsetDateTime) -> Result<Vec<ApiToken>> {
    Ok(sqlx::query_as!(
        ApiToken,
        "select id, name, good_for,
             case when project_ids is not null then
                 array(select p.name from projects p where p.id = any(project_ids) order by p.name) end as projects,
             created_at, expires_at, last_used_at
         from api_tokens
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
    let organization = sqlx::query_scalar!(
        "update api_tokens set revoked_at = $3 where id = $1 and user_id = $2 and revoked_at is null
         returning (select service_account_of from users where id = user_id)",
        id,
        user,
        now,
    )
    .fetch_optional(&mut *db)
    .await?
    .ok_or(Error::NotFound("token"))?;
    bump(db, Changed::Routes).await?;
    record(db, actor, "token.revoke", (id, organization), now).await
}

/// Whether a token that was good for the API a moment ago still is.
pub async fn still_works(db: &mut PgConnection, id: Uuid, now: OffsetDateTime) -> Result<bool> {
    let found = sqlx::query_scalar!(
        "select 1 from api_tokens
         where id = $1 and revoked_at is null and (expires_at is null or expires_at > $2)",
        id,
        now,
    )
    .fetch_optional(db)
    .await?;
    Ok(found.is_some())
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
        "select t.id as token, t.good_for, t.expires_at, t.last_used_at, u.id, u.email, u.name
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
        only_calls: row.good_for != GoodFor::Everything.name(),
        expires_at: row.expires_at,
    }))
}

async fn record(
    db: &mut PgConnection,
    actor: &Actor,
    action: &str,
    (token, organization): (Uuid, Option<Uuid>),
    now: OffsetDateTime,
) -> Result<()> {
    let entry = audit::Entry {
        at: now,
        actor,
        action,
        organization,
        project: None,
        subject: serde_json::json!({ "token": token }),
    };
    audit::record(db, entry).await?;
    Ok(())
}
