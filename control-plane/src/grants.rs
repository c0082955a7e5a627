//! Grants: what a person allowed a client on a project. A grant is the family of its codes and
//! tokens; revoking it ends them all.

pub mod codes;
pub mod connected_apps;
pub mod consents;
pub mod refresh_tokens;
pub mod standing;

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::audit::{self, Actor};
use crate::clients;
use crate::db::{Changed, bump};
use crate::error::Result;
use crate::ids;
use crate::projects::Project;

/// How long an access token is good. Edges check it without asking anyone, so it is short.
pub const ACCESS_TOKEN_LIFETIME: Duration = Duration::hours(1);

/// Edges are told of a revoked grant until its last access token has expired, and this much
/// longer, since clocks differ.
const CLOCK_SKEW: Duration = Duration::minutes(5);

/// A revoked grant is kept this long, so that reuse is still noticed.
const REVOKED_KEPT: Duration = Duration::DAY;

/// An app that has nothing alive any more stays connected for this long, and what was allowed
/// remembered: as long as one that has a refresh token and does not use it.
const IDLE_KEPT: Duration = refresh_tokens::LIFETIME;

/// What a person allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its id: the `gid` of its access tokens.
    pub id: Uuid,
    /// Who allowed it.
    pub user_id: Uuid,
    /// Whom.
    pub client_id: String,
    /// On which project.
    pub project_id: Uuid,
    /// The audience of its tokens: the project's MCP URL (RFC 8707).
    pub resource: String,
    /// Space-separated scopes.
    pub scope: String,
}

/// What [`create`] needs.
#[derive(Debug)]
pub struct NewGrant<'a> {
    /// Who allows it.
    pub user: Uuid,
    /// Whom.
    pub client_id: &'a str,
    /// On which project.
    pub project: &'a Project,
    /// The project's MCP URL.
    pub resource: &'a str,
    /// Space-separated scopes.
    pub scope: &'a str,
}

/// Records what a person allowed.
pub async fn create(
    db: &mut PgConnection,
    new: NewGrant<'_>,
    now: OffsetDateTime,
) -> Result<Grant> {
    let grant = Grant {
        id: ids::new_id(),
        user_id: new.user,
        client_id: new.client_id.to_owned(),
        project_id: new.project.id,
        resource: new.resource.to_owned(),
        scope: new.scope.to_owned(),
    };
    sqlx::query!(
        "insert into grants (id, user_id, client_id, project_id, resource, scope, created_at)
         values ($1, $2, $3, $4, $5, $6, $7)",
        grant.id,
        grant.user_id,
        grant.client_id,
        grant.project_id,
        grant.resource,
        grant.scope,
        now,
    )
    .execute(&mut *db)
    .await?;
    record_created(db, &grant, new.project, now).await?;
    Ok(grant)
}

async fn record_created(
    db: &mut PgConnection,
    grant: &Grant,
    project: &Project,
    now: OffsetDateTime,
) -> Result<()> {
    let entry = audit::Entry {
        at: now,
        actor: &Actor::User(grant.user_id),
        action: "grant.create",
        organization: Some(project.organization_id),
        project: Some(project.id),
        subject: serde_json::json!({
            "grant": grant.id, "client": grant.client_id, "scope": grant.scope,
        }),
    };
    audit::record(db, entry).await?;
    Ok(())
}

/// A client's grant, while its access tokens are taken: not revoked, and its user may call the
/// project.
pub async fn find_active(
    db: &mut PgConnection,
    grant: Uuid,
    client: &str,
) -> Result<Option<Grant>> {
    Ok(sqlx::query_as!(
        Grant,
        "select id, user_id, client_id, project_id, resource, scope from grants
         where id = $1 and client_id = $2 and revoked_at is null and may_call(user_id, project_id)",
        grant,
        client,
    )
    .fetch_optional(db)
    .await?)
}

/// The id again, if it is a grant of this client.
pub async fn find_of_client(
    db: &mut PgConnection,
    grant: Uuid,
    client: &str,
) -> Result<Option<Uuid>> {
    Ok(sqlx::query_scalar!(
        "select id from grants where id = $1 and client_id = $2",
        grant,
        client
    )
    .fetch_optional(db)
    .await?)
}

/// Notes a use, for the list of connected apps and the purge.
pub async fn touch(db: &mut PgConnection, grant: Uuid, now: OffsetDateTime) -> Result<()> {
    sqlx::query!(
        "update grants set last_used_at = $2 where id = $1",
        grant,
        now
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Ends a grant with all its codes and tokens, at edges too. Says whether it was still alive.
pub async fn revoke(
    db: &mut PgConnection,
    grant: Uuid,
    actor: &Actor,
    why: &str,
    now: OffsetDateTime,
) -> Result<bool> {
    let revoked = sqlx::query!(
        r#"update grants g set revoked_at = $2 from projects p
         where g.id = $1 and g.revoked_at is null and p.id = g.project_id
         returning g.client_id, p.id, p.organization_id"#,
        grant,
        now,
    )
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = revoked else { return Ok(false) };
    let entry = audit::Entry {
        at: now,
        actor,
        action: "grant.revoke",
        organization: Some(row.organization_id),
        project: Some(row.id),
        subject: serde_json::json!({ "grant": grant, "client": row.client_id, "why": why }),
    };
    audit::record(db, entry).await?;
    bump(db, Changed::Routes).await?;
    Ok(true)
}

/// Grants whose access tokens may not have expired yet although they were revoked: what edges
/// must refuse.
pub async fn revoked_recently(db: &mut PgConnection, now: OffsetDateTime) -> Result<Vec<Uuid>> {
    Ok(sqlx::query_scalar!(
        r#"select id from grants where revoked_at > $1 order by revoked_at, id"#,
        now - ACCESS_TOKEN_LIFETIME - CLOCK_SKEW,
    )
    .fetch_all(db)
    .await?)
}

/// Forgets codes, refresh tokens, grants, consents and clients that can no longer be used.
pub async fn purge_expired(db: &mut PgConnection, now: OffsetDateTime) -> Result<()> {
    codes::purge_expired(db, now).await?;
    refresh_tokens::purge_expired(db, now).await?;
    sqlx::query!(
        "delete from grants g
         where g.revoked_at < $1
            or coalesce(g.last_used_at, g.created_at) < $2
               and not exists (select 1 from refresh_tokens r where r.grant_id = g.id)",
        now - REVOKED_KEPT,
        now - IDLE_KEPT,
    )
    .execute(&mut *db)
    .await?;
    consents::purge_unused(db).await?;
    clients::purge_unused(db, now).await?;
    Ok(())
}
