//! What a person picks for a project: a repository, a branch, and what is there now.

use runner::protocol::Source;
use serde::Deserialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::installations::{self, Readable};
use super::links::is_commit;
use super::references;
use super::rest::{self, Branch};
use crate::app::App;
use crate::deployments::Request;
use crate::error::{Error, Result, invalid};
use crate::projects::{self, Project};

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
    /// The commit that is deployed first, if it is not the head.
    pub commit: Option<String>,
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
            commit: Some(self.commit.as_ref().unwrap_or(&self.head).clone()),
            ..Request::default()
        }
    }

    /// The same with another commit to begin with, named by its id, the beginning of one, a tag or a
    /// branch. An error beside the field `commit` if the repository has none.
    pub async fn beginning_with(mut self, app: &App, commit: Option<&str>) -> Result<Self> {
        if let Some(text) = commit.map(str::trim).filter(|text| !text.is_empty()) {
            self.commit = Some(references::find(app, &self.repository, text).await?);
        }
        Ok(self)
    }
}

/// How a person names a repository.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Named {
    /// By its number.
    Number(i64),
    /// As `owner/name`.
    Name(String),
}

impl Named {
    /// What was typed in a form.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        text.parse()
            .map_or_else(|_| Self::Name(text.to_owned()), Self::Number)
    }

    /// The repository, if the person's organizations may use it.
    async fn find(&self, db: &mut PgConnection, user: Uuid) -> Result<Readable> {
        match self {
            Self::Number(id) => installations::get_readable(db, user, *id).await,
            Self::Name(name) => installations::get_readable_by_name(db, user, name.trim()).await,
        }
    }

    /// Whether a repository is the one that was meant. A name may have passed to another.
    fn is_of(&self, repository: &Readable) -> bool {
        match self {
            Self::Number(id) => *id == repository.id,
            Self::Name(name) => repository.full_name.eq_ignore_ascii_case(name.trim()),
        }
    }
}

/// A repository that a person's organizations may use, as GitHub has it now. The name that is known
/// may be another repository's by now, so the number is compared.
pub async fn current(app: &App, user: Uuid, repository: i64) -> Result<Readable> {
    let known = {
        let mut db = app.db.acquire().await?;
        installations::get_readable(&mut db, user, repository).await?
    };
    let (installation, name) = (known.installation_id, Some(&*known.full_name));
    if !installations::settle(app, installation, repository, name).await? {
        return Err(Error::Conflict(
            "The App does not reach this repository any more; add it to the App's installation at GitHub, then press “Update from GitHub”.".into(),
        ));
    }
    let mut db = app.db.acquire().await?;
    installations::get_readable(&mut db, user, repository).await
}

/// What a person chose for a new project by naming a repository and perhaps a branch, if they may.
pub async fn choose(app: &App, user: Uuid, named: &Named, branch: Option<&str>) -> Result<Choice> {
    let mut db = app.db.acquire().await?;
    let repository = named.find(&mut db, user).await?;
    let organization = installations::find_home(&mut db, user, repository.id)
        .await?
        .ok_or_else(|| {
            Error::Forbidden(
                "You may look at this repository's organization but not create projects in it; ask one of its admins.".into(),
            )
        })?;
    drop(db);
    let repository = current(app, user, repository.id).await?;
    if !named.is_of(&repository) {
        return Err(Error::NotFound("repository"));
    }
    at(app, repository, organization, branch).await
}

/// The same for a project that is there: its organization must be one that may use the repository.
pub async fn choose_for(
    app: &App,
    user: Uuid,
    project: &Project,
    named: &Named,
    branch: Option<&str>,
) -> Result<Choice> {
    let mut db = app.db.acquire().await?;
    let found = named.find(&mut db, user).await?;
    let organization = project.organization_id;
    if installations::find_readable_of(&mut db, organization, found.id)
        .await?
        .is_none()
    {
        return Err(Error::Conflict(format!(
            "The organization of {} may not use {}; press “Update from GitHub” on the page GitHub, for that organization.",
            project.name, found.full_name
        )));
    }
    drop(db);
    let repository = current(app, user, found.id).await?;
    if !named.is_of(&repository) {
        return Err(Error::NotFound("repository"));
    }
    at(app, repository, organization, branch).await
}

/// The choice of a branch, or else the default one, as it is now.
async fn at(
    app: &App,
    repository: Readable,
    organization: Uuid,
    branch: Option<&str>,
) -> Result<Choice> {
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
        commit: None,
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
