//! A repository at GitHub that begins with one of the bundled examples.
//!
//! GitHub itself decides who may make one where: everything is asked with the token of the person
//! who wants it, which needs the App's permissions in that account and the person's own rights
//! there. An installation's token would let whoever may use one repository of an organization here
//! make others in it.

mod requests;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::failure::Failure;
use super::installations::{self, Connected};
use super::rest::{self, Installation, Repository};
use crate::app::App;
use crate::config::Secret;
use crate::error::{Error, Result, invalid};
use crate::starters;

/// What an installation must have been granted, each with `write`.
const NEEDED: [&str; 2] = ["administration", "contents"];

/// Longest name of a repository at GitHub.
const MAX_NAME: usize = 100;

/// Installations that one look at the page asks GitHub about at the most.
const MAX_PLACES: usize = 20;

/// The repository that somebody wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The example it is to begin with.
    pub starter: String,
    /// The installation on whose account it is to be.
    pub installation: i64,
    /// Its name.
    pub name: String,
    /// Whether only some may read it.
    pub private: bool,
    /// Its number, where it was made before and something remained to be done.
    pub made: Option<i64>,
}

impl Order {
    /// Fails with what to put right.
    pub fn check(&self) -> Result<()> {
        starters::get(&self.starter)?;
        check_name(&self.name)
    }
}

/// Whether GitHub takes a name for a repository.
fn check_name(name: &str) -> Result<()> {
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if name.is_empty() || name.len() > MAX_NAME || !plain {
        return Err(invalid(
            "name",
            "Name the repository with 1 to 100 letters, digits, dots, dashes and underscores.",
        ));
    }
    let lower = name.to_ascii_lowercase();
    let reserved = [".git", ".wiki"].iter().any(|end| lower.ends_with(end));
    if reserved || matches!(name, "." | "..") {
        return Err(invalid(
            "name",
            "GitHub takes no name that is made of dots or ends with .git or .wiki; choose another.",
        ));
    }
    Ok(())
}

/// An account with the App where somebody may want a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The installation's number.
    pub installation: i64,
    /// The account's name.
    pub account: String,
    /// Why none can be made there.
    pub problem: Option<String>,
}

/// The accounts that a person's organizations know, and whether the App may make repositories
/// there, as GitHub says now.
pub async fn list_places(app: &App, known: &[Connected]) -> Vec<Place> {
    let active = known.iter().filter(|it| it.state == "active");
    let asked = active.take(MAX_PLACES).map(async |it| {
        let problem = match rest::find_installation(app, it.id).await {
            Ok(Some(found)) => problem_of(&found),
            Ok(None) => Some("The App is not installed there any more.".to_owned()),
            Err(failure) => Some(failure.to_string()),
        };
        Place {
            installation: it.id,
            account: it.account.clone(),
            problem,
        }
    });
    futures_util::future::join_all(asked).await
}

/// Why no repository can be made on the account of an installation.
fn problem_of(installation: &Installation) -> Option<String> {
    if installation.suspended_at.is_some() {
        return Some("The App is suspended there.".into());
    }
    let granted = |name: &&str| {
        installation
            .permissions
            .get(*name)
            .is_some_and(|it| it == "write")
    };
    (!NEEDED.iter().all(granted)).then(|| {
        "The App may not create repositories there: it needs the permissions “Administration: write” and “Contents: write”.".into()
    })
}

/// Why it did not come to its end.
#[derive(Debug)]
pub struct Stopped {
    /// What happened and what to do.
    pub sentence: String,
    /// The repository, where it is there all the same.
    pub made: Option<Repository>,
}

impl Stopped {
    fn before(sentence: impl Into<String>) -> Self {
        Self {
            sentence: sentence.into(),
            made: None,
        }
    }
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::before(format!("Nothing was created. {failure}"))
    }
}

/// Makes a repository, or finds the one that was made before, and writes the example into it. What
/// is written already stays.
pub async fn create(
    app: &App,
    app_id: i64,
    token: &Secret,
    order: &Order,
) -> Result<Repository, Stopped> {
    let starter =
        starters::get(&order.starter).map_err(|error| Stopped::before(error.to_string()))?;
    let place = find_place(app, app_id, token, order.installation).await?;
    let repository = match order.made {
        Some(id) => find_made(app, token, &place, order, id).await?,
        None => requests::create(app, token, &place.account, order)
            .await
            .map_err(|failure| not_created(app, &place, order, failure))?,
    };
    match requests::fill(app, token, &repository, starter).await {
        Ok(()) => Ok(repository),
        Err(failure) => Err(Stopped {
            sentence: not_filled(&repository, &failure),
            made: Some(repository),
        }),
    }
}

/// The installation, as GitHub shows it to this person.
async fn find_place(
    app: &App,
    app_id: i64,
    token: &Secret,
    installation: i64,
) -> Result<Installation, Stopped> {
    let person = rest::person(app, token).await?;
    let all = rest::installations_of(app, token).await?;
    let place = all
        .into_iter()
        .find(|it| it.id == installation && it.app_id.is_none_or(|id| id == app_id))
        .ok_or_else(|| {
            Stopped::before(format!(
                "Nothing was created: at GitHub you are {}, who does not reach this account by the App; choose another account, or sign in there as somebody else.",
                person.login
            ))
        })?;
    if let Some(problem) = problem_of(&place) {
        return Err(Stopped::before(format!("Nothing was created. {problem}")));
    }
    if place.account.kind() == "user" && place.account.id != person.id {
        return Err(Stopped::before(format!(
            "Nothing was created: only {} can create repositories on this account, and at GitHub you are {}.",
            place.account.login, person.login
        )));
    }
    Ok(place)
}

/// The repository of an earlier attempt. Its name may have passed to another, so the number is
/// compared.
async fn find_made(
    app: &App,
    token: &Secret,
    place: &Installation,
    order: &Order,
    id: i64,
) -> Result<Repository, Stopped> {
    let login = &place.account.login;
    match requests::find(app, token, login, &order.name).await {
        Ok(found) if found.id == id => Ok(found),
        Ok(_) | Err(Failure::NotFound) => Err(Stopped::before(format!(
            "The App does not reach {login}/{} at GitHub; add it to the App's installation there, or begin again with another name if it was renamed or deleted.",
            order.name
        ))),
        Err(failure) => Err(failure.into()),
    }
}

fn not_created(app: &App, place: &Installation, order: &Order, failure: Failure) -> Stopped {
    let (login, name) = (&place.account.login, &order.name);
    Stopped::before(match failure {
        Failure::Refused(words) if words.contains("already exists") => format!(
            "Nothing was created: {login} has a repository {name} already; choose another name."
        ),
        Failure::Refused(words) => format!(
            "Nothing was created: GitHub does not let you create a repository on {login}. {words}"
        ),
        Failure::NotFound => format!(
            "Nothing was created: GitHub does not let you create a repository on {login}; ask one of its owners."
        ),
        Failure::Unavailable(words) => format!(
            "{words} The repository may be there all the same: look at {}/{login}/{name} before you try again.",
            app.config.github()
        ),
        failure => return failure.into(),
    })
}

fn not_filled(repository: &Repository, failure: &Failure) -> String {
    let name = &repository.full_name;
    match failure {
        Failure::NotFound | Failure::Refused(_) => format!(
            "{name} is created at GitHub, but the template could not be written into it. {failure} If the App is installed on selected repositories, add this one there, then go on here."
        ),
        _ => format!(
            "{name} is created at GitHub, but the template could not be written into it. {failure} Go on when GitHub answers again."
        ),
    }
}

/// Whether an organization may use a repository now, which its installation may leave out.
pub async fn is_readable(db: &mut PgConnection, organization: Uuid, id: i64) -> Result<bool> {
    Ok(installations::find_readable_of(db, organization, id)
        .await?
        .is_some())
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::before(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_github_takes() {
        for good in ["a", "My_server-2.x", ".github", &"a".repeat(100)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a b",
            "a/b",
            "ä",
            "x.git",
            "x.WIKI",
            &"a".repeat(101),
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
