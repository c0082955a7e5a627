//! What a person picks for a new project: a repository, a branch, and what is there now.

use runner::protocol::Source;
use uuid::Uuid;

use super::installations::{self, Readable};
use super::links::is_commit;
use super::rest::{self, Branch};
use crate::app::App;
use crate::deployments::Request;
use crate::error::{Error, Result, invalid};
use crate::projects;

/// A repository and a branch of it that a person chose for a project, and what is there.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The repository.
    pub repository: Readable,
    /// The organization that the project is to belong to.
    pub organization: Uuid,
    /// The branch.
    pub branch: String,
    /// Its head.
    pub head: String,
}

impl Choice {
    /// The source that a plan is made of.
    pub fn source(&self, app: &App) -> Source {
        Source::Git {
            url: app.config.clone_url(&self.repository.full_name),
            reference: Some(self.branch.clone()),
            commit: Some(self.head.clone()),
            repository: Some(self.repository.id),
        }
    }

    /// What its first deployment is asked for.
    pub fn request(&self) -> Request {
        Request {
            branch: Some(self.branch.clone()),
            commit: Some(self.head.clone()),
            ..Request::default()
        }
    }
}

/// What a person chose by a repository's number and perhaps a branch, if they may.
pub async fn choose(
    app: &App,
    user: Uuid,
    repository: i64,
    branch: Option<&str>,
) -> Result<Choice> {
    let mut db = app.db.acquire().await?;
    let repository = installations::get_readable(&mut db, user, repository).await?;
    let organization = installations::find_home(&mut db, user, repository.id)
        .await?
        .ok_or_else(|| {
            Error::Forbidden(
                "You may look at this repository's organization but not create projects in it; ask one of its admins.".into(),
            )
        })?;
    drop(db);
    let branch = branch
        .map(str::trim)
        .filter(|branch| !branch.is_empty())
        .or(repository.default_branch.as_deref())
        .ok_or_else(|| {
            invalid(
                "source_branch",
                "The repository has no default branch; name one.",
            )
        })?
        .to_owned();
    let found = head_of(app, &repository, &branch).await?;
    Ok(Choice {
        head: found.commit.sha,
        repository,
        organization,
        branch,
    })
}

/// The head of a branch that a person chose.
async fn head_of(app: &App, repository: &Readable, branch: &str) -> Result<Branch> {
    projects::check_branch(branch).map_err(|why| invalid("source_branch", why))?;
    let found = rest::find_branch(
        app,
        repository.installation_id,
        &repository.full_name,
        branch,
    )
    .await?
    .filter(|found| is_commit(&found.commit.sha));
    found.ok_or_else(|| {
        invalid(
            "source_branch",
            format!(
                "{} has no branch of this name; choose one that is there.",
                repository.full_name
            ),
        )
    })
}
