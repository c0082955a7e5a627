//! Pull requests and their reviews.

use serde_json::{Value, json};

use super::{Call, Handler, Reply, Stop};
use crate::github::call::{Level, not_found};
use crate::github::git;
use crate::github::state::{Pull, Repository, State};
use crate::github::views::{association, node_id, time};

pub(super) const ROUTES: &[(&str, &str, Handler)] = &[
    ("GET", "/repos/{owner}/{repo}/pulls", list),
    ("GET", "/repos/{owner}/{repo}/pulls/{pull_number}", one),
    (
        "GET",
        "/repos/{owner}/{repo}/pulls/{pull_number}/files",
        files,
    ),
    (
        "GET",
        "/repos/{owner}/{repo}/pulls/{pull_number}/reviews",
        reviews,
    ),
];

/// Newest first.
fn list(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let repository = call.repository(&state, "pull_requests", Level::Read)?;
    let wanted = call.query("state").unwrap_or("open");
    let head = call.query("head");
    let base = call.query("base");
    let shown = repository
        .pulls
        .values()
        .rev()
        .filter(|one| wanted == "all" || one.open == (wanted == "open"))
        .filter(|one| base.is_none_or(|base| one.base_branch == base))
        .map(|one| call.shared.pull(&state, &repository, one))
        .filter(|shown| head.is_none_or(|head| shown["head"]["label"] == head))
        .collect();
    Ok(call.list(shown))
}

fn find<'r>(call: &Call<'_>, repository: &'r Repository) -> Result<&'r Pull, Stop> {
    let number = call.number("pull_number")?;
    repository.pulls.get(&number).ok_or_else(not_found)
}

fn one(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let repository = call.repository(&state, "pull_requests", Level::Read)?;
    let pull = find(call, &repository)?;
    Ok(Reply::json(
        200,
        call.shared.full_pull(&state, &repository, pull)?,
    ))
}

fn files(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let repository = call.repository(&state, "pull_requests", Level::Read)?;
    let pull = find(call, &repository)?;
    let places = call.shared.places(&state.full_name(&repository));
    let git = call.shared.git(repository.id)?;
    let from = git.merge_base(pull.base_sha.parse()?, pull.head_sha.parse()?)?;
    let files = git::files(&git, Some(&from.to_string()), &pull.head_sha, &places)?;
    Ok(call.list(files))
}

fn reviews(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let repository = call.repository(&state, "pull_requests", Level::Read)?;
    let pull = find(call, &repository)?;
    let shown = pull
        .reviews
        .iter()
        .map(|one| review(call.shared, &state, &repository, pull, one))
        .collect();
    Ok(call.list(shown))
}

/// A review (`pull-request-review`).
pub(crate) fn review(
    shared: &crate::github::Shared,
    state: &State,
    repository: &Repository,
    pull: &Pull,
    one: &crate::github::state::Review,
) -> Value {
    let places = shared.places(&state.full_name(repository));
    let url = format!("{}/pulls/{}", places.api, pull.number);
    let page = format!(
        "{}/pull/{}#pullrequestreview-{}",
        places.page, pull.number, one.id
    );
    json!({
        "id": one.id,
        "node_id": node_id("PullRequestReview", one.id),
        "user": shared.user(&state.accounts[&one.user]),
        "body": "",
        "state": "APPROVED",
        "html_url": page,
        "pull_request_url": url,
        "_links": { "html": { "href": page }, "pull_request": { "href": url } },
        "submitted_at": time(one.at),
        "commit_id": one.sha,
        "author_association": association(state, repository, one.user),
    })
}
