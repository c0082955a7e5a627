//! Apps on accounts.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::repo::Repo;
use super::state::{self, Installation, Repositories, State};
use super::views::selection;
use super::{Github, Shared};

impl Github {
    /// Installs an App on an account without a browser: on these repositories, or on all.
    pub fn install(&self, app: u64, account: &str, on: Option<&[&Repo]>) -> Result<u64> {
        let account = self.account(account)?;
        let mut state = self.shared.state();
        let sender = state.person_of(account);
        let repositories = match on {
            None => Repositories::All,
            Some(some) => Repositories::Selected(some.iter().map(|one| one.id()).collect()),
        };
        self.shared
            .new_installation(&mut state, app, account, repositories, sender)
    }

    /// Every installation.
    pub fn installations(&self) -> Vec<Installation> {
        self.shared
            .state()
            .installations
            .values()
            .cloned()
            .collect()
    }

    /// The account takes the App away.
    pub fn uninstall(&self, installation: u64) {
        let mut state = self.shared.state();
        let account = state.installations[&installation].account;
        let sender = state.person_of(account);
        self.shared
            .remove_installation(&mut state, installation, sender);
    }

    /// The account suspends the App.
    pub fn suspend(&self, installation: u64) {
        self.set_suspended(installation, true);
    }

    /// The account lets the App work again.
    pub fn unsuspend(&self, installation: u64) {
        self.set_suspended(installation, false);
    }

    fn set_suspended(&self, id: u64, suspended: bool) {
        let mut state = self.shared.state();
        let account = state.installations[&id].account;
        let sender = state.person_of(account);
        let now = state::now();
        if let Some(one) = state.installations.get_mut(&id) {
            one.suspended = suspended.then_some((sender, now));
            one.updated_at = now;
        }
        let one = state.installations[&id].clone();
        let action = if suspended { "suspend" } else { "unsuspend" };
        self.shared
            .tell_installation(&mut state, &one, action, sender);
    }

    /// The account gives the App more repositories.
    pub fn add_repositories(&self, installation: u64, added: &[&Repo]) {
        self.change_repositories(installation, added, "added");
    }

    /// The account takes repositories away from the App.
    pub fn remove_repositories(&self, installation: u64, removed: &[&Repo]) {
        self.change_repositories(installation, removed, "removed");
    }

    fn change_repositories(&self, id: u64, changed: &[&Repo], action: &str) {
        let mut state = self.shared.state();
        let account = state.installations[&id].account;
        let sender = state.person_of(account);
        let ids: Vec<u64> = changed.iter().map(|one| one.id()).collect();
        let mut these = state.reached(id);
        match action {
            "added" => these.extend(&ids),
            _ => these.retain(|one| !ids.contains(one)),
        }
        if let Some(one) = state.installations.get_mut(&id) {
            one.repositories = Repositories::Selected(these);
            one.updated_at = state::now();
        }
        self.shared
            .tell_repositories(&mut state, id, action, &ids, sender);
    }
}

impl State {
    /// Somebody who acts for an account: the person, or the first member.
    pub fn person_of(&self, account: u64) -> u64 {
        let members = &self.accounts[&account].members;
        members.first().copied().unwrap_or(account)
    }

    /// The repositories that an installation reaches now.
    pub fn reached(&self, installation: u64) -> BTreeSet<u64> {
        let installation = &self.installations[&installation];
        let all = self.repositories.values();
        all.filter(|one| Self::reaches(installation, one))
            .map(|one| one.id)
            .collect()
    }
}

impl Shared {
    /// Installs an App.
    pub(super) fn new_installation(
        &self,
        state: &mut State,
        app: u64,
        account: u64,
        repositories: Repositories,
        sender: u64,
    ) -> Result<u64> {
        let id = state.id();
        let app = state.apps.get(&app).context("no such App")?;
        let now = state::now();
        let installation = Installation {
            id,
            app: app.id,
            account,
            repositories,
            permissions: app.permissions.clone(),
            events: app.events.clone(),
            suspended: None,
            created_at: now,
            updated_at: now,
        };
        state.installations.insert(id, installation.clone());
        self.tell_installation(state, &installation, "created", sender);
        Ok(id)
    }

    /// Takes an App away; its tokens are good no more.
    pub(super) fn remove_installation(&self, state: &mut State, id: u64, sender: u64) {
        let Some(installation) = state.installations.get(&id).cloned() else {
            return;
        };
        self.tell_installation(state, &installation, "deleted", sender);
        state.installations.remove(&id);
        state.tokens.retain(|_, token| token.installation != id);
    }

    /// `installation_repositories` with an action.
    pub(super) fn tell_repositories(
        &self,
        state: &mut State,
        id: u64,
        action: &str,
        changed: &[u64],
        sender: u64,
    ) {
        let installation = &state.installations[&id];
        let shown: Vec<Value> = changed
            .iter()
            .filter_map(|one| state.repositories.get(one))
            .map(|one| Self::short_repository(state, one))
            .collect();
        let (added, removed) = match action {
            "added" => (shown, Vec::new()),
            _ => (Vec::new(), shown),
        };
        let payload = json!({
            "action": action,
            "installation": self.installation(state, installation),
            "repository_selection": selection(&installation.repositories),
            "repositories_added": added,
            "repositories_removed": removed,
            "requester": null,
            "sender": self.user(&state.accounts[&sender]),
        });
        let app = installation.app;
        self.emit(
            state,
            app,
            (Some(id), None),
            "installation_repositories",
            payload,
        );
    }
}
