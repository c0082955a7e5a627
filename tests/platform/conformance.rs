//! The conformance suite of the protocol's own project, against the authorization server, and
//! against a server reached directly and through edge and authorization.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::browser::Browser;
use tests::mcp::Caller;
use tests::{node, platform, python, sdist, wait};

use crate::Test;
use crate::fixtures::{EVERYTHING, EVERYTHING_CODE, EVERYTHING_PACKAGES};

pub const TESTS: &[Test] = &[
    ("conformance::r24_authorization", authorization),
    ("conformance::r18_server_2025_11_25", || {
        server("2025-11-25")
    }),
    ("conformance::r18_server_2026_07_28", || {
        server("2026-07-28")
    }),
];

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// For each scenario, its checks and what became of them. `INFO` is what was sent and received,
/// which varies with timing.
type Results = BTreeMap<String, Vec<(String, String)>>;

fn results(directory: &Path) -> Result<Results> {
    let mut results = Results::new();
    for scenario in std::fs::read_dir(directory)? {
        let path = scenario?.path();
        let name = path
            .file_name()
            .context("a directory has a name")?
            .to_string_lossy()
            .into_owned();
        // It ends in a time such as `-2026-11-22T21-52-08-302Z`.
        let name = name[..name.len().saturating_sub(25)].to_owned();
        let checks: Vec<Value> = serde_json::from_slice(&std::fs::read(path.join("checks.json"))?)?;
        let mut became: Vec<(String, String)> = checks
            .iter()
            .filter(|check| check["status"] != "INFO")
            .map(|check| (text(&check["id"]), text(&check["status"])))
            .collect();
        became.sort();
        results.insert(name, became);
    }
    Ok(results)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn authorization() -> Result<()> {
    let platform = platform::shared()?;
    EVERYTHING.deploy(&platform)?;
    let port = free_port()?;
    let registered: Value = reqwest::blocking::Client::new()
        .post(format!("{}/oauth/register", platform.url()))
        .json(&json!({
            "client_name": "Conformance suite",
            "redirect_uris": [format!("http://127.0.0.1:{port}/callback")],
            "token_endpoint_auth_method": "none",
        }))
        .send()?
        .error_for_status()?
        .json()?;
    let output = TempDir::new()?;
    let mut suite = node::conformance()?
        .args(["authorization", "--url", &platform.url()])
        .args(["--client-id", &text(&registered["client_id"])])
        .args(["--resource", &platform.mcp_url(EVERYTHING.project)])
        .args(["--port", &port.to_string(), "-o"])
        .arg(output.path())
        .stdout(Stdio::piped())
        .spawn()
        .map(Running)?;
    let stdout = suite.0.stdout.take().context("no standard output")?;
    let browser = Browser::start()?;
    let mut said = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        if line.starts_with("http://") && line.contains("/oauth/authorize?") {
            browser.authorize(&platform, &line)?;
        }
        said.push(line);
    }
    suite.0.wait()?;
    let results = results(output.path())?;
    let became: BTreeMap<&str, &str> = results
        .values()
        .flatten()
        .map(|(check, status)| (&**check, &**status))
        .collect();
    let expected = BTreeMap::from([
        ("authorization-code-grant", "SUCCESS"),
        ("authorization-server-metadata", "SUCCESS"),
        ("authorization-server-metadata-cimd", "SUCCESS"),
    ]);
    ensure!(became == expected, "{became:?}\n{}", said.join("\n"));
    Ok(())
}

fn server(requirements: &str) -> Result<()> {
    let direct = suite(requirements, by_hand()?)?;
    let platform = platform::shared()?;
    EVERYTHING.deploy(&platform)?;
    let through = suite(requirements, adapter(&platform)?)?;
    for (scenario, expected) in &direct {
        let became = through.get(scenario);
        ensure!(
            became == Some(expected),
            "{scenario}: {became:?} through the platform, {expected:?} without it"
        );
    }
    ensure!(direct.len() == through.len(), "{through:?}");
    ensure!(direct.len() > 30, "only {} scenarios", direct.len());
    // Two runs that both fail would be the same, too. The server has no tasks.
    for (scenario, checks) in &through {
        let failed = checks.iter().any(|(_, status)| status == "FAILURE");
        ensure!(
            !failed || scenario.starts_with("server-tasks-"),
            "{scenario}: {checks:?}"
        );
    }
    Ok(())
}

/// Runs the server scenarios of one revision against what listens on a port.
fn suite(requirements: &str, (_running, port): (Vec<Running>, u16)) -> Result<Results> {
    let output = TempDir::new()?;
    let ended = node::conformance()?
        .args(["server", "--url", &format!("http://localhost:{port}/mcp")])
        .args(["--requirements", requirements, "-o"])
        .arg(output.path())
        .output()?;
    let results = results(output.path())?;
    ensure!(!results.is_empty(), "{ended:?}");
    Ok(results)
}

/// The server as its authors start it, without the platform.
fn by_hand() -> Result<(Vec<Running>, u16)> {
    let python = python::environment("everything", EVERYTHING_PACKAGES)?;
    let code = sdist::examples("2.3.0")?
        .remove(EVERYTHING_CODE)
        .context("the SDK has no everything-server")?;
    let port = free_port()?;
    let child = Command::new(python)
        .args(["-c", &code, "--port", &port.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(Running)?;
    wait::until("the server to listen", Duration::from_mins(1), || {
        Ok(TcpStream::connect(("127.0.0.1", port)).ok())
    })?;
    Ok((vec![child], port))
}

/// What adds the token that the suite cannot send.
fn adapter(platform: &platform::Platform) -> Result<(Vec<Running>, u16)> {
    let caller = Caller::new(platform, EVERYTHING.project)?;
    let mut child = node::client("adapter.mjs")?
        .args([&platform.port().to_string()])
        .arg(format!("{}.localhost", EVERYTHING.project))
        .env("TEST_ACCESS_TOKEN", caller.token())
        .stdout(Stdio::piped())
        .spawn()
        .map(Running)?;
    let stdout = child.0.stdout.take().context("no standard output")?;
    let mut port = String::new();
    BufReader::new(stdout).read_line(&mut port)?;
    Ok((vec![child], port.trim().parse()?))
}
