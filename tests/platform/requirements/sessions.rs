//! R9–R11 and R41: MCP sessions stay with their instance and belong to who opened them.

use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use reqwest::blocking::Response;
use serde_json::{Value, json};
use tests::oauth::App;
use tests::repository::Repository;
use tests::{platform, wait};

use super::{ECHO, Echo, arrived, ensure_json_rpc_error};
use crate::Test;

pub const TESTS: &[Test] = &[
    ("r09_a_session_stays_with_the_instance_that_issued_it", r09),
    (
        "r10_a_replaced_instance_serves_its_sessions_until_they_end",
        r10,
    ),
    ("r11_an_open_stream_keeps_its_instance", r11),
    ("r41_a_session_belongs_to_who_opened_it", r41),
];

/// Long enough for a drain to be noticed on a busy machine.
const DRAINED: Duration = Duration::from_secs(90);

/// A project that can be deployed anew.
struct Redeployable {
    echo: Echo,
    repository: Repository,
}

/// Where a request with a session was answered.
#[derive(Debug, PartialEq, Eq)]
struct Answered {
    instance: String,
    commit: String,
}

impl Redeployable {
    fn new(project: &str) -> Result<Self> {
        let repository = super::repository()?;
        let echo = Echo::deploy(platform::shared()?, project, &repository)?;
        Ok(Self { echo, repository })
    }

    /// Puts a new instance in front; gives its commit.
    fn redeploy(&self) -> Result<String> {
        let changed = format!("{ECHO}\n# {}\n", uuid::Uuid::now_v7());
        let commit = self.repository.commit(&[("main.py", &changed)])?;
        self.echo
            .platform
            .deploy_live(&self.echo.project, &self.repository.url(), &[])?;
        Ok(commit)
    }

    /// Opens an MCP session.
    fn open(&self) -> Result<(String, Answered)> {
        let answer = self.echo.post("session").body("{}").send()?;
        let id = answer.headers()["mcp-session-id"].to_str()?.to_owned();
        Ok((id, answered(answer)?))
    }

    fn with(&self, method: Method, session: &str) -> Result<Response> {
        Ok(self
            .echo
            .request(method, "/mcp", "session")
            .header("mcp-session-id", session)
            .json(&json!({ "jsonrpc": "2.0", "id": 9, "method": "x" }))
            .send()?)
    }

    /// The deployments that still drain.
    fn draining(&self) -> Result<Vec<Value>> {
        let all = self
            .echo
            .platform
            .berth(&["deployments", &self.echo.project, "--json"])?;
        let all = all.success()?.json()?;
        let all = all
            .as_array()
            .or_else(|| all["deployments"].as_array())
            .cloned();
        Ok(all
            .context("a list of deployments")?
            .into_iter()
            .filter(|one| one["state"] == "draining")
            .collect())
    }

    fn wait_until_drained(&self) -> Result<()> {
        wait::until("the old instance to end", DRAINED, || {
            Ok(self.draining()?.is_empty().then_some(()))
        })
    }
}

fn answered(answer: Response) -> Result<Answered> {
    ensure!(answer.status() == 200, "{answer:?}");
    let body: Value = answer.json()?;
    Ok(Answered {
        instance: body["instance"].as_str().context("no instance")?.to_owned(),
        commit: body["commit"].as_str().context("no commit")?.to_owned(),
    })
}

fn r09() -> Result<()> {
    let project = Redeployable::new("r09")?;
    let (session, first) = project.open()?;
    let commit = project.redeploy()?;
    ensure!(
        answered(project.with(Method::POST, &session)?)? == first,
        "it moved"
    );
    let (newer, second) = project.open()?;
    ensure!(
        second.commit == commit && second.instance != first.instance,
        "{second:?}"
    );
    for _ in 0..5 {
        ensure!(answered(project.with(Method::POST, &session)?)? == first);
        ensure!(answered(project.with(Method::GET, &newer)?)? == second);
    }
    // An id that nobody issued: the live server says so, in JSON-RPC.
    let unknown = project.with(Method::POST, "nobody-issued-this")?;
    ensure!(unknown.status() == 404, "{unknown:?}");
    let body: Value = unknown.json()?;
    ensure!(body["error"]["message"] == "Session not found", "{body}");
    // The session ends, and with it the old instance; its id is unknown from then on.
    ensure!(project.with(Method::DELETE, &session)?.status() == 200);
    project.wait_until_drained()?;
    ensure!(project.with(Method::POST, &session)?.status() == 404);
    Ok(())
}

fn r10() -> Result<()> {
    let project = Redeployable::new("r10")?;
    let (session, first) = project.open()?;
    project.redeploy()?;
    // The bound of the test platform is half an hour: only the session keeps it.
    let draining = project.draining()?;
    ensure!(draining.len() == 1, "{draining:?}");
    let shown = wait::until("the session to be counted", DRAINED, || {
        let one = project
            .draining()?
            .into_iter()
            .next()
            .context("it drains no more")?;
        Ok((one["sessions"] == 1).then_some(one))
    })?;
    ensure!(
        shown["drain_until"].is_string(),
        "the bound is shown: {shown}"
    );
    let page = project.echo.platform.page("/projects/r10")?;
    ensure!(
        page.contains("1 MCP session"),
        "the page shows what it waits for"
    );
    ensure!(answered(project.with(Method::POST, &session)?)? == first);
    // Without a session: the new one.
    let seen = arrived(project.echo.post("echo"))?;
    ensure!(seen.text("instance") != first.instance, "{seen:?}");
    ensure!(project.with(Method::DELETE, &session)?.status() == 200);
    project.wait_until_drained()
}

/// Nothing stops an instance for idleness yet; what could stop it is a newer deployment.
fn r11() -> Result<()> {
    let project = Redeployable::new("r11")?;
    let stream = project
        .echo
        .request(Method::GET, "/mcp", "gate:r11")
        .send()?;
    let mut lines = BufReader::new(stream).lines();
    ensure!(lines.next().context("no event")?? == "data: first");
    let old = project.redeploy()?;
    // Once this one is gone, an instance without streams would be too.
    project.redeploy()?;
    wait::until("the deployment between to end", DRAINED, || {
        let draining = project.draining()?;
        Ok((!draining.iter().any(|one| one["commit"] == old.as_str())).then_some(()))
    })?;
    ensure!(
        project.draining()?.len() == 1,
        "the one with the stream drains on"
    );
    drop(lines);
    project.wait_until_drained()
}

fn r41() -> Result<()> {
    let project = Redeployable::new("r41")?;
    let (session, first) = project.open()?;
    // The same person with another client is somebody else.
    let other = App::register(&project.echo.platform, &json!({}))?.tokens("r41")?;
    let token = other["access_token"].as_str().context("no token")?;
    let stolen = project
        .echo
        .bare(Method::POST, "/mcp")
        .bearer_auth(token)
        .header("x-test", "session")
        .header("mcp-session-id", &session)
        .json(&json!({ "jsonrpc": "2.0", "id": 41, "method": "x" }))
        .send()?;
    let error = ensure_json_rpc_error(stolen, 404, &json!(41))?;
    ensure!(
        error["error"]["message"]
            .as_str()
            .unwrap_or_default()
            .contains("ession not found"),
        "{error}"
    );
    ensure!(
        answered(project.with(Method::POST, &session)?)? == first,
        "its owner goes on"
    );
    Ok(())
}
