//! A redeploy drops nobody.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::mcp::Caller;
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

/// What the load saw.
#[derive(Default)]
struct Seen {
    calls: usize,
    failures: Vec<String>,
    /// Commits in the order they first answered, and whether an older one came back after.
    commits: Vec<String>,
}

fn load(caller: &Caller, stop: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let answer = caller.call("add", &json!({ "a": seen.calls, "b": 1 }));
        match answer.and_then(|answer| {
            let commit = answer
                .headers()
                .get("berth-commit")
                .context("no Berth-Commit")?
                .to_str()?
                .to_owned();
            let status = answer.status();
            let text = answer.text()?;
            ensure!(
                status == 200 && text.contains(&format!("\"{}\"", seen.calls + 1)),
                "{status}: {text}"
            );
            Ok(commit)
        }) {
            Ok(commit) => {
                if seen.commits.last() != Some(&commit) {
                    seen.commits.push(commit);
                }
            }
            Err(error) => seen
                .failures
                .push(format!("call {}: {error:#}", seen.calls)),
        }
        seen.calls += 1;
        next += PACE;
        std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
    }
    seen
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
    let stop = AtomicBool::new(false);
    let (seen, redeployed) = std::thread::scope(|scope| {
        let load = scope.spawn(|| load(&caller, &stop));
        let redeployed = platform
            .deploy_live("loaded", &repository.url(), &[])
            .and_then(|done| {
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
            });
        stop.store(true, Ordering::Relaxed);
        (load.join().expect("the load does not panic"), redeployed)
    });
    let second = redeployed?;
    ensure!(second["commit"] == changed, "{second}");
    ensure!(
        seen.failures.is_empty(),
        "{} of {} calls failed: {:#?}",
        seen.failures.len(),
        seen.calls,
        seen.failures
    );
    ensure!(seen.calls > 100, "only {} calls", seen.calls);
    ensure!(
        json!(seen.commits) == json!([first["commit"], second["commit"]]),
        "the commit flips once: {:?}",
        seen.commits
    );
    Ok(())
}
