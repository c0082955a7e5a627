//! What GitHub is to show, one thing each, and what was sent of it last. Rows are made and become due
//! by triggers of the database (`migrations/0021_feedback.sql`). They are claimed for a time and not
//! locked, so that whoever changes a deployment never waits for GitHub.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::error::Result;

/// The topic on which changes are told ([`crate::changes`]).
pub const TOPIC: &str = "feedback";

/// A claim ends after this long: well over what all requests of one item take at the most.
pub const LEASE: Duration = Duration::minutes(3);

/// Between two requests for the same thing, so that a build that goes through its stages at once is
/// told once.
const BETWEEN: Duration = Duration::SECOND;

/// What kind of thing it is at GitHub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A check run.
    Check,
    /// A deployment.
    Deployment,
    /// The comment on a pull request.
    Comment,
}

impl Kind {
    /// As it stands in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Deployment => "deployment",
            Self::Comment => "comment",
        }
    }

    fn parse(name: &str) -> Self {
        match name {
            "check" => Self::Check,
            "deployment" => Self::Deployment,
            _ => Self::Comment,
        }
    }

    /// The permission that writes it.
    pub const fn permission(self) -> &'static str {
        match self {
            Self::Check => "checks",
            Self::Deployment => "deployments",
            Self::Comment => "pull_requests",
        }
    }
}

/// One thing, claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What kind of thing.
    pub kind: Kind,
    /// The deployment, or of a comment the preview, that it is about.
    pub subject: Uuid,
    /// The project.
    pub project: Uuid,
    /// The repository's number.
    pub repository: i64,
    /// GitHub's number of it.
    pub remote: Option<i64>,
    /// SHA-256 of what was sent last.
    pub sent: Option<Vec<u8>>,
    /// Whether its annotations were sent.
    pub annotated: bool,
    /// Somebody asked for it again too late.
    pub overtaken: bool,
    /// The head at which a person had deleted it.
    pub deleted_head: Option<String>,
    /// The change that is told now.
    pub wanted: i64,
    /// With this one.
    pub attempts: i32,
}

impl Item {
    /// An earlier attempt did not come to its end, so GitHub may have it without our knowing.
    pub fn is_repeated(&self) -> bool {
        self.attempts > 1
    }
}

struct Row {
    kind: String,
    subject: Uuid,
    project: Uuid,
    repository: i64,
    remote: Option<i64>,
    sent: Option<Vec<u8>>,
    annotated: bool,
    overtaken: bool,
    deleted_head: Option<String>,
    wanted: i64,
    attempts: i32,
}

impl From<Row> for Item {
    fn from(row: Row) -> Self {
        Self {
            kind: Kind::parse(&row.kind),
            subject: row.subject,
            project: row.project,
            repository: row.repository,
            remote: row.remote,
            sent: row.sent,
            annotated: row.annotated,
            overtaken: row.overtaken,
            deleted_head: row.deleted_head,
            wanted: row.wanted,
            attempts: row.attempts,
        }
    }
}

/// Claims what is due the longest. If this process dies, another claims it when the lease is over.
pub async fn claim(db: &mut PgConnection, now: OffsetDateTime) -> Result<Option<Item>> {
    let row = sqlx::query_as!(
        Row,
        r#"update github_feedback set due_at = $2, attempts = attempts + 1
         where (kind, subject_id) = (
             select kind, subject_id from github_feedback where due_at <= $1
             order by due_at limit 1 for update skip locked)
         returning kind, subject_id as "subject!", project_id as project, repository_id as repository,
             remote_id as remote, sent, annotated, overtaken, deleted_head, wanted, attempts"#,
        now,
        now + LEASE,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(Item::from))
}

/// When the next one is due.
pub async fn next_due(db: &mut PgConnection) -> Result<Option<OffsetDateTime>> {
    Ok(
        sqlx::query_scalar!("select min(due_at) from github_feedback where due_at is not null")
            .fetch_one(db)
            .await?,
    )
}

/// Notes GitHub's number of an item as soon as it is known; `None` forgets it.
pub async fn note_remote(
    db: &mut PgConnection,
    item: &Item,
    remote: Option<i64>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update github_feedback set remote_id = $3, sent = null where kind = $1 and subject_id = $2",
        item.kind.name(),
        item.subject,
        remote,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Notes that GitHub has an item's annotations.
pub async fn note_annotated(db: &mut PgConnection, item: &Item) -> sqlx::Result<()> {
    sqlx::query!(
        "update github_feedback set annotated = true where kind = $1 and subject_id = $2",
        item.kind.name(),
        item.subject,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// GitHub shows an item as it is to be shown, or there is nothing to show. What has changed meanwhile
/// is due in a moment.
pub async fn finish(
    db: &mut PgConnection,
    item: &Item,
    sent: Option<&[u8]>,
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "update github_feedback set sent = coalesce($3, sent), sent_at = $4, attempts = 0, problem = null,
             due_at = case when wanted = $5 then null else $6::timestamptz end
         where kind = $1 and subject_id = $2",
        item.kind.name(),
        item.subject,
        sent,
        now,
        item.wanted,
        now + BETWEEN,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// It cannot be shown, and trying again is of no use until something changes.
pub async fn give_up(
    db: &mut PgConnection,
    item: &Item,
    why: &str,
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "update github_feedback set sent = null, sent_at = $4, attempts = 0, problem = $3,
             due_at = case when wanted = $5 then null else $6::timestamptz end
         where kind = $1 and subject_id = $2",
        item.kind.name(),
        item.subject,
        why,
        now,
        item.wanted,
        now + BETWEEN,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// It is tried again at this time. It `counts` as an attempt where GitHub may have taken something.
pub async fn put_off(
    db: &mut PgConnection,
    item: &Item,
    why: &str,
    until: OffsetDateTime,
    counts: bool,
) -> Result<()> {
    sqlx::query!(
        "update github_feedback set problem = $3, due_at = $4,
             attempts = case when $5 then attempts else greatest(attempts - 1, 0) end
         where kind = $1 and subject_id = $2",
        item.kind.name(),
        item.subject,
        why,
        until,
        counts,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A person deleted the comment at this head.
pub async fn note_deleted(
    db: &mut PgConnection,
    item: &Item,
    head: &str,
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "update github_feedback set remote_id = null, sent = null, deleted_head = $3
         where kind = $1 and subject_id = $2",
        item.kind.name(),
        item.subject,
        head,
    )
    .execute(&mut *db)
    .await?;
    give_up(
        db,
        item,
        "Somebody deleted the comment; the next commit brings a new one.",
        now,
    )
    .await
}

/// It is about another repository than the project's.
pub async fn forget(db: &mut PgConnection, item: &Item) -> Result<()> {
    sqlx::query!(
        "delete from github_feedback where kind = $1 and subject_id = $2",
        item.kind.name(),
        item.subject,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Has everything of an installation tried again that was put off.
pub async fn make_due(
    db: &mut PgConnection,
    installation: i64,
    now: OffsetDateTime,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update github_feedback set due_at = $2
         where (kind, subject_id) in (
             select f.kind, f.subject_id from github_feedback f join github_links l on l.project_id = f.project_id
             where l.installation_id = $1 and f.due_at > $2
             order by f.kind, f.subject_id for update of f skip locked)",
        installation,
        now,
    )
    .execute(&mut *db)
    .await?;
    crate::db::notify(db, TOPIC).await
}

/// GitHub was asked to run a check again: it is sent anew, and says whether it came too late.
pub async fn ask_again(
    db: &mut PgConnection,
    deployment: Uuid,
    overtaken: bool,
    now: OffsetDateTime,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update github_feedback set sent = null, overtaken = $2, wanted = wanted + 1, due_at = coalesce(due_at, $3)
         where kind = 'check' and subject_id = $1",
        deployment,
        overtaken,
        now,
    )
    .execute(&mut *db)
    .await?;
    crate::db::notify(db, TOPIC).await
}
