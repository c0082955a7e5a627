//! What a person asks to have deployed, by a branch, a tag, a commit or the beginning of one.

use runner::protocol::Package;

use super::installations::{self, Readable};
use super::links::{self, is_commit};
use super::rest;
use crate::app::App;
use crate::deployments::Request;
use crate::error::{Error, Result, invalid};
use crate::projects::{self, Project};

/// What to deploy of a project for what was typed; of a package it is a version. Nothing means what
/// the project itself names.
pub async fn resolve(app: &App, project: &Project, text: &str) -> Result<Request> {
    let text = text.trim();
    let Some(url) = project.source_url.as_ref().filter(|_| !text.is_empty()) else {
        return if text.is_empty() {
            Ok(Request::default())
        } else {
            Err(invalid(
                "reference",
                format!(
                    "{} has no repository; deploy a directory with `berth deploy PATH --project {}`, or set its repository.",
                    project.name, project.name
                ),
            ))
        };
    };
    let (text, of_commit) = (text.to_owned(), |commit: String| Request {
        commit: Some(commit),
        ..Request::default()
    });
    if Package::is_meant(url) {
        return Ok(of_commit(text));
    }
    projects::check_branch(&text).map_err(|_| {
        invalid(
            "reference",
            "This is no name of a branch, a tag or a commit; check its spelling.",
        )
    })?;
    if is_commit(&text) {
        return Ok(of_commit(commit_of(app, project, &text).await?));
    }
    let of_branch = |branch, commit| Request {
        branch: Some(branch),
        commit,
        ..Request::default()
    };
    match linked(app, project).await? {
        None => Ok(of_branch(text, None)),
        Some(repository) => {
            let (installation, name) = (repository.installation_id, &repository.full_name);
            if let Some(found) = rest::find_branch(app, installation, name, &text).await? {
                let head = Some(found.commit.sha).filter(|sha| is_commit(sha));
                return Ok(of_branch(text, head));
            }
            let commit = find(app, &repository, &text).await?;
            Ok(if commit.starts_with(&text.to_ascii_lowercase()) {
                of_commit(commit)
            } else {
                of_branch(text, Some(commit))
            })
        }
    }
}

/// The full id of a commit that a person named by it, its beginning or a tag. GitHub knows only what
/// is in a repository of it; of others the text is given back, and what is queued is checked.
pub async fn commit_of(app: &App, project: &Project, text: &str) -> Result<String> {
    let text = text.trim();
    let is_package = project.source_url.as_deref().is_some_and(Package::is_meant);
    if is_package || text.is_empty() {
        return Ok(text.to_owned());
    }
    let found = match linked(app, project).await {
        Ok(Some(repository)) => find(app, &repository, text).await,
        Ok(None) => return Ok(text.to_owned()),
        Err(error) => Err(error),
    };
    match found {
        // GitHub is away. The runner may have the commit, or says that it does not exist.
        Err(Error::Unavailable(_)) if is_commit(text) => Ok(text.to_owned()),
        found => found,
    }
}

/// The project's repository as GitHub has it now: a name may have passed to another.
async fn linked(app: &App, project: &Project) -> Result<Option<Readable>> {
    let organization = project.organization_id;
    let mut db = app.db.acquire().await?;
    let Some(link) = links::find(&mut db, project.id).await? else {
        return Ok(None);
    };
    let out_of_reach = || {
        let problem = link.problem.clone();
        Error::Conflict(problem.unwrap_or_else(|| links::UNREACHABLE.to_owned()))
    };
    let known = installations::find_readable_of(&mut db, organization, link.repository_id)
        .await?
        .ok_or_else(out_of_reach)?;
    drop(db);
    let (installation, name) = (known.installation_id, Some(&*known.full_name));
    if !installations::settle(app, installation, known.id, name).await? {
        return Err(out_of_reach());
    }
    let mut db = app.db.acquire().await?;
    let found = installations::find_readable_of(&mut db, organization, known.id).await?;
    found.map(Some).ok_or_else(out_of_reach)
}

/// The full id of a repository's commit, by it, its beginning, a tag or a branch.
pub(super) async fn find(app: &App, repository: &Readable, text: &str) -> Result<String> {
    let (installation, name) = (repository.installation_id, &repository.full_name);
    let unknown = || {
        invalid(
            "commit",
            format!(
                "{name} has no commit, tag or branch called “{text}”; push it first, or check its spelling."
            ),
        )
    };
    if projects::check_branch(text).is_err() {
        return Err(unknown());
    }
    match rest::find_commit(app, installation, name, text).await {
        Ok(Some(found)) if is_commit(&found.sha) => Ok(found.sha),
        Ok(_) => Err(unknown()),
        Err(failure) => Err(failure.into()),
    }
}
