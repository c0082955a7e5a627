//! What Berth asks GitHub for, and the shape of the answers: only the fields that are used.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::json;
use time::OffsetDateTime;

use super::client::{Call, Client, Credential};
use super::failure::Failure;
use super::registration;
use super::tokens::{self, Purpose};
use crate::app::App;
use crate::config::Secret;

/// Entries of a page, the most that GitHub gives.
const PER_PAGE: usize = 100;

/// Most pages of a list: ten thousand repositories or branches.
const MAX_PAGES: usize = 100;

/// Pull requests of a page: one has a text of up to 65,536 characters, of four bytes each, and an answer may
/// have eight MiB.
const PULLS_PER_PAGE: usize = 20;

/// Most pages of pull requests; those that are open for longer than a thousand others get no preview by
/// the comparison.
const MAX_PULL_PAGES: usize = 50;

/// A user or an organization.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Account {
    /// Its number, which stays.
    pub id: i64,
    /// Its name, which may change.
    pub login: String,
    /// `User` or `Organization`; others count as users.
    #[serde(default, rename = "type")]
    pub kind: String,
}

impl Account {
    /// As it stands in the database.
    pub fn kind(&self) -> &'static str {
        if self.kind == "Organization" {
            "organization"
        } else {
            "user"
        }
    }
}

/// An installation of the App.
#[derive(Debug, Clone, Deserialize)]
pub struct Installation {
    /// Its number.
    pub id: i64,
    /// The App it is of.
    #[serde(default)]
    pub app_id: Option<i64>,
    /// Where it is installed.
    pub account: Account,
    /// Since when its owner lets it do nothing.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub suspended_at: Option<OffsetDateTime>,
    /// What its owner granted: `read` or `write` by permission.
    #[serde(default)]
    pub permissions: BTreeMap<String, String>,
}

/// A repository.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Repository {
    /// Its number, which stays.
    pub id: i64,
    /// `owner/name`.
    pub full_name: String,
    /// Whether only some may read it.
    pub private: bool,
    /// Its default branch; webhooks about installations leave it out.
    #[serde(default)]
    pub default_branch: Option<String>,
    /// What the person who asked may do with it.
    #[serde(default)]
    pub permissions: Option<Permissions>,
}

/// What a person may do with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Permissions {
    /// Write to it.
    #[serde(default)]
    pub push: bool,
}

/// A branch and its newest commit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Branch {
    /// Its name.
    pub name: String,
    /// Its head.
    pub commit: Head,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Head {
    /// 40 hexadecimal digits.
    pub sha: String,
    /// What Git has of it; lists of branches leave it out.
    #[serde(default)]
    commit: Option<Written>,
}

impl Head {
    /// Its message; empty where it was left out.
    pub fn message(&self) -> &str {
        self.commit.as_ref().map_or("", |written| &written.message)
    }
}

/// What Git has of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Written {
    message: String,
}

/// What lies between two commits.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Comparison {
    /// `ahead`, `behind`, `diverged` or `identical`: how the second stands to the first.
    pub status: String,
    /// The files that the second changes, at most 300.
    #[serde(default)]
    pub files: Vec<ChangedFile>,
}

/// A file that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ChangedFile {
    /// Its path from the repository's root.
    pub filename: String,
    /// Where it was before, if it was moved.
    #[serde(default)]
    pub previous_filename: Option<String>,
}

/// A pull request.
#[derive(Debug, Clone, Deserialize)]
pub struct Pull {
    /// Its number in its repository.
    pub number: i64,
    /// `open` or `closed`.
    pub state: String,
    /// Its title.
    pub title: String,
    /// Who opened it; nobody once the account is gone.
    #[serde(default)]
    pub user: Option<Account>,
    /// What it brings.
    pub head: Side,
    /// Where it is to go.
    pub base: Side,
}

/// One of the two branches of a pull request.
#[derive(Debug, Clone, Deserialize)]
pub struct Side {
    /// The branch.
    #[serde(rename = "ref")]
    pub branch: String,
    /// Its commit.
    pub sha: String,
    /// Its repository; none once a fork is deleted.
    #[serde(default)]
    pub repo: Option<SideRepository>,
}

/// The repository of a side.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct SideRepository {
    /// Its number, which stays.
    pub id: i64,
}

/// The App as it sees itself.
#[derive(Debug, Clone, Deserialize)]
pub struct AppItself {
    /// Its number.
    pub id: i64,
    /// Its name in addresses.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// Its page.
    pub html_url: String,
    /// Its name as an OAuth client.
    #[serde(default)]
    pub client_id: Option<String>,
}

#[derive(Deserialize)]
struct Repositories {
    repositories: Vec<Repository>,
}

#[derive(Deserialize)]
struct Installations {
    installations: Vec<Installation>,
}

#[derive(Deserialize)]
struct Membership {
    state: String,
    organization: Account,
}

/// `owner` and `name` of a repository, if they are what GitHub gives out.
pub fn parts(full_name: &str) -> Option<(&str, &str)> {
    let (owner, name) = full_name.split_once('/')?;
    let good = |part: &str| {
        !part.is_empty()
            && part.len() <= 100
            && !matches!(part, "." | "..")
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    (good(owner) && good(name)).then_some((owner, name))
}

/// The App, by its own assertion: proof that number and key belong together.
pub async fn app_itself(app: &App, assertion: &Secret) -> Result<AppItself, Failure> {
    app_of(&app.github.client, assertion).await
}

/// The same, for who has a client alone.
pub async fn app_of(client: &Client, assertion: &Secret) -> Result<AppItself, Failure> {
    let path = ["app"];
    client
        .ask(&Credential::App(assertion), Call::get(&path))
        .await
}

/// Gives GitHub the secret that it is to sign webhooks with.
pub async fn set_webhook_secret(
    app: &App,
    assertion: &Secret,
    secret: &Secret,
) -> Result<(), Failure> {
    let path = ["app", "hook", "config"];
    let body = json!({ "secret": secret.expose() });
    let _: IgnoredAny = app
        .github
        .client
        .ask(&Credential::App(assertion), Call::patch(&path, body))
        .await?;
    Ok(())
}

/// Asks as an installation. A token that GitHub refuses is not used again.
async fn ask<T: DeserializeOwned>(
    app: &App,
    installation: i64,
    call: Call<'_>,
) -> Result<T, Failure> {
    let token = tokens::of_installation(app, installation).await?;
    let who = Credential::Installation(installation, &token.secret);
    let answer = app.github.client.ask(&who, call).await;
    if let Err(Failure::Unauthorized(_)) = &answer {
        tokens::forget(app, installation, Purpose::Fetch).await?;
    }
    answer
}

/// Takes a page's entries over; says whether it was the last.
fn is_last<T>(found: &mut Vec<T>, page: Vec<T>) -> bool {
    let last = page.len() < PER_PAGE;
    found.extend(page);
    last
}

fn page_query(number: usize) -> [(&'static str, String); 2] {
    [
        ("per_page", PER_PAGE.to_string()),
        ("page", number.to_string()),
    ]
}

/// The repositories that an installation gives access to.
pub async fn repositories(app: &App, installation: i64) -> Result<Vec<Repository>, Failure> {
    let path = ["installation", "repositories"];
    let mut found = Vec::new();
    for number in 1..=MAX_PAGES {
        let query = page_query(number);
        let page: Repositories = ask(app, installation, Call::get(&path).query(&query)).await?;
        if is_last(&mut found, page.repositories) {
            break;
        }
    }
    Ok(found)
}

/// A repository's branches, without their heads: all of them, or so many and some more.
pub async fn branches(
    app: &App,
    installation: i64,
    full_name: &str,
    enough: usize,
) -> Result<Vec<Branch>, Failure> {
    let (owner, name) = parts(full_name).ok_or(Failure::NotFound)?;
    let path = ["repos", owner, name, "branches"];
    let mut found = Vec::new();
    for number in 1..=MAX_PAGES {
        let query = page_query(number);
        let page = ask(app, installation, Call::get(&path).query(&query)).await?;
        if is_last(&mut found, page) || found.len() >= enough {
            break;
        }
    }
    Ok(found)
}

/// A repository's branch; `None` when there is no such branch, or no such repository.
pub async fn find_branch(
    app: &App,
    installation: i64,
    full_name: &str,
    branch: &str,
) -> Result<Option<Branch>, Failure> {
    let (owner, name) = parts(full_name).ok_or(Failure::NotFound)?;
    let path = ["repos", owner, name, "branches", branch];
    let found: Result<Branch, Failure> = ask(app, installation, Call::get(&path)).await;
    match found {
        // The former name of a branch leads to the new one.
        Ok(found) => Ok(Some(found).filter(|found| found.name == branch)),
        Err(Failure::NotFound) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// A pull request; `None` when there is no such one, or no such repository.
pub async fn find_pull(
    app: &App,
    installation: i64,
    full_name: &str,
    number: i64,
) -> Result<Option<Pull>, Failure> {
    let (owner, name) = parts(full_name).ok_or(Failure::NotFound)?;
    let number = number.to_string();
    let path = ["repos", owner, name, "pulls", &number];
    match ask(app, installation, Call::get(&path)).await {
        Ok(found) => Ok(Some(found)),
        Err(Failure::NotFound) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// What a commit changes since another. Every file is on the first page, and no commit is of interest.
pub async fn compare(
    app: &App,
    installation: i64,
    full_name: &str,
    base: &str,
    head: &str,
) -> Result<Comparison, Failure> {
    let (owner, name) = parts(full_name).ok_or(Failure::NotFound)?;
    let range = format!("{base}...{head}");
    let path = ["repos", owner, name, "compare", &range];
    let query = [("per_page", "1".to_owned()), ("page", "1".to_owned())];
    ask(app, installation, Call::get(&path).query(&query)).await
}

/// The commit of this id, beginning of an id, tag or branch; `None` when the repository has none.
pub async fn find_commit(
    app: &App,
    installation: i64,
    full_name: &str,
    reference: &str,
) -> Result<Option<Head>, Failure> {
    let (owner, name) = parts(full_name).ok_or(Failure::NotFound)?;
    let path = ["repos", owner, name, "commits", reference];
    // Its files are of no interest.
    let query = [("per_page", "1".to_owned())];
    match ask(app, installation, Call::get(&path).query(&query)).await {
        Ok(found) => Ok(Some(found)),
        Err(Failure::NotFound) => Ok(None),
        // 422, and 409 for a repository without commits.
        Err(Failure::Refused(why)) if why.contains("No commit found") || why.contains("empty") => {
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

/// A repository's open pull requests, newest first.
pub async fn open_pulls(
    app: &App,
    installation: i64,
    full_name: &str,
) -> Result<Vec<Pull>, Failure> {
    let (owner, name) = parts(full_name).ok_or(Failure::NotFound)?;
    let path = ["repos", owner, name, "pulls"];
    let mut found = Vec::new();
    for number in 1..=MAX_PULL_PAGES {
        let query = [
            ("per_page", PULLS_PER_PAGE.to_string()),
            ("page", number.to_string()),
            ("state", "open".to_owned()),
        ];
        let page: Vec<Pull> = ask(app, installation, Call::get(&path).query(&query)).await?;
        let last = page.len() < PULLS_PER_PAGE;
        found.extend(page);
        if last {
            break;
        }
    }
    Ok(found)
}

/// An installation as GitHub has it now.
pub async fn find_installation(app: &App, id: i64) -> Result<Option<Installation>, Failure> {
    let registration = registration::get(&mut *app.db.acquire().await?, &app.kek).await?;
    let assertion = registration.assertion(app.clock.now())?;
    let number = id.to_string();
    let path = ["app", "installations", &number];
    let found = app
        .github
        .client
        .ask(&Credential::App(&assertion), Call::get(&path))
        .await;
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Failure::NotFound) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// A repository; `None` when it is not there for the installation.
pub async fn find_repository(
    app: &App,
    installation: i64,
    full_name: &str,
) -> Result<Option<Repository>, Failure> {
    let (owner, name) = parts(full_name).ok_or(Failure::NotFound)?;
    let path = ["repos", owner, name];
    match ask(app, installation, Call::get(&path)).await {
        Ok(found) => Ok(Some(found)),
        Err(Failure::NotFound) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// The account of this name, for the list of who may sign up.
pub async fn find_account(app: &App, login: &str) -> Result<Option<Account>, Failure> {
    let path = ["users", login];
    match app
        .github
        .client
        .ask(&Credential::None, Call::get(&path))
        .await
    {
        Ok(found) => Ok(Some(found)),
        Err(Failure::NotFound) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// The person of a token.
pub async fn person(app: &App, token: &Secret) -> Result<Account, Failure> {
    let path = ["user"];
    app.github
        .client
        .ask(&Credential::Person(token), Call::get(&path))
        .await
}

/// Whether the person of a token is an active member of an organization, which is known by its
/// number: its name may have passed to another.
pub async fn is_member(
    app: &App,
    token: &Secret,
    organization: i64,
    login: &str,
) -> Result<bool, Failure> {
    let path = ["user", "memberships", "orgs", login];
    let found: Result<Membership, Failure> = app
        .github
        .client
        .ask(&Credential::Person(token), Call::get(&path))
        .await;
    match found {
        Ok(membership) => {
            Ok(membership.state == "active" && membership.organization.id == organization)
        }
        // 403 while the App may not ask in that organization.
        Err(Failure::NotFound | Failure::Refused(_)) => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// The installations of the App that the person of a token can reach.
pub async fn installations_of(app: &App, token: &Secret) -> Result<Vec<Installation>, Failure> {
    let path = ["user", "installations"];
    let mut found = Vec::new();
    for number in 1..=MAX_PAGES {
        let query = page_query(number);
        let call = Call::get(&path).query(&query);
        let page: Installations = app
            .github
            .client
            .ask(&Credential::Person(token), call)
            .await?;
        if is_last(&mut found, page.installations) {
            break;
        }
    }
    Ok(found)
}

/// The repositories of an installation that the person of a token can reach, with what they may do.
pub async fn repositories_of(
    app: &App,
    token: &Secret,
    installation: i64,
) -> Result<Vec<Repository>, Failure> {
    let id = installation.to_string();
    let path = ["user", "installations", &id, "repositories"];
    let mut found = Vec::new();
    for number in 1..=MAX_PAGES {
        let query = page_query(number);
        let call = Call::get(&path).query(&query);
        let page: Repositories = app
            .github
            .client
            .ask(&Credential::Person(token), call)
            .await?;
        if is_last(&mut found, page.repositories) {
            break;
        }
    }
    Ok(found)
}
