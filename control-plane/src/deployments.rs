//! Deployments: one attempt each to bring a source live.
//!
//! States only move forward ([`transition`]). A runner reports phases, late or twice; a report
//! that would move a deployment backwards changes nothing. A project has one environment that serves
//! its URL, production, and one for each preview; at most one deployment of an environment is live: a
//! unique index says so, and [`promote`] changes both in one transaction.

use serde_json::{Value, json};
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use runner::protocol::{Package, Source, Surface, Transport};

use crate::audit::{self, Actor};
use crate::db::{Changed, bump, notify};
use crate::error::{Error, Result, invalid};
use crate::github::{installations, links};
use crate::previews::{Preview, sleep};
use crate::projects::Project;
use crate::{build_settings, ids, logs, uploads};

mod leases;
mod promotion;
mod reports;
mod restart;
mod state;
#[cfg(test)]
mod tests;

pub use leases::{Desired, LEASE, claim, end_abandoned, end_drains, list_desired};
pub use promotion::{HELD_FOR_BREAKING, HELD_FOR_PROMOTION};
pub use reports::take_report;
pub use restart::restart_if_due;
pub use state::{State, transition};

/// While no edge reports, a live deployment counts as served after this long: twice the time
/// between two reports, so that an edge that runs was heard, and nobody waits for one that does not.
const UNHEARD: Duration = Duration::seconds(2 * edge::protocol::REPORT_SECONDS.cast_signed());

/// A deployment.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Its id.
    pub id: Uuid,
    /// Its project.
    pub project_id: Uuid,
    /// The preview it belongs to; `None` for production.
    pub preview_id: Option<Uuid>,
    /// That preview's slug.
    pub preview: Option<String>,
    /// 1, 2, 3 … within the project.
    pub number: i32,
    /// Where it is.
    pub state: State,
    /// Where its code comes from.
    pub source: Source,
    /// As asked for; `None` means detect.
    pub entrypoint: Option<String>,
    /// `page`, `api`, `push`, `promote`, `rollback`, `preview`, `wake` (the same again after a sleep), or
    /// `variables`: the same build with other values.
    pub origin: String,
    /// Who asked, as in the audit log.
    pub created_by: String,
    /// Exact commit or content hash, once known.
    pub commit_id: Option<String>,
    /// First line of the commit message.
    pub commit_subject: Option<String>,
    /// The commit's author.
    pub commit_author: Option<String>,
    /// The revision of the project's variables that its instance has, or is to have.
    pub variables_revision: i32,
    /// The deployment whose build it runs, when nothing was built for it.
    pub build_of: Option<Uuid>,
    /// Where its instance answers.
    pub upstream: Option<String>,
    /// What the build decided: [`runner::protocol::Plan`].
    pub plan: Option<Value>,
    /// What the server offers: [`runner::protocol::Surface`].
    pub surface: Option<Value>,
    /// Why it failed: [`runner::protocol::Diagnosis`].
    pub diagnosis: Option<Value>,
    /// Why it was held, if it ever was: `breaking` or `promotion` ([`HELD_FOR_PROMOTION`]).
    pub held_for: Option<String>,
    /// How long each stage took: a list of [`runner::protocol::Timing`].
    pub timings: Value,
    /// When it was asked for.
    pub created_at: OffsetDateTime,
    /// When it went live.
    pub live_at: Option<OffsetDateTime>,
    /// The first version of the routes with it as the live one; unknown of those of long ago.
    pub route_version: Option<i64>,
    /// While draining: until when at the latest.
    pub drain_until: Option<OffsetDateTime>,
    /// MCP sessions that its instance owns, as edges said last.
    pub sessions: i64,
    /// When it ended.
    pub finished_at: Option<OffsetDateTime>,
}

impl Deployment {
    /// Names what it runs: equal for deployments that differ in their variables only.
    pub fn build(&self) -> Uuid {
        self.build_of.unwrap_or(self.id)
    }

    /// What its server offers, as the probe found it. A shape this version does not know is none.
    pub fn offers(&self) -> Option<Surface> {
        serde_json::from_value(self.surface.clone()?).ok()
    }

    /// The branch or tag it was asked to take.
    pub fn branch(&self) -> Option<&str> {
        match &self.source {
            Source::Git { reference, .. } => reference.as_deref(),
            Source::Upload { .. } | Source::Package(_) => None,
        }
    }

    /// Whether new calls reach its instance: it is live, and every edge has heard of that.
    /// `in_use` is the oldest version of the routes at any edge ([`crate::edges::oldest_in_use`]).
    pub fn is_served(&self, in_use: Option<i64>, now: OffsetDateTime) -> bool {
        self.state == State::Live
            && match in_use {
                Some(in_use) => self.route_version.is_none_or(|first| first <= in_use),
                None => self.live_at.is_none_or(|since| since + UNHEARD <= now),
            }
    }
}

/// One row as the database gives it.
struct Row {
    id: Uuid,
    project_id: Uuid,
    preview_id: Option<Uuid>,
    preview: Option<String>,
    number: i32,
    state: String,
    source: Value,
    entrypoint: Option<String>,
    origin: String,
    created_by: String,
    commit_id: Option<String>,
    commit_subject: Option<String>,
    commit_author: Option<String>,
    variables_revision: i32,
    build_of: Option<Uuid>,
    upstream: Option<String>,
    plan: Option<Value>,
    surface: Option<Value>,
    diagnosis: Option<Value>,
    held_for: Option<String>,
    timings: Value,
    created_at: OffsetDateTime,
    live_at: Option<OffsetDateTime>,
    route_version: Option<i64>,
    drain_until: Option<OffsetDateTime>,
    sessions: i64,
    finished_at: Option<OffsetDateTime>,
}

impl TryFrom<Row> for Deployment {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: row.id,
            project_id: row.project_id,
            preview_id: row.preview_id,
            preview: row.preview,
            number: row.number,
            state: State::parse(&row.state)?,
            source: serde_json::from_value(row.source)?,
            entrypoint: row.entrypoint,
            origin: row.origin,
            created_by: row.created_by,
            commit_id: row.commit_id,
            commit_subject: row.commit_subject,
            commit_author: row.commit_author,
            variables_revision: row.variables_revision,
            build_of: row.build_of,
            upstream: row.upstream,
            plan: row.plan,
            surface: row.surface,
            diagnosis: row.diagnosis,
            held_for: row.held_for,
            timings: row.timings,
            created_at: row.created_at,
            live_at: row.live_at,
            route_version: row.route_version,
            drain_until: row.drain_until,
            sessions: row.sessions,
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
    let new = New {
        source: source_of(db, project, &request).await?,
        entrypoint: request.entrypoint.or_else(|| project.entrypoint.clone()),
        preview: None,
        origin,
    };
    insert(db, project, &new, actor, now).await
}

/// Queues a deployment of a preview's head.
pub async fn queue_preview(
    db: &mut PgConnection,
    project: &Project,
    preview: &Preview,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<Deployment> {
    let (Some(url), Some(link)) = (&project.source_url, links::find(db, project.id).await?) else {
        return Err(Error::Conflict(format!(
            "The project {} has no repository of GitHub any more, so it has no previews.",
            project.name
        )));
    };
    check_readable(db, project, link.repository_id).await?;
    let new = New {
        source: Source::Git {
            url: url.clone(),
            repository: Some(link.repository_id),
            reference: Some(preview.reference()),
            commit: Some(preview.head.clone()),
        },
        entrypoint: project.entrypoint.clone(),
        preview: Some(preview.id),
        origin: "preview",
    };
    insert(db, project, &new, actor, now).await
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
        if Package::is_meant(url) {
            return package_of(url, request);
        }
        if let Some(commit) = &request.commit
            && (commit.len() != 40 || !commit.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            return Err(invalid(
                "commit",
                "Give the full commit id: 40 hexadecimal digits.",
            ));
        }
        let link = links::find(db, project.id).await?;
        if let Some(link) = &link {
            check_readable(db, project, link.repository_id).await?;
        }
        return Ok(Source::Git {
            url: url.clone(),
            repository: link.map(|link| link.repository_id),
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

/// Refuses what the runner could not fetch.
async fn check_readable(db: &mut PgConnection, project: &Project, repository: i64) -> Result<()> {
    let organization = project.organization_id;
    if installations::find_readable_of(db, organization, repository)
        .await?
        .is_some()
    {
        return Ok(());
    }
    let link = links::find(db, project.id).await?;
    let problem = link
        .filter(|link| link.repository_id == repository)
        .and_then(|link| link.problem);
    Err(Error::Conflict(
        problem.unwrap_or_else(|| links::UNREACHABLE.to_owned()),
    ))
}

/// The package, in the version that is asked for in place of a commit, or else in its own.
fn package_of(text: &str, request: &Request) -> Result<Source> {
    if request.branch.is_some() {
        return Err(invalid(
            "branch",
            "A package has no branches; name a version as the commit instead.",
        ));
    }
    let package = Package::parse(text).map_err(|why| invalid("source_url", why))?;
    let package = match &request.commit {
        Some(version) => package.at(version).map_err(|why| invalid("commit", why))?,
        None => package,
    };
    Ok(Source::Package(package))
}

/// A deployment to be written down.
struct New<'a> {
    source: Source,
    entrypoint: Option<String>,
    /// The preview that it is for; `None` for production.
    preview: Option<Uuid>,
    origin: &'a str,
}

async fn insert(
    db: &mut PgConnection,
    project: &Project,
    new: &New<'_>,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<Deployment> {
    let id = ids::new_id();
    let row = sqlx::query!(
        "update projects set last_deployment_number = last_deployment_number + 1
         where id = $1 returning last_deployment_number as number,
             case when $2::uuid is null then variables_revision else preview_variables_revision end as \"variables_revision!\"",
        project.id,
        new.preview,
    )
    .fetch_one(&mut *db)
    .await?;
    let number = row.number;
    if let Some(preview) = new.preview {
        // Callers are held until it answers, whatever was before.
        sqlx::query!(
            "update previews set asleep = false, last_used_at = $2 where id = $1",
            preview,
            now,
        )
        .execute(&mut *db)
        .await?;
        bump(db, Changed::Routes).await?;
    }
    sqlx::query!(
        "insert into deployments
             (id, project_id, number, state, source, entrypoint, build, origin, created_by, created_at, updated_at, variables_revision, preview_id)
         values ($1, $2, $3, 'queued', $4, $5, (select build from projects where id = $2), $6, $7, $8, $8, $9, $10)",
        id,
        project.id,
        number,
        serde_json::to_value(&new.source)?,
        new.entrypoint,
        new.origin,
        actor.to_string(),
        now,
        row.variables_revision,
        new.preview,
    )
    .execute(&mut *db)
    .await?;
    overtake_queued(db, project.id, new.preview, number, now).await?;
    bump(db, Changed::Sync).await?;
    audit::record(
        db,
        audit::Entry {
            at: now,
            actor,
            action: "deployment.queue",
            organization: Some(project.organization_id),
            project: Some(project.id),
            subject: json!({ "deployment": id, "number": number, "origin": new.origin, "preview": new.preview }),
        },
    )
    .await?;
    get(db, project.id, &number.to_string()).await
}

/// Takes back older deployments of the same environment that still wait for a runner: only the newest
/// is worth building, and a queue of fifty pushes is one build.
async fn overtake_queued(
    db: &mut PgConnection,
    project: Uuid,
    preview: Option<Uuid>,
    number: i32,
    now: OffsetDateTime,
) -> Result<()> {
    let older = sqlx::query_scalar!(
        "select id from deployments where project_id = $1 and number < $2 and state = 'queued'
             and preview_id is not distinct from $3",
        project,
        number,
        preview,
    )
    .fetch_all(&mut *db)
    .await?;
    for id in older {
        set_state(db, id, State::Canceled, now).await?;
    }
    Ok(())
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
    let new = New {
        source: exact_source(earlier)?,
        entrypoint: earlier.entrypoint.clone(),
        preview: earlier.preview_id,
        origin,
    };
    if let Source::Git {
        repository: Some(repository),
        ..
    } = &new.source
    {
        check_readable(db, project, *repository).await?;
    }
    let new = insert(db, project, &new, actor, now).await?;
    build_settings::keep(db, new.id, earlier.id).await?;
    Ok(new)
}

/// What a deployment was made from, to the exact commit.
fn exact_source(earlier: &Deployment) -> Result<Source> {
    let mut source = earlier.source.clone();
    if let Source::Git { commit, .. }
    | Source::Package(Package {
        version: commit, ..
    }) = &mut source
    {
        commit.clone_from(&earlier.commit_id);
        if commit.is_none() {
            return Err(Error::Conflict(format!(
                "Deployment {} never got as far as a commit, so it cannot be promoted; deploy the branch instead.",
                earlier.number
            )));
        }
    }
    Ok(source)
}

/// Promotes a deployment: one that is held goes live, one that has ended is deployed again. The
/// live one needs no promoting, and a pending one promotes itself when it answers. `drain` is how
/// long a replaced instance keeps serving at the most.
pub async fn promote(
    db: &mut PgConnection,
    project: &Project,
    earlier: &Deployment,
    drain: std::time::Duration,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<Deployment> {
    if earlier.preview_id.is_some() {
        return Err(Error::Conflict(format!(
            "Deployment {} is a preview's; merge its pull request to bring it live.",
            earlier.number
        )));
    }
    match earlier.state {
        State::Held => promote_held(db, project, earlier, drain, actor, now).await,
        State::Live => Err(Error::Conflict(format!(
            "Deployment {} is live already.",
            earlier.number
        ))),
        state if state.is_pending() => Err(Error::Conflict(format!(
            "Deployment {} is still {}; wait until it answers. It goes live by itself then, or waits to be promoted.",
            earlier.number,
            state.name()
        ))),
        _ => redeploy(db, project, earlier, "promote", actor, now).await,
    }
}

async fn promote_held(
    db: &mut PgConnection,
    project: &Project,
    held: &Deployment,
    drain: std::time::Duration,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<Deployment> {
    // Always project before deployment, as in reports.
    sqlx::query!(
        "select id from projects where id = $1 for update",
        project.id
    )
    .fetch_one(&mut *db)
    .await?;
    let promotion = promotion::Promotion {
        project: project.id,
        preview: None,
        organization: project.organization_id,
        hold_breaking: project.hold_breaking,
        // Whoever promotes by hand waits for nobody.
        auto_promote: true,
        drain,
        actor,
        now,
    };
    if !promotion.of_held(db, held.id).await? {
        return Err(Error::Conflict(format!(
            "Deployment {} is not held any more; look at it again.",
            held.number
        )));
    }
    bump(db, Changed::Sync).await?;
    restart_if_due(db, project.id, actor, now).await?;
    get(db, project.id, &held.number.to_string()).await
}

/// What a deployment is compared with: the one that it replaced, or else the live one. The live
/// one of long ago, that replaced nothing, has none. A preview's is compared with what is live in
/// production, which its pull request would replace.
pub async fn find_before(
    db: &mut PgConnection,
    deployment: &Deployment,
) -> Result<Option<Deployment>> {
    let number = sqlx::query_scalar!(
        "select number from deployments
         where project_id = $1 and preview_id is null and id <> $2 and case
             when $3::timestamptz is null or $5::boolean then state = 'live'
             else live_at is not null and (live_at, number) < ($3, $4) end
         order by live_at desc, number desc limit 1",
        deployment.project_id,
        deployment.id,
        deployment.live_at,
        deployment.number,
        deployment.preview_id.is_some(),
    )
    .fetch_optional(&mut *db)
    .await?;
    match number {
        Some(number) => Ok(Some(
            get(db, deployment.project_id, &number.to_string()).await?,
        )),
        None => Ok(None),
    }
}

/// Brings back what was live before: another build, not the same with other variables.
pub async fn roll_back(
    db: &mut PgConnection,
    project: &Project,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<Deployment> {
    let served = find_earlier(db, project.id).await?.ok_or_else(|| {
        Error::Conflict("Nothing was live before, so there is nothing to roll back to.".into())
    })?;
    let earlier = get(db, project.id, &served.to_string()).await?;
    redeploy(db, project, &earlier, "rollback", actor, now).await
}

/// The number of the deployment that [`roll_back`] would bring back.
pub async fn find_earlier(db: &mut PgConnection, project: Uuid) -> sqlx::Result<Option<i32>> {
    sqlx::query_scalar!(
        "with newest as (
             select coalesce(build_of, id) as build from deployments
             where project_id = $1 and preview_id is null and live_at is not null order by live_at desc, number desc limit 1)
         select number from deployments d, newest
         where project_id = $1 and preview_id is null and live_at is not null and coalesce(build_of, d.id) <> newest.build
         order by live_at desc, number desc limit 1",
        project,
    )
    .fetch_optional(db)
    .await
}

/// The newest of production that waits for a member.
pub async fn find_held(db: &mut PgConnection, project: Uuid) -> Result<Option<Deployment>> {
    let number = sqlx::query_scalar!(
        "select number from deployments
         where project_id = $1 and preview_id is null and state = 'held' order by number desc limit 1",
        project,
    )
    .fetch_optional(&mut *db)
    .await?;
    match number {
        Some(number) => Ok(Some(get(db, project, &number.to_string()).await?)),
        None => Ok(None),
    }
}

/// Takes a pending deployment back.
pub async fn cancel(
    db: &mut PgConnection,
    project: &Project,
    deployment: &Deployment,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<Deployment> {
    // Always project before deployment, as in reports.
    sqlx::query!(
        "select id from projects where id = $1 for update",
        project.id
    )
    .fetch_one(&mut *db)
    .await?;
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
    restart_if_due(db, project.id, actor, now).await?;
    get(db, project.id, &deployment.number.to_string()).await
}

/// Moves a deployment if [`transition`] allows; says whether it did. Locks its row; the project is
/// locked already when it may end one of a preview.
async fn set_state(
    db: &mut PgConnection,
    id: Uuid,
    to: State,
    now: OffsetDateTime,
) -> Result<bool> {
    let Some(from) = sqlx::query!(
        "select state, preview_id from deployments where id = $1 for update",
        id
    )
    .fetch_optional(&mut *db)
    .await?
    else {
        return Ok(false);
    };
    let Some(to) = transition(State::parse(&from.state)?, to) else {
        return Ok(false);
    };
    sqlx::query!(
        "update deployments set state = $2, updated_at = $3,
             finished_at = case when $4 then $3 else finished_at end,
             variables = case when $4 then null else variables end
         where id = $1",
        id,
        to.name(),
        now,
        to.is_final(),
    )
    .execute(&mut *db)
    .await?;
    notify(db, &logs::topic(id)).await?;
    if let Some(preview) = from.preview_id.filter(|_| to.is_final()) {
        sleep::after_end(db, preview).await?;
        // Edges hold calls for what is under way.
        bump(db, Changed::Routes).await?;
    }
    Ok(true)
}

/// By number or id, within a project.
pub async fn get(db: &mut PgConnection, project: Uuid, number_or_id: &str) -> Result<Deployment> {
    let number: Option<i32> = number_or_id.trim_start_matches('#').parse().ok();
    let id = Uuid::parse_str(number_or_id).ok();
    sqlx::query_as!(
        Row,
        r#"select id, project_id, preview_id, (select slug from previews v where v.id = preview_id) as "preview?", number, state, source, entrypoint, origin, created_by, commit_id, commit_subject,
             commit_author, variables_revision, build_of, upstream, plan, surface, diagnosis, timings, created_at, live_at, route_version, drain_until,
             finished_at, held_for, coalesce((select sum(i.sessions) from edge_instances i
                 where i.deployment_id = deployments.id), 0)::bigint as "sessions!"
         from deployments where project_id = $1 and (number = $2 or id = $3)"#,
        project,
        number,
        id,
    )
    .fetch_optional(db)
    .await?
    .ok_or(Error::NotFound("deployment"))?
    .try_into()
}

/// The live one of production.
pub async fn find_live(db: &mut PgConnection, project: Uuid) -> Result<Option<Deployment>> {
    find_live_in(db, project, None).await
}

/// The live one of an environment: of a preview, or of production.
pub async fn find_live_in(
    db: &mut PgConnection,
    project: Uuid,
    preview: Option<Uuid>,
) -> Result<Option<Deployment>> {
    let number = sqlx::query_scalar!(
        "select number from deployments
         where project_id = $1 and preview_id is not distinct from $2 and state = 'live'",
        project,
        preview,
    )
    .fetch_optional(&mut *db)
    .await?;
    match number {
        Some(number) => Ok(Some(get(db, project, &number.to_string()).await?)),
        None => Ok(None),
    }
}

/// How the live one is reached; as usual while nothing is live.
pub async fn live_transport(db: &mut PgConnection, project: Uuid) -> Result<Transport> {
    let name = sqlx::query_scalar!(
        "select surface->'transport' from deployments where project_id = $1 and preview_id is null and state = 'live'",
        project,
    )
    .fetch_optional(db)
    .await?
    .flatten();
    // One that only a newer release knows counts as usual too.
    Ok(name
        .and_then(|name| serde_json::from_value(name).ok())
        .unwrap_or_default())
}

/// The newest of an environment: of a preview, or of production.
pub async fn find_newest(
    db: &mut PgConnection,
    project: Uuid,
    preview: Option<Uuid>,
) -> Result<Option<Deployment>> {
    let number = sqlx::query_scalar!(
        "select number from deployments
         where project_id = $1 and preview_id is not distinct from $2 order by number desc limit 1",
        project,
        preview,
    )
    .fetch_optional(&mut *db)
    .await?;
    match number {
        Some(number) => Ok(Some(get(db, project, &number.to_string()).await?)),
        None => Ok(None),
    }
}

/// Ends everything of a preview at once: what is under way is taken back, what serves is stopped
/// without a drain. Runners and edges hear of it when the transaction commits.
pub async fn end_preview(db: &mut PgConnection, preview: Uuid, now: OffsetDateTime) -> Result<()> {
    let all = sqlx::query!(
        "select id, state from deployments
         where preview_id = $1 and state not in ('stopped', 'failed', 'canceled') order by id",
        preview,
    )
    .fetch_all(&mut *db)
    .await?;
    if all.is_empty() {
        return Ok(());
    }
    for row in all {
        // One that goes live in between cannot be taken back any more.
        if !set_state(db, row.id, State::Canceled, now).await? {
            set_state(db, row.id, State::Stopped, now).await?;
        }
    }
    bump(db, Changed::Routes).await?;
    bump(db, Changed::Sync).await?;
    Ok(())
}

/// Newest first, of production and previews.
pub async fn list(db: &mut PgConnection, project: Uuid, limit: i64) -> Result<Vec<Deployment>> {
    select(db, project, (true, None), limit).await
}

/// Newest first, of one environment: of a preview, or of production.
pub async fn list_in(
    db: &mut PgConnection,
    project: Uuid,
    preview: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Deployment>> {
    select(db, project, (false, preview), limit).await
}

async fn select(
    db: &mut PgConnection,
    project: Uuid,
    (every, preview): (bool, Option<Uuid>),
    limit: i64,
) -> Result<Vec<Deployment>> {
    sqlx::query_as!(
        Row,
        r#"select id, project_id, preview_id, (select slug from previews v where v.id = preview_id) as "preview?", number, state, source, entrypoint, origin, created_by, commit_id, commit_subject,
             commit_author, variables_revision, build_of, upstream, plan, surface, diagnosis, timings, created_at, live_at, route_version, drain_until,
             finished_at, held_for, coalesce((select sum(i.sessions) from edge_instances i
                 where i.deployment_id = deployments.id), 0)::bigint as "sessions!"
         from deployments where project_id = $1 and ($3 or preview_id is not distinct from $4) order by number desc limit $2"#,
        project,
        limit,
        every,
        preview,
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .map(Deployment::try_from)
    .collect()
}
