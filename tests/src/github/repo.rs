//! A repository in the hands of a test: what people do with it.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::events::{Moved, NO_COMMIT};
use super::git::{self, Change};
use super::state::{self, Check, Comment, Deployment, Repositories, State, Status};
use super::{Github, Shared};

/// A repository; it may be renamed and moved, and this still is it.
#[derive(Debug, Clone)]
pub struct Repo {
    pub(super) shared: Arc<Shared>,
    id: u64,
}

impl Repo {
    pub(super) fn new(shared: &Arc<Shared>, id: u64) -> Self {
        Self {
            shared: Arc::clone(shared),
            id,
        }
    }

    /// Its number, which stays.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// `owner/name`.
    pub fn full_name(&self) -> String {
        let state = self.shared.state();
        state.full_name(&state.repositories[&self.id])
    }

    /// Where Git fetches it.
    pub fn clone_url(&self) -> String {
        format!("{}/{}.git", self.shared.url, self.full_name())
    }

    /// The commit of a branch.
    pub fn head(&self, branch: &str) -> Result<String> {
        let git = self.shared.git(self.id)?;
        git::branch(&git, branch).with_context(|| format!("no branch {branch}"))
    }

    /// Adds or replaces files in one commit on a branch, which is made from the default branch where
    /// it is new. Gives the commit.
    pub fn push(&self, branch: &str, files: &[(&str, &str)], message: &str) -> Result<String> {
        let changes: Vec<Change<'_>> = files
            .iter()
            .map(|(path, text)| Change::Write(path, text.as_bytes()))
            .collect();
        self.push_changes(branch, &changes, message)
    }

    /// The same with bytes, and with files that go away.
    pub fn push_changes(
        &self,
        branch: &str,
        changes: &[Change<'_>],
        message: &str,
    ) -> Result<String> {
        let git = self.shared.git(self.id)?;
        let default = self.shared.state().repositories[&self.id]
            .default_branch
            .clone();
        let before = git::branch(&git, branch);
        let parent = before.clone().or_else(|| git::branch(&git, &default));
        let sha = self.commit(parent.as_deref(), changes, message)?;
        self.move_branch(branch, before.as_deref(), Some(&sha), false)?;
        Ok(sha)
    }

    /// Replaces the last commit of a branch by another with these changes to the one before it.
    pub fn force_push(
        &self,
        branch: &str,
        files: &[(&str, &str)],
        message: &str,
    ) -> Result<String> {
        let git = self.shared.git(self.id)?;
        let before = self.head(branch)?;
        let parent = git.find_commit(before.parse()?)?.parent_id(0).ok();
        let parent = parent.map(|id| id.to_string());
        let changes: Vec<Change<'_>> = files
            .iter()
            .map(|(path, text)| Change::Write(path, text.as_bytes()))
            .collect();
        let sha = self.commit(parent.as_deref(), &changes, message)?;
        self.move_branch(branch, Some(&before), Some(&sha), true)?;
        Ok(sha)
    }

    /// Sets a branch to a commit that exists: back, forward, or anew.
    pub fn set_branch(&self, branch: &str, sha: &str) -> Result<()> {
        let git = self.shared.git(self.id)?;
        let before = git::branch(&git, branch);
        let forced = match &before {
            Some(before) => !git.graph_descendant_of(sha.parse()?, before.parse()?)?,
            None => false,
        };
        self.move_branch(branch, before.as_deref(), Some(sha), forced)
    }

    /// Deletes a branch; its pull requests are closed.
    pub fn delete_branch(&self, branch: &str) -> Result<()> {
        let before = self.head(branch)?;
        self.move_branch(branch, Some(&before), None, false)
    }

    fn commit(
        &self,
        parent: Option<&str>,
        changes: &[Change<'_>],
        message: &str,
    ) -> Result<String> {
        let git = self.shared.git(self.id)?;
        let login = {
            let state = self.shared.state();
            let by = Shared::writer(&state, &state.repositories[&self.id]);
            state.accounts[&by].login.clone()
        };
        let parents: Vec<&str> = parent.into_iter().collect();
        git::commit(&git, &parents, changes, message, &login)
    }

    fn move_branch(
        &self,
        branch: &str,
        before: Option<&str>,
        after: Option<&str>,
        forced: bool,
    ) -> Result<()> {
        let mut state = self.shared.state();
        let by = Shared::writer(&state, &state.repositories[&self.id]);
        let moved = Moved {
            branch,
            before: before.unwrap_or(NO_COMMIT),
            after: after.unwrap_or(NO_COMMIT),
            forced,
            by,
        };
        self.shared.branch_moved(&mut state, self.id, &moved)
    }

    /// A copy for somebody else, whose pull requests come from outside.
    pub fn fork(&self, login: &str) -> Result<Self> {
        let mut state = self.shared.state();
        let owner = state.account(login).context("no such person")?.id;
        let id = state.id();
        self.shared.git_fork(self.id, id)?;
        let mut copy = state.repositories[&self.id].clone();
        copy.id = id;
        copy.owner = owner;
        copy.parent = Some(self.id);
        copy.pulls.clear();
        copy.collaborators.clear();
        copy.created_at = state::now();
        state.repositories.insert(id, copy);
        self.shared.announce(&mut state, id);
        Ok(Self::new(&self.shared, id))
    }

    /// Somebody may push besides the owner.
    pub fn add_collaborator(&self, login: &str) -> Result<()> {
        let mut state = self.shared.state();
        let person = state.account(login).context("no such person")?.id;
        let one = state
            .repositories
            .get_mut(&self.id)
            .context("it is deleted")?;
        one.collaborators.insert(person);
        Ok(())
    }

    /// Others may start from its files.
    pub fn make_template(&self) -> Result<()> {
        let mut state = self.shared.state();
        state
            .repositories
            .get_mut(&self.id)
            .context("it is deleted")?
            .template = true;
        Ok(())
    }

    /// Gives it another name; the former one leads to it.
    pub fn rename(&self, name: &str) -> Result<()> {
        let mut state = self.shared.state();
        let one = state
            .repositories
            .get(&self.id)
            .context("it is deleted")?
            .clone();
        let sender = Shared::writer(&state, &one);
        let former = state.full_name(&one).to_lowercase();
        state.moved.insert(former, self.id);
        if let Some(kept) = state.repositories.get_mut(&self.id) {
            name.clone_into(&mut kept.name);
        }
        let payload = json!({
            "action": "renamed",
            "changes": { "repository": { "name": { "from": one.name } } },
        });
        self.shared
            .tell(&mut state, self.id, sender, "repository", &payload);
        Ok(())
    }

    /// Gives it to another account. Only installations there hear `transferred`; those of the former
    /// owner lose it (GitHub's documentation, "repository").
    pub fn transfer(&self, login: &str) -> Result<()> {
        let mut state = self.shared.state();
        let to = state.account(login).context("no such account")?.id;
        let one = state
            .repositories
            .get(&self.id)
            .context("it is deleted")?
            .clone();
        let sender = Shared::writer(&state, &one);
        let former = state.full_name(&one).to_lowercase();
        let losing = state.watching(&one);
        for id in losing {
            self.shared
                .tell_repositories(&mut state, id, "removed", &[self.id], sender);
            state.forget_repository(id, self.id);
        }
        state.moved.insert(former, self.id);
        if let Some(kept) = state.repositories.get_mut(&self.id) {
            kept.owner = to;
        }
        let from = self.shared.user(&state.accounts[&one.owner]);
        let payload = json!({
            "action": "transferred",
            "changes": { "owner": { "from": { "user": from } } },
        });
        self.shared
            .tell(&mut state, self.id, sender, "repository", &payload);
        Ok(())
    }

    /// Deletes it.
    pub fn delete(&self) -> Result<()> {
        let mut state = self.shared.state();
        let one = state
            .repositories
            .get(&self.id)
            .context("it is deleted")?
            .clone();
        let sender = Shared::writer(&state, &one);
        let losing = state.watching(&one);
        let payload = json!({ "action": "deleted" });
        self.shared
            .tell(&mut state, self.id, sender, "repository", &payload);
        for id in losing {
            self.shared
                .tell_repositories(&mut state, id, "removed", &[self.id], sender);
            state.forget_repository(id, self.id);
        }
        let id = self.id;
        state.repositories.remove(&id);
        state.moved.retain(|_, moved| *moved != id);
        state.checks.retain(|_, check| check.repository != id);
        state.suites.retain(|_, suite| suite.0 != id);
        state
            .deployments
            .retain(|_, deployment| deployment.repository != id);
        state.comments.retain(|_, comment| comment.repository != id);
        state.statuses.retain(|status| status.repository != id);
        drop(state);
        std::fs::remove_dir_all(self.shared.git_path(id))?;
        Ok(())
    }

    /// Its check runs, oldest first.
    pub fn checks(&self) -> Vec<Check> {
        let state = self.shared.state();
        let all = state.checks.values();
        all.filter(|one| one.repository == self.id)
            .cloned()
            .collect()
    }

    /// Its commit statuses, oldest first.
    pub fn statuses(&self) -> Vec<Status> {
        let state = self.shared.state();
        let all = state.statuses.iter();
        all.filter(|one| one.repository == self.id)
            .cloned()
            .collect()
    }

    /// Its deployments, oldest first.
    pub fn deployments(&self) -> Vec<Deployment> {
        let state = self.shared.state();
        let all = state.deployments.values();
        all.filter(|one| one.repository == self.id)
            .cloned()
            .collect()
    }

    /// The comments on a pull request, oldest first.
    pub fn comments(&self, number: u64) -> Vec<Comment> {
        let state = self.shared.state();
        let all = state.comments.values();
        all.filter(|one| (one.repository, one.number) == (self.id, number))
            .cloned()
            .collect()
    }
}

impl Github {
    /// A repository by its present name.
    pub fn find(&self, full_name: &str) -> Result<Repo> {
        let (owner, name) = full_name.split_once('/').context("owner/name")?;
        let state = self.shared.state();
        let found = state
            .repository(owner, name)
            .context("no such repository")?;
        Ok(Repo::new(&self.shared, found.id))
    }
}

impl State {
    /// An installation that was given a repository has it no more.
    pub fn forget_repository(&mut self, installation: u64, repository: u64) {
        if let Some(one) = self.installations.get_mut(&installation)
            && let Repositories::Selected(these) = &mut one.repositories
        {
            these.remove(&repository);
        }
    }
}
