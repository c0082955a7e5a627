//! A GitHub for unit tests: one account, its repositories, and a count of what is asked.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use axum::body::Bytes;
use axum::extract::{Form, Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use super::kept;
use super::making::{self, Making};
use crate::app::App;
use crate::audit::Actor;
use crate::config::Secret;
use crate::github::registration::{self, NewRegistration};
use crate::testing;

/// What webhooks are signed with.
pub const WEBHOOK_SECRET: &str = "canary-webhook-secret";

/// The number of the one installation.
pub const INSTALLATION: i64 = 71;

/// The number of the one person.
pub const PERSON: i64 = 583_231;

/// A key of an App; one for all tests, since making one takes a moment.
pub static KEY: LazyLock<String> = LazyLock::new(|| {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let text = STANDARD.encode(der.as_ref());
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        lines.join("\n")
    )
});

/// A repository's name, and its branches with their heads.
type Kept = (String, BTreeMap<String, String>);

/// A status and headers.
type Trouble = (u16, Vec<(&'static str, String)>);

/// A pull request of `octo/demo`.
#[derive(Debug, Clone)]
pub struct Pull {
    pub title: String,
    pub branch: String,
    pub head: String,
    /// The number of the head's repository; none once that is deleted.
    pub from: Option<i64>,
    pub open: bool,
}

/// What the stand-in knows, and what it was asked.
#[derive(Debug, Default)]
pub struct World {
    /// The person's name.
    pub login: Mutex<String>,
    /// Repositories by number: name, and branches with their heads.
    pub repositories: Mutex<BTreeMap<i64, Kept>>,
    /// Pull requests of `octo/demo` by number.
    pub pulls: Mutex<BTreeMap<i64, Pull>>,
    /// Answered in place of everything.
    pub trouble: Mutex<Option<Trouble>>,
    /// Paths that hold this text are answered with 502.
    pub away: Mutex<Option<String>>,
    /// Whether the installation's owner lets it do nothing.
    pub suspended: Mutex<bool>,
    /// Tokens minted.
    pub minted: AtomicU32,
    /// Everything asked of the API, by path.
    pub asked: Mutex<Vec<String>>,
    /// What was sent to the token endpoint.
    pub exchanged: Mutex<Vec<BTreeMap<String, String>>>,
    /// Whether the person may write to repositories, and is the account's own.
    pub owns: Mutex<bool>,
    /// Organizations that the person belongs to: number and name.
    pub organizations: Mutex<Vec<(i64, String)>>,
    /// Commits' messages, where one matters; a commit that has one can be named.
    pub messages: Mutex<BTreeMap<String, String>>,
    /// Tags, with their commits.
    pub tags: Mutex<BTreeMap<String, String>>,
    /// What commits change since others, by `BASE...HEAD`: how they stand, and the files.
    pub changes: Mutex<BTreeMap<String, (&'static str, Vec<String>)>>,
    /// What may be made, and was.
    pub making: Mutex<Making>,
    /// When tokens end, as the platform's clock has it.
    pub now: Mutex<Option<time::OffsetDateTime>>,
    /// What is written.
    pub kept: Mutex<kept::Kept>,
}

/// A commit's id that begins with a digit.
pub fn sha(digit: char) -> String {
    digit.to_string().repeat(40)
}

impl World {
    /// Sets a branch's head.
    pub fn push(&self, repository: i64, branch: &str, head: &str) {
        let mut all = self.repositories.lock().unwrap();
        let (_, branches) = all.get_mut(&repository).unwrap();
        branches.insert(branch.into(), head.into());
    }

    /// Adds a repository with this head of `main`.
    pub fn add(&self, repository: i64, name: &str, head: &str) {
        let branches = BTreeMap::from([("main".to_owned(), head.to_owned())]);
        let mut all = self.repositories.lock().unwrap();
        all.insert(repository, (name.into(), branches));
    }

    /// Opens a pull request of a branch of `octo/demo`, or changes it.
    pub fn pull(&self, number: i64, head: &str) {
        self.pull_from(number, head, Some(11));
    }

    /// The same, of a branch of this repository.
    pub fn pull_from(&self, number: i64, head: &str, from: Option<i64>) {
        let pull = Pull {
            title: format!("Change {number}"),
            branch: format!("change-{number}"),
            head: head.to_owned(),
            from,
            open: true,
        };
        self.pulls.lock().unwrap().insert(number, pull);
    }

    /// Closes a pull request.
    pub fn close_pull(&self, number: i64) {
        let mut all = self.pulls.lock().unwrap();
        all.get_mut(&number).unwrap().open = false;
    }

    /// Gives a commit a message.
    pub fn say(&self, commit: &str, message: &str) {
        let mut all = self.messages.lock().unwrap();
        all.insert(commit.into(), message.into());
    }

    /// Has a commit change these files since another, which comes before it.
    pub fn change(&self, base: &str, head: &str, files: &[&str]) {
        let files = files.iter().map(|file| (*file).to_owned()).collect();
        let mut all = self.changes.lock().unwrap();
        all.insert(format!("{base}...{head}"), ("ahead", files));
    }

    /// The commit of a branch, a tag, an id or its beginning.
    fn resolve(&self, branches: &BTreeMap<String, String>, name: &str) -> Option<String> {
        let (tags, messages) = (self.tags.lock().unwrap(), self.messages.lock().unwrap());
        let named = branches.get(name).or(tags.get(name)).cloned();
        named.or_else(|| {
            let mut known = branches
                .values()
                .chain(tags.values())
                .chain(messages.keys());
            known
                .find(|sha| name.len() >= 7 && sha.starts_with(name))
                .cloned()
        })
    }

    fn commit(&self, sha: &str) -> Value {
        let messages = self.messages.lock().unwrap();
        let message = messages.get(sha).map_or("Change", String::as_str);
        let tree = &self.making.lock().unwrap().tree;
        json!({ "sha": sha, "commit": { "message": message, "tree": { "sha": tree } } })
    }

    /// How often a path was asked for.
    pub fn count(&self, path: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|asked| asked.contains(path)).count()
    }
}

pub type Shared = Arc<World>;

fn account(world: &World) -> Value {
    json!({ "id": PERSON, "login": *world.login.lock().unwrap(), "type": "User" })
}

fn installation(world: &World) -> Value {
    let owner = if *world.owns.lock().unwrap() {
        account(world)
    } else {
        json!({ "id": 9_000, "login": "acme", "type": "Organization" })
    };
    let since = world
        .suspended
        .lock()
        .unwrap()
        .then_some("2026-11-22T00:00:00Z");
    json!({ "id": INSTALLATION, "app_id": 7, "account": owner, "suspended_at": since,
        "permissions": permissions(world) })
}

/// What the installation grants: what feedback asks for, and what creating repositories does.
fn permissions(world: &World) -> Value {
    let mut all = world.kept.lock().unwrap().permissions();
    for (name, level) in &world.making.lock().unwrap().permissions {
        all[name] = json!(level);
    }
    all
}

pub fn repository(id: i64, name: &str) -> Value {
    json!({ "id": id, "full_name": name, "private": true, "default_branch": "main",
        "permissions": { "push": id % 2 == 1 } })
}

fn list(world: &World) -> Value {
    let all = world.repositories.lock().unwrap();
    let hidden = &world.making.lock().unwrap().hidden;
    let all = all.iter().filter(|(id, _)| !hidden.contains(id));
    let all: Vec<Value> = all.map(|(id, it)| repository(*id, &it.0)).collect();
    json!({ "total_count": all.len(), "repositories": all })
}

fn pull(number: i64, it: &Pull) -> Value {
    let repository = |id: i64| json!({ "id": id });
    json!({ "number": number, "state": if it.open { "open" } else { "closed" }, "title": it.title,
        "user": { "id": 5, "login": "contributor", "type": "User" },
        "head": { "ref": it.branch, "sha": it.head, "repo": it.from.map(repository) },
        "base": { "ref": "main", "sha": sha('a'), "repo": repository(11) } })
}

fn pulls(world: &World, rest: &[&str]) -> Response {
    let all = world.pulls.lock().unwrap();
    let Some(number) = rest.first() else {
        let open = all.iter().rev().filter(|(_, it)| it.open);
        let list: Vec<Value> = open.map(|(number, it)| pull(*number, it)).collect();
        return Json(list).into_response();
    };
    let found = number
        .parse()
        .ok()
        .and_then(|number| all.get_key_value(&number));
    match found {
        Some((number, it)) => Json(pull(*number, it)).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn api(
    State(world): State<Shared>,
    Path(path): Path<String>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    world.asked.lock().unwrap().push(path.clone());
    if let Some((status, more)) = world.trouble.lock().unwrap().clone() {
        let mut response = (
            StatusCode::from_u16(status).unwrap(),
            Json(json!({ "message": "trouble" })),
        )
            .into_response();
        for (name, value) in more {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        return response;
    }
    let away = world.away.lock().unwrap().clone();
    if away.is_some_and(|text| path.contains(&text)) {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    assert!(
        headers["user-agent"]
            .to_str()
            .unwrap()
            .starts_with("berth/")
    );
    assert_eq!(headers["x-github-api-version"], "2022-11-28");
    let parts: Vec<&str> = path.split('/').collect();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let mut kept = world.kept.lock().unwrap();
    if let Some(answer) = kept.answer(&method, &parts, &headers, &body) {
        return answer;
    }
    if parts.last() == Some(&"access_tokens") && !kept.grants(&body["permissions"]) {
        let refusal = json!({ "message":
            "The permissions requested are not granted to this installation." });
        return (StatusCode::UNPROCESSABLE_ENTITY, Json(refusal)).into_response();
    }
    drop(kept);
    match parts.as_slice() {
        ["app"] => Json(json!({ "id": 7, "slug": "berth-test", "name": "Berth test",
            "html_url": "https://github.invalid/apps/berth-test", "client_id": "Iv1.test" }))
        .into_response(),
        ["app", "installations", "71"] => Json(installation(&world)).into_response(),
        ["app", "installations", "71", "access_tokens"] => {
            let number = world.minted.fetch_add(1, Ordering::SeqCst);
            let now = world.now.lock().unwrap().unwrap_or_else(testing::start);
            let end = (now + time::Duration::HOUR).format(&Rfc3339).unwrap();
            let token = format!("ghs_canary_{number}");
            let mut kept = world.kept.lock().unwrap();
            kept.tokens
                .insert(token.clone(), body["permissions"].clone());
            (
                StatusCode::CREATED,
                Json(json!({ "token": token, "expires_at": end })),
            )
                .into_response()
        }
        ["user"] | ["users", "octocat"] => Json(account(&world)).into_response(),
        ["users", "acme"] => {
            Json(json!({ "id": 9_000, "login": "acme", "type": "Organization" })).into_response()
        }
        ["user", "memberships", "orgs", name] => {
            let all = world.organizations.lock().unwrap();
            match all.iter().find(|(_, login)| login == name) {
                Some((id, login)) => Json(json!({ "state": "active",
                    "organization": { "id": id, "login": login, "type": "Organization" } }))
                .into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            }
        }
        ["user", "installations"] => {
            Json(json!({ "total_count": 1, "installations": [installation(&world)] }))
                .into_response()
        }
        ["installation", "repositories"] | ["user", "installations", "71", "repositories"] => {
            Json(list(&world)).into_response()
        }
        ["repos", owner, name, rest @ ..] => {
            let full = format!("{owner}/{name}");
            let all = world.repositories.lock().unwrap();
            let Some((id, (_, branches))) = all.iter().find(|(_, it)| it.0 == full) else {
                return StatusCode::NOT_FOUND.into_response();
            };
            match rest {
                [] => Json(repository(*id, &full)).into_response(),
                ["pulls", number @ ..] => pulls(&world, number),
                ["branches"] => Json(
                    branches
                        .iter()
                        .map(|(name, sha)| json!({ "name": name, "commit": { "sha": sha } }))
                        .collect::<Vec<_>>(),
                )
                .into_response(),
                // A former name leads to the branch that has another now.
                ["branches", "former"] => {
                    Json(json!({ "name": "main", "commit": { "sha": branches["main"] } }))
                        .into_response()
                }
                ["branches", branch @ ..] => match branches.get(&branch.join("/")) {
                    Some(sha) => {
                        Json(json!({ "name": branch.join("/"), "commit": world.commit(sha) }))
                            .into_response()
                    }
                    None => StatusCode::NOT_FOUND.into_response(),
                },
                ["compare", range] => match world.changes.lock().unwrap().get(*range) {
                    Some((status, files)) => {
                        let files: Vec<Value> =
                            files.iter().map(|it| json!({ "filename": it })).collect();
                        Json(json!({ "status": status, "files": files })).into_response()
                    }
                    None => StatusCode::NOT_FOUND.into_response(),
                },
                ["commits", name @ ..] => {
                    let name = name.join("/");
                    if let Some(sha) = world.resolve(branches, &name) {
                        return Json(world.commit(&sha)).into_response();
                    }
                    let message = format!("No commit found for SHA: {name}");
                    let status = StatusCode::UNPROCESSABLE_ENTITY;
                    (status, Json(json!({ "message": message }))).into_response()
                }
                _ => StatusCode::NOT_FOUND.into_response(),
            }
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn exchange(
    State(world): State<Shared>,
    Form(form): Form<BTreeMap<String, String>>,
) -> Json<Value> {
    let refused = form.get("code").is_some_and(|code| code == "used");
    world.exchanged.lock().unwrap().push(form);
    Json(if refused {
        json!({ "error": "bad_verification_code", "error_description": "canary" })
    } else {
        json!({ "access_token": "ghu_canary", "token_type": "bearer", "scope": "" })
    })
}

async fn convert(Path(code): Path<String>) -> Response {
    if code != "good" {
        return StatusCode::NOT_FOUND.into_response();
    }
    let made = json!({ "id": 7, "slug": "berth-test", "name": "Berth test", "node_id": "x",
        "html_url": "https://github.invalid/apps/berth-test", "client_id": "Iv1.test",
        "client_secret": "canary-client-secret", "webhook_secret": WEBHOOK_SECRET, "pem": *KEY });
    (StatusCode::CREATED, Json(made)).into_response()
}

/// A platform whose GitHub is a stand-in with the repository `octo/demo` (11) at `main`.
pub async fn platform(flags: &[&str]) -> (App, Shared) {
    let world = Arc::new(World {
        login: Mutex::new("octocat".into()),
        owns: Mutex::new(true),
        ..World::default()
    });
    let branches = BTreeMap::from([("main".to_owned(), sha('a'))]);
    world
        .repositories
        .lock()
        .unwrap()
        .insert(11, ("octo/demo".into(), branches));
    let router = Router::new()
        .route("/login/oauth/access_token", post(exchange))
        .route("/api/v3/app-manifests/{code}/conversions", post(convert))
        .merge(making::router())
        .route("/api/v3/{*path}", get(api).post(api).patch(api))
        .with_state(world.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    crate::shutdown::spawn("stand-in", async move {
        axum::serve(listener, router).await.unwrap();
    });
    let api_url = format!("{url}/api/v3");
    let ours = ["--github-url", &url, "--github-api-url", &api_url];
    let flags: Vec<&str> = ours.into_iter().chain(flags.iter().copied()).collect();
    let app = testing::app_with(testing::config(&flags)).await;
    (app, world)
}

/// The App.
pub fn new_registration() -> NewRegistration {
    NewRegistration {
        id: 7,
        slug: "berth-test".into(),
        name: "Berth test".into(),
        page: "https://github.invalid/apps/berth-test".into(),
        client_id: "Iv1.test".into(),
        client_secret: Secret::new("canary-client-secret"),
        private_key: Secret::new(KEY.clone()),
        webhook_secret: Secret::new(WEBHOOK_SECRET),
    }
}

/// The same with an App that is set up.
pub async fn with_app(flags: &[&str]) -> (App, Shared) {
    let (app, world) = platform(flags).await;
    let new = new_registration();
    let mut db = app.db.acquire().await.unwrap();
    let (github, now) = (app.config.github(), app.clock.now());
    registration::create(&mut db, &app.kek, github, &new, &Actor::System, now)
        .await
        .unwrap();
    drop(db);
    (app, world)
}
