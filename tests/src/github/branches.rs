//! Branches move, and everybody hears of it.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::Shared;
use super::events::{Moved, NO_COMMIT};
use super::git::{self, Change};
use super::state::{self, State};

impl Shared {
    /// Who writes to a repository in tests: its owner, or the first member of that.
    pub(super) fn writer(state: &State, repository: &state::Repository) -> u64 {
        state.person_of(repository.owner)
    }

    /// Moves a branch and tells everybody.
    pub(super) fn branch_moved(&self, state: &mut State, id: u64, moved: &Moved<'_>) -> Result<()> {
        let git = self.git(id)?;
        let reference = format!("refs/heads/{}", moved.branch);
        let deleted = moved.after == NO_COMMIT;
        if deleted {
            git.find_reference(&reference)?.delete()?;
        } else {
            ensure!(
                git2::Reference::is_valid_name(&reference),
                "no branch can be called {}",
                moved.branch
            );
            git.reference(&reference, moved.after.parse()?, true, "")?;
        }
        if let Some(one) = state.repositories.get_mut(&id) {
            one.pushed_at = state::now();
        }
        let kind = match (moved.before == NO_COMMIT, deleted) {
            (true, _) => Some("create"),
            (_, true) => Some("delete"),
            _ => None,
        };
        if let Some(event) = kind {
            let mut payload = json!({
                "ref": moved.branch, "ref_type": "branch", "pusher_type": "user",
            });
            if event == "create" {
                payload["master_branch"] = state.repositories[&id].default_branch.clone().into();
                payload["description"] = Value::Null;
            }
            self.tell(state, id, moved.by, event, &payload);
        }
        let payload = self.push_payload(state, &git, &state.repositories[&id], moved)?;
        self.tell(state, id, moved.by, "push", &payload);
        if !deleted {
            self.tell_suite(state, id, moved, "requested")?;
        }
        self.pulls_follow(state, id, moved)
    }

    /// The first commit of a repository that GitHub is asked to begin.
    pub(super) fn begin(&self, id: u64, by: u64) -> Result<()> {
        let mut state = self.state();
        let repository = state.repositories[&id].clone();
        let login = state.accounts[&by].login.clone();
        let text = format!("# {}\n", repository.name);
        let changes = [Change::Write("README.md", text.as_bytes())];
        let sha = git::commit(&self.git(id)?, &[], &changes, "Initial commit", &login)?;
        let moved = Moved {
            branch: &repository.default_branch,
            before: NO_COMMIT,
            after: &sha,
            forced: false,
            by,
        };
        self.branch_moved(&mut state, id, &moved)
    }

    /// A new repository with the files of another's default branch.
    pub(super) fn copy_tree(&self, from: u64, to: u64) -> Result<()> {
        let mut state = self.state();
        let branch = state.repositories[&from].default_branch.clone();
        let source = self.git(from)?;
        let head = git::branch(&source, &branch).context("the template is empty")?;
        let mut files = Vec::new();
        let tree = source.find_commit(head.parse()?)?.tree()?;
        tree.walk(git2::TreeWalkMode::PreOrder, |below, entry| {
            if let Ok(blob) = entry
                .to_object(&source)
                .and_then(|object| object.peel_to_blob())
            {
                let name = String::from_utf8_lossy(entry.name_bytes());
                files.push((format!("{below}{name}"), blob.content().to_vec()));
            }
            git2::TreeWalkResult::Ok
        })?;
        let by = Self::writer(&state, &state.repositories[&to]);
        let changes: Vec<Change<'_>> = files
            .iter()
            .map(|(path, content)| Change::Write(path, content))
            .collect();
        let login = state.accounts[&by].login.clone();
        let sha = git::commit(&self.git(to)?, &[], &changes, "Initial commit", &login)?;
        let moved = Moved {
            branch: &branch,
            before: NO_COMMIT,
            after: &sha,
            forced: false,
            by,
        };
        self.branch_moved(&mut state, to, &moved)
    }
}
