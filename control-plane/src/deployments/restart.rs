//! Restarts for changed variables: a deployment of the live one's build, for which nothing is
//! fetched or installed. It goes live as any other does, and if it does not come up, the live one
//! serves on with the values it has.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Deployment, New, exact_source, find_live_in, get, insert};
use crate::audit::Actor;
use crate::error::Result;
use crate::projects::Project;
use crate::{build_settings, projects};

/// Queues a restart of every live deployment whose variables have changed since, of production and
/// of previews, and answers that of production. Called after everything that may make one due; at
/// most one is under way in each environment:
///
/// - While a deployment is pending nothing is queued. It has the newest values, or once it has
///   ended this is called again: several changes at once become one restart.
/// - What failed with these values is not tried again by itself. The same holds for a restart
///   that was canceled, until there is another deployment.
pub async fn restart_if_due(
    db: &mut PgConnection,
    project: Uuid,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<Option<Deployment>> {
    let due = list_due(db, project).await?;
    let Some(project) = projects::find(db, project)
        .await?
        .filter(|_| !due.is_empty())
    else {
        return Ok(None);
    };
    let mut of_production = None;
    for preview in due {
        let Some(live) = find_live_in(db, project.id, preview).await? else {
            continue;
        };
        let queued = restart(db, &project, &live, actor, now).await?;
        if preview.is_none() {
            of_production = Some(queued);
        }
    }
    Ok(of_production)
}

/// The environments of a project, which is locked, whose live deployment lacks the newest values. Previews
/// come first, since they change the routes, whose version is locked before the other.
async fn list_due(db: &mut PgConnection, project: Uuid) -> Result<Vec<Option<Uuid>>> {
    // Always project before deployment, as in reports.
    Ok(sqlx::query_scalar!(
        "select d.preview_id from projects p join deployments d on d.project_id = p.id and d.state = 'live'
             cross join lateral (select case when d.preview_id is null
                 then p.variables_revision else p.preview_variables_revision end as revision) newest
         where p.id = $1 and d.variables_revision < newest.revision and not exists (
             select from deployments o where o.project_id = p.id and o.preview_id is not distinct from d.preview_id and (
                 o.state in ('queued', 'building', 'starting', 'checking')
                 or o.origin = 'variables' and o.variables_revision = newest.revision and (
                     o.state in ('failed', 'held')
                     or o.state = 'canceled' and o.number = (
                         select max(number) from deployments n
                         where n.project_id = p.id and n.preview_id is not distinct from d.preview_id))))
         order by d.preview_id nulls last for update of p",
        project,
    )
    .fetch_all(db)
    .await?)
}

async fn restart(
    db: &mut PgConnection,
    project: &Project,
    live: &Deployment,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<Deployment> {
    let new = New {
        source: exact_source(live)?,
        entrypoint: live.entrypoint.clone(),
        preview: live.preview_id,
        origin: "variables",
    };
    let restart = insert(db, project, &new, actor, now).await?;
    build_settings::keep(db, restart.id, live.id).await?;
    // It belongs to the runner that has the build, and what is known of the build is known of it.
    sqlx::query!(
        "update deployments d set build_of = coalesce(l.build_of, l.id), runner_id = l.runner_id,
             lease_until = l.lease_until, commit_id = l.commit_id, commit_subject = l.commit_subject,
             commit_author = l.commit_author, plan = l.plan
         from deployments l where d.id = $1 and l.id = $2",
        restart.id,
        live.id,
    )
    .execute(&mut *db)
    .await?;
    get(db, project.id, &restart.number.to_string()).await
}
