//! What MCP clients and servers need of the platform, one test for each numbered requirement
//! (docs/requirements.md), through the real edge, authorization server and instances.

mod authorization;
mod build;
mod gateway;
mod logs;
mod modes;
mod restart;
mod sessions;
mod silence;
mod snippets;
mod tenant;

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use reqwest::blocking::{Client, RequestBuilder, Response};
use serde_json::Value;
use tests::mcp::Caller;
use tests::platform::{self, Platform};
use tests::repository::Repository;

use crate::Test;

/// Every requirement's test.
pub fn tests() -> impl Iterator<Item = &'static Test> {
    [
        gateway::TESTS,
        sessions::TESTS,
        authorization::TESTS,
        restart::TESTS,
        modes::TESTS,
        build::TESTS,
        tenant::TESTS,
        snippets::TESTS,
        logs::TESTS,
    ]
    .into_iter()
    .flatten()
}

/// Those that take too long for every run.
pub fn long_tests() -> &'static [Test] {
    silence::TESTS
}

/// Shows what reaches it.
const ECHO: &str = include_str!("../../servers/echo.py");

/// The project that most tests call.
const PROJECT: &str = "echo";

/// A project with the echo server.
struct Echo {
    platform: Arc<Platform>,
    project: String,
    http: Client,
    token: String,
}

/// The one that tests share which do not hurt it.
fn echo() -> Result<Arc<Echo>> {
    static SHARED: Mutex<Option<Arc<Echo>>> = Mutex::new(None);
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(echo) = shared.as_ref() {
        return Ok(echo.clone());
    }
    let repository = repository()?;
    let echo = Arc::new(Echo::deploy(platform::shared()?, PROJECT, &repository)?);
    *shared = Some(echo.clone());
    Ok(echo)
}

fn repository() -> Result<Repository> {
    Repository::new(&[("main.py", ECHO), ("requirements.txt", "uvicorn\n")])
}

impl Echo {
    /// Deploys one of its own.
    fn deploy(platform: Arc<Platform>, project: &str, repository: &Repository) -> Result<Self> {
        platform.deploy_live(project, &repository.url(), &["--entrypoint", "main.py:app"])?;
        let token = Caller::new(&platform, project)?.token().to_owned();
        let loopback = ([127, 0, 0, 1], platform.port()).into();
        let http = Client::builder()
            .resolve(&format!("{project}.localhost"), loopback)
            .resolve(&format!("{project}--key.localhost"), loopback)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self {
            platform,
            project: project.to_owned(),
            http,
            token,
        })
    }

    /// Its origin.
    fn origin(&self) -> String {
        format!("http://{}", self.authority())
    }

    /// Host and port.
    fn authority(&self) -> String {
        format!("{}.localhost:{}", self.project, self.platform.port())
    }

    /// A request without a token.
    fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.origin()))
    }

    /// A request with a token, that asks for a behaviour.
    fn request(&self, method: Method, path: &str, behaviour: &str) -> RequestBuilder {
        self.bare(method, path)
            .bearer_auth(&self.token)
            .header("x-test", behaviour)
    }

    /// A POST to the MCP path.
    fn post(&self, behaviour: &str) -> RequestBuilder {
        self.request(Method::POST, "/mcp", behaviour)
    }
}

/// A JSON request to the API in the owner's name.
pub fn api(platform: &Platform, method: Method, path: &str, body: &Value) -> Result<Value> {
    let http = platform.http().build()?;
    let answer = http
        .request(method, format!("{}/api/v1{path}", platform.url()))
        .bearer_auth(platform.token()?)
        .json(body)
        .send()?;
    let status = answer.status();
    let text = answer.text()?;
    ensure!(status.is_success(), "{path}: {status}: {text}");
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// What of a request reached the server.
fn arrived(request: RequestBuilder) -> Result<Seen> {
    Seen::read(request.send()?)
}

/// What of a request reached the server.
#[derive(Debug)]
struct Seen(Value);

impl Seen {
    fn read(answer: Response) -> Result<Self> {
        ensure!(
            answer.status() == 200,
            "{}: {}",
            answer.status(),
            answer.text()?
        );
        Ok(Self(answer.json()?))
    }

    /// The values of a header, in order.
    fn headers(&self, name: &str) -> Vec<&str> {
        self.0["headers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|pair| {
                pair[0]
                    .as_str()
                    .is_some_and(|known| known.eq_ignore_ascii_case(name))
            })
            .filter_map(|pair| pair[1].as_str())
            .collect()
    }

    /// The one value of a header.
    fn header(&self, name: &str) -> Result<&str> {
        let values = self.headers(name);
        ensure!(values.len() == 1, "{name}: {values:?}");
        Ok(values[0])
    }

    fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }

    fn body(&self) -> Result<Vec<u8>> {
        STANDARD
            .decode(self.text("body"))
            .context("the body is Base64")
    }
}

/// Fails unless an answer is a JSON-RPC error with this id that says what to do.
fn ensure_json_rpc_error(answer: Response, status: u16, id: &Value) -> Result<Value> {
    ensure!(answer.status() == status, "{answer:?}");
    let error: Value = answer.json()?;
    ensure!(error["jsonrpc"] == "2.0" && error["id"] == *id, "{error}");
    let message = error["error"]["message"].as_str().unwrap_or_default();
    ensure!(
        error["error"]["code"].is_i64() && message.len() > 20,
        "{error}"
    );
    Ok(error)
}
