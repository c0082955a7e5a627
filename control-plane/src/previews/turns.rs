//! From a pull request as GitHub has it to a preview that is open, waits or is closed.

use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Preview, State, closing, find, get, list, lock_project};
use crate::audit::{self, Actor};
use crate::db::{Changed, bump};
use crate::deployments;
use crate::error::{Error, Result};
use crate::ids;
use crate::projects::Project;

/// Longest title and names that are kept; GitHub's own limits are near.
const MAX_TEXT: usize = 300;

/// Most previews of a project that wait for a member; beyond them the newest stay. Anybody may open pull
/// requests from forks, as many as they like.
pub const MOST_WAITING: u8 = 100;

/// A pull request as GitHub has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequest {
    /// Its number in its repository.
    pub number: i64,
    /// Its title.
    pub title: String,
    /// Who opened it.
    pub author: String,
    /// The head branch.
    pub branch: String,
    /// The head's commit, 40 hexadecimal digits.
    pub head: String,
    /// Whether the head is in another repository, or in one that is gone.
    pub fork: bool,
    /// Whether it is open.
    pub open: bool,
    /// Whether its head is news and says that it is not to be deployed.
    pub skipped: bool,
}

impl PullRequest {
    /// Whether its preview has all that is known of it, and following it would change nothing.
    pub fn is_shown_by(&self, preview: &Preview) -> bool {
        self.open
            && preview.is_at(&self.head)
            && self.fork == preview.fork
            && line(&self.title) == preview.title
            && line(&self.author) == preview.author
            && line(&self.branch) == preview.branch
    }
}

/// What came of following a pull request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followed {
    /// Nothing changed that runs.
    Same,
    /// A deployment of its head was queued.
    Queued,
    /// A member has to let its head be built.
    Waits,
    /// The project has as many open previews as it may.
    Crowded,
    /// What ran of it was stopped.
    Closed,
    /// Of a fork, and as many newer ones wait as may.
    PassedOver,
    /// Its head says that it is not to be deployed.
    Skipped,
}

/// Brings a project's preview to where its pull request stands: opens, refreshes or closes it. The
/// same twice changes nothing more. At most `most` previews of the project are open at once.
pub async fn follow(
    db: &mut PgConnection,
    project: &Project,
    pull: &PullRequest,
    most: i64,
    now: OffsetDateTime,
) -> Result<Followed> {
    if !lock_project(db, project.id).await? {
        return Ok(Followed::Same);
    }
    let known = find(db, project.id, &slug(pull.number)).await?;
    match (pull.open, known) {
        (false, Some(preview)) if preview.state != State::Closed => {
            close(db, project, &preview, &Actor::GitHub, now).await?;
            let_in(db, project, most, now).await?;
            Ok(Followed::Closed)
        }
        (false, Some(preview)) if preview.stays_closed => {
            closing::let_reopen(db, project.id, pull.number).await?;
            Ok(Followed::Same)
        }
        (false, _) => Ok(Followed::Same),
        (true, known)
            if known.as_ref().is_none_or(|it| it.state == State::Closed)
                && pull.fork
                && !has_room(db, project.id, pull.number).await? =>
        {
            Ok(Followed::PassedOver)
        }
        (true, known) if pull.skipped => pass_over(db, project, known, pull, now).await,
        (true, None) => {
            let preview = create(db, project, pull, now).await?;
            let followed = admit(db, project, &preview, most, now).await?;
            keep_newest(db, project, now).await?;
            Ok(followed)
        }
        (true, Some(before)) => {
            let preview = refresh(db, &before, pull).await?;
            if before.is_at(&preview.head) && before.fork == preview.fork {
                return Ok(Followed::Same);
            }
            let followed = admit(db, project, &preview, most, now).await?;
            keep_newest(db, project, now).await?;
            if followed == Followed::Waits && before.state == State::Open {
                // Its place is another's now.
                let_in(db, project, most, now).await?;
            }
            Ok(followed)
        }
    }
}

/// Notes a head that is not to be deployed: what is open keeps what it has, and anything else stays
/// closed.
async fn pass_over(
    db: &mut PgConnection,
    project: &Project,
    known: Option<Preview>,
    pull: &PullRequest,
    now: OffsetDateTime,
) -> Result<Followed> {
    let preview = match known {
        Some(before) => refresh(db, &before, pull).await?,
        None => create(db, project, pull, now).await?,
    };
    if preview.state == State::Open {
        return Ok(Followed::Skipped);
    }
    if preview.state != State::Closed {
        close(db, project, &preview, &Actor::GitHub, now).await?;
    }
    closing::keep_closed(db, preview.id).await?;
    Ok(Followed::Skipped)
}

/// Whether a pull request of a fork is among the newest that may wait.
async fn has_room(db: &mut PgConnection, project: Uuid, number: i64) -> sqlx::Result<bool> {
    let oldest = sqlx::query_scalar!(
        "select pull_request from previews where project_id = $1 and state = 'waiting'
         order by pull_request desc offset $2 limit 1",
        project,
        i64::from(MOST_WAITING) - 1,
    )
    .fetch_optional(db)
    .await?;
    Ok(oldest.is_none_or(|oldest| oldest < number))
}

/// Closes those that wait beyond the newest that may.
async fn keep_newest(db: &mut PgConnection, project: &Project, now: OffsetDateTime) -> Result<()> {
    let mut waiting = list(db, project.id).await?;
    waiting.retain(|preview| preview.state == State::Waiting);
    for preview in waiting.iter().skip(MOST_WAITING.into()) {
        close(db, project, preview, &Actor::System, now).await?;
    }
    Ok(())
}

/// What a pull request's preview is called.
pub fn slug(number: i64) -> String {
    format!("pr-{number}")
}

/// What a stranger wrote, in one line and not without end.
fn line(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MAX_TEXT).collect()
}

async fn create(
    db: &mut PgConnection,
    project: &Project,
    pull: &PullRequest,
    now: OffsetDateTime,
) -> Result<Preview> {
    let slug = slug(pull.number);
    sqlx::query!(
        "insert into previews
             (id, project_id, slug, pull_request, title, author, branch, head, fork, state, last_used_at, opened_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'closed', $10, $10)",
        ids::new_id(),
        project.id,
        slug,
        pull.number,
        line(&pull.title),
        line(&pull.author),
        line(&pull.branch),
        pull.head,
        pull.fork,
        now,
    )
    .execute(&mut *db)
    .await?;
    get(db, project.id, &slug).await
}

async fn refresh(db: &mut PgConnection, before: &Preview, pull: &PullRequest) -> Result<Preview> {
    sqlx::query!(
        "update previews set title = $2, author = $3, branch = $4, head = $5, fork = $6
         where id = $1 and (title, author, branch, head, fork) is distinct from ($2, $3, $4, $5, $6)",
        before.id,
        line(&pull.title),
        line(&pull.author),
        line(&pull.branch),
        pull.head,
        pull.fork,
    )
    .execute(&mut *db)
    .await?;
    get(db, before.project_id, &before.slug).await
}

/// Opens a preview at its head if it may be, and says why not otherwise. The project is locked.
pub(super) async fn admit(
    db: &mut PgConnection,
    project: &Project,
    preview: &Preview,
    most: i64,
    now: OffsetDateTime,
) -> Result<Followed> {
    if preview.fork && preview.approved_commit.as_ref() != Some(&preview.head) {
        rest(db, preview, State::Waiting, now).await?;
        return Ok(Followed::Waits);
    }
    if preview.state != State::Open && count_open(db, project.id).await? >= most {
        rest(db, preview, State::Crowded, now).await?;
        return Ok(Followed::Crowded);
    }
    open(db, project, preview, &Actor::GitHub, now).await?;
    Ok(Followed::Queued)
}

/// Opens a preview and queues a deployment of its head.
pub(super) async fn open(
    db: &mut PgConnection,
    project: &Project,
    preview: &Preview,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<deployments::Deployment> {
    sqlx::query!(
        "update previews set state = 'open', asleep = false, stays_closed = false, closed_at = null, last_used_at = $2,
             opened_at = case when state = 'closed' then $2 else opened_at end
         where id = $1",
        preview.id,
        now,
    )
    .execute(&mut *db)
    .await?;
    if preview.state != State::Open {
        record(db, project, preview, "preview.open", actor, now).await?;
    }
    deployments::queue_preview(db, project, preview, actor, now).await
}

/// Has a preview that is not closed wait; what runs of it, of an earlier head, is stopped.
async fn rest(
    db: &mut PgConnection,
    preview: &Preview,
    state: State,
    now: OffsetDateTime,
) -> Result<()> {
    let changed = sqlx::query!(
        "update previews set state = $2, asleep = false, stays_closed = false, closed_at = null,
             opened_at = case when state = 'closed' then $3 else opened_at end
         where id = $1 and (state, asleep, stays_closed) is distinct from ($2, false, false)",
        preview.id,
        state.name(),
        now,
    )
    .execute(&mut *db)
    .await?
    .rows_affected();
    if changed > 0 {
        bump(db, Changed::Routes).await?;
    }
    deployments::end_preview(db, preview.id, now).await
}

async fn count_open(db: &mut PgConnection, project: Uuid) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from previews where project_id = $1 and state = 'open'"#,
        project,
    )
    .fetch_one(db)
    .await
}

/// Opens those that waited longest for a place, while there are places.
pub async fn let_in(
    db: &mut PgConnection,
    project: &Project,
    most: i64,
    now: OffsetDateTime,
) -> Result<()> {
    lock_project(db, project.id).await?;
    let mut crowded: Vec<Preview> = list(db, project.id).await?;
    crowded.retain(|preview| preview.state == State::Crowded);
    crowded.sort_by_key(|preview| (preview.opened_at, preview.pull_request));
    for preview in crowded {
        if count_open(db, project.id).await? >= most {
            return Ok(());
        }
        admit(db, project, &preview, most, now).await?;
    }
    Ok(())
}

/// Closes a preview: what is under way is taken back, what serves is stopped at once, its route goes,
/// runners remove its files, and an approval ends with it.
pub(super) async fn close(
    db: &mut PgConnection,
    project: &Project,
    preview: &Preview,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "update previews set state = 'closed', asleep = false, stays_closed = false, closed_at = $2,
             approved_commit = null, approved_by = null, with_secrets = false
         where id = $1",
        preview.id,
        now,
    )
    .execute(&mut *db)
    .await?;
    bump(db, Changed::Routes).await?;
    deployments::end_preview(db, preview.id, now).await?;
    record(db, project, preview, "preview.close", actor, now).await
}

/// Closes all of a project's: it has another source, or previews are off.
pub async fn close_all(
    db: &mut PgConnection,
    project: &Project,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<()> {
    lock_project(db, project.id).await?;
    for preview in list(db, project.id).await? {
        close(db, project, &preview, actor, now).await?;
    }
    Ok(())
}

/// Deploys the head of an open preview again.
pub async fn deploy(
    db: &mut PgConnection,
    project: &Project,
    slug: &str,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<deployments::Deployment> {
    lock_project(db, project.id).await?;
    let preview = get(db, project.id, slug).await?;
    let why_not = match preview.state {
        State::Open => return open(db, project, &preview, actor, now).await,
        State::Waiting => "its commit comes from a fork and waits for a member to approve it",
        State::Crowded => {
            "the project has as many open previews as it may; close another pull request first"
        }
        State::Closed if preview.stays_closed => {
            "it was closed, and the next commit of its pull request opens it again"
        }
        State::Closed => {
            "its pull request is closed, or the previews of the project are off; reopen it first"
        }
    };
    Err(Error::Conflict(format!(
        "The preview {slug} cannot be deployed: {why_not}."
    )))
}

pub(super) async fn record(
    db: &mut PgConnection,
    project: &Project,
    preview: &Preview,
    action: &'static str,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<()> {
    audit::record(
        db,
        audit::Entry {
            at: now,
            actor,
            action,
            organization: Some(project.organization_id),
            project: Some(project.id),
            subject: json!({
                "preview": preview.slug, "commit": preview.head, "fork": preview.fork,
            }),
        },
    )
    .await?;
    Ok(())
}
