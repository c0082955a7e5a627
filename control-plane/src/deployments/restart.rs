//! Restarts for changed variables: a deployment of the live one's build, for which nothing is
//! fetched or installed. It goes live as any other does, and if it does not come up, the live one
//! serves on with the values it has.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Deployment, New, exact_source, find_live, get, insert};
use crate::audit::Actor;
use crate::error::Result;
use crate::{build_settings, projects};

/// Queues a restart of the live deployment when the project's variables have changed since, and
/// answers it. Called after everything that may make one due; at most one is under way:
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
    // Always project before deployment, as in reports.
    let due = sqlx::query_scalar!(
        "select p.id from projects p join deployments d on d.project_id = p.id and d.state = 'live'
         where p.id = $1 and d.variables_revision < p.variables_revision and not exists (
             select from deployments o where o.project_id = p.id and (
                 o.state in ('queued', 'building', 'starting', 'checking')
                 or o.origin = 'variables' and o.variables_revision = p.variables_revision and (
                     o.state in ('failed', 'held')
                     or o.state = 'canceled' and o.number = p.last_deployment_number)))
         for update of p",
        project,
    )
    .fetch_optional(&mut *db)
    .await?;
    let (Some(_), Some(project), Some(live)) = (
        due,
        projects::find(db, project).await?,
        find_live(db, project).await?,
    ) else {
        return Ok(None);
    };
    let new = New {
        source: exact_source(&live)?,
        entrypoint: live.entrypoint.clone(),
        origin: "variables",
    };
    let restart = insert(db, &project, &new, actor, now).await?;
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
    let restart = get(db, project.id, &restart.number.to_string()).await?;
    Ok(Some(restart))
}
