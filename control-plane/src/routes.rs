//! What edges serve: one snapshot of every project's route.

use edge::protocol::{Policy, Route, RouteSnapshot, Upstream};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::config::ServeConfig;
use crate::db::{Changed, version};
use crate::error::Result;
use crate::grants;
use crate::signing_keys::SigningKeys;

/// The scope a caller's token must carry.
pub const SCOPE: &str = "mcp";

/// The snapshot as of now. `db` is a transaction of its own, still unused: the version and what
/// it stands for belong together, so everything is read from one snapshot of the database.
pub async fn snapshot(
    db: &mut PgConnection,
    config: &ServeConfig,
    keys: &SigningKeys,
    now: OffsetDateTime,
) -> Result<RouteSnapshot> {
    sqlx::query!("set transaction isolation level repeatable read, read only")
        .execute(&mut *db)
        .await?;
    let version = version(db, Changed::Routes).await?;
    let rows = sqlx::query!(
        r#"select p.id, p.name, d.id as "deployment?", d.state as "state?", d.commit_id, d.upstream
         from projects p
         left join deployments d on d.project_id = p.id and d.state in ('live', 'draining')
             and d.upstream is not null and d.commit_id is not null and d.unrouted_at is null
         order by p.name, d.number desc"#,
    )
    .fetch_all(&mut *db)
    .await?;
    let mut routes: Vec<Route> = Vec::new();
    for row in rows {
        if routes.last().is_none_or(|route| route.project != row.id) {
            routes.push(Route {
                host: config.project_host(&row.name),
                project: row.id,
                resource: config.project_url(&row.name),
                project_name: row.name,
                policy: Policy::Platform {
                    scope: SCOPE.to_owned(),
                },
                live: None,
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
        };
        if row.state.as_deref() == Some("live") {
            route.live = Some(upstream);
        } else {
            route.draining.push(upstream);
        }
    }
    Ok(RouteSnapshot {
        version,
        issuer: config.issuer(),
        keys: keys.jwks(),
        revoked_grants: grants::revoked_recently(db, now).await?,
        routes,
    })
}
