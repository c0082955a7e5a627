//! The audit log: who changed what. Rows are written in the transaction of the change, so a
//! change without its row did not happen.

use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::Result;

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// A person, in the browser.
    User(Uuid),
    /// An API token, by its id.
    ApiToken(Uuid),
    /// GitHub, by a webhook or when a branch was compared with it.
    GitHub,
    /// Berth itself.
    System,
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::ApiToken(id) => write!(f, "token:{id}"),
            Self::GitHub => f.write_str("github"),
            Self::System => f.write_str("system"),
        }
    }
}

/// One row.
#[derive(Debug)]
pub struct Entry<'a> {
    /// When.
    pub at: OffsetDateTime,
    /// Who.
    pub actor: &'a Actor,
    /// What, as `noun.verb`, for example `deployment.promote`.
    pub action: &'a str,
    /// Whose.
    pub organization: Option<Uuid>,
    /// Of which project.
    pub project: Option<Uuid>,
    /// Details; never the value of a secret.
    pub subject: Value,
}

/// Writes one row.
pub async fn record(db: &mut PgConnection, entry: Entry<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into audit_log (at, actor, action, organization_id, project_id, subject)
         values ($1, $2, $3, $4, $5, $6)",
        entry.at,
        entry.actor.to_string(),
        entry.action,
        entry.organization,
        entry.project,
        entry.subject,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Writes one row about a person, which is no organization's.
pub async fn record_person(
    db: &mut PgConnection,
    actor: &Actor,
    action: &str,
    subject: Value,
    now: OffsetDateTime,
) -> Result<()> {
    let entry = Entry {
        at: now,
        actor,
        action,
        organization: None,
        project: None,
        subject,
    };
    Ok(record(db, entry).await?)
}

/// One row as it is shown.
#[derive(Debug, serde::Serialize)]
pub struct Row {
    /// Grows with time.
    pub id: i64,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// `user:<id>`, `token:<id>`, `github` or `system`.
    pub actor: String,
    /// `noun.verb`.
    pub action: String,
    /// Of which project.
    pub project_id: Option<Uuid>,
    /// Details.
    pub subject: Value,
}

/// The newest rows of the organizations a person belongs to, and of what they did themselves,
/// newest first, before `before`.
pub async fn list_for(
    db: &mut PgConnection,
    user: Uuid,
    before: Option<i64>,
    limit: i64,
) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        "select a.id, a.at, a.actor, a.action, a.project_id, a.subject
         from audit_log a
         where ($2::bigint is null or a.id < $2) and (
             a.organization_id in (select organization_id from members where user_id = $1)
             or a.actor = 'user:' || $1::text
             or a.actor in (select 'token:' || id::text from api_tokens where user_id = $1))
         order by a.id desc limit $3",
        user,
        before,
        limit,
    )
    .fetch_all(db)
    .await
}
