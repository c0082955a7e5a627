//! What runners say of deployments.

use serde::Serialize;
use serde_json::{Value, json};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use runner::protocol::{HostHeader, Phase, Report};

use super::promotion::Promotion;
use super::restart::restart_if_due;
use super::set_state;
use super::state::State;
use crate::audit::{self, Actor};
use crate::db::{Changed, bump};
use crate::error::Result;
use crate::locks;

/// Takes over what a runner says of one deployment. `drain` is how long a replaced instance keeps
/// serving at the most. Reports on deployments of other runners are ignored: their lease was lost.
pub async fn take_report(
    db: &mut PgConnection,
    runner: Uuid,
    report: &Report,
    drain: std::time::Duration,
    now: OffsetDateTime,
) -> Result<()> {
    // Always project before deployment, so that two reports never wait for each other.
    let Some(owner) = sqlx::query!(
        "select p.id, p.organization_id, p.hold_breaking, p.auto_promote, d.preview_id from projects p join deployments d on d.project_id = p.id
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
    keep_upstream(db, report).await?;
    if let Some(lock) = &report.lock {
        locks::note(db, report.deployment, lock).await?;
    }
    let moved = match report.phase {
        Phase::Building => set_state(db, report.deployment, State::Building, now).await?,
        Phase::Starting => set_state(db, report.deployment, State::Starting, now).await?,
        Phase::Checking => set_state(db, report.deployment, State::Checking, now).await?,
        Phase::Healthy => {
            let promotion = Promotion {
                project: owner.id,
                preview: owner.preview_id,
                organization: owner.organization_id,
                hold_breaking: owner.hold_breaking,
                auto_promote: owner.auto_promote,
                drain,
                actor: &Actor::System,
                now,
            };
            promotion.when_healthy(db, report.deployment).await?
        }
        Phase::Stopped => set_state(db, report.deployment, State::Stopped, now).await?,
        Phase::Failed => fail(db, owner.id, owner.organization_id, report.deployment, now).await?,
    };
    // Building, starting and checking change nothing of what any runner should have.
    if moved && report.phase >= Phase::Healthy {
        bump(db, Changed::Sync).await?;
        restart_if_due(db, owner.id, &Actor::System, now).await?;
    }
    Ok(())
}

/// Writes what a report tells beside the phase; a fact once known is not forgotten by a report
/// that lacks it, and nothing is written when nothing is new: every sync carries every report.
async fn keep_facts(db: &mut PgConnection, report: &Report, now: OffsetDateTime) -> Result<()> {
    let commit = report.commit.as_ref();
    sqlx::query!(
        "update deployments set
             commit_id = coalesce($2, commit_id), commit_subject = coalesce($3, commit_subject),
             commit_author = coalesce($4, commit_author), plan = coalesce($5, plan),
             surface = coalesce($6, surface), diagnosis = coalesce($7, diagnosis),
             timings = case when $8::jsonb = '[]' then timings else $8 end, updated_at = $9
         where id = $1
             and (coalesce($2, commit_id), coalesce($3, commit_subject), coalesce($4, commit_author),
                  coalesce($5, plan), coalesce($6, surface), coalesce($7, diagnosis),
                  case when $8::jsonb = '[]' then timings else $8 end)
                 is distinct from
                 (commit_id, commit_subject, commit_author, plan, surface, diagnosis, timings)",
        report.deployment,
        commit.map(|c| c.id.as_str()),
        commit.and_then(|c| c.subject.as_deref()),
        commit.and_then(|c| c.author.as_deref()),
        optional_json(report.plan.as_ref())?,
        optional_json(report.surface.as_ref())?,
        optional_json(report.diagnosis.as_ref())?,
        serde_json::to_value(&report.timings)?,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Where the instance answers, and to which host. While it restarts the last address stays: edges then meet a closed
/// port and hold the call, instead of saying that nothing is deployed.
async fn keep_upstream(db: &mut PgConnection, report: &Report) -> Result<()> {
    let known = match report.phase {
        Phase::Healthy => report.upstream.as_deref(),
        Phase::Stopped | Phase::Failed => None,
        Phase::Building | Phase::Starting | Phase::Checking => return Ok(()),
    };
    let host_header = match report.host_header {
        HostHeader::Public => "public",
        HostHeader::Localhost => "localhost",
    };
    let changed = sqlx::query!(
        "update deployments set upstream = $2, host_header = $3
         where id = $1 and (upstream, host_header) is distinct from ($2, $3)",
        report.deployment,
        known,
        host_header,
    )
    .execute(&mut *db)
    .await?
    .rows_affected();
    if changed > 0 {
        bump(db, Changed::Routes).await?;
    }
    Ok(())
}

fn optional_json<T: Serialize>(value: Option<&T>) -> Result<Option<Value>> {
    Ok(value.map(serde_json::to_value).transpose()?)
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
