//! Warm calls do not need the database.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use tests::mcp::Caller;
use tests::platform::{Options, Platform};
use tests::repository::Repository;

use crate::Test;
use crate::servers::FASTMCP;

pub const TESTS: &[Test] = &[("database_away::warm_calls_go_on", warm_calls_go_on)];

/// How long the database stands still.
const AWAY: Duration = Duration::from_secs(30);

fn signal(name: &str, processes: &[String]) -> Result<()> {
    ensure!(
        Command::new("kill")
            .args([name, "--"])
            .args(processes)
            .status()?
            .success(),
        "kill {name}"
    );
    Ok(())
}

fn warm_calls_go_on() -> Result<()> {
    let platform = Platform::start(Options::default())?;
    let repository = Repository::new(&[
        ("main.py", FASTMCP),
        ("requirements.txt", "fastmcp==4.1.2\n"),
    ])?;
    platform.deploy_live("warm", &repository.url(), &[])?;
    let caller = Caller::new(&platform, "warm")?;
    ensure!(
        caller.call("add", &json!({ "a": 1, "b": 1 }))?.status() == 200,
        "the first call"
    );
    let processes = platform.database_processes()?;
    signal("-STOP", &processes)?;
    let start = Instant::now();
    let mut calls = 0;
    let mut failures = Vec::new();
    while start.elapsed() < AWAY {
        match caller.call("add", &json!({ "a": 1, "b": 1 })) {
            Ok(answer) if answer.status() == 200 => {}
            other => failures.push(format!("{other:?}")),
        }
        calls += 1;
        std::thread::park_timeout(Duration::from_millis(100));
    }
    signal("-CONT", &processes)?;
    ensure!(
        failures.is_empty(),
        "{} of {calls} calls failed: {failures:#?}",
        failures.len()
    );
    ensure!(calls > 100, "only {calls} calls");
    platform.wait_ready()?;
    // And what needs it works again.
    platform.deploy_live("warm", &repository.url(), &[])?;
    Ok(())
}
