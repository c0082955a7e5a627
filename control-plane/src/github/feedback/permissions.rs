//! What feedback needs an installation to grant, and what its owner did not. That is no error: it is
//! said on the pages, and GitHub is asked again a day later, or when it tells of a change.

use serde_json::{Value, json};
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::items;
use crate::app::App;
use crate::error::Result;
use crate::github::failure::Failure;
use crate::github::rest;

/// Permissions that feedback writes by.
const WANTED: [&str; 3] = ["checks", "deployments", "pull_requests"];

/// What was not granted is asked for again after this long.
const ASKED_AGAIN: Duration = Duration::DAY;

/// An installation whose owner did not grant everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    /// The installation's number.
    pub installation: i64,
    /// The account that it is on.
    pub account: String,
    /// `user` or `organization`.
    pub account_kind: String,
    /// The permissions.
    pub lacks: Vec<String>,
}

impl Lacking {
    /// What is not written, for people.
    pub fn what(&self) -> String {
        let words = self.lacks.iter().map(|name| match name.as_str() {
            "pull_requests" => "comments on pull requests",
            other => other,
        });
        words.collect::<Vec<_>>().join(", ")
    }

    /// Where its owner grants it, below `github`.
    pub fn page(&self, github: &str) -> String {
        match self.account_kind.as_str() {
            "organization" => format!(
                "{github}/organizations/{}/settings/installations/{}",
                self.account, self.installation
            ),
            _ => format!("{github}/settings/installations/{}", self.installation),
        }
    }
}

/// What a token for feedback asks for.
pub fn wanted() -> Value {
    granting(&WANTED)
}

fn granting(names: &[&str]) -> Value {
    let mut all = json!({ "metadata": "read" });
    for name in names {
        all[name] = json!("write");
    }
    all
}

/// Asks GitHub which of them an installation's owner granted, and notes the others. `None` when it is
/// none of them.
pub async fn find_granted(app: &App, installation: i64) -> Result<Option<Value>, Failure> {
    let found = rest::find_installation(app, installation)
        .await?
        .ok_or(Failure::NotFound)?;
    let (granted, lacks): (Vec<&str>, Vec<&str>) = WANTED.iter().partition(|name| {
        found
            .permissions
            .get(**name)
            .is_some_and(|level| level == "write")
    });
    note(app, installation, &lacks).await?;
    Ok((!granted.is_empty()).then(|| granting(&granted)))
}

/// Notes what is lacking. Whoever holds the installation's row is finding out more.
pub async fn note(app: &App, installation: i64, lacks: &[&str]) -> Result<(), Failure> {
    let lacks: Vec<String> = lacks.iter().map(|name| (*name).to_owned()).collect();
    sqlx::query!(
        "update github_installations set lacks = $2, lacks_at = $3
         where id in (select id from github_installations where id = $1 for update skip locked)",
        installation,
        &lacks,
        app.clock.now(),
    )
    .execute(&mut *app.db.acquire().await?)
    .await?;
    Ok(())
}

/// Notes one more, as a refusal tells it.
pub async fn note_refused(app: &App, installation: i64, name: &str) -> Result<(), Failure> {
    sqlx::query!(
        "update github_installations set lacks = array_append(array_remove(lacks, $2), $2), lacks_at = $3 where id = $1",
        installation,
        name,
        app.clock.now(),
    )
    .execute(&mut *app.db.acquire().await?)
    .await?;
    Ok(())
}

/// When to ask for a permission again that is known to be lacking; `None` when it may be there.
pub async fn lacking_until(
    db: &mut PgConnection,
    installation: i64,
    name: &str,
    now: OffsetDateTime,
) -> sqlx::Result<Option<OffsetDateTime>> {
    let since = sqlx::query_scalar!(
        "select lacks_at from github_installations where id = $1 and $2 = any(lacks)",
        installation,
        name,
    )
    .fetch_optional(db)
    .await?
    .flatten();
    Ok(since
        .map(|since| since + ASKED_AGAIN)
        .filter(|until| *until > now))
}

/// GitHub told that an installation's owner changed what it may do, or lets it work again: everything
/// that was put off is tried with a new token.
pub async fn changed(
    db: &mut PgConnection,
    installation: i64,
    now: OffsetDateTime,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update github_installations set lacks = '{}', lacks_at = null where id = $1",
        installation,
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "delete from github_tokens where installation_id = $1 and purpose = 'feedback'",
        installation,
    )
    .execute(&mut *db)
    .await?;
    items::make_due(db, installation, now).await
}

/// Installations of which something is lacking, by account.
pub async fn list_lacking(db: &mut PgConnection) -> sqlx::Result<Vec<Lacking>> {
    sqlx::query_as!(
        Lacking,
        "select id as installation, account, account_kind, lacks from github_installations
         where lacks <> '{}' and state = 'active' order by lower(account), id",
    )
    .fetch_all(db)
    .await
}

/// The same of a project's installation.
pub async fn find_lacking(db: &mut PgConnection, project: Uuid) -> sqlx::Result<Option<Lacking>> {
    sqlx::query_as!(
        Lacking,
        "select i.id as installation, i.account, i.account_kind, i.lacks from github_installations i
         join github_links l on l.installation_id = i.id
         where l.project_id = $1 and i.lacks <> '{}' and i.state = 'active'",
        project,
    )
    .fetch_optional(db)
    .await
}
