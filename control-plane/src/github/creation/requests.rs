//! What is asked of GitHub to make a repository and to write a first commit into it.
//! <https://docs.github.com/en/rest/repos/repos>, <https://docs.github.com/en/rest/git>

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};

use super::Order;
use crate::app::App;
use crate::config::Secret;
use crate::github::client::{Call, Credential};
use crate::github::failure::Failure;
use crate::github::rest::{self, Account, Repository};
use crate::starters::Starter;

/// What GitHub puts into a repository that it is asked to begin.
const BEGINNING: &str = "README.md";

/// A regular file that is no program, as Git names it.
const FILE: &str = "100644";

#[derive(Deserialize)]
struct Object {
    sha: String,
}

#[derive(Deserialize)]
struct Branch {
    commit: Head,
}

#[derive(Deserialize)]
struct Head {
    sha: String,
    commit: Commit,
}

#[derive(Deserialize)]
struct Commit {
    tree: Object,
}

#[derive(Deserialize)]
struct Tree {
    tree: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    path: String,
}

async fn ask<T: DeserializeOwned>(app: &App, token: &Secret, call: Call<'_>) -> Result<T, Failure> {
    let person = Credential::Person(token);
    app.github.client.ask(&person, call).await
}

/// Makes the repository, with a first commit: GitHub writes none by its Git routes into an empty
/// one.
pub async fn create(
    app: &App,
    token: &Secret,
    account: &Account,
    order: &Order,
) -> Result<Repository, Failure> {
    let body = json!({ "name": order.name, "private": order.private, "auto_init": true });
    let organization = ["orgs", &account.login, "repos"];
    let own = ["user", "repos"];
    let path: &[&str] = match account.kind() {
        "organization" => &organization,
        _ => &own,
    };
    ask(app, token, Call::post(path, Some(body))).await
}

/// A repository by its name.
pub async fn find(
    app: &App,
    token: &Secret,
    owner: &str,
    name: &str,
) -> Result<Repository, Failure> {
    let path = ["repos", owner, name];
    ask(app, token, Call::get(&path)).await
}

/// Writes an example as one commit on top of what GitHub began with. A repository that holds
/// anything else is left as it is; one that holds the example already is done.
pub async fn fill(
    app: &App,
    token: &Secret,
    repository: &Repository,
    starter: &Starter,
) -> Result<(), Failure> {
    let (owner, name) = rest::parts(&repository.full_name).ok_or(Failure::NotFound)?;
    let branch = repository.default_branch.as_deref().unwrap_or("main");
    let at = |rest: &[&'static str]| [&["repos", owner, name], rest].concat();
    let path = [&at(&["branches"])[..], &[branch]].concat();
    let head: Branch = ask(app, token, Call::get(&path)).await?;
    let tree: Object = ask(
        app,
        token,
        Call::post(&at(&["git", "trees"]), Some(files(starter))),
    )
    .await?;
    let begun = head.commit.commit.tree.sha;
    if tree.sha == begun {
        return Ok(());
    }
    let path = [&at(&["git", "trees"])[..], &[&begun]].concat();
    let there: Tree = ask(app, token, Call::get(&path)).await?;
    if there.tree.iter().any(|entry| entry.path != BEGINNING) {
        return Err(Failure::Refused(
            "It holds files of its own already, and they were left as they are.".into(),
        ));
    }
    let body = json!({
        "message": format!("Begin with Berth's template {}", starter.slug),
        "tree": tree.sha,
        "parents": [head.commit.sha],
    });
    let commit: Object = ask(app, token, Call::post(&at(&["git", "commits"]), Some(body))).await?;
    // Not by force: what somebody pushed meanwhile stays.
    let body = json!({ "sha": commit.sha, "force": false });
    let path = [&at(&["git", "refs", "heads"])[..], &[branch]].concat();
    let _: IgnoredAny = ask(app, token, Call::patch(&path, body)).await?;
    Ok(())
}

/// The whole tree of an example; GitHub makes the blobs of the contents.
fn files(starter: &Starter) -> Value {
    let entries: Vec<Value> = starter
        .files
        .iter()
        .map(|(path, content)| json!({ "path": path, "mode": FILE, "type": "blob", "content": content }))
        .collect();
    json!({ "tree": entries })
}
