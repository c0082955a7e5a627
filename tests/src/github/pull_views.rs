//! How GitHub shows pull requests.

use anyhow::Result;
use serde_json::{Value, json};

use super::Shared;
use super::state::{Pull, Repository, State};
use super::views::{association, extend, node_id, time};

impl Shared {
    /// A pull request in a list (`pull-request-simple`).
    pub(super) fn pull(&self, state: &State, base: &Repository, pull: &Pull) -> Value {
        let full_name = state.full_name(base);
        let url = format!("{}/pulls/{}", self.repository_url(&full_name), pull.number);
        let issue = format!("{}/issues/{}", self.repository_url(&full_name), pull.number);
        let page = format!("{}/{full_name}/pull/{}", self.url, pull.number);
        let statuses = format!(
            "{}/statuses/{}",
            self.repository_url(&full_name),
            pull.head_sha
        );
        let side = |repository: Option<&Repository>, branch: &str, sha: &str| {
            let owner = repository.map_or(pull.author, |one| one.owner);
            let owner = &state.accounts[&owner];
            json!({
                "label": format!("{}:{branch}", owner.login),
                "ref": branch,
                "sha": sha,
                "user": self.user(owner),
                "repo": repository.map(|one| self.repository(state, one)),
            })
        };
        let link = |href: &str| json!({ "href": href });
        let mut shown = json!({
            "url": url,
            "id": pull.id,
            "node_id": node_id("PullRequest", pull.id),
            "html_url": page,
            "diff_url": format!("{page}.diff"),
            "patch_url": format!("{page}.patch"),
            "issue_url": issue,
            "number": pull.number,
            "state": if pull.open { "open" } else { "closed" },
            "locked": false,
            "title": pull.title,
            "user": self.user(&state.accounts[&pull.author]),
            "body": null,
            "created_at": time(pull.created_at),
            "updated_at": time(pull.updated_at),
            "closed_at": pull.closed_at.map(time),
            "merged_at": pull.merged.as_ref().map(|merged| time(merged.at)),
            "merge_commit_sha": pull.merged.as_ref().map(|merged| &merged.sha),
        });
        extend(
            &mut shown,
            json!({
            "assignee": null,
            "assignees": [],
            "requested_reviewers": [],
            "requested_teams": [],
            "labels": [],
            "milestone": null,
            "draft": pull.draft,
            "commits_url": format!("{url}/commits"),
            "review_comments_url": format!("{url}/comments"),
            "review_comment_url":
                format!("{}/pulls/comments{{/number}}", self.repository_url(&full_name)),
            "comments_url": format!("{issue}/comments"),
            "statuses_url": statuses,
            "head": side(
                state.repositories.get(&pull.head_repository),
                &pull.head_branch,
                &pull.head_sha,
            ),
            "base": side(Some(base), &pull.base_branch, &pull.base_sha),
            "_links": {
                "self": link(&url),
                "html": link(&page),
                "issue": link(&issue),
                "comments": link(&format!("{issue}/comments")),
                "review_comments": link(&format!("{url}/comments")),
                "review_comment":
                    link(&format!("{}/pulls/comments{{/number}}", self.repository_url(&full_name))),
                "commits": link(&format!("{url}/commits")),
                "statuses": link(&statuses),
            },
            "author_association": association(state, base, pull.author),
            "auto_merge": null,
            "active_lock_reason": null,
            }),
        );
        shown
    }

    /// A pull request with what only its own page and webhooks show (`pull-request`).
    pub(super) fn full_pull(&self, state: &State, base: &Repository, pull: &Pull) -> Result<Value> {
        let mut shown = self.pull(state, base, pull);
        let git = self.git(base.id)?;
        let places = self.places(&state.full_name(base));
        let mergeable = !pull.open
            || git
                .refname_to_id(&format!("refs/pull/{}/merge", pull.number))
                .is_ok();
        let fork = git.merge_base(pull.base_sha.parse()?, pull.head_sha.parse()?)?;
        let files = super::git::files(&git, Some(&fork.to_string()), &pull.head_sha, &places)?;
        let sum = |name: &str| {
            files
                .iter()
                .filter_map(|file| file[name].as_u64())
                .sum::<u64>()
        };
        let comments = state
            .comments
            .values()
            .filter(|one| (one.repository, one.number) == (base.id, pull.number))
            .count();
        extend(
            &mut shown,
            json!({
                "merged": pull.merged.is_some(),
                "mergeable": pull.open.then_some(mergeable),
                "rebaseable": pull.open.then_some(mergeable),
                "mergeable_state": if !pull.open { "unknown" } else if mergeable { "clean" } else { "dirty" },
                "merged_by": pull.merged.as_ref().map(|one| self.user(&state.accounts[&one.by])),
                "comments": comments,
                "review_comments": 0,
                "maintainer_can_modify": false,
                "commits":
                    super::git::between(&git, Some(&pull.base_sha), &pull.head_sha)?.len(),
                "additions": sum("additions"),
                "deletions": sum("deletions"),
                "changed_files": files.len(),
            }),
        );
        Ok(shown)
    }
}
