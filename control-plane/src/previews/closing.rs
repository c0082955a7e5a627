//! Previews that stay closed while their pull requests are open: a member closed them, or the head's
//! message says that it is not to be deployed. Another head ends that, and so does reopening the pull
//! request; whatever opens a preview, has it wait or closes it for another reason does too.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::turns::{close, let_in};
use super::{Preview, State, get, lock_project};
use crate::audit::Actor;
use crate::error::{Error, Result};
use crate::projects::Project;

/// Closes a preview for a member, as when its pull request closes; its place is another's. An error if
/// it is closed already.
pub async fn close_by_hand(
    db: &mut PgConnection,
    (project, slug): (&Project, &str),
    actor: &Actor,
    (most, now): (i64, OffsetDateTime),
) -> Result<Preview> {
    lock_project(db, project.id).await?;
    let preview = get(db, project.id, slug).await?;
    if preview.state == State::Closed {
        return Err(Error::Conflict(format!(
            "The preview {slug} is closed already."
        )));
    }
    close(db, project, &preview, actor, now).await?;
    keep_closed(db, preview.id).await?;
    let_in(db, project, most, now).await?;
    get(db, project.id, slug).await
}

/// Has a closed preview stay so at the head that it has.
pub(super) async fn keep_closed(db: &mut PgConnection, preview: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        "update previews set stays_closed = true where id = $1",
        preview
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The pull request was closed or reopened: whatever had its preview stay closed is over.
pub async fn let_reopen(
    db: &mut PgConnection,
    project: Uuid,
    pull_request: i64,
) -> sqlx::Result<()> {
    lock_project(db, project).await?;
    sqlx::query!(
        "update previews set stays_closed = false
         where project_id = $1 and pull_request = $2 and stays_closed",
        project,
        pull_request,
    )
    .execute(db)
    .await?;
    Ok(())
}
