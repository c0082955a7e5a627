//! Previews: what a pull request would bring, under an address of its own.
//!
//! A preview is an environment of a project beside production. Who may call it follows the project;
//! its files, its variables and its tokens' audience are its own. [`follow`](turns::follow) brings it
//! to where its pull request stands; [`sleep`] stops what nobody calls.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::config::ServeConfig;
use crate::error::{Error, Result};

pub mod approval;
pub mod closing;
pub mod sleep;
pub mod standing;
pub mod turns;

/// Where a preview is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Of a fork, and no member let its head be built: nothing of it runs.
    Waiting,
    /// Its head is deployed.
    Open,
    /// The project has as many open ones as it may: nothing of it runs.
    Crowded,
    /// The pull request is closed, previews are off, or it is to stay closed ([`closing`]): nothing of it
    /// runs.
    Closed,
}

impl State {
    /// As it stands in the database and the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Open => "open",
            Self::Crowded => "crowded",
            Self::Closed => "closed",
        }
    }

    fn parse(name: &str) -> Result<Self> {
        [Self::Waiting, Self::Open, Self::Crowded, Self::Closed]
            .into_iter()
            .find(|state| state.name() == name)
            .ok_or_else(|| {
                Error::Internal(anyhow::anyhow!(
                    "the database holds an unknown preview state"
                ))
            })
    }
}

/// A preview.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Its id.
    pub id: Uuid,
    /// Its project.
    pub project_id: Uuid,
    /// What follows `PROJECT--` in its address: `pr-12`.
    pub slug: String,
    /// The pull request's number.
    pub pull_request: i64,
    /// The pull request's title.
    pub title: String,
    /// Who opened the pull request: their name at GitHub.
    pub author: String,
    /// The head branch, in whatever repository it is.
    pub branch: String,
    /// The newest commit that GitHub named.
    pub head: String,
    /// Whether its code comes from another repository.
    pub fork: bool,
    /// Where it is.
    pub state: State,
    /// The head that a member let be built.
    pub approved_commit: Option<String>,
    /// Whether the fork's code has the secret variables of previews.
    pub with_secrets: bool,
    /// Whether its instance was stopped because nobody called.
    pub asleep: bool,
    /// Whether it is closed although its pull request may be open, until that has another head or is
    /// reopened.
    pub stays_closed: bool,
    /// When it was last called, deployed or opened.
    pub last_used_at: OffsetDateTime,
    /// When it was opened, the last time.
    pub opened_at: OffsetDateTime,
}

impl Preview {
    /// What Git is asked for: of a fork the name under which its base repository has the commit.
    pub fn reference(&self) -> String {
        if self.fork {
            format!("refs/pull/{}/head", self.pull_request)
        } else {
            self.branch.clone()
        }
    }

    /// Whether it was brought to this head already, be it by staying closed.
    pub fn is_at(&self, head: &str) -> bool {
        self.head == head && (self.state != State::Closed || self.stays_closed)
    }

    /// Its public MCP URL: its protected resource and its tokens' audience.
    pub fn url(&self, config: &ServeConfig, project: &str) -> String {
        config.project_url(&label(project, &self.slug))
    }

    /// Where the pull request is read, as it follows from the project's source.
    pub fn page(&self, source_url: Option<&str>) -> Option<String> {
        let repository = source_url?.strip_suffix(".git")?;
        Some(format!("{repository}/pull/{}", self.pull_request))
    }
}

/// The host label of a preview. No project is called so, since names have no double hyphen.
pub fn label(project: &str, slug: &str) -> String {
    format!("{project}--{slug}")
}

/// The project and the slug that a host label names, if it is a preview's.
pub fn parts(label: &str) -> Option<(&str, &str)> {
    let (project, slug) = label.split_once("--")?;
    slug.starts_with("pr-").then_some((project, slug))
}

struct Row {
    id: Uuid,
    project_id: Uuid,
    slug: String,
    pull_request: i64,
    title: String,
    author: String,
    branch: String,
    head: String,
    fork: bool,
    state: String,
    approved_commit: Option<String>,
    with_secrets: bool,
    asleep: bool,
    stays_closed: bool,
    last_used_at: OffsetDateTime,
    opened_at: OffsetDateTime,
}

impl TryFrom<Row> for Preview {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: row.id,
            project_id: row.project_id,
            slug: row.slug,
            pull_request: row.pull_request,
            title: row.title,
            author: row.author,
            branch: row.branch,
            head: row.head,
            fork: row.fork,
            state: State::parse(&row.state)?,
            approved_commit: row.approved_commit,
            with_secrets: row.with_secrets,
            asleep: row.asleep,
            stays_closed: row.stays_closed,
            last_used_at: row.last_used_at,
            opened_at: row.opened_at,
        })
    }
}

/// A project's that are not closed, newest pull request first.
pub async fn list(db: &mut PgConnection, project: Uuid) -> Result<Vec<Preview>> {
    let mut previews = list_followed(db, project).await?;
    previews.retain(|preview| preview.state != State::Closed);
    Ok(previews)
}

/// The same, and those that stay closed: of all others that are closed the pull request is taken to be
/// closed as well.
pub async fn list_followed(db: &mut PgConnection, project: Uuid) -> Result<Vec<Preview>> {
    sqlx::query_as!(
        Row,
        "select id, project_id, slug, pull_request, title, author, branch, head, fork, state, approved_commit,
             with_secrets, asleep, stays_closed, last_used_at, opened_at
         from previews where project_id = $1 and (state <> 'closed' or stays_closed) order by pull_request desc",
        project,
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .map(Preview::try_from)
    .collect()
}

/// A project's that are not closed, at most so many; those that wait for a member come last, since
/// strangers make them.
pub async fn list_some(db: &mut PgConnection, project: Uuid, most: i64) -> Result<Vec<Preview>> {
    sqlx::query_as!(
        Row,
        "select id, project_id, slug, pull_request, title, author, branch, head, fork, state, approved_commit,
             with_secrets, asleep, stays_closed, last_used_at, opened_at
         from previews where project_id = $1 and state <> 'closed'
         order by state = 'waiting', pull_request desc limit $2",
        project,
        most,
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .map(Preview::try_from)
    .collect()
}

/// By its slug, closed or not.
pub async fn find(db: &mut PgConnection, project: Uuid, slug: &str) -> Result<Option<Preview>> {
    sqlx::query_as!(
        Row,
        "select id, project_id, slug, pull_request, title, author, branch, head, fork, state, approved_commit,
             with_secrets, asleep, stays_closed, last_used_at, opened_at
         from previews where project_id = $1 and slug = $2",
        project,
        slug,
    )
    .fetch_optional(db)
    .await?
    .map(Preview::try_from)
    .transpose()
}

/// The same; an error if there is none.
pub async fn get(db: &mut PgConnection, project: Uuid, slug: &str) -> Result<Preview> {
    find(db, project, slug)
        .await?
        .ok_or(Error::NotFound("preview"))
}

/// Waits for whoever changes the project or its previews, and keeps others from it until the
/// transaction ends. Always the project before its previews, and these before deployments.
async fn lock_project(db: &mut PgConnection, project: Uuid) -> sqlx::Result<bool> {
    let found = sqlx::query_scalar!("select id from projects where id = $1 for update", project)
        .fetch_optional(db)
        .await?;
    Ok(found.is_some())
}
