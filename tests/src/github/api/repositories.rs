//! Repositories, their branches and commits.

use serde_json::{Value, json};

use super::{Call, Handler, Reply, Stop, Who, rights};
use crate::github::call::{Level, invalid, not_accessible, not_found, refused};
use crate::github::git;
use crate::github::state::{Repository, State};
use crate::github::views::{association, extend, node_id};

pub(super) const ROUTES: &[(&str, &str, Handler)] = &[
    ("GET", "/repos/{owner}/{repo}", one),
    ("GET", "/repositories/{repository_id}", by_number),
    ("GET", "/repos/{owner}/{repo}/branches", branches),
    ("GET", "/repos/{owner}/{repo}/branches/{branch}", branch),
    ("GET", "/repos/{owner}/{repo}/git/ref/{ref}", reference),
    (
        "GET",
        "/repos/{owner}/{repo}/git/matching-refs/{ref}",
        matching,
    ),
    ("GET", "/repos/{owner}/{repo}/commits", commits),
    ("GET", "/repos/{owner}/{repo}/commits/{ref}", commit),
    ("GET", "/repos/{owner}/{repo}/compare/{basehead}", compare),
    (
        "GET",
        "/repos/{owner}/{repo}/collaborators/{username}/permission",
        permission,
    ),
    (
        "POST",
        "/repos/{template_owner}/{template_repo}/generate",
        generate,
    ),
];

fn shown(call: &Call<'_>, state: &State, repository: &Repository) -> Value {
    let mut shown = call.shared.full_repository(state, repository);
    shown["permissions"] = match call.who {
        Who::User { user, .. } => rights(
            state.pushes(user, repository),
            state.administers(user, repository.owner),
        ),
        _ => rights(false, false),
    };
    shown
}

fn one(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let repository = call.repository(&state, "metadata", Level::Read)?;
    Ok(Reply::json(200, shown(call, &state, &repository)))
}

fn by_number(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let found = state.repositories.get(&call.number("repository_id")?);
    let repository = found.ok_or_else(not_found)?;
    if repository.private && call.permissions(&state, repository).is_none() {
        return Err(not_found());
    }
    Ok(Reply::json(200, shown(call, &state, repository)))
}

fn branches(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let repository = call.repository(&state, "contents", Level::Read)?;
    let places = call.shared.places(&state.full_name(&repository));
    let all = git::branches(&call.shared.git(repository.id)?)?;
    let shown = all
        .into_iter()
        .map(|(name, sha)| {
            let url = format!("{}/commits/{sha}", places.api);
            json!({ "name": name, "commit": { "sha": sha, "url": url }, "protected": false })
        })
        .collect();
    Ok(call.list(shown))
}

fn branch(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let repository = call.repository(&state, "contents", Level::Read)?;
    let places = call.shared.places(&state.full_name(&repository));
    let git = call.shared.git(repository.id)?;
    let name = call.param("branch");
    let sha = git::branch(&git, name).ok_or_else(|| refused(404, "Branch not found"))?;
    let encoded = git::encode_path(name);
    let url = format!("{}/branches/{encoded}", places.api);
    let commit = git.find_commit(sha.parse()?)?;
    Ok(Reply::json(
        200,
        json!({
            "name": name,
            "commit": call.shared.commit(&state, &places, &commit),
            "_links": { "self": url, "html": format!("{}/tree/{encoded}", places.page) },
            "protected": false,
            "protection": {
                "enabled": false,
                "required_status_checks":
                    { "enforcement_level": "off", "contexts": [], "checks": [] },
            },
            "protection_url": format!("{url}/protection"),
        }),
    ))
}

pub(super) fn shown_reference(api: &str, name: &str, sha: &str) -> Value {
    json!({
        "ref": name,
        "node_id": node_id("Ref", 0),
        "url": format!("{api}/git/{}", git::encode_path(name)),
        "object": {
            "type": "commit", "sha": sha, "url": format!("{api}/git/commits/{sha}"),
        },
    })
}

fn reference(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let repository = call.repository(&state, "contents", Level::Read)?;
    let places = call.shared.places(&state.full_name(&repository));
    let git = call.shared.git(repository.id)?;
    let name = format!("refs/{}", call.param("ref"));
    let id = git.refname_to_id(&name).map_err(|_| not_found())?;
    Ok(Reply::json(
        200,
        shown_reference(&places.api, &name, &id.to_string()),
    ))
}

fn matching(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let repository = call.repository(&state, "contents", Level::Read)?;
    let places = call.shared.places(&state.full_name(&repository));
    let start = format!("refs/{}", call.param("ref"));
    let all = git::branches(&call.shared.git(repository.id)?)?;
    let shown = all
        .into_iter()
        .map(|(name, sha)| (format!("refs/heads/{name}"), sha))
        .filter(|(name, _)| name.starts_with(&start))
        .map(|(name, sha)| shown_reference(&places.api, &name, &sha))
        .collect();
    Ok(call.list(shown))
}

/// Newest first, from a branch or a commit.
fn commits(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let repository = call.repository(&state, "contents", Level::Read)?;
    let places = call.shared.places(&state.full_name(&repository));
    let git = call.shared.git(repository.id)?;
    if git::is_new(&git)? {
        return Err(refused(409, "Git Repository is empty."));
    }
    let from = call.query("sha").unwrap_or(&repository.default_branch);
    let from = git::resolve(&git, from).ok_or_else(not_found)?;
    let mut shown = Vec::new();
    for sha in git::between(&git, None, &from.id().to_string())?
        .into_iter()
        .rev()
    {
        if let Some(path) = call.query("path") {
            let touched = git::touched(&git, &sha)?;
            let below = format!("{path}/");
            if !touched
                .iter()
                .flatten()
                .any(|file| file == path || file.starts_with(&below))
            {
                continue;
            }
        }
        let commit = git.find_commit(sha.parse()?)?;
        shown.push(call.shared.commit(&state, &places, &commit));
    }
    Ok(call.list(shown))
}

fn commit(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let repository = call.repository(&state, "contents", Level::Read)?;
    let places = call.shared.places(&state.full_name(&repository));
    let git = call.shared.git(repository.id)?;
    let name = call.param("ref");
    let commit = git::resolve(&git, name)
        .ok_or_else(|| refused(422, &format!("No commit found for SHA: {name}")))?;
    let accepted = call
        .headers
        .get("accept")
        .and_then(|value| value.to_str().ok());
    if accepted.is_some_and(|accepted| accepted.contains("github.sha")) {
        return Ok(Reply {
            status: 200,
            raw: Some(commit.id().to_string().into_bytes()),
            headers: vec![(
                "content-type",
                "application/vnd.github.sha; charset=utf-8".to_owned(),
            )],
            body: None,
        });
    }
    let parent = commit.parent_id(0).ok().map(|id| id.to_string());
    let sha = commit.id().to_string();
    let files = git::files(&git, parent.as_deref(), &sha, &places)?;
    let sum = |name: &str| {
        files
            .iter()
            .filter_map(|file| file[name].as_u64())
            .sum::<u64>()
    };
    let mut shown = call.shared.commit(&state, &places, &commit);
    extend(
        &mut shown,
        json!({
            "stats": {
                "additions": sum("additions"), "deletions": sum("deletions"),
                "total": sum("changes"),
            },
        }),
    );
    shown["files"] = files.into();
    Ok(Reply::json(200, shown))
}

/// `BASE...HEAD`; a side may name the owner of a fork.
fn compare(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let repository = call.repository(&state, "contents", Level::Read)?;
    let full_name = state.full_name(&repository);
    let places = call.shared.places(&full_name);
    let git = call.shared.git(repository.id)?;
    let basehead = call.param("basehead");
    let (base, head) = basehead.split_once("...").ok_or_else(not_found)?;
    let side = |name: &str| -> Result<git2::Commit<'_>, Stop> {
        let Some((login, branch)) = name.split_once(':') else {
            return git::resolve(&git, name).ok_or_else(not_found);
        };
        let owner = state.account(login).ok_or_else(not_found)?.id;
        let mut all = state.repositories.values();
        let fork = all.find(|one| {
            one.owner == owner && (one.id == repository.id || one.parent == Some(repository.id))
        });
        let fork = fork.ok_or_else(not_found)?.id;
        let sha = git::branch(&call.shared.git(fork)?, branch).ok_or_else(not_found)?;
        // A repository and its forks share their objects on GitHub.
        let kept = format!("refs/network/{fork}");
        call.shared.git_import(fork, repository.id, &sha, &kept)?;
        Ok(git.find_commit(sha.parse()?)?)
    };
    let (base, head) = (side(base)?, side(head)?);
    let merge_base = git.merge_base(base.id(), head.id());
    let merge_base = merge_base.map_err(|_| {
        refused(
            404,
            &format!(
                "No common ancestor between {} and {}.",
                base.id(),
                head.id()
            ),
        )
    })?;
    let (ahead, behind) = git.graph_ahead_behind(head.id(), base.id())?;
    let status = match (ahead, behind) {
        (0, 0) => "identical",
        (_, 0) => "ahead",
        (0, _) => "behind",
        _ => "diverged",
    };
    let mut commits = Vec::new();
    for sha in git::between(&git, Some(&base.id().to_string()), &head.id().to_string())? {
        commits.push(
            call.shared
                .commit(&state, &places, &git.find_commit(sha.parse()?)?),
        );
    }
    // At most 300 files, all on the first page.
    let mut files = git::files(
        &git,
        Some(&merge_base.to_string()),
        &head.id().to_string(),
        &places,
    )?;
    files.truncate(300);
    let total = commits.len();
    let (commits, headers) = call.page(commits);
    let page = format!("{}/compare/{basehead}", places.page);
    let mut reply = Reply::json(
        200,
        json!({
            "url": format!("{}/compare/{basehead}", places.api),
            "html_url": page,
            "permalink_url": format!("{}/compare/{}...{}", places.page, base.id(), head.id()),
            "diff_url": format!("{page}.diff"),
            "patch_url": format!("{page}.patch"),
            "base_commit": call.shared.commit(&state, &places, &base),
            "merge_base_commit":
                call.shared.commit(&state, &places, &git.find_commit(merge_base)?),
            "status": status,
            "ahead_by": ahead,
            "behind_by": behind,
            "total_commits": total,
            "commits": commits,
            "files": files,
        }),
    );
    reply.headers = headers;
    Ok(reply)
}

/// What a person may do: it says who is a member that may approve.
fn permission(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let repository = call.repository(&state, "metadata", Level::Read)?;
    let login = call.param("username");
    let person = state.account(login);
    let person = person.ok_or_else(|| refused(404, &format!("{login} is not a user")))?;
    let (permission, role) = match association(&state, &repository, person.id) {
        "OWNER" => ("admin", "admin"),
        "MEMBER" | "COLLABORATOR" => ("write", "write"),
        _ if repository.private => ("none", ""),
        _ => ("read", "read"),
    };
    let mut user = call.shared.user(person);
    user["permissions"] = rights(permission != "read", permission == "admin");
    user["role_name"] = role.into();
    let body = json!({ "permission": permission, "role_name": role, "user": user });
    Ok(Reply::json(200, body))
}

/// A new repository with the files of a template, in one commit.
fn generate(call: &Call<'_>) -> Result<Reply, Stop> {
    let (owner, name) = (call.param("template_owner"), call.param("template_repo"));
    let (template, owner) = {
        let state = call.shared.state();
        let template = state.repository(owner, name).cloned();
        let template = template.filter(|one| one.template).ok_or_else(not_found)?;
        let asked = call.text("owner");
        let owner = match (&call.who, asked) {
            (_, Some(login)) => state.account(&login).ok_or_else(not_found)?.id,
            (Who::User { user, .. }, None) => *user,
            _ => return Err(not_accessible()),
        };
        let may = |one: &&crate::github::state::Installation| {
            let level = one.permissions.get("administration");
            one.account == owner && level.is_some_and(|level| level == "write")
        };
        if !state.installations.values().any(|one| may(&one)) {
            return Err(not_accessible());
        }
        (template, owner)
    };
    let name = call.text("name").unwrap_or_default();
    if name.is_empty() {
        return Err(invalid("Repository", "name", "missing_field"));
    }
    let private = call.member("private").as_bool().unwrap_or(false);
    let id = super::users::new_repository(call, owner, &name, private)?;
    call.shared.copy_tree(template.id, id)?;
    let state = call.shared.state();
    Ok(Reply::json(
        201,
        shown(call, &state, &state.repositories[&id]),
    ))
}
