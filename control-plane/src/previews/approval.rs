//! A member lets the code of a fork be built: one commit, and nothing that comes later.

use serde::Deserialize;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::turns::{Followed, admit, record};
use super::{Preview, State, get, lock_project};
use crate::audit::Actor;
use crate::error::{Error, Result};
use crate::projects::Project;

/// What is approved.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// The commit that was looked at, in full.
    pub commit: String,
    /// Whether its code gets the secret variables of previews, and those of builds.
    #[serde(default)]
    pub with_secrets: bool,
}

/// Who approves.
#[derive(Debug, Clone, Copy)]
pub struct Approver<'a> {
    /// The person.
    pub user: Uuid,
    /// The same, as in the audit log.
    pub actor: &'a Actor,
}

/// Approves the head of a fork's preview, and deploys it. An error if it has another head by now:
/// what was looked at is not what would run.
pub async fn approve(
    db: &mut PgConnection,
    (project, slug): (&Project, &str),
    approval: &Approval,
    by: Approver<'_>,
    (most, now): (i64, OffsetDateTime),
) -> Result<(Preview, Followed)> {
    lock_project(db, project.id).await?;
    let preview = get(db, project.id, slug).await?;
    check(&preview, approval)?;
    sqlx::query!(
        "update previews set approved_commit = $2, approved_by = $3, with_secrets = $4 where id = $1",
        preview.id,
        preview.head,
        by.user,
        approval.with_secrets,
    )
    .execute(&mut *db)
    .await?;
    let action = if approval.with_secrets {
        "preview.approve_with_secrets"
    } else {
        "preview.approve"
    };
    record(db, project, &preview, action, by.actor, now).await?;
    let approved = get(db, project.id, slug).await?;
    let followed = admit(db, project, &approved, most, now).await?;
    Ok((get(db, project.id, slug).await?, followed))
}

fn check(preview: &Preview, approval: &Approval) -> Result<()> {
    let why_not = if preview.stays_closed {
        "it was closed, and the next commit of its pull request opens it again".to_owned()
    } else if preview.state == State::Closed {
        "its pull request is closed, or the previews of the project are off".to_owned()
    } else if !preview.fork {
        "its code is from the project's own repository, which needs no approval".to_owned()
    } else if !preview.head.eq_ignore_ascii_case(&approval.commit) {
        format!(
            "its newest commit is {}, and that is what would run; look at it and approve it in full",
            preview.head
        )
    } else {
        return Ok(());
    };
    Err(Error::Conflict(format!(
        "The preview {} was not approved: {why_not}.",
        preview.slug
    )))
}
