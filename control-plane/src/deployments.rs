//! Deployments: one attempt each to bring a source live.
//!
//! States only move forward ([`transition`]). A runner reports phases, late or twice; a report
//! that would move a deployment backwards changes nothing. At most one deployment of a project is
//! live: a unique index says so, and [`promote`] changes both in one transaction.

use serde::Serialize;
use serde_json::{Value, json};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use runner::protocol::{Phase, Report, Source};

use crate::audit::{self, Actor};
use crate::db::{Changed, bump, notify};
use crate::error::{Error, Result, invalid};
use crate::projects::Project;
use crate::{ids, logs, uploads};

/// Where a deployment is. The order is the order of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// Waiting for a runner.
    Queued = 10,
    /// Fetching, planning, installing.
    Building = 20,
    /// Its instance is being started.
    Starting = 30,
    /// Its instance is being tried.
    Checking = 40,
    /// It serves the project's URL.
    Live = 50,
    /// Replaced; still serves the MCP sessions it owns.
    Draining = 60,
    /// It served and ended as wanted.
    Stopped = 70,
    /// It could not go on; the diagnosis says why.
    Failed = 80,
    /// It was taken back, or a newer one overtook it, before it went live.
    Canceled = 90,
}

const STATES: [State; 9] = [
    State::Queued,
    State::Building,
    State::Starting,
    State::Checking,
    State::Live,
    State::Draining,
    State::Stopped,
    State::Failed,
    State::Canceled,
];

impl State {
    /// As it stands in the database and the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Building => "building",
            Self::Starting => "starting",
            Self::Checking => "checking",
            Self::Live => "live",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    fn parse(name: &str) -> anyhow::Result<Self> {
        STATES
            .into_iter()
            .find(|state| state.name() == name)
            .ok_or_else(|| anyhow::anyhow!("the database holds an unknown deployment state"))
    }

    /// Nothing of it runs and nothing will change.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed | Self::Canceled)
    }

    /// It has not gone live yet and may still do so.
    pub const fn is_pending(self) -> bool {
        matches!(
            self,
            Self::Queued | Self::Building | Self::Starting | Self::Checking
        )
    }
}

/// The state after `to` was asked for while at `from`; `None` when that would be a step back or
/// past an end, and so changes nothing.
pub const fn transition(from: State, to: State) -> Option<State> {
    if from.is_final() {
        return None;
    }
    let forward = (to as u8) > (from as u8);
    let allowed = match to {
        // Only what never served can be taken back.
        State::Canceled => from.is_pending(),
        // Only what served can be drained or stopped.
        State::Draining => matches!(from, State::Live),
        State::Stopped => matches!(from, State::Live | State::Draining),
        _ => true,
    };
    if forward && allowed { Some(to) } else { None }
}

/// A deployment.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Its id.
    pub id: Uuid,
    /// Its project.
    pub project_id: Uuid,
    /// 1, 2, 3 … within the project.
    pub number: i32,
    /// Where it is.
    pub state: State,
    /// Where its code comes from.
    pub source: Source,
    /// As asked for; `None` means detect.
    pub entrypoint: Option<String>,
    /// `page`, `api`, `promote` or `rollback`.
    pub origin: String,
    /// Who asked, as in the audit log.
    pub created_by: String,
    /// Exact commit or content hash, once known.
    pub commit_id: Option<String>,
    /// First line of the commit message.
    pub commit_subject: Option<String>,
    /// The commit's author.
    pub commit_author: Option<String>,
    /// Where its instance answers.
    pub upstream: Option<String>,
    /// What the build decided: [`runner::protocol::Plan`].
    pub plan: Option<Value>,
    /// What the server offers: [`runner::protocol::Surface`].
    pub surface: Option<Value>,
    /// Why it failed: [`runner::protocol::Diagnosis`].
    pub diagnosis: Option<Value>,
    /// How long each stage took: a list of [`runner::protocol::Timing`].
    pub timings: Value,
    /// When it was asked for.
    pub created_at: OffsetDateTime,
    /// When it went live.
    pub live_at: Option<OffsetDateTime>,
    /// While draining: until when at the latest.
    pub drain_until: Option<OffsetDateTime>,
    /// When it ended.
    pub finished_at: Option<OffsetDateTime>,
}

impl Deployment {
    /// The branch or tag it was asked to take.
    pub fn branch(&self) -> Option<&str> {
        match &self.source {
            Source::Git { reference, .. } => reference.as_deref(),
            Source::Upload { .. } => None,
        }
    }
}

/// One row as the database gives it.
struct Row {
    id: Uuid,
    project_id: Uuid,
    number: i32,
    state: String,
    source: Value,
    entrypoint: Option<String>,
    origin: String,
    created_by: String,
    commit_id: Option<String>,
    commit_subject: Option<String>,
    commit_author: Option<String>,
    upstream: Option<String>,
    plan: Option<Value>,
    surface: Option<Value>,
    diagnosis: Option<Value>,
    timings: Value,
    created_at: OffsetDateTime,
    live_at: Option<OffsetDateTime>,
    drain_until: Option<OffsetDateTime>,
    finished_at: Option<OffsetDateTime>,
}

impl TryFrom<Row> for Deployment {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: row.id,
            project_id: row.project_id,
            number: row.number,
            state: State::parse(&row.state)?,
            source: serde_json::from_value(row.source)?,
            entrypoint: row.entrypoint,
            origin: row.origin,
            created_by: row.created_by,
            commit_id: row.commit_id,
            commit_subject: row.commit_subject,
            commit_author: row.commit_author,
            upstream: row.upstream,
            plan: row.plan,
            surface: row.surface,
            diagnosis: row.diagnosis,
            timings: row.timings,
            created_at: row.created_at,
            live_at: row.live_at,
            drain_until: row.drain_until,
            finished_at: row.finished_at,
        })
    }
}

/// What to deploy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Branch or tag, instead of the project's.
    pub branch: Option<String>,
    /// An exact commit, instead of the branch's newest.
    pub commit: Option<String>,
    /// Entrypoint, instead of the project's.
    pub entrypoint: Option<String>,
    /// SHA-256 of an archive sent before, instead of the project's repository.
    pub upload: Option<String>,
}

/// Queues a deployment of what is asked for. Runners are told when the transaction commits.
pub async fn queue(
    db: &mut PgConnection,
    project: &Project,
    request: Request,
    origin: &str,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<Deployment> {
    let source = source_of(db, project, &request).await?;
    let entrypoint = request.entrypoint.or_else(|| project.entrypoint.clone());
    insert(
        db,
        project,
        &source,
        entrypoint.as_deref(),
        origin,
        actor,
        now,
    )
    .await
}

async fn source_of(db: &mut PgConnection, project: &Project, request: &Request) -> Result<Source> {
    if let Some(sha256) = &request.upload {
        return if uploads::exists(db, project.id, sha256).await? {
            Ok(Source::Upload {
                sha256: sha256.clone(),
            })
        } else {
            Err(invalid(
                "upload",
                "This archive was not uploaded to this project; upload it first.",
            ))
        };
    }
    if let Some(url) = &project.source_url {
        if let Some(commit) = &request.commit
            && (commit.len() != 40 || !commit.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            return Err(invalid(
                "commit",
                "Give the full commit id: 40 hexadecimal digits.",
            ));
        }
        return Ok(Source::Git {
            url: url.clone(),
            reference: request
                .branch
                .clone()
                .or_else(|| project.source_branch.clone()),
            commit: request.commit.as_ref().map(|c| c.to_ascii_lowercase()),
        });
    }
    let newest = sqlx::query_scalar!(
        "select sha256 from uploads where project_id = $1 order by created_at desc limit 1",
        project.id,
    )
    .fetch_optional(db)
    .await?;
    newest.map(|sha256| Source::Upload { sha256 }).ok_or_else(|| {
        Error::Conflict(format!(
            "The project {} has no repository and no upload yet; run `berth deploy PATH --project {}`, or set its Git URL.",
            project.name, project.name
        ))
    })
}

async fn insert(
    db: &mut PgConnection,
    project: &Project,
    source: &Source,
    entrypoint: Option<&str>,
    origin: &str,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<Deployment> {
    let id = ids::new_id();
    let number = sqlx::query_scalar!(
        "update projects set last_deployment_number = last_deployment_number + 1
         where id = $1 returning last_deployment_number",
        project.id,
    )
    .fetch_one(&mut *db)
    .await?;
    sqlx::query!(
        "insert into deployments
             (id, project_id, number, state, source, entrypoint, origin, created_by, created_at, updated_at)
         values ($1, $2, $3, 'queued', $4, $5, $6, $7, $8, $8)",
        id,
        project.id,
        number,
        serde_json::to_value(source)?,
        entrypoint,
        origin,
        actor.to_string(),
        now,
    )
    .execute(&mut *db)
    .await?;
    bump(db, Changed::Sync).await?;
    audit::record(
        db,
        audit::Entry {
            at: now,
            actor,
            action: "deployment.queue",
            organization: Some(project.organization_id),
            project: Some(project.id),
            subject: json!({ "deployment": id, "number": number, "origin": origin }),
        },
    )
    .await?;
    get(db, project.id, &number.to_string()).await
}

/// Queues the same source as an earlier deployment, to the exact commit: how an older version
/// comes back. Its environment is still in the runner's store, so this is quick.
pub async fn redeploy(
    db: &mut PgConnection,
    project: &Project,
    earlier: &Deployment,
    origin: &str,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<Deployment> {
    let mut source = earlier.source.clone();
    if let Source::Git { commit, .. } = &mut source {
        commit.clone_from(&earlier.commit_id);
        if commit.is_none() {
            return Err(Error::Conflict(format!(
                "Deployment {} never got as far as a commit, so it cannot be promoted; deploy the branch instead.",
                earlier.number
            )));
        }
    }
    insert(
        db,
        project,
        &source,
        earlier.entrypoint.as_deref(),
        origin,
        actor,
        now,
    )
    .await
}

/// Promotes an earlier deployment. The live one needs no promoting, and a pending one promotes
/// itself when it answers.
pub async fn promote(
    db: &mut PgConnection,
    project: &Project,
    earlier: &Deployment,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<Deployment> {
    match earlier.state {
        State::Live => Err(Error::Conflict(format!(
            "Deployment {} is live already.",
            earlier.number
        ))),
        state if state.is_pending() => Err(Error::Conflict(format!(
            "Deployment {} is still {}; it goes live by itself once it answers.",
            earlier.number,
            state.name()
        ))),
        _ => redeploy(db, project, earlier, "promote", actor, now).await,
    }
}

/// Brings back what was live before.
pub async fn roll_back(
    db: &mut PgConnection,
    project: &Project,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<Deployment> {
    let served = sqlx::query_scalar!(
        "select number from deployments where project_id = $1 and live_at is not null and state <> 'live'
         order by live_at desc limit 1",
        project.id,
    )
    .fetch_optional(&mut *db)
    .await?
    .ok_or_else(|| Error::Conflict("Nothing was live before, so there is nothing to roll back to.".into()))?;
    let earlier = get(db, project.id, &served.to_string()).await?;
    redeploy(db, project, &earlier, "rollback", actor, now).await
}

/// Takes a pending deployment back.
pub async fn cancel(
    db: &mut PgConnection,
    project: &Project,
    deployment: &Deployment,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<Deployment> {
    if !set_state(db, deployment.id, State::Canceled, now).await? {
        return Err(Error::Conflict(format!(
            "Deployment {} is {}; only one that has not gone live can be canceled.",
            deployment.number,
            deployment.state.name()
        )));
    }
    bump(db, Changed::Sync).await?;
    audit::record(
        db,
        audit::Entry {
            at: now,
            actor,
            action: "deployment.cancel",
            organization: Some(project.organization_id),
            project: Some(project.id),
            subject: json!({ "deployment": deployment.id, "number": deployment.number }),
        },
    )
    .await?;
    get(db, project.id, &deployment.number.to_string()).await
}

/// Moves a deployment if [`transition`] allows; says whether it did. Locks its row.
async fn set_state(
    db: &mut PgConnection,
    id: Uuid,
    to: State,
    now: OffsetDateTime,
) -> Result<bool> {
    let Some(from) =
        sqlx::query_scalar!("select state from deployments where id = $1 for update", id)
            .fetch_optional(&mut *db)
            .await?
    else {
        return Ok(false);
    };
    let Some(to) = transition(State::parse(&from)?, to) else {
        return Ok(false);
    };
    sqlx::query!(
        "update deployments set state = $2, updated_at = $3,
             finished_at = case when $4 then $3 else finished_at end
         where id = $1",
        id,
        to.name(),
        now,
        to.is_final(),
    )
    .execute(&mut *db)
    .await?;
    notify(db, &logs::topic(id)).await?;
    Ok(true)
}

/// Takes over what a runner says of one deployment. `drain` is how long a replaced instance keeps
/// serving. Reports on deployments of other runners are ignored: their lease was lost.
pub async fn take_report(
    db: &mut PgConnection,
    runner: Uuid,
    report: &Report,
    drain: std::time::Duration,
    now: OffsetDateTime,
) -> Result<()> {
    // Always project before deployment, so that two reports never wait for each other.
    let Some(owner) = sqlx::query!(
        "select p.id, p.organization_id from projects p join deployments d on d.project_id = p.id
         where d.id = $1 and d.runner_id = $2 for update of p",
        report.deployment,
        runner,
    )
    .fetch_optional(&mut *db)
    .await?
    else {
        return Ok(());
    };
    keep_facts(db, report, now).await?;
    let moved = match report.phase {
        Phase::Building => set_state(db, report.deployment, State::Building, now).await?,
        Phase::Starting => set_state(db, report.deployment, State::Starting, now).await?,
        Phase::Checking => set_state(db, report.deployment, State::Checking, now).await?,
        Phase::Healthy => {
            go_live(
                db,
                owner.id,
                owner.organization_id,
                report.deployment,
                drain,
                now,
            )
            .await?
        }
        Phase::Stopped => set_state(db, report.deployment, State::Stopped, now).await?,
        Phase::Failed => fail(db, owner.id, owner.organization_id, report.deployment, now).await?,
    };
    // Building, starting and checking change nothing of what any runner should have.
    if moved && report.phase >= Phase::Healthy {
        bump(db, Changed::Sync).await?;
    }
    Ok(())
}

/// Writes what a report tells beside the phase; a fact once known is not forgotten by a report
/// that lacks it. Where the instance answers follows the newest report exactly.
async fn keep_facts(db: &mut PgConnection, report: &Report, now: OffsetDateTime) -> Result<()> {
    let commit = report.commit.as_ref();
    let before = sqlx::query!(
        "select upstream, state from deployments where id = $1",
        report.deployment
    )
    .fetch_one(&mut *db)
    .await?;
    sqlx::query!(
        "update deployments set
             commit_id = coalesce($2, commit_id), commit_subject = coalesce($3, commit_subject),
             commit_author = coalesce($4, commit_author), upstream = $5,
             plan = coalesce($6, plan), surface = coalesce($7, surface),
             diagnosis = coalesce($8, diagnosis),
             timings = case when $9::jsonb = '[]' then timings else $9 end,
             updated_at = $10
         where id = $1",
        report.deployment,
        commit.map(|c| c.id.as_str()),
        commit.and_then(|c| c.subject.as_deref()),
        commit.and_then(|c| c.author.as_deref()),
        report.upstream.as_deref(),
        optional_json(report.plan.as_ref())?,
        optional_json(report.surface.as_ref())?,
        optional_json(report.diagnosis.as_ref())?,
        serde_json::to_value(&report.timings)?,
        now,
    )
    .execute(&mut *db)
    .await?;
    let routed = matches!(State::parse(&before.state)?, State::Live | State::Draining);
    if routed && before.upstream != report.upstream {
        bump(db, Changed::Routes).await?;
    }
    Ok(())
}

fn optional_json<T: Serialize>(value: Option<&T>) -> Result<Option<Value>> {
    Ok(value.map(serde_json::to_value).transpose()?)
}

/// Promotion: the new one live, the old one draining, the routes changed and the audit row
/// written, all in the caller's transaction. One that a newer live one overtook is canceled.
async fn go_live(
    db: &mut PgConnection,
    project: Uuid,
    organization: Uuid,
    deployment: Uuid,
    drain: std::time::Duration,
    now: OffsetDateTime,
) -> Result<bool> {
    let this = sqlx::query!(
        "select number, state from deployments where id = $1 for update",
        deployment
    )
    .fetch_one(&mut *db)
    .await?;
    if transition(State::parse(&this.state)?, State::Live).is_none() {
        return Ok(false);
    }
    let live = sqlx::query!(
        "select id, number from deployments where project_id = $1 and state = 'live' for update",
        project,
    )
    .fetch_optional(&mut *db)
    .await?;
    if live.as_ref().is_some_and(|live| live.number > this.number) {
        return set_state(db, deployment, State::Canceled, now).await;
    }
    if let Some(live) = &live {
        set_state(db, live.id, State::Draining, now).await?;
        sqlx::query!(
            "update deployments set drain_until = $2 where id = $1",
            live.id,
            now + drain
        )
        .execute(&mut *db)
        .await?;
    }
    set_state(db, deployment, State::Live, now).await?;
    sqlx::query!(
        "update deployments set live_at = $2 where id = $1",
        deployment,
        now
    )
    .execute(&mut *db)
    .await?;
    bump(db, Changed::Routes).await?;
    audit::record(
        db,
        audit::Entry {
            at: now,
            actor: &Actor::System,
            action: "deployment.live",
            organization: Some(organization),
            project: Some(project),
            subject: json!({
                "deployment": deployment, "number": this.number, "replaced": live.map(|live| live.number),
            }),
        },
    )
    .await?;
    Ok(true)
}

async fn fail(
    db: &mut PgConnection,
    project: Uuid,
    organization: Uuid,
    deployment: Uuid,
    now: OffsetDateTime,
) -> Result<bool> {
    if !set_state(db, deployment, State::Failed, now).await? {
        return Ok(false);
    }
    // It may have been live: edges must forget it.
    bump(db, Changed::Routes).await?;
    audit::record(
        db,
        audit::Entry {
            at: now,
            actor: &Actor::System,
            action: "deployment.fail",
            organization: Some(organization),
            project: Some(project),
            subject: json!({ "deployment": deployment }),
        },
    )
    .await?;
    Ok(true)
}

/// By number or id, within a project.
pub async fn get(db: &mut PgConnection, project: Uuid, number_or_id: &str) -> Result<Deployment> {
    let number: Option<i32> = number_or_id.trim_start_matches('#').parse().ok();
    let id = Uuid::parse_str(number_or_id).ok();
    sqlx::query_as!(
        Row,
        "select id, project_id, number, state, source, entrypoint, origin, created_by, commit_id, commit_subject,
             commit_author, upstream, plan, surface, diagnosis, timings, created_at, live_at, drain_until,
             finished_at
         from deployments where project_id = $1 and (number = $2 or id = $3)",
        project,
        number,
        id,
    )
    .fetch_optional(db)
    .await?
    .ok_or(Error::NotFound("deployment"))?
    .try_into()
}

/// The live one.
pub async fn find_live(db: &mut PgConnection, project: Uuid) -> Result<Option<Deployment>> {
    let number = sqlx::query_scalar!(
        "select number from deployments where project_id = $1 and state = 'live'",
        project,
    )
    .fetch_optional(&mut *db)
    .await?;
    match number {
        Some(number) => Ok(Some(get(db, project, &number.to_string()).await?)),
        None => Ok(None),
    }
}

/// Newest first.
pub async fn list(db: &mut PgConnection, project: Uuid, limit: i64) -> Result<Vec<Deployment>> {
    sqlx::query_as!(
        Row,
        "select id, project_id, number, state, source, entrypoint, origin, created_by, commit_id, commit_subject,
             commit_author, upstream, plan, surface, diagnosis, timings, created_at, live_at, drain_until,
             finished_at
         from deployments where project_id = $1 order by number desc limit $2",
        project,
        limit,
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .map(Deployment::try_from)
    .collect()
}

/// Gives a runner the deployments that nobody works on, and renews the lease on its own.
pub async fn claim(
    db: &mut PgConnection,
    runner: Uuid,
    lease: time::Duration,
    now: OffsetDateTime,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update deployments set lease_until = $2
         where runner_id = $1 and state not in ('stopped', 'failed', 'canceled')",
        runner,
        now + lease,
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "update deployments set runner_id = $1, lease_until = $2
         where id in (
             select id from deployments
             where state not in ('stopped', 'failed', 'canceled')
               and (runner_id is null or (runner_id <> $1 and lease_until < $3))
             order by created_at for update skip locked
         )",
        runner,
        now + lease,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
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
    /// The project's organization.
    pub organization_id: Uuid,
    /// Where the code comes from; the commit filled in once known.
    pub source: Source,
    /// As asked for.
    pub entrypoint: Option<String>,
    /// Whether it is to be stopped.
    pub stop: bool,
}

/// Everything a runner is to have.
pub async fn list_desired(db: &mut PgConnection, runner: Uuid) -> Result<Vec<Desired>> {
    let rows = sqlx::query!(
        r#"select d.id, d.project_id, p.name as project_name, p.organization_id, d.source, d.entrypoint, d.commit_id,
             (d.stop_requested_at is not null) as "stop!"
         from deployments d join projects p on p.id = d.project_id
         where d.runner_id = $1 and d.state not in ('stopped', 'failed', 'canceled')
         order by d.created_at"#,
        runner,
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let mut source: Source = serde_json::from_value(row.source)?;
            if let Source::Git { commit, .. } = &mut source
                && row.commit_id.is_some()
            {
                *commit = row.commit_id;
            }
            Ok(Desired {
                id: row.id,
                project_id: row.project_id,
                project_name: row.project_name,
                organization_id: row.organization_id,
                source,
                entrypoint: row.entrypoint,
                stop: row.stop,
            })
        })
        .collect()
}

/// How long between telling edges to forget a drained instance and stopping it, so that no edge
/// sends a last request to a stopped server.
const UNROUTE_GRACE: time::Duration = time::Duration::seconds(2);

/// Ends drains whose time has come: first edges forget the instance, then it is stopped.
pub async fn end_drains(db: &mut PgConnection, now: OffsetDateTime) -> sqlx::Result<()> {
    let unrouted = sqlx::query!(
        "update deployments set unrouted_at = $1
         where state = 'draining' and unrouted_at is null and drain_until <= $1",
        now,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_only_move_forward() {
        for from in STATES {
            for to in STATES {
                if let Some(next) = transition(from, to) {
                    assert!(next as u8 > from as u8, "{from:?} to {to:?}");
                    assert!(!from.is_final(), "{from:?} is an end");
                }
            }
        }
        assert_eq!(transition(State::Queued, State::Live), Some(State::Live));
        assert_eq!(transition(State::Live, State::Failed), Some(State::Failed));
        assert_eq!(transition(State::Live, State::Canceled), None);
        assert_eq!(transition(State::Queued, State::Stopped), None);
        assert_eq!(transition(State::Building, State::Draining), None);
        assert_eq!(transition(State::Checking, State::Building), None);
    }

    #[test]
    fn every_state_reads_back() {
        for state in STATES {
            assert_eq!(State::parse(state.name()).unwrap(), state);
        }
        assert!(State::parse("gone").is_err());
    }
}
