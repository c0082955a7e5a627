//! Git objects that are written one by one, and branches that are set to them (GitHub's documentation,
//! "REST API endpoints for Git database").

use git2::{Oid, Repository as Git, Signature};
use serde_json::{Value, json};

use super::contents::list;
use super::repositories::shown_reference;
use super::{Call, Handler, Reply, Stop, Who};
use crate::github::call::{Level, not_found, refused};
use crate::github::events::Moved;
use crate::github::git;
use crate::github::state::State;
use crate::github::views::node_id;

pub(super) const ROUTES: &[(&str, &str, Handler)] = &[
    ("POST", "/repos/{owner}/{repo}/git/trees", write_tree),
    ("POST", "/repos/{owner}/{repo}/git/commits", write_commit),
    (
        "PATCH",
        "/repos/{owner}/{repo}/git/refs/{ref}",
        move_reference,
    ),
];

/// The objects of a repository that has some: GitHub writes none into an empty one.
fn begun(call: &Call<'_>, id: u64) -> Result<Git, Stop> {
    let git = call.shared.git(id)?;
    if git::is_new(&git)? {
        return Err(refused(409, "Git Repository is empty."));
    }
    Ok(git)
}

fn object(value: &Value) -> Option<Oid> {
    value.as_str()?.parse().ok()
}

fn write_tree(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let repository = call.repository(&state, "contents", Level::Write)?;
    let places = call.shared.places(&state.full_name(&repository));
    let git = begun(call, repository.id)?;
    let mut index = git2::Index::new()?;
    if let Some(base) = call.text("base_tree") {
        let found = base.parse().ok().and_then(|id| git.find_tree(id).ok());
        index.read_tree(&found.ok_or_else(|| refused(422, "base_tree is not a valid tree"))?)?;
    }
    for one in call.member("tree").as_array().into_iter().flatten() {
        let path = one["path"].as_str().unwrap_or_default();
        if path.is_empty()
            || path
                .split('/')
                .any(|part| matches!(part, "" | "." | ".." | ".git"))
        {
            return Err(refused(
                422,
                "tree.path contains a malformed path component",
            ));
        }
        let id = match (one["content"].as_str(), object(&one["sha"])) {
            (Some(content), None) => git.blob(content.as_bytes())?,
            (None, Some(id)) if git.find_blob(id).is_ok() => id,
            _ => return Err(refused(422, "tree.sha is not a valid blob")),
        };
        if (one["mode"].as_str(), one["type"].as_str()) != (Some("100644"), Some("blob")) {
            return Err(refused(422, "Must supply a valid tree.mode"));
        }
        index.add(&git::entry(path, id))?;
    }
    let tree = git.find_tree(index.write_tree_to(&git)?)?;
    let mut entries = Vec::new();
    list(&git, &places, &tree, "", false, &mut entries)?;
    Ok(Reply::json(
        201,
        json!({
            "sha": tree.id().to_string(),
            "url": format!("{}/git/trees/{}", places.api, tree.id()),
            "tree": entries,
            "truncated": false,
        }),
    ))
}

/// As whom it is written: the person, or the App's bot.
fn writer(call: &Call<'_>, state: &State) -> Result<u64, Stop> {
    match &call.who {
        Who::User { user, .. } => Ok(*user),
        Who::Installation { id, .. } => Ok(state.apps[&state.installations[id].app].bot),
        _ => Err(not_found()),
    }
}

fn write_commit(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let repository = call.repository(&state, "contents", Level::Write)?;
    let places = call.shared.places(&state.full_name(&repository));
    let git = begun(call, repository.id)?;
    let tree = object(call.member("tree")).and_then(|id| git.find_tree(id).ok());
    let tree = tree.ok_or_else(|| refused(422, "Tree SHA does not exist"))?;
    let mut parents = Vec::new();
    for one in call.member("parents").as_array().into_iter().flatten() {
        let found = object(one).and_then(|id| git.find_commit(id).ok());
        parents.push(
            found.ok_or_else(|| {
                refused(422, "Parent SHA does not exist or is not a commit object")
            })?,
        );
    }
    let parents: Vec<&git2::Commit<'_>> = parents.iter().collect();
    let login = &state.accounts[&writer(call, &state)?].login;
    let author = Signature::now(login, &git::email(login))?;
    let message = call.text("message").unwrap_or_default();
    let id = git.commit(None, &author, &author, &message, &tree, &parents)?;
    let whole = call.shared.commit(&state, &places, &git.find_commit(id)?);
    // The same members, one level higher than where the list of commits has them.
    let mut shown = whole["commit"].clone();
    if let Some(shown) = shown.as_object_mut() {
        shown.remove("comment_count");
    }
    shown["sha"] = id.to_string().into();
    shown["node_id"] = node_id("Commit", repository.id).into();
    shown["url"] = format!("{}/git/commits/{id}", places.api).into();
    shown["html_url"] = whole["html_url"].clone();
    shown["parents"] = whole["parents"].clone();
    Ok(Reply::json(201, shown))
}

fn move_reference(call: &Call<'_>) -> Result<Reply, Stop> {
    let mut state = call.shared.state();
    let repository = call.repository(&state, "contents", Level::Write)?;
    let places = call.shared.places(&state.full_name(&repository));
    let git = begun(call, repository.id)?;
    let branch = call.param("ref").strip_prefix("heads/");
    let branch = branch.ok_or_else(|| refused(422, "Reference does not exist"))?;
    let before =
        git::branch(&git, branch).ok_or_else(|| refused(422, "Reference does not exist"))?;
    let after = object(call.member("sha")).filter(|id| git.find_commit(*id).is_ok());
    let after = after.ok_or_else(|| refused(422, "Object does not exist"))?;
    let forced =
        !(before == after.to_string() || git.graph_descendant_of(after, before.parse()?)?);
    if forced && call.member("force") != true {
        return Err(refused(422, "Update is not a fast forward"));
    }
    let by = writer(call, &state)?;
    let after = after.to_string();
    let moved = Moved {
        branch,
        before: &before,
        after: &after,
        forced,
        by,
    };
    call.shared
        .branch_moved(&mut state, repository.id, &moved)?;
    let name = format!("refs/heads/{branch}");
    Ok(Reply::json(
        200,
        shown_reference(&places.api, &name, &after),
    ))
}
