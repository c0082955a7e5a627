//! How GitHub shows what it knows, in the API and in webhooks.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Shared;
use super::state::{Account, AccountKind, App, Installation, Repositories, Repository, State};

/// A time as GitHub writes it.
pub fn time(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).expect("years have four digits")
}

/// A global id, which nobody may take apart.
pub fn node_id(kind: &str, id: u64) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    BASE64_STANDARD.encode(format!("0{}:{kind}{id}", kind.len()))
}

/// Addresses below a user's.
const USER_URLS: &[(&str, &str)] = &[
    ("url", ""),
    ("followers_url", "/followers"),
    ("following_url", "/following{/other_user}"),
    ("gists_url", "/gists{/gist_id}"),
    ("starred_url", "/starred{/owner}{/repo}"),
    ("subscriptions_url", "/subscriptions"),
    ("organizations_url", "/orgs"),
    ("repos_url", "/repos"),
    ("events_url", "/events{/privacy}"),
    ("received_events_url", "/received_events"),
];

/// Addresses below a repository's.
const REPOSITORY_URLS: &[(&str, &str)] = &[
    ("url", ""),
    ("forks_url", "/forks"),
    ("keys_url", "/keys{/key_id}"),
    ("collaborators_url", "/collaborators{/collaborator}"),
    ("teams_url", "/teams"),
    ("hooks_url", "/hooks"),
    ("issue_events_url", "/issues/events{/number}"),
    ("events_url", "/events"),
    ("assignees_url", "/assignees{/user}"),
    ("branches_url", "/branches{/branch}"),
    ("tags_url", "/tags"),
    ("blobs_url", "/git/blobs{/sha}"),
    ("git_tags_url", "/git/tags{/sha}"),
    ("git_refs_url", "/git/refs{/sha}"),
    ("trees_url", "/git/trees{/sha}"),
    ("statuses_url", "/statuses/{sha}"),
    ("languages_url", "/languages"),
    ("stargazers_url", "/stargazers"),
    ("contributors_url", "/contributors"),
    ("subscribers_url", "/subscribers"),
    ("subscription_url", "/subscription"),
    ("commits_url", "/commits{/sha}"),
    ("git_commits_url", "/git/commits{/sha}"),
    ("comments_url", "/comments{/number}"),
    ("issue_comment_url", "/issues/comments{/number}"),
    ("contents_url", "/contents/{+path}"),
    ("compare_url", "/compare/{base}...{head}"),
    ("merges_url", "/merges"),
    ("archive_url", "/{archive_format}{/ref}"),
    ("downloads_url", "/downloads"),
    ("issues_url", "/issues{/number}"),
    ("pulls_url", "/pulls{/number}"),
    ("milestones_url", "/milestones{/number}"),
    (
        "notifications_url",
        "/notifications{?since,all,participating}",
    ),
    ("labels_url", "/labels{/name}"),
    ("releases_url", "/releases{/id}"),
    ("deployments_url", "/deployments"),
];

/// Adds the members of one object to another.
pub fn extend(to: &mut Value, members: Value) {
    if let (Value::Object(to), Value::Object(members)) = (to, members) {
        to.extend(members);
    }
}

fn urls(base: &str, below: &[(&str, &str)]) -> Value {
    let all: Map<String, Value> = below
        .iter()
        .map(|(name, path)| ((*name).to_owned(), format!("{base}{path}").into()))
        .collect();
    Value::Object(all)
}

impl Shared {
    /// An account as others see it (`simple-user`).
    pub(super) fn user(&self, account: &Account) -> Value {
        let login = &account.login;
        let (page, escaped) = match login.strip_suffix("[bot]") {
            Some(slug) => (format!("/apps/{slug}"), format!("{slug}%5Bbot%5D")),
            None => (format!("/{login}"), login.clone()),
        };
        let mut user = json!({
            "login": login,
            "id": account.id,
            "node_id": node_id(account.kind.name(), account.id),
            "avatar_url": format!("{}/avatars/u/{}", self.url, account.id),
            "gravatar_id": "",
            "html_url": format!("{}{page}", self.url),
            "type": account.kind.name(),
            "site_admin": false,
        });
        extend(
            &mut user,
            urls(&format!("{}/users/{escaped}", self.api_url), USER_URLS),
        );
        user
    }

    /// A person as they see themselves: `GET /user` (`public-user`, which is what an App's token gets).
    pub(super) fn myself(&self, account: &Account) -> Value {
        let mut user = self.user(account);
        extend(
            &mut user,
            json!({
                "name": account.login, "company": null, "blog": "", "location": null,
                "email": null, "hireable": null, "bio": null, "twitter_username": null,
                "public_repos": 0, "public_gists": 0, "followers": 0, "following": 0,
                "created_at": time(account.created_at), "updated_at": time(account.created_at),
            }),
        );
        user
    }

    /// An organization (`organization-simple`).
    pub(super) fn organization(&self, account: &Account) -> Value {
        let url = format!("{}/orgs/{}", self.api_url, account.login);
        json!({
            "login": account.login,
            "id": account.id,
            "node_id": node_id("Organization", account.id),
            "url": url,
            "repos_url": format!("{url}/repos"),
            "events_url": format!("{url}/events"),
            "hooks_url": format!("{url}/hooks"),
            "issues_url": format!("{url}/issues"),
            "members_url": format!("{url}/members{{/member}}"),
            "public_members_url": format!("{url}/public_members{{/member}}"),
            "avatar_url": format!("{}/avatars/u/{}", self.url, account.id),
            "description": "",
        })
    }

    /// A repository's members that the API and webhooks share (`repository`).
    pub(super) fn repository(&self, state: &State, repository: &Repository) -> Value {
        let full_name = state.full_name(repository);
        let page = format!("{}/{full_name}", self.url);
        let open = repository.pulls.values().filter(|one| one.open).count();
        let host = self.url.trim_start_matches("http://");
        let forks = state
            .repositories
            .values()
            .filter(|one| one.parent == Some(repository.id))
            .count();
        let mut shown = json!({
            "id": repository.id,
            "node_id": node_id("Repository", repository.id),
            "name": repository.name,
            "full_name": full_name,
            "private": repository.private,
            "owner": self.user(&state.accounts[&repository.owner]),
            "html_url": page,
            "description": null,
            "fork": repository.parent.is_some(),
            "created_at": time(repository.created_at),
            "updated_at": time(repository.pushed_at),
            "pushed_at": time(repository.pushed_at),
            "git_url": format!("git://{host}/{full_name}.git"),
            "ssh_url": format!("git@{host}:{full_name}.git"),
            "clone_url": format!("{page}.git"),
            "svn_url": page,
        });
        extend(
            &mut shown,
            json!({
            "homepage": null,
            "size": 1,
            "stargazers_count": 0,
            "watchers_count": 0,
            "language": null,
            "has_issues": true,
            "has_projects": true,
            "has_downloads": true,
            "has_wiki": true,
            "has_pages": false,
            "has_discussions": false,
            "forks_count": forks,
            "mirror_url": null,
            "archived": false,
            "disabled": false,
            "open_issues_count": open,
            "license": null,
            "allow_forking": true,
            "is_template": repository.template,
            "web_commit_signoff_required": false,
            "topics": [],
            "visibility": if repository.private { "private" } else { "public" },
            "forks": forks,
            "open_issues": open,
            "watchers": 0,
            "default_branch": repository.default_branch,
            }),
        );
        extend(
            &mut shown,
            urls(&self.repository_url(&full_name), REPOSITORY_URLS),
        );
        shown
    }

    /// Below which the API shows a repository.
    pub(super) fn repository_url(&self, full_name: &str) -> String {
        format!("{}/repos/{full_name}", self.api_url)
    }

    /// One repository alone (`full-repository`).
    pub(super) fn full_repository(&self, state: &State, repository: &Repository) -> Value {
        let mut shown = self.repository(state, repository);
        extend(
            &mut shown,
            json!({ "network_count": 0, "subscribers_count": 0 }),
        );
        let owner = &state.accounts[&repository.owner];
        if owner.kind == AccountKind::Organization {
            shown["organization"] = self.user(owner);
        }
        if let Some(parent) = repository.parent.and_then(|id| state.repositories.get(&id)) {
            shown["parent"] = self.repository(state, parent);
            shown["source"] = self.repository(state, parent);
        }
        shown
    }

    /// A repository in the payload of an installation.
    pub(super) fn short_repository(state: &State, repository: &Repository) -> Value {
        json!({
            "id": repository.id,
            "node_id": node_id("Repository", repository.id),
            "name": repository.name,
            "full_name": state.full_name(repository),
            "private": repository.private,
        })
    }

    /// An App (`integration`).
    pub(super) fn app(&self, state: &State, app: &App) -> Value {
        json!({
            "id": app.id,
            "slug": app.slug,
            "node_id": node_id("Integration", app.id),
            "owner": self.user(&state.accounts[&app.owner]),
            "name": app.name,
            "description": app.description,
            "external_url": app.external_url,
            "html_url": format!("{}/apps/{}", self.url, app.slug),
            "created_at": time(app.created_at),
            "updated_at": time(app.created_at),
            "permissions": app.permissions,
            "events": app.events,
        })
    }

    /// An installation (`installation`).
    pub(super) fn installation(&self, state: &State, one: &Installation) -> Value {
        let account = &state.accounts[&one.account];
        let page = match account.kind {
            AccountKind::Organization => format!("/organizations/{}", account.login),
            _ => String::new(),
        };
        json!({
            "id": one.id,
            "account": self.user(account),
            "repository_selection": selection(&one.repositories),
            "access_tokens_url":
                format!("{}/app/installations/{}/access_tokens", self.api_url, one.id),
            "repositories_url": format!("{}/installation/repositories", self.api_url),
            "html_url": format!("{}{page}/settings/installations/{}", self.url, one.id),
            "app_id": one.app,
            "app_slug": state.apps[&one.app].slug,
            "target_id": account.id,
            "target_type": account.kind.name(),
            "permissions": one.permissions,
            "events": one.events,
            "created_at": time(one.created_at),
            "updated_at": time(one.updated_at),
            "single_file_name": null,
            "has_multiple_single_files": false,
            "single_file_paths": [],
            "suspended_by":
                one.suspended.map(|(by, _)| self.user(&state.accounts[&by])),
            "suspended_at": one.suspended.map(|(_, at)| time(at)),
        })
    }
}

/// What a person is to a repository.
pub fn association(state: &State, repository: &Repository, user: u64) -> &'static str {
    if repository.owner == user {
        "OWNER"
    } else if state.accounts[&repository.owner].members.contains(&user) {
        "MEMBER"
    } else if repository.collaborators.contains(&user) {
        "COLLABORATOR"
    } else {
        "NONE"
    }
}

/// As payloads name it.
pub fn selection(repositories: &Repositories) -> &'static str {
    match repositories {
        Repositories::All => "all",
        Repositories::Selected(_) => "selected",
    }
}
