//! Comments on pull requests.

use serde_json::{Value, json};

use super::{Call, Handler, Reply, Stop, Who};
use crate::github::Shared;
use crate::github::call::{Level, invalid, not_accessible, not_found};
use crate::github::state::{self, Comment, Repository, State};
use crate::github::views::{association, node_id, time};

pub(super) const ROUTES: &[(&str, &str, Handler)] = &[
    (
        "GET",
        "/repos/{owner}/{repo}/issues/{issue_number}/comments",
        comments,
    ),
    (
        "POST",
        "/repos/{owner}/{repo}/issues/{issue_number}/comments",
        create_comment,
    ),
    (
        "GET",
        "/repos/{owner}/{repo}/issues/comments/{comment_id}",
        comment,
    ),
    (
        "PATCH",
        "/repos/{owner}/{repo}/issues/comments/{comment_id}",
        edit_comment,
    ),
    (
        "DELETE",
        "/repos/{owner}/{repo}/issues/comments/{comment_id}",
        delete_comment,
    ),
];

/// The longest comment, in characters.
const COMMENT: usize = 65_536;

/// Who writes: the account that is shown, and the App behind it.
pub(super) fn writer(call: &Call<'_>, state: &State) -> Result<(u64, Option<u64>), Stop> {
    match &call.who {
        Who::Installation { id, .. } => {
            let app = &state.apps[&state.installations[id].app];
            Ok((app.bot, Some(app.id)))
        }
        Who::User { user, app } => Ok((*user, Some(*app))),
        _ => Err(not_accessible()),
    }
}

/// Pull requests are issues here; either permission will do, and which is asked for does not matter.
fn commented(call: &Call<'_>, state: &State, level: Level) -> Result<Repository, Stop> {
    call.repository(state, "pull_requests", level)
        .or_else(|_| call.repository(state, "issues", level))
}

/// A comment (`issue-comment`).
pub(crate) fn show(shared: &Shared, state: &State, one: &Comment) -> Value {
    let repository = &state.repositories[&one.repository];
    let places = shared.places(&state.full_name(repository));
    json!({
        "id": one.id,
        "node_id": node_id("IssueComment", one.id),
        "url": format!("{}/issues/comments/{}", places.api, one.id),
        "html_url": format!("{}/pull/{}#issuecomment-{}", places.page, one.number, one.id),
        "issue_url": format!("{}/issues/{}", places.api, one.number),
        "body": one.body,
        "user": shared.user(&state.accounts[&one.user]),
        "created_at": time(one.created_at),
        "updated_at": time(one.updated_at),
        "author_association": association(state, repository, one.user),
        "performed_via_github_app": one.app.map(|app| shared.app(state, &state.apps[&app])),
    })
}

/// Oldest first.
fn comments(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let repository = commented(call, &state, Level::Read)?;
    let number = call.number("issue_number")?;
    if !repository.pulls.contains_key(&number) {
        return Err(not_found());
    }
    let shown = state
        .comments
        .values()
        .filter(|one| (one.repository, one.number) == (repository.id, number))
        .map(|one| show(call.shared, &state, one))
        .collect();
    Ok(call.list(shown))
}

fn body(call: &Call<'_>) -> Result<String, Stop> {
    let body = call.text("body").unwrap_or_default();
    match body.chars().count() {
        0 => Err(invalid("IssueComment", "body", "missing_field")),
        1..=COMMENT => Ok(body),
        _ => Err(invalid("IssueComment", "body", "custom")),
    }
}

fn create_comment(call: &Call<'_>) -> Result<Reply, Stop> {
    let mut state = call.shared.state();
    let repository = commented(call, &state, Level::Write)?;
    let (user, app) = writer(call, &state)?;
    let number = call.number("issue_number")?;
    if !repository.pulls.contains_key(&number) {
        return Err(not_found());
    }
    let now = state::now();
    let comment = Comment {
        id: state.id(),
        repository: repository.id,
        number,
        user,
        app,
        body: body(call)?,
        edits: 0,
        created_at: now,
        updated_at: now,
    };
    let shown = show(call.shared, &state, &comment);
    state.comments.insert(comment.id, comment);
    Ok(Reply::json(201, shown))
}

fn found(call: &Call<'_>, state: &State, level: Level) -> Result<Comment, Stop> {
    let repository = commented(call, state, level)?;
    let found = state.comments.get(&call.number("comment_id")?).cloned();
    found
        .filter(|one| one.repository == repository.id)
        .ok_or_else(not_found)
}

fn comment(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let comment = found(call, &state, Level::Read)?;
    Ok(Reply::json(200, show(call.shared, &state, &comment)))
}

/// An App edits its own comments; others need a member's rights, which no App has here.
fn own(call: &Call<'_>, state: &State) -> Result<Comment, Stop> {
    let comment = found(call, state, Level::Write)?;
    match writer(call, state)? {
        (user, _) if user == comment.user => Ok(comment),
        _ => Err(not_accessible()),
    }
}

fn edit_comment(call: &Call<'_>) -> Result<Reply, Stop> {
    let mut state = call.shared.state();
    let mut comment = own(call, &state)?;
    comment.body = body(call)?;
    comment.edits += 1;
    comment.updated_at = state::now();
    let shown = show(call.shared, &state, &comment);
    state.comments.insert(comment.id, comment);
    Ok(Reply::json(200, shown))
}

fn delete_comment(call: &Call<'_>) -> Result<Reply, Stop> {
    let mut state = call.shared.state();
    let comment = own(call, &state)?;
    state.comments.remove(&comment.id);
    Ok(Reply::nothing())
}
