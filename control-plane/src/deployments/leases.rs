//! Which runner works on which deployment, and what it should have.

use serde_json::json;
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use runner::protocol::{Package, Source};

use super::restart::restart_if_due;
use super::set_state;
use super::state::State;
use crate::access::Mode;
use crate::audit::{self, Actor};
use crate::db::{Changed, bump};
use crate::edges;
use crate::error::Result;

/// How long a runner owns its deployments without a word: three held syncs, so that one lost
/// answer does not hand its work to another.
pub const LEASE: Duration = Duration::seconds(60);

/// A runner that has been away for this long will not finish what it had begun: a build and a
/// start at their usual limits, and some.
const ABANDONED: Duration = Duration::minutes(20);

/// Gives a runner the deployments that nobody works on, and renews the lease on its own. It takes
/// over what another let lapse only when it was `present` throughout: after an outage of the
/// control plane every lease has lapsed, and whoever syncs first must not take the others' work.
/// What a push brought waits while another deployment of its environment is on its way: the next push
/// then takes its place, and many pushes are few builds. The same holds for previews.
pub async fn claim(
    db: &mut PgConnection,
    runner: Uuid,
    present: bool,
    now: OffsetDateTime,
) -> sqlx::Result<()> {
    // A row that is locked is being reported on this moment, so its runner is alive.
    sqlx::query!(
        "update deployments set lease_until = $2 where id in (
             select id from deployments
             where runner_id = $1 and state not in ('stopped', 'failed', 'canceled')
             for update skip locked)",
        runner,
        now + LEASE,
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "update deployments set runner_id = $1, lease_until = $2
         where id in (
             select id from deployments
             where state not in ('stopped', 'failed', 'canceled')
               and (runner_id is null or ($4 and runner_id <> $1 and lease_until < $3))
               and not (origin in ('push', 'preview') and state = 'queued' and exists (
                   select from deployments o where o.project_id = deployments.project_id and o.id <> deployments.id
                     and o.preview_id is not distinct from deployments.preview_id
                     and (o.state in ('building', 'starting', 'checking') or o.state = 'queued' and o.number < deployments.number)))
             order by created_at for update skip locked
         )",
        runner,
        now + LEASE,
        now,
        present,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Ends what a runner left behind that went away for good and that no other took over: the
/// pending ones fail with a reason, the draining ones are stopped. What is live stays so, in case
/// the runner comes back.
pub async fn end_abandoned(db: &mut PgConnection, now: OffsetDateTime) -> Result<()> {
    // Always project before deployment, as in reports.
    sqlx::query!(
        "select id from projects where id in (
             select project_id from deployments
             where runner_id is not null and lease_until < $1
               and state in ('queued', 'building', 'starting', 'checking', 'held', 'draining'))
         order by id for update",
        now - ABANDONED,
    )
    .fetch_all(&mut *db)
    .await?;
    let abandoned = sqlx::query!(
        "select d.id, d.state, d.project_id, p.organization_id
         from deployments d join projects p on p.id = d.project_id
         where d.runner_id is not null and d.lease_until < $1
           and d.state in ('queued', 'building', 'starting', 'checking', 'held', 'draining')
         for update of d skip locked",
        now - ABANDONED,
    )
    .fetch_all(&mut *db)
    .await?;
    for row in abandoned {
        let end = if row.state == State::Draining.name() {
            State::Stopped
        } else {
            State::Failed
        };
        set_state(db, row.id, end, now).await?;
        if end == State::Failed {
            sqlx::query!(
                "update deployments set diagnosis = $2 where id = $1",
                row.id,
                runner_gone()
            )
            .execute(&mut *db)
            .await?;
        }
        audit::record(
            db,
            audit::Entry {
                at: now,
                actor: &Actor::System,
                action: "deployment.abandon",
                organization: Some(row.organization_id),
                project: Some(row.project_id),
                subject: json!({ "deployment": row.id }),
            },
        )
        .await?;
        bump(db, Changed::Routes).await?;
        restart_if_due(db, row.project_id, &Actor::System, now).await?;
    }
    Ok(())
}

/// A diagnosis in the runner's form; it cannot give this one itself.
fn runner_gone() -> serde_json::Value {
    json!({
        "code": "platform_failure",
        "cause": "The runner that worked on this deployment went away and did not come back.",
        "fix": "Check with `berth doctor` that a runner is connected, then deploy again.",
        "location": null,
    })
}

/// One deployment that a runner is to have, with what is needed to tell it.
#[derive(Debug)]
pub struct Desired {
    /// The deployment.
    pub id: Uuid,
    /// Its project.
    pub project_id: Uuid,
    /// The project's name.
    pub project_name: String,
    /// The preview, if it is of one.
    pub preview: Option<OfPreview>,
    /// The project's organization.
    pub organization_id: Uuid,
    /// Who looks at the credentials of its callers.
    pub mode: Mode,
    /// Where the code comes from; the commit filled in once known.
    pub source: Source,
    /// As asked for.
    pub entrypoint: Option<String>,
    /// One that has what this one is to run, so that nothing needs to be built.
    pub reuse: Option<Uuid>,
    /// Whether it is to be stopped.
    pub stop: bool,
}

/// What a deployment's preview means for it.
#[derive(Debug)]
pub struct OfPreview {
    /// The preview.
    pub id: Uuid,
    /// What follows `PROJECT--` in its address.
    pub slug: String,
    /// Whether its code comes from elsewhere and nobody let it have secrets.
    pub is_foreign: bool,
}

/// Everything a runner is to have.
pub async fn list_desired(db: &mut PgConnection, runner: Uuid) -> Result<Vec<Desired>> {
    let rows = sqlx::query!(
        r#"select d.id, d.project_id, p.name as project_name, p.organization_id, p.access_mode, d.source, d.entrypoint, d.commit_id,
             v.id as "preview?", v.slug as "slug?", (v.fork and not v.with_secrets) as is_foreign,
             (d.stop_requested_at is not null) as "stop!",
             (select o.id from deployments o
              where o.project_id = d.project_id and o.runner_id = d.runner_id and o.id <> d.id
                and o.preview_id is not distinct from d.preview_id
                and coalesce(o.build_of, o.id) = d.build_of and o.state in ('live', 'draining')
              order by o.number desc limit 1) as reuse
         from deployments d join projects p on p.id = d.project_id left join previews v on v.id = d.preview_id
         where d.runner_id = $1 and d.state not in ('stopped', 'failed', 'canceled')
         order by d.created_at"#,
        runner,
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let mut source: Source = serde_json::from_value(row.source)?;
            if let Source::Git { commit, .. }
            | Source::Package(Package {
                version: commit, ..
            }) = &mut source
                && row.commit_id.is_some()
            {
                *commit = row.commit_id;
            }
            Ok(Desired {
                id: row.id,
                project_id: row.project_id,
                project_name: row.project_name,
                preview: row.preview.zip(row.slug).map(|(id, slug)| OfPreview {
                    id,
                    slug,
                    is_foreign: row.is_foreign.unwrap_or(true),
                }),
                organization_id: row.organization_id,
                mode: Mode::parse(&row.access_mode),
                source,
                entrypoint: row.entrypoint,
                reuse: row.reuse,
                stop: row.stop,
            })
        })
        .collect()
}

/// How long between telling edges to forget a drained instance and stopping it, so that no edge
/// sends a last request to a stopped server.
const UNROUTE_GRACE: Duration = Duration::seconds(2);

/// Edges hear of a promotion within moments; what one reports this long after it, it says of its
/// new table. No drain is shorter.
const SETTLED: Duration = Duration::seconds(10);

/// Ends drains whose time has come: first edges forget the instance, then it is stopped. Its time
/// has come at its bound, and before that once every edge that runs has said, well after the
/// promotion, that nobody depends on the instance; while no edge says anything, only at the bound.
pub async fn end_drains(db: &mut PgConnection, now: OffsetDateTime) -> sqlx::Result<()> {
    let unrouted = sqlx::query!(
        "update deployments d set unrouted_at = $1
         where d.state = 'draining' and d.unrouted_at is null and (
             d.drain_until <= $1
             or exists (select from edges where last_seen_at > $2)
                and not exists (
                    select from edges e where e.last_seen_at > $2 and (
                        e.last_seen_at < d.draining_at + make_interval(secs => $3)
                        or exists (select from edge_instances i
                                   where i.edge = e.kid and i.deployment_id = d.id))))",
        now,
        now - edges::LATELY,
        SETTLED.as_seconds_f64(),
    )
    .execute(&mut *db)
    .await?
    .rows_affected();
    if unrouted > 0 {
        bump(db, Changed::Routes).await?;
    }
    let stopped = sqlx::query!(
        "update deployments set stop_requested_at = $1
         where state = 'draining' and stop_requested_at is null and unrouted_at <= $2",
        now,
        now - UNROUTE_GRACE,
    )
    .execute(&mut *db)
    .await?
    .rows_affected();
    if stopped > 0 {
        bump(db, Changed::Sync).await?;
    }
    Ok(())
}
