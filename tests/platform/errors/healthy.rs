//! Servers that are well and write a lot: none of them gets a diagnosis.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use tests::{python, wait};

use super::deploys::{platform, project, remove};
use super::fixture::{directories, name, read};
use super::launch::Launch;

/// How many there are.
const SERVERS: usize = 20;

/// Deploys each; with TEST_RECORD set, its log is recorded first, for the runner's own test.
pub fn deploy_all() -> Result<()> {
    let servers = directories(&tests::root().join("tests/fixtures/healthy"))?;
    ensure!(servers.len() == SERVERS, "{} servers", servers.len());
    if tests::setting("TEST_RECORD").is_some() {
        servers
            .iter()
            .try_for_each(|server| record(server).with_context(|| name(server)))?;
    }
    let platform = platform()?;
    for server in servers {
        let mut files = read(&server)?;
        files.remove("recorded.log");
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(name, text)| (&**name, &**text))
            .collect();
        let repository = tests::repository::Repository::new(&files)?;
        let project = project(&name(&server));
        let done = platform.deploy_live(&project, &repository.url(), &[])?;
        ensure!(done["diagnosis"].is_null(), "{project}: {done:#}");
        // It has written what it writes.
        wait::until("its log", std::time::Duration::from_secs(30), || {
            let logs = platform.berth(&["logs", &project])?.success()?;
            Ok((!logs.stdout.trim().is_empty()).then_some(()))
        })?;
        let called = platform
            .berth(&["call", &project, "add", r#"{"a":1,"b":2}"#, "--json"])?
            .success()?
            .json()?;
        ensure!(called["content"][0]["text"] == "3", "{project}: {called}");
        remove(&platform, &project)?;
    }
    Ok(())
}

/// What it writes, with a line of its own where it began to serve.
fn record(server: &std::path::Path) -> Result<()> {
    let files = read(server)?;
    let release = files.get("requirements.txt").context("a release")?.trim();
    let python = python::environment(&format!("launch-{release}"), &[release])?;
    let app = tempfile::TempDir::new()?;
    super::fixture::write(app.path(), &files)?;
    let mut launch = Launch::start(&python, app.path(), "", &[])?;
    let said = launch.outcome()?.context("it ended without a word")?;
    ensure!(
        said["phase"] == "serve",
        "{said:#}\n{}",
        launch.log.join("\n")
    );
    launch.log.push("(serving)".to_owned());
    launch.initialize()?;
    let log = launch.stop()?;
    fs::write(server.join("recorded.log"), log.join("\n") + "\n")?;
    Ok(())
}
