//! Grants: what a person allowed a client on a project. A grant is the family of its codes and
//! tokens; revoking it ends them all.

pub mod codes;
pub mod consents;
pub mod refresh_tokens;

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::audit::{self, Actor};
use crate::clients::{self, CLI_CLIENT};
use crate::db::{Changed, bump};
use crate::error::{Error, Result};
use crate::ids;
use crate::projects::Project;
use crate::routes::SCOPE;

/// How long an access token is good. Edges check it without asking anyone, so it is short.
pub const ACCESS_TOKEN_LIFETIME: Duration = Duration::hours(1);

/// Edges are told of a revoked grant until its last access token has expired, and this much
/// longer, since clocks differ.
const CLOCK_SKEW: Duration = Duration::minutes(5);

/// A grant without anything alive in it is kept this long, so that reuse is still noticed.
const DEAD_KEPT: Duration = Duration::DAY;

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
    let entry = audit::Entry {
        at: now,
        actor: &Actor::User(new.user),
        action: "grant.create",
        organization: Some(new.project.organization_id),
        project: Some(new.project.id),
        subject: serde_json::json!({ "grant": grant.id, "client": new.client_id, "scope": new.scope }),
    };
    audit::record(db, entry).await?;
    Ok(grant)
}

/// The grant under which the command line calls a project for someone; made at the first call.
pub async fn ensure_cli(
    db: &mut PgConnection,
    user: Uuid,
    project: &Project,
    resource: &str,
    now: OffsetDateTime,
) -> Result<Grant> {
    let found = sqlx::query_as!(
        Grant,
        "update grants set last_used_at = $5
         where id = (select id from grants where user_id = $1 and client_id = $2 and project_id = $3
                       and resource = $4 and revoked_at is null order by id limit 1)
         returning id, user_id, client_id, project_id, resource, scope",
        user,
        CLI_CLIENT,
        project.id,
        resource,
        now,
    )
    .fetch_optional(&mut *db)
    .await?;
    if let Some(grant) = found {
        return Ok(grant);
    }
    create(
        db,
        NewGrant {
            user,
            client_id: CLI_CLIENT,
            project,
            resource,
            scope: SCOPE,
        },
        now,
    )
    .await
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

/// One connected app, as its person sees it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ConnectedApp {
    /// The grant.
    pub grant: Uuid,
    /// What the client calls itself.
    pub client: String,
    /// The project it may call.
    pub project: String,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it last got a token.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_used_at: Option<OffsetDateTime>,
}

/// What someone has allowed and not revoked, newest first.
pub async fn list_for(db: &mut PgConnection, user: Uuid) -> Result<Vec<ConnectedApp>> {
    Ok(sqlx::query_as!(
        ConnectedApp,
        "select g.id as grant, c.name as client, p.name as project, g.created_at, g.last_used_at
         from grants g join clients c on c.id = g.client_id join projects p on p.id = g.project_id
         where g.user_id = $1 and g.revoked_at is null order by g.id desc",
        user,
    )
    .fetch_all(db)
    .await?)
}

/// Takes back what someone allowed: revokes the grant and every other one of the same client on
/// the same project, and forgets the consent, so that they are asked again.
pub async fn withdraw(
    db: &mut PgConnection,
    user: Uuid,
    grant: Uuid,
    now: OffsetDateTime,
) -> Result<()> {
    let family = sqlx::query!(
        "select other.id, other.client_id, other.project_id
         from grants g join grants other using (user_id, client_id, project_id)
         where g.id = $1 and g.user_id = $2 and other.revoked_at is null order by other.id",
        grant,
        user,
    )
    .fetch_all(&mut *db)
    .await?;
    let Some(first) = family.first() else {
        return Err(Error::NotFound("connected app"));
    };
    consents::forget(db, user, &first.client_id, first.project_id).await?;
    for member in family {
        revoke(db, member.id, &Actor::User(user), "withdrawn", now).await?;
    }
    Ok(())
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

/// Forgets codes, refresh tokens, grants and clients that can no longer be used.
pub async fn purge_expired(db: &mut PgConnection, now: OffsetDateTime) -> Result<()> {
    codes::purge_expired(db, now).await?;
    refresh_tokens::purge_expired(db, now).await?;
    sqlx::query!(
        "delete from grants g
         where g.revoked_at < $1
            or g.created_at < $1 and coalesce(g.last_used_at, g.created_at) < $1
               and not exists (select 1 from refresh_tokens r where r.grant_id = g.id)",
        now - DEAD_KEPT,
    )
    .execute(&mut *db)
    .await?;
    clients::purge_unused(db, now).await?;
    Ok(())
}
