//! A redeploy drops nobody.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tests::load;
use tests::mcp::{Caller, served_commit};
use tests::platform::{Options, Platform};
use tests::repository::Repository;
use tests::wait;

use crate::Test;
use crate::servers::FASTMCP;

pub const TESTS: &[Test] = &[(
    "redeploy::under_load_nothing_fails",
    under_load_nothing_fails,
)];

/// 20 requests a second.
const PACE: Duration = Duration::from_millis(50);

/// Adds, and gives the commit that did.
fn add(caller: &Caller, number: usize) -> Result<String> {
    let answer = caller.call("add", &json!({ "a": number, "b": 1 }))?;
    let commit = served_commit(&answer)?;
    let (status, text) = (answer.status(), answer.text()?);
    ensure!(
        status == 200 && text.contains(&format!("\"{}\"", number + 1)),
        "{status}: {text}"
    );
    Ok(commit)
}

fn under_load_nothing_fails() -> Result<()> {
    let platform = Platform::start(Options {
        settings: vec![("BERTH_DRAIN_SECONDS".into(), "5".into())],
    })?;
    let repository = Repository::new(&[
        ("main.py", FASTMCP),
        ("requirements.txt", "fastmcp==4.1.2\n"),
    ])?;
    let first = platform.deploy_live("loaded", &repository.url(), &[])?;
    let old: BTreeSet<String> = platform.containers()?.into_iter().collect();
    let changed =
        repository.commit(&[("main.py", &FASTMCP.replace("Adds.", "Adds two numbers."))])?;
    let caller = Caller::new(&platform, "loaded")?;
    let redeploy = || {
        let done = platform.deploy_live("loaded", &repository.url(), &[])?;
        // The load goes on until the old instance is gone.
        wait::until(
            "the old instance to be gone after draining",
            Duration::from_mins(1),
            || {
                let now: BTreeSet<String> = platform.containers()?.into_iter().collect();
                Ok(old.is_disjoint(&now).then_some(()))
            },
        )?;
        Ok(done)
    };
    let (second, mut commits) = load::during(PACE, |number| add(&caller, number), redeploy)?;
    commits.dedup();
    ensure!(second["commit"] == changed, "{second}");
    ensure!(
        json!(commits) == json!([first["commit"], second["commit"]]),
        "the commit flips once: {commits:?}"
    );
    Ok(())
}
