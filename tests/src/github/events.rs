//! What happens, told to the Apps that may know it.

use anyhow::Result;
use git2::Repository as Git;
use serde_json::{Value, json};

use super::Shared;
use super::state::{self, AccountKind, App, Installation, Repository, State};
use super::views::{self, extend};
use super::webhooks::Delivery;

/// A commit that is none.
pub const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

/// Events of checks reach every App that may write them.
const UNASKED: &[&str] = &["check_run", "check_suite"];

/// What an App must be allowed to hear of an event (GitHub's documentation, "Webhook events and
/// payloads").
fn permission(event: &str) -> &'static str {
    match event {
        "push" | "create" | "delete" => "contents",
        "pull_request" | "pull_request_review" | "issue_comment" => "pull_requests",
        "check_run" | "check_suite" => "checks",
        _ => "metadata",
    }
}

impl Shared {
    /// Delivers an event to one App.
    pub(super) fn emit(
        &self,
        state: &mut State,
        app: u64,
        about: (Option<u64>, Option<u64>),
        event: &str,
        mut payload: Value,
    ) {
        let known = &state.apps[&app];
        let Some(url) = known.hook_url.clone().filter(|_| known.hook_active) else {
            return;
        };
        complete_repositories(&mut payload);
        let action = payload["action"].as_str().map(str::to_owned);
        for wrong in self
            .description
            .check_webhook(event, action.as_deref(), &payload)
        {
            self.mismatch(format!("webhook {event}: {wrong}"));
        }
        let (hook, secret) = (known.hook_id, known.webhook_secret.clone());
        self.hooks.add(Delivery {
            id: state.id(),
            guid: uuid::Uuid::new_v4().to_string(),
            event: event.to_owned(),
            action,
            app,
            installation: about.0,
            repository: about.1,
            payload: payload.to_string().into_bytes(),
            redelivery: false,
            delivered_at: None,
            duration: std::time::Duration::ZERO,
            status_code: 0,
            status: String::new(),
            hook,
            url,
            secret,
        });
    }

    /// Delivers an event of a repository to every App that watches it.
    pub(super) fn tell(
        &self,
        state: &mut State,
        repository: u64,
        sender: u64,
        event: &str,
        payload: &Value,
    ) {
        let one = &state.repositories[&repository];
        let watching = state.watching(one);
        self.tell_these(state, &watching, repository, sender, event, payload);
    }

    /// The same to these installations.
    pub(super) fn tell_these(
        &self,
        state: &mut State,
        installations: &[u64],
        repository: u64,
        sender: u64,
        event: &str,
        payload: &Value,
    ) {
        for &id in installations {
            let installation = &state.installations[&id];
            let asked = installation.events.iter().any(|one| one == event)
                || UNASKED.contains(&event)
                    && installation
                        .permissions
                        .get("checks")
                        .is_some_and(|may| may == "write");
            if !asked || !installation.permissions.contains_key(permission(event)) {
                continue;
            }
            let one = &state.repositories[&repository];
            let mut payload = payload.clone();
            extend(&mut payload, self.context(state, one, sender));
            payload["installation"] = json!({
                "id": id,
                "node_id": views::node_id("IntegrationInstallation", id),
            });
            let app = installation.app;
            self.emit(state, app, (Some(id), Some(repository)), event, payload);
        }
    }

    fn context(&self, state: &State, repository: &Repository, sender: u64) -> Value {
        let mut context = json!({
            "repository": self.repository(state, repository),
            "sender": self.user(&state.accounts[&sender]),
        });
        let owner = &state.accounts[&repository.owner];
        if owner.kind == AccountKind::Organization {
            context["organization"] = self.organization(owner);
        }
        context
    }

    /// The event that an App's hook sends first.
    pub(super) fn ping(&self, state: &mut State, app: u64) {
        let known = &state.apps[&app];
        let at = views::time(known.created_at);
        let payload = json!({
            "zen": "Keep it logically awesome.",
            "hook_id": known.hook_id,
            "hook": {
                "type": "App",
                "id": known.hook_id,
                "name": "web",
                "active": known.hook_active,
                "app_id": known.id,
                "events": known.events,
                "config": {
                    "content_type": "json", "insecure_ssl": "0", "secret": "********",
                    "url": known.hook_url,
                },
                "updated_at": at,
                "created_at": at,
                "url": format!("{}/app/hook", self.api_url),
                "ping_url": format!("{}/app/hook/pings", self.api_url),
                "deliveries_url": format!("{}/app/hook/deliveries", self.api_url),
            },
        });
        self.emit(state, app, (None, None), "ping", payload);
    }

    /// `installation` with an action.
    pub(super) fn tell_installation(
        &self,
        state: &mut State,
        installation: &Installation,
        action: &str,
        sender: u64,
    ) {
        let mut payload = json!({
            "action": action,
            "installation": self.installation(state, installation),
            "sender": self.user(&state.accounts[&sender]),
        });
        if matches!(action, "created" | "deleted") {
            payload["repositories"] = state
                .repositories
                .values()
                .filter(|one| State::reaches(installation, one))
                .map(|one| Self::short_repository(state, one))
                .collect();
        }
        let about = (Some(installation.id), None);
        self.emit(state, installation.app, about, "installation", payload);
    }

    /// `push` of a branch that went from one commit to another.
    pub(super) fn push_payload(
        &self,
        state: &State,
        git: &Git,
        repository: &Repository,
        moved: &Moved<'_>,
    ) -> Result<Value> {
        let full_name = state.full_name(repository);
        let places = self.places(&full_name);
        let pusher = &state.accounts[&moved.by];
        let (created, deleted) = (moved.before == NO_COMMIT, moved.after == NO_COMMIT);
        let mut commits = Vec::new();
        let mut head = Value::Null;
        if !deleted {
            let known = if created {
                super::git::branch(git, &repository.default_branch)
                    .filter(|_| repository.default_branch != moved.branch)
            } else {
                Some(moved.before.to_owned())
            };
            for sha in super::git::between(git, known.as_deref(), moved.after)? {
                commits.push(pushed_commit(state, git, &places.page, &sha)?);
            }
            head = pushed_commit(state, git, &places.page, moved.after)?;
        }
        let short = |sha: &str| sha.chars().take(12).collect::<String>();
        Ok(json!({
            "ref": format!("refs/heads/{}", moved.branch),
            "before": moved.before,
            "after": moved.after,
            "created": created,
            "deleted": deleted,
            "forced": moved.forced,
            "base_ref": null,
            "compare": format!(
                "{}/compare/{}...{}", places.page, short(moved.before), short(moved.after)
            ),
            "commits": commits,
            "head_commit": head,
            "pusher": { "name": pusher.login, "email": super::git::email(&pusher.login) },
        }))
    }

    /// `pull_request` with an action.
    pub(super) fn tell_pull(
        &self,
        state: &mut State,
        repository: u64,
        number: u64,
        sender: u64,
        more: Value,
    ) -> Result<()> {
        let base = &state.repositories[&repository];
        let pull = &base.pulls[&number];
        let mut payload = json!({
            "number": number,
            "pull_request": self.full_pull(state, base, pull)?,
        });
        extend(&mut payload, more);
        self.tell(state, repository, sender, "pull_request", &payload);
        Ok(())
    }

    /// `check_suite` requested, which every App with checks gets for a pushed commit.
    pub(super) fn tell_suite(
        &self,
        state: &mut State,
        repository: u64,
        moved: &Moved<'_>,
        action: &str,
    ) -> Result<()> {
        let watching = state.watching(&state.repositories[&repository]);
        for id in watching {
            let app = state.installations[&id].app;
            let suite = state.suite(repository, app, moved.after);
            let git = self.git(repository)?;
            let commit = git.find_commit(moved.after.parse()?)?;
            let url = format!(
                "{}/check-suites/{suite}",
                self.repository_url(&state.full_name(&state.repositories[&repository]))
            );
            let who = &state.accounts[&moved.by];
            let person = json!({ "name": who.login, "email": super::git::email(&who.login) });
            let now = views::time(state::now());
            let app: &App = &state.apps[&app];
            let payload = json!({
                "action": action,
                "check_suite": {
                    "id": suite,
                    "node_id": views::node_id("CheckSuite", suite),
                    "head_branch": moved.branch,
                    "head_sha": moved.after,
                    "status": "queued",
                    "conclusion": null,
                    "url": url,
                    "before": moved.before,
                    "after": moved.after,
                    "pull_requests": [],
                    "app": self.app(state, app),
                    "created_at": now,
                    "updated_at": now,
                    "latest_check_runs_count": 0,
                    "check_runs_url": format!("{url}/check-runs"),
                    "head_commit": {
                        "id": moved.after,
                        "tree_id": commit.tree_id().to_string(),
                        "message": String::from_utf8_lossy(commit.message_bytes()),
                        "timestamp": now,
                        "author": person,
                        "committer": person,
                    },
                },
            });
            self.tell_these(state, &[id], repository, moved.by, "check_suite", &payload);
        }
        Ok(())
    }
}

/// A branch that went from one commit to another.
#[derive(Debug, Clone, Copy)]
pub struct Moved<'a> {
    pub branch: &'a str,
    pub before: &'a str,
    pub after: &'a str,
    pub forced: bool,
    pub by: u64,
}

fn pushed_commit(state: &State, git: &Git, page: &str, sha: &str) -> Result<Value> {
    let commit = git.find_commit(sha.parse()?)?;
    let [added, modified, removed] = super::git::touched(git, sha)?;
    let author = commit.author();
    let mut person = json!({
        "name": String::from_utf8_lossy(author.name_bytes()),
        "email": String::from_utf8_lossy(author.email_bytes()),
    });
    let login = author.name().unwrap_or_default();
    if let Some(account) = state.account(login) {
        person["username"] = account.login.clone().into();
    }
    let at = time::OffsetDateTime::from_unix_timestamp(commit.time().seconds())?;
    Ok(json!({
        "id": sha,
        "tree_id": commit.tree_id().to_string(),
        "distinct": true,
        "message": String::from_utf8_lossy(commit.message_bytes()),
        "timestamp": views::time(at),
        "url": format!("{page}/commit/{sha}"),
        "author": person,
        "committer": person,
        "added": added,
        "modified": modified,
        "removed": removed,
    }))
}

/// Repositories in webhooks have a member that those of the API lack.
fn complete_repositories(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if members.contains_key("clone_url") {
                members.insert("custom_properties".to_owned(), json!({}));
            }
            members.values_mut().for_each(complete_repositories);
        }
        Value::Array(all) => all.iter_mut().for_each(complete_repositories),
        _ => {}
    }
}
