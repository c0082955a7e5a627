//! GitHub, as far as the platform uses it: pages, REST API, Git over HTTP and webhooks, in this process.
//!
//! It is held to GitHub's own description: every request and answer of the API is compared with the
//! published OpenAPI description, and every webhook with its schema. What does not fit is kept, and
//! [`Github::finish`] fails with it, as dropping it does.
//!
//! The web part, which has no description, follows GitHub's documentation: "Authorizing OAuth apps" and
//! "Generating a user access token for a GitHub App" (`/login/oauth/…`), "Registering a GitHub App from a
//! manifest" (`/settings/apps/new`, `/organizations/{org}/settings/apps/new`) and "Installing your own
//! GitHub App" (`/apps/{slug}/installations/new`).

mod accounts;
mod api;
mod auth;
mod branches;
mod call;
mod events;
mod faults;
mod git;
mod installations;
mod model;
mod openapi;
mod pages;
mod pull_views;
mod pulls;
mod repo;
mod schema;
mod smart_http;
mod state;
mod views;
pub mod walk;
mod web;
mod webhooks;

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State as Extract;
use axum::http::Response;
use serde_json::Value;
use tempfile::TempDir;

pub use accounts::AppKeys;
pub use faults::{Fault, FaultId};
pub use git::Change;
pub use openapi::examples;
pub use repo::Repo;
pub use state::{
    App, Check, Comment, Deployment, DeploymentStatus, Installation, Merged, Pull, Repositories,
    Review, Status,
};
pub use webhooks::{Delivery, sign};

use call::Reply;
use faults::Faults;
use openapi::Description;
use state::State;
use webhooks::Hooks;

/// The API lies below this, as on an Enterprise Server.
const API: &str = "/api/v3";

/// The largest request that is read, in bytes.
const REQUEST: usize = 64 * 1024 * 1024;

/// One request that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// In capitals.
    pub method: String,
    /// Of the API with parameters in braces, of Git without the repository, or the path of a page.
    pub route: String,
    /// The answer's status.
    pub status: u16,
}

/// What requests and tests share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) url: String,
    pub(crate) api_url: String,
    directory: TempDir,
    state: Mutex<State>,
    requests: Mutex<Vec<Request>>,
    bodies: Mutex<Vec<String>>,
    mismatches: Mutex<Vec<String>>,
    faults: Mutex<Faults>,
    hooks: Arc<Hooks>,
    description: &'static Description,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes as text.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    fn log(&self, request: Request) {
        lock(&self.requests).push(request);
    }

    fn keep(&self, body: &[u8]) {
        if !body.is_empty() {
            lock(&self.bodies).push(String::from_utf8_lossy(body).into_owned());
        }
    }

    fn mismatch(&self, what: String) {
        let mut all = lock(&self.mismatches);
        if !all.contains(&what) {
            all.push(what);
        }
    }
}

/// A running GitHub; gone when dropped.
pub struct Github {
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
    sender: Option<std::thread::JoinHandle<()>>,
}

impl Github {
    /// Starts an empty one on a free port.
    pub fn start() -> Result<Self> {
        let description = openapi::description()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
        let url = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(Shared {
            api_url: format!("{url}{API}"),
            url,
            directory: TempDir::new()?,
            state: Mutex::new(State::new()),
            requests: Mutex::default(),
            bodies: Mutex::default(),
            mismatches: Mutex::default(),
            faults: Mutex::default(),
            hooks: Arc::default(),
            description,
        });
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        runtime.spawn(async move { axum::serve(listener, router).await });
        let sender = shared.hooks.run()?;
        Ok(Self {
            shared,
            runtime: Some(runtime),
            sender: Some(sender),
        })
    }

    /// Where people go: what `BERTH_GITHUB_URL` names.
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// Where programs ask: what `BERTH_GITHUB_API_URL` names.
    pub fn api_url(&self) -> &str {
        &self.shared.api_url
    }

    /// What a platform must be told to use it.
    pub fn settings(&self) -> Vec<(String, String)> {
        let url = |name: &str, url: &str| (name.to_owned(), url.to_owned());
        vec![
            url("BERTH_GITHUB_URL", self.url()),
            url("BERTH_GITHUB_API_URL", self.api_url()),
        ]
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }

    /// Everything that was sent to the API, as text.
    pub fn bodies(&self) -> Vec<String> {
        lock(&self.shared.bodies).clone()
    }

    /// How many tokens were made for an installation.
    pub fn tokens_minted(&self, installation: u64) -> usize {
        let state = self.shared.state();
        state.minted.get(&installation).copied().unwrap_or_default()
    }

    /// Makes requests fail: those of a route (`GET /repos/{owner}/{repo}/branches`; a star at the end
    /// stands for any rest), so many times, or until it is lifted.
    ///
    /// Pages go by their path, and Git by `info/refs` and `git-upload-pack`.
    pub fn fail(&self, route: &str, fault: Fault, times: Option<u32>) -> FaultId {
        self.shared.faults().add(route, fault, times)
    }

    /// Ends one fault.
    pub fn lift(&self, fault: FaultId) {
        self.shared.faults().lift(fault);
    }

    /// Ends all faults.
    pub fn lift_all(&self) {
        self.shared.faults().lift_all();
    }

    /// What did not fit GitHub's description so far.
    pub fn mismatches(&self) -> Vec<String> {
        lock(&self.shared.mismatches).clone()
    }

    /// The same, and forgets it: for tests that provoke a mismatch.
    pub fn take_mismatches(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.shared.mismatches))
    }

    /// Every route of the API that there is here, by method and path.
    pub fn routes() -> Vec<(&'static str, &'static str)> {
        let all = api::routes();
        all.map(|(method, route, _)| (*method, *route)).collect()
    }

    /// Whether GitHub's description knows a route.
    pub fn is_described(&self, method: &str, route: &str) -> bool {
        self.shared.description.knows(method, route)
    }

    /// What is wrong with an answer, by GitHub's description.
    pub fn check_answer(
        &self,
        method: &str,
        route: &str,
        status: u16,
        body: &Value,
    ) -> Vec<String> {
        let description = self.shared.description;
        description.check_answer(method, route, status, Some(body))
    }

    /// Ends it, and fails with everything that did not fit GitHub's description.
    pub fn finish(self) -> Result<()> {
        let wrong = self.take_mismatches();
        if !wrong.is_empty() {
            bail!("not as GitHub describes it:\n{}", wrong.join("\n"));
        }
        Ok(())
    }
}

impl Drop for Github {
    fn drop(&mut self) {
        self.shared.hooks.close();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        if let Some(sender) = self.sender.take() {
            let _ = sender.join();
        }
        let wrong = self.take_mismatches();
        assert!(
            wrong.is_empty() || std::thread::panicking(),
            "not as GitHub describes it:\n{}",
            wrong.join("\n")
        );
    }
}

/// Any request: of the API, of Git, or for a page.
async fn answer(
    Extract(shared): Extract<Arc<Shared>>,
    request: axum::extract::Request,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, REQUEST).await else {
        return api::respond(Reply::error(400, "the body cannot be read"));
    };
    let path = parts.uri.path().to_owned();
    let method = parts.method.as_str().to_owned();
    if let Some(below) = path.strip_prefix(API) {
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let below = below.to_owned();
        return api::answer(shared, method, below, query, parts.headers, body).await;
    }
    let git = smart_http::parts(&path).map(|(_, _, rest)| rest.to_owned());
    let route = git.clone().unwrap_or_else(|| path.clone());
    if let Some(reply) = shared.strike(&method, &route).await {
        let status = reply.status;
        shared.log(Request {
            method,
            route,
            status,
        });
        return api::respond(reply);
    }
    let work = {
        let shared = Arc::clone(&shared);
        move || match git {
            Some(_) => {
                smart_http::answer(&shared, &parts.method, &parts.uri, &parts.headers, &body)
            }
            None => web::answer(&shared, &parts, &body),
        }
    };
    let answered = tokio::task::spawn_blocking(work).await;
    let answered = answered.unwrap_or_else(|error| Err(error.into()));
    let answered = answered.unwrap_or_else(|error| {
        shared.mismatch(format!("{method} {path}: {error:#}"));
        api::respond(Reply::error(500, "Server Error"))
    });
    shared.log(Request {
        method,
        route,
        status: answered.status().as_u16(),
    });
    answered
}
