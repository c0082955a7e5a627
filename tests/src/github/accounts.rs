//! People, organizations and Apps, as tests make them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::repo::Repo;
use super::state::{self, Account, AccountKind, App, Repositories, State};
use super::{Github, Shared};

/// What GitHub tells the owner of an App once.
#[derive(Debug, Clone)]
pub struct AppKeys {
    /// Its number.
    pub id: u64,
    /// Its name in addresses.
    pub slug: String,
    /// For OAuth.
    pub client_id: String,
    /// For OAuth.
    pub client_secret: String,
    /// For webhooks.
    pub webhook_secret: String,
    /// PKCS#1, in PEM.
    pub private_key: String,
}

/// Permissions that an event needs, where there is one to choose.
const EVENTS: &[(&str, &str)] = &[
    ("push", "contents"),
    ("create", "contents"),
    ("delete", "contents"),
    ("pull_request", "pull_requests"),
    ("pull_request_review", "pull_requests"),
    // For pull requests alone, too.
    ("issue_comment", "issues"),
    ("check_run", "checks"),
    ("check_suite", "checks"),
    ("deployment", "deployments"),
    ("deployment_status", "deployments"),
    ("status", "statuses"),
    ("repository", "metadata"),
];

impl State {
    fn add_account(&mut self, login: &str, kind: AccountKind, members: BTreeSet<u64>) -> u64 {
        let id = self.id();
        self.accounts.insert(
            id,
            Account {
                id,
                login: login.to_owned(),
                kind,
                members,
                created_at: state::now(),
            },
        );
        id
    }
}

impl Github {
    /// A person; known already or new. Gives their number.
    pub fn user(&self, login: &str) -> u64 {
        let mut state = self.shared.state();
        if let Some(known) = state.account(login) {
            return known.id;
        }
        state.add_account(login, AccountKind::User, BTreeSet::new())
    }

    /// An organization of these people, who are made where they are new. Gives its number.
    pub fn organization(&self, login: &str, members: &[&str]) -> u64 {
        let members = members.iter().map(|login| self.user(login)).collect();
        let mut state = self.shared.state();
        state.add_account(login, AccountKind::Organization, members)
    }

    /// A person leaves an organization.
    pub fn leave(&self, organization: &str, login: &str) -> Result<()> {
        let mut state = self.shared.state();
        let person = state.account(login).context("no such person")?.id;
        let id = state
            .account(organization)
            .context("no such organization")?
            .id;
        let organization = state.accounts.get_mut(&id).context("it was just found")?;
        organization.members.remove(&person);
        Ok(())
    }

    /// A person takes another name; the number stays.
    pub fn rename_user(&self, login: &str, to: &str) -> Result<()> {
        let mut state = self.shared.state();
        let id = state.account(login).context("no such person")?.id;
        let account = state.accounts.get_mut(&id).context("it was just found")?;
        to.clone_into(&mut account.login);
        Ok(())
    }

    /// An empty repository of an account that exists.
    pub fn repository(&self, owner: &str, name: &str, private: bool) -> Result<Repo> {
        let owner = self.account(owner)?;
        let id = self.shared.new_repository(owner, name, private)?;
        Ok(Repo::new(&self.shared, id))
    }

    /// The number of an account.
    pub fn account(&self, login: &str) -> Result<u64> {
        let state = self.shared.state();
        let account = state.account(login);
        Ok(account.with_context(|| format!("no account {login}"))?.id)
    }

    /// Makes an App from a manifest without a browser.
    pub fn app(&self, owner: &str, manifest: &Value) -> Result<AppKeys> {
        let owner = self.account(owner)?;
        let id = self.shared.new_app(owner, manifest)?;
        self.app_keys(id)
    }

    /// What its owner was told, of an App made in any way.
    pub fn app_keys(&self, id: u64) -> Result<AppKeys> {
        let state = self.shared.state();
        let app = state.apps.get(&id).context("no such App")?;
        Ok(AppKeys {
            id: app.id,
            slug: app.slug.clone(),
            client_id: app.client_id.clone(),
            client_secret: app.client_secret.clone(),
            webhook_secret: app.webhook_secret.clone(),
            private_key: app.private_key.clone(),
        })
    }

    /// The numbers of all Apps.
    pub fn apps(&self) -> Vec<u64> {
        self.shared.state().apps.keys().copied().collect()
    }

    /// How an App looks to GitHub, to compare with what was asked for in its manifest.
    pub fn app_state(&self, id: u64) -> Result<App> {
        let state = self.shared.state();
        state.apps.get(&id).cloned().context("no such App")
    }

    /// The events of an App go elsewhere, as its owner may decide on its page.
    pub fn set_hook_url(&self, app: u64, url: &str) -> Result<()> {
        let mut state = self.shared.state();
        let app = state.apps.get_mut(&app).context("no such App")?;
        app.hook_url = Some(url.to_owned());
        Ok(())
    }

    /// A token of a person for an App, as sign-in would give.
    pub fn user_token(&self, login: &str, app: u64) -> Result<String> {
        let user = self.account(login)?;
        Ok(self.shared.new_user_token(user, app))
    }

    /// How many tokens of people are still good: none is, where every sign-in revoked its own.
    pub fn user_tokens(&self) -> usize {
        self.shared.state().user_tokens.len()
    }

    /// How long the next installation tokens live; GitHub's live an hour.
    pub fn set_token_lifetime(&self, lifetime: std::time::Duration) {
        self.shared.state().token_lifetime = lifetime;
    }

    /// Every installation token is refused from now on.
    pub fn expire_tokens(&self) {
        self.shared.state().tokens.clear();
    }
}

impl Shared {
    /// Makes an App, and pings its hook.
    pub(super) fn new_app(&self, owner: u64, manifest: &Value) -> Result<u64> {
        let text = |name: &str| manifest[name].as_str().map(str::to_owned);
        let flag = |value: &Value, default: bool| value.as_bool().unwrap_or(default);
        let name = text("name")
            .filter(|name| !name.is_empty())
            .context("Name can't be blank")?;
        ensure!(
            name.chars().count() <= 34,
            "Name is too long (maximum is 34 characters)"
        );
        let external_url = text("url").context("Homepage URL can't be blank")?;
        ensure!(
            url::Url::parse(&external_url).is_ok(),
            "Homepage URL must be a valid URL"
        );
        let permissions = permissions(&manifest["default_permissions"])?;
        let events = events(&manifest["default_events"], &permissions)?;
        let callback_urls: Vec<String> = list(&manifest["callback_urls"]);
        ensure!(
            callback_urls.len() <= 10,
            "There are more than 10 callback URLs"
        );
        let (private_key, public_key) = state::key()?;
        let mut state = self.state();
        ensure!(
            !state
                .apps
                .values()
                .any(|app| app.name.eq_ignore_ascii_case(&name)),
            "Name has already been taken"
        );
        let slug = slug(&name);
        let taken = state.account(&slug).is_some_and(|one| one.id != owner);
        ensure!(!taken, "Name is already taken by another account");
        let bot = state.add_account(&format!("{slug}[bot]"), AccountKind::Bot, BTreeSet::new());
        let id = state.id();
        let hook = &manifest["hook_attributes"];
        let app = App {
            id,
            owner,
            bot,
            slug,
            description: text("description"),
            external_url,
            public: flag(&manifest["public"], false),
            client_id: state::random("Iv23li").chars().take(20).collect(),
            client_secret: state::random("")
                .chars()
                .chain("00000000".chars())
                .collect(),
            webhook_secret: state::random(""),
            hook_id: state.id(),
            hook_url: hook["url"].as_str().map(str::to_owned),
            hook_active: flag(&hook["active"], true),
            private_key,
            public_key,
            permissions,
            events,
            callback_urls,
            setup_url: text("setup_url"),
            setup_on_update: flag(&manifest["setup_on_update"], false),
            request_oauth_on_install: flag(&manifest["request_oauth_on_install"], false),
            created_at: state::now(),
            name,
        };
        state.apps.insert(id, app);
        self.ping(&mut state, id);
        Ok(id)
    }

    /// A token as sign-in gives it; it lives eight hours.
    pub(super) fn new_user_token(&self, user: u64, app: u64) -> String {
        let value = state::random("ghu_");
        let token = state::UserToken {
            user,
            app,
            expires_at: state::now() + time::Duration::hours(8),
        };
        self.state().user_tokens.insert(value.clone(), token);
        value
    }

    /// An empty repository; installations on all of its account's reach it.
    pub(super) fn new_repository(&self, owner: u64, name: &str, private: bool) -> Result<u64> {
        let mut state = self.state();
        let login = &state.accounts[&owner].login;
        ensure!(
            state.repository(login, name).is_none(),
            "name already exists on this account"
        );
        let id = state.id();
        self.git_init(id)?;
        let now = state::now();
        state.moved.retain(|_, moved| *moved != id);
        state.repositories.insert(
            id,
            state::Repository {
                id,
                owner,
                name: name.to_owned(),
                private,
                template: false,
                default_branch: "main".to_owned(),
                parent: None,
                collaborators: BTreeSet::new(),
                created_at: now,
                pushed_at: now,
                pulls: BTreeMap::new(),
            },
        );
        self.announce(&mut state, id);
        Ok(id)
    }

    /// Tells installations on all repositories of an account about a new one.
    pub(super) fn announce(&self, state: &mut State, repository: u64) {
        let one = &state.repositories[&repository];
        let sender = Self::writer(state, one);
        let everywhere: Vec<u64> = state
            .watching(one)
            .into_iter()
            .filter(|id| matches!(state.installations[id].repositories, Repositories::All))
            .collect();
        let payload = serde_json::json!({ "action": "created" });
        self.tell_these(
            state,
            &everywhere,
            repository,
            sender,
            "repository",
            &payload,
        );
        for id in everywhere {
            self.tell_repositories(state, id, "added", &[repository], sender);
        }
    }
}

fn list(value: &Value) -> Vec<String> {
    let all = value.as_array().into_iter().flatten();
    all.filter_map(|one| one.as_str().map(str::to_owned))
        .collect()
}

fn permissions(asked: &Value) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for (name, level) in asked.as_object().into_iter().flatten() {
        let level = level.as_str().context("a permission is read or write")?;
        ensure!(
            matches!(level, "read" | "write"),
            "Default permission records resource is not included in the list: {name}"
        );
        all.insert(name.clone(), level.to_owned());
    }
    // GitHub adds it to every App.
    all.insert("metadata".to_owned(), "read".to_owned());
    Ok(all)
}

fn events(asked: &Value, permissions: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let all = list(asked);
    for event in &all {
        let known = EVENTS.iter().find(|(name, _)| name == event);
        // `installation` and `installation_repositories` reach every App, and nobody may ask for them.
        let (_, needed) = known.with_context(|| format!("Default events unsupported: {event}"))?;
        ensure!(
            permissions.contains_key(*needed),
            "Default events are not supported by permissions: {event}"
        );
    }
    Ok(all)
}

fn slug(name: &str) -> String {
    let mut slug = String::new();
    for letter in name.to_lowercase().chars() {
        match letter {
            'a'..='z' | '0'..='9' => slug.push(letter),
            _ if slug.ends_with('-') || slug.is_empty() => {}
            _ => slug.push('-'),
        }
    }
    slug.trim_end_matches('-').to_owned()
}
