//! What edges serve: one snapshot of every project's route, and those of open previews.

use edge::protocol::{ApiToken, Callers, HostHeader, Policy, Route, RouteSnapshot, Upstream, User};
use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::config::ServeConfig;
use crate::db::{Changed, version};
use crate::error::Result;
use crate::{grants, previews, signing_keys};

/// The scope a caller's token must carry.
pub const SCOPE: &str = "mcp";

/// The snapshot as of now. `db` is a transaction of its own, still unused: the version and what
/// it stands for belong together, so everything is read from one snapshot of the database.
pub async fn snapshot(
    db: &mut PgConnection,
    config: &ServeConfig,
    now: OffsetDateTime,
) -> Result<RouteSnapshot> {
    sqlx::query!("set transaction isolation level repeatable read, read only")
        .execute(&mut *db)
        .await?;
    let version = version(db, Changed::Routes).await?;
    let rows = sqlx::query!(
        r#"with environments as (
             select id as project_id, null::uuid as preview_id, null::text as slug, false as asleep from projects
             union all
             select project_id, id, slug, asleep from previews where state = 'open')
         select p.id, p.organization_id, p.name, p.access_mode, p.callers, p.public_paths, p.allowed_origins,
             e.preview_id as "preview?", e.slug as "slug?",
             (e.preview_id is not null and (e.asleep or exists (
                 select from deployments n where n.preview_id = e.preview_id
                     and n.state in ('queued', 'building', 'starting', 'checking')))) as "starts!",
             d.id as "deployment?", d.state as "state?", d.commit_id, d.upstream, d.host_header as "host_header?"
         from environments e join projects p on p.id = e.project_id
         left join deployments d on d.project_id = p.id and d.preview_id is not distinct from e.preview_id
             and d.state in ('live', 'draining')
             and d.upstream is not null and d.commit_id is not null and d.unrouted_at is null
         order by p.name, e.slug nulls first, d.number desc"#,
    )
    .fetch_all(&mut *db)
    .await?;
    let mut routes: Vec<Route> = Vec::new();
    for row in rows {
        // A preview's sessions, limits and calls are its own, and so is its id.
        let id = row.preview.unwrap_or(row.id);
        if routes.last().is_none_or(|route| route.project != id) {
            let policy = match row.access_mode.as_str() {
                "public" => Policy::Public,
                "tenant" => Policy::Tenant,
                _ => Policy::Platform {
                    scope: SCOPE.to_owned(),
                    callers: callers(db, row.id, &row.callers).await?,
                    public_paths: row.public_paths,
                },
            };
            let label = match &row.slug {
                Some(slug) => previews::label(&row.name, slug),
                None => row.name.clone(),
            };
            routes.push(Route {
                host: config.project_host(&label),
                key_host: config.project_key_host(&label),
                project: id,
                preview_of: row.preview.map(|_| row.id),
                organization: row.organization_id,
                resource: config.project_url(&label),
                project_name: row.name,
                policy,
                allowed_origins: row.allowed_origins,
                live: None,
                starts: row.starts,
                draining: Vec::new(),
            });
        }
        let route = routes.last_mut().expect("one was just pushed");
        let (Some(deployment), Some(commit), Some(address)) =
            (row.deployment, row.commit_id, row.upstream)
        else {
            continue;
        };
        let upstream = Upstream {
            deployment,
            commit,
            address,
            host_header: host_header(row.host_header.as_deref()),
        };
        if row.state.as_deref() == Some("live") {
            route.live = Some(upstream);
            route.starts = false;
        } else {
            route.draining.push(upstream);
        }
    }
    Ok(RouteSnapshot {
        version,
        issuer: config.issuer(),
        keys: json!({ "keys": signing_keys::public_keys(db, now).await? }),
        revoked_grants: grants::revoked_recently(db, now).await?,
        users: users(db).await?,
        api_tokens: api_tokens(db, now).await?,
        routes,
    })
}

fn host_header(name: Option<&str>) -> HostHeader {
    match name {
        Some("localhost") => HostHeader::Localhost,
        _ => HostHeader::Public,
    }
}

/// Whose tokens a project of mode `platform` accepts.
async fn callers(db: &mut PgConnection, project: Uuid, rule: &str) -> Result<Callers> {
    if rule == "anyone" {
        return Ok(Callers::Anyone);
    }
    let users = sqlx::query_scalar!(
        "select id from users where may_call(id, $1) order by id",
        project
    )
    .fetch_all(db)
    .await?;
    Ok(Callers::Only(users))
}

async fn users(db: &mut PgConnection) -> Result<Vec<User>> {
    Ok(sqlx::query_as!(
        User,
        "select id, case when service_account_of is null and email not like '%.invalid' then email end as email,
             service_account_of as organization
         from users order by id"
    )
    .fetch_all(db)
    .await?)
}

/// Tokens that work now; one that expires says so itself.
async fn api_tokens(db: &mut PgConnection, now: OffsetDateTime) -> Result<Vec<ApiToken>> {
    Ok(sqlx::query_as!(
        ApiToken,
        r#"select id, encode(token_hash, 'hex') as "hash!", user_id as "user", project_ids as projects,
             extract(epoch from expires_at)::bigint as expires_at
         from api_tokens where revoked_at is null and (expires_at is null or expires_at > $1)
         order by id"#,
        now,
    )
    .fetch_all(db)
    .await?)
}
