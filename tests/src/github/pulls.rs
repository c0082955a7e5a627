//! What people do with pull requests and checks.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::api;
use super::events::Moved;
use super::git;
use super::repo::Repo;
use super::state::{self, Comment, Merged, Pull, Review, State};
use super::views::{self, extend};
use super::{Github, Shared};

impl Repo {
    /// Opens a pull request from a branch of its own. Gives its number.
    pub fn open_pull(&self, head: &str, base: &str, title: &str) -> Result<u64> {
        self.open_pull_from(self, head, base, title)
    }

    /// Opens a pull request from a branch of a fork.
    pub fn open_pull_from(&self, fork: &Self, head: &str, base: &str, title: &str) -> Result<u64> {
        let (head_sha, base_sha) = (fork.head(head)?, self.head(base)?);
        let mut state = self.shared.state();
        let author = Shared::writer(&state, &state.repositories[&fork.id()]);
        let one = &state.repositories[&self.id()];
        let number = one.pulls.keys().last().copied().unwrap_or_default() + 1;
        let now = state::now();
        let pull = Pull {
            id: state.id(),
            number,
            title: title.to_owned(),
            author,
            head_repository: fork.id(),
            head_branch: head.to_owned(),
            head_sha,
            base_branch: base.to_owned(),
            base_sha,
            open: true,
            draft: false,
            merged: None,
            created_at: now,
            updated_at: now,
            closed_at: None,
            reviews: Vec::new(),
        };
        self.shared.import_pull(self.id(), &pull)?;
        let one = state
            .repositories
            .get_mut(&self.id())
            .context("it is deleted")?;
        one.pulls.insert(number, pull);
        let opened = json!({ "action": "opened" });
        self.shared
            .tell_pull(&mut state, self.id(), number, author, opened)?;
        Ok(number)
    }

    /// Closes a pull request without merging it.
    pub fn close_pull(&self, number: u64) -> Result<()> {
        let mut state = self.shared.state();
        let sender = Shared::writer(&state, &state.repositories[&self.id()]);
        self.shared
            .close_pull(&mut state, self.id(), number, sender, None)
    }

    /// Opens a closed pull request again.
    pub fn reopen_pull(&self, number: u64) -> Result<()> {
        let mut state = self.shared.state();
        let sender = Shared::writer(&state, &state.repositories[&self.id()]);
        let pull = state.pull(self.id(), number)?;
        ensure!(!pull.open && pull.merged.is_none(), "it cannot be reopened");
        pull.open = true;
        pull.closed_at = None;
        pull.updated_at = state::now();
        let reopened = json!({ "action": "reopened" });
        self.shared
            .tell_pull(&mut state, self.id(), number, sender, reopened)
    }

    /// Merges a pull request with a merge commit, and gives that.
    pub fn merge_pull(&self, number: u64) -> Result<String> {
        let mut state = self.shared.state();
        let by = Shared::writer(&state, &state.repositories[&self.id()]);
        let login = state.accounts[&by].login.clone();
        let pull = state.pull(self.id(), number)?.clone();
        ensure!(pull.open, "it is closed");
        let git = self.shared.git(self.id())?;
        let base = git::branch(&git, &pull.base_branch).context("its base is gone")?;
        let message = format!(
            "Merge pull request #{number} from {}\n\n{}",
            pull.head_branch, pull.title
        );
        let sha = git::merge(&git, &base, &pull.head_sha, &message, &login)?;
        let sha = sha.context("it has conflicts")?;
        let moved = Moved {
            branch: &pull.base_branch,
            before: &base,
            after: &sha,
            forced: false,
            by,
        };
        let merged = Merged {
            sha: sha.clone(),
            by,
            at: state::now(),
        };
        self.shared
            .close_pull(&mut state, self.id(), number, by, Some(merged))?;
        self.shared.branch_moved(&mut state, self.id(), &moved)?;
        Ok(sha)
    }

    /// Somebody approves a pull request as it is now.
    pub fn approve(&self, number: u64, login: &str) -> Result<()> {
        let mut state = self.shared.state();
        let user = state.account(login).context("no such person")?.id;
        let id = state.id();
        let pull = state.pull(self.id(), number)?;
        let review = Review {
            id,
            user,
            sha: pull.head_sha.clone(),
            at: state::now(),
        };
        pull.reviews.push(review.clone());
        let one = &state.repositories[&self.id()];
        let pull = &one.pulls[&number];
        let mut shown = api::review(&self.shared, &state, one, pull, &review);
        shown["state"] = "approved".into();
        let payload = json!({
            "action": "submitted",
            "review": shown,
            "pull_request": self.shared.pull(&state, one, pull),
        });
        self.shared
            .tell(&mut state, self.id(), user, "pull_request_review", &payload);
        Ok(())
    }

    /// Somebody comments on a pull request. Gives the comment's number.
    pub fn comment(&self, number: u64, login: &str, body: &str) -> Result<u64> {
        let mut state = self.shared.state();
        let user = state.account(login).context("no such person")?.id;
        let now = state::now();
        let comment = Comment {
            id: state.id(),
            repository: self.id(),
            number,
            user,
            app: None,
            body: body.to_owned(),
            edits: 0,
            created_at: now,
            updated_at: now,
        };
        let id = comment.id;
        state.comments.insert(id, comment);
        let payload = self.shared.comment_payload(&state, self.id(), number, id);
        self.shared
            .tell(&mut state, self.id(), user, "issue_comment", &payload);
        Ok(id)
    }

    /// Its pull requests as they are.
    pub fn pulls(&self) -> Vec<Pull> {
        let state = self.shared.state();
        state.repositories[&self.id()]
            .pulls
            .values()
            .cloned()
            .collect()
    }
}

impl Github {
    /// Somebody presses "Re-run" beside a check; only its App hears of it.
    pub fn rerequest_check(&self, check_run: u64) -> Result<()> {
        let mut state = self.shared.state();
        let check = state
            .checks
            .get(&check_run)
            .context("no such check")?
            .clone();
        let repository = &state.repositories[&check.repository];
        let sender = Shared::writer(&state, repository);
        let watching = state.watching(repository);
        let own = watching
            .into_iter()
            .find(|id| state.installations[id].app == check.app)
            .context("its App is not installed any more")?;
        let mut shown = api::show_check(&self.shared, &state, &check);
        let at = shown["completed_at"].clone();
        let places = self.shared.places(&state.full_name(repository));
        let branch = repository
            .pulls
            .values()
            .find(|one| one.head_sha == check.head_sha);
        shown["check_suite"] = json!({
            "id": check.suite,
            "node_id": views::node_id("CheckSuite", check.suite),
            "head_branch": branch.map_or(&repository.default_branch, |one| &one.head_branch),
            "head_sha": check.head_sha,
            "status": "completed",
            "conclusion": check.conclusion,
            "url": format!("{}/check-suites/{}", places.api, check.suite),
            "before": null,
            "after": check.head_sha,
            "pull_requests": [],
            "app": shown["app"],
            "created_at": at,
            "updated_at": at,
        });
        let payload = json!({ "action": "rerequested", "check_run": shown });
        let id = check.repository;
        self.shared
            .tell_these(&mut state, &[own], id, sender, "check_run", &payload);
        Ok(())
    }

    /// Somebody presses "Re-run all checks" for a commit on a branch.
    pub fn rerequest_suite(&self, repo: &Repo, branch: &str) -> Result<()> {
        let head = repo.head(branch)?;
        let mut state = self.shared.state();
        let by = Shared::writer(&state, &state.repositories[&repo.id()]);
        let moved = Moved {
            branch,
            before: &head,
            after: &head,
            forced: false,
            by,
        };
        self.shared
            .tell_suite(&mut state, repo.id(), &moved, "rerequested")
    }
}

impl State {
    /// A pull request, to change it.
    fn pull(&mut self, repository: u64, number: u64) -> Result<&mut Pull> {
        let repository = self
            .repositories
            .get_mut(&repository)
            .context("it is deleted")?;
        repository
            .pulls
            .get_mut(&number)
            .context("no such pull request")
    }
}

impl Shared {
    /// Names a pull request's commits in its base: `refs/pull/N/head`, and `/merge` where there are no
    /// conflicts.
    fn import_pull(&self, repository: u64, pull: &Pull) -> Result<()> {
        let head = format!("refs/pull/{}/head", pull.number);
        self.git_import(pull.head_repository, repository, &pull.head_sha, &head)?;
        let git = self.git(repository)?;
        let name = format!("refs/pull/{}/merge", pull.number);
        let message = format!("Merge {} into {}", pull.head_sha, pull.base_sha);
        match git::merge(&git, &pull.base_sha, &pull.head_sha, &message, "web-flow")? {
            Some(sha) => drop(git.reference(&name, sha.parse()?, true, "")?),
            None => {
                if let Ok(mut stale) = git.find_reference(&name) {
                    stale.delete()?;
                }
            }
        }
        Ok(())
    }

    fn close_pull(
        &self,
        state: &mut State,
        repository: u64,
        number: u64,
        sender: u64,
        merged: Option<Merged>,
    ) -> Result<()> {
        let pull = state.pull(repository, number)?;
        ensure!(pull.open, "it is closed already");
        let now = state::now();
        pull.open = false;
        pull.merged = merged;
        pull.closed_at = Some(now);
        pull.updated_at = now;
        let closed = json!({ "action": "closed" });
        self.tell_pull(state, repository, number, sender, closed)
    }

    /// Open pull requests go with their branches.
    pub(super) fn pulls_follow(&self, state: &mut State, id: u64, moved: &Moved<'_>) -> Result<()> {
        let deleted = moved.after == super::events::NO_COMMIT;
        let mut following = Vec::new();
        for repository in state.repositories.values() {
            for pull in repository.pulls.values().filter(|one| one.open) {
                let head = pull.head_repository == id && pull.head_branch == moved.branch;
                let base = repository.id == id && pull.base_branch == moved.branch;
                if head || (base && deleted) {
                    following.push((repository.id, pull.number));
                }
            }
        }
        for (repository, number) in following {
            if deleted {
                self.close_pull(state, repository, number, moved.by, None)?;
                continue;
            }
            let git = self.git(repository)?;
            let pull = state.pull(repository, number)?;
            moved.after.clone_into(&mut pull.head_sha);
            if let Some(base) = git::branch(&git, &pull.base_branch) {
                pull.base_sha = base;
            }
            pull.updated_at = state::now();
            let pull = pull.clone();
            self.import_pull(repository, &pull)?;
            let more = json!({
                "action": "synchronize", "before": moved.before, "after": moved.after,
            });
            self.tell_pull(state, repository, number, moved.by, more)?;
        }
        Ok(())
    }

    fn comment_payload(&self, state: &State, repository: u64, number: u64, id: u64) -> Value {
        let one = &state.repositories[&repository];
        let pull = self.pull(state, one, &one.pulls[&number]);
        let api = self.places(&state.full_name(one)).api;
        let url = format!("{api}/issues/{number}");
        let reactions = |of: &str| {
            json!({
                "url": format!("{of}/reactions"), "total_count": 0, "+1": 0, "-1": 0, "laugh": 0,
                "hooray": 0, "confused": 0, "heart": 0, "rocket": 0, "eyes": 0,
            })
        };
        let mut comment = api::show_comment(self, state, &state.comments[&id]);
        comment["reactions"] = reactions(comment["url"].as_str().unwrap_or_default());
        let mut issue = json!({
            "url": url,
            "repository_url": api,
            "labels_url": format!("{url}/labels{{/name}}"),
            "comments_url": format!("{url}/comments"),
            "events_url": format!("{url}/events"),
            "pull_request": {},
            "comments": 1,
            "reactions": reactions(&url),
        });
        for name in [
            "html_url",
            "id",
            "node_id",
            "number",
            "title",
            "user",
            "assignee",
            "assignees",
            "milestone",
            "labels",
            "state",
            "locked",
            "created_at",
            "updated_at",
            "closed_at",
            "author_association",
            "active_lock_reason",
            "body",
            "draft",
        ] {
            issue[name] = pull[name].clone();
        }
        for name in ["url", "html_url", "diff_url", "patch_url", "merged_at"] {
            issue["pull_request"][name] = pull[name].clone();
        }
        let mut payload = json!({ "action": "created" });
        extend(&mut payload, json!({ "issue": issue, "comment": comment }));
        payload
    }
}
