//! Installing Apps (GitHub's documentation, "Installing a GitHub App from a third party" and "About the
//! setup URL").

use anyhow::{Context as _, Result};
use axum::body::Body;
use axum::http::Response;
use url::form_urlencoded;

use super::{Visit, field, html, redirect, with};
use crate::github::state::{self, Account, App, Repositories, State};
use crate::github::{Shared, pages};

impl Visit<'_> {
    /// The App of an address, if this person may see it.
    pub(super) fn app(state: &State, slug: &str, person: &Account) -> Option<App> {
        let app = state.apps.values().find(|app| app.slug == slug)?;
        let sees = app.public || state.administers(person.id, app.owner);
        sees.then(|| app.clone())
    }

    pub(super) fn choose_account(&self, slug: &str) -> Result<Response<Body>> {
        let state = self.shared.state();
        let Some(person) = self.person(&state) else {
            drop(state);
            return self.who_are_you();
        };
        let Some(app) = Self::app(&state, slug, &person) else {
            return html(404, pages::page("Page not found", ""));
        };
        // An App that is not public is for its owner alone.
        let targets = state.accounts.values().filter(|one| {
            state.administers(person.id, one.id) && (app.public || one.id == app.owner)
        });
        let state_parameter = field(&self.query, "state").unwrap_or_default();
        let links: Vec<(String, String)> = targets
            .map(|one| {
                let installed = state
                    .installations
                    .values()
                    .find(|known| known.app == app.id && known.account == one.id);
                let query = form_urlencoded::Serializer::new(String::new())
                    .append_pair("target_id", &one.id.to_string())
                    .append_pair("state", state_parameter)
                    .finish();
                let url = match installed {
                    Some(known) => format!("/settings/installations/{}", known.id),
                    None => format!("/apps/{slug}/installations/new/permissions?{query}"),
                };
                (one.login.clone(), url)
            })
            .collect();
        match &*links {
            [(_, url)] => redirect(url),
            _ => html(200, pages::accounts(&app.name, &links)),
        }
    }

    pub(super) fn choose(&self, slug: &str) -> Result<Response<Body>> {
        let state = self.shared.state();
        let Some(person) = self.person(&state) else {
            drop(state);
            return self.who_are_you();
        };
        let target = field(&self.query, "target_id").and_then(|id| id.parse().ok());
        let target = target.filter(|id| state.accounts.contains_key(id));
        let (Some(app), Some(target)) = (Self::app(&state, slug, &person), target) else {
            return html(404, pages::page("Page not found", ""));
        };
        let choice = |id: u64| {
            let own = state
                .repositories
                .values()
                .filter(move |one| one.owner == id);
            own.map(|one| (one.id, state.full_name(one), false))
                .collect::<Vec<_>>()
        };
        html(
            200,
            pages::repositories(&pages::Choice {
                action: self.parts.uri.path(),
                app: &app.name,
                account: &state.accounts[&target].login,
                state: field(&self.query, "state").unwrap_or_default(),
                repositories: &choice(target),
                all: true,
                installed: false,
            }),
        )
    }

    /// Changes an installation's repositories.
    pub(super) fn configure(&self, id: &str) -> Result<Response<Body>> {
        let state = self.shared.state();
        let Some(person) = self.person(&state) else {
            drop(state);
            return self.who_are_you();
        };
        let found = id
            .parse::<u64>()
            .ok()
            .and_then(|id| state.installations.get(&id));
        let found = found.filter(|one| state.administers(person.id, one.account));
        let Some(one) = found else {
            return html(404, pages::page("Page not found", ""));
        };
        let app = &state.apps[&one.app];
        let own = state
            .repositories
            .values()
            .filter(|known| known.owner == one.account);
        let listed: Vec<_> = own
            .map(|known| (known.id, state.full_name(known), State::reaches(one, known)))
            .collect();
        html(
            200,
            pages::repositories(&pages::Choice {
                action: &format!("/apps/{}/installations/new/permissions", app.slug),
                app: &app.name,
                account: &state.accounts[&one.account].login,
                state: "",
                repositories: &listed,
                all: matches!(one.repositories, Repositories::All),
                installed: true,
            }),
        )
    }

    /// Installs the App, or gives it other repositories, and sends the person to its `setup_url`.
    pub(super) fn install(&self, slug: &str) -> Result<Response<Body>> {
        let mut state = self.shared.state();
        let Some(person) = self.person(&state) else {
            drop(state);
            return self.who_are_you();
        };
        let account = field(&self.form, "account").and_then(|login| state.account(login));
        let account = account.map(|one| one.id);
        let account = account.filter(|id| state.administers(person.id, *id));
        let (Some(app), Some(account)) = (Self::app(&state, slug, &person), account) else {
            return html(404, pages::page("Page not found", ""));
        };
        let chosen = self
            .form
            .iter()
            .filter(|(name, _)| name == "repository_ids");
        let repositories = match field(&self.form, "install_target") {
            Some("all") => Repositories::All,
            _ => Repositories::Selected(chosen.filter_map(|(_, id)| id.parse().ok()).collect()),
        };
        let known = state
            .installations
            .values()
            .find(|one| one.app == app.id && one.account == account)
            .map(|one| one.id);
        let (id, action) = if let Some(id) = known {
            self.shared
                .replace_repositories(&mut state, id, repositories, person.id);
            (id, "update")
        } else {
            let made = self.shared.new_installation(
                &mut state,
                app.id,
                account,
                repositories,
                person.id,
            )?;
            (made, "install")
        };
        drop(state);
        let id_text = id.to_string();
        let returned = field(&self.form, "state").filter(|value| !value.is_empty());
        let mut parameters = vec![
            ("installation_id", Some(&*id_text)),
            ("setup_action", Some(action)),
            ("state", returned),
        ];
        if app.request_oauth_on_install {
            let code = self.shared.new_code(app.id, person.id, &Vec::new());
            self.shared.state().grants.insert((person.id, app.id));
            parameters.insert(0, ("code", Some(&*code)));
            let to = app.callback_urls.first().context("a callback URL")?;
            return redirect(&with(to, &parameters)?);
        }
        match &app.setup_url {
            Some(to) if action == "install" || app.setup_on_update => {
                redirect(&with(to, &parameters)?)
            }
            _ => redirect(&format!("/settings/installations/{id}")),
        }
    }
}

impl Shared {
    fn replace_repositories(&self, state: &mut State, id: u64, with: Repositories, sender: u64) {
        let before = state.reached(id);
        if let Some(one) = state.installations.get_mut(&id) {
            one.repositories = with;
            one.updated_at = state::now();
        }
        let after = state.reached(id);
        let added: Vec<u64> = after.difference(&before).copied().collect();
        let removed: Vec<u64> = before.difference(&after).copied().collect();
        for (action, changed) in [("added", added), ("removed", removed)] {
            if !changed.is_empty() {
                self.tell_repositories(state, id, action, &changed, sender);
            }
        }
    }
}
