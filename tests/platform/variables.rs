//! A change of variables reaches the live server without a build and without a failed call.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::load;
use tests::mcp::{Caller, served_commit};
use tests::platform::{Options, Platform};
use tests::repository::Repository;
use tests::wait;

use crate::Test;

pub const TESTS: &[Test] = &[
    (
        "variables::a_change_is_live_without_a_build_or_a_failed_call",
        a_change_is_live_without_a_build_or_a_failed_call,
    ),
    (
        "variables::a_change_that_breaks_the_server_leaves_the_old_one_serving",
        a_change_that_breaks_the_server_leaves_the_old_one_serving,
    ),
    (
        "variables::what_the_code_reads_is_known_and_named_when_missing",
        what_the_code_reads_is_known_and_named_when_missing,
    ),
];

const SERVER: &str = r#"
import os
from fastmcp import FastMCP

mcp = FastMCP("greeter")
GREETING = os.environ["GREETING"]
assert GREETING != "bad", "this greeting is bad"

@mcp.tool
def greet() -> str:
    """Greets."""
    return "<" + GREETING + ">"
"#;

/// 50 requests a second.
const PACE: Duration = Duration::from_millis(20);

/// The greeting of this moment, and the commit that gave it.
fn greeting(caller: &Caller) -> Result<(String, String)> {
    let answer = caller.call("greet", &json!({}))?;
    let commit = served_commit(&answer)?;
    let (status, text) = (answer.status(), answer.text()?);
    ensure!(status == 200, "{status}: {text}");
    let greeting = text
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'))
        .with_context(|| text.clone())?;
    Ok((greeting.0.to_owned(), commit))
}

/// A platform with the server live, said `one`.
fn greeter(drain: &str) -> Result<(Platform, Value)> {
    let platform = Platform::start(Options {
        settings: vec![("BERTH_DRAIN_SECONDS".into(), drain.into())],
    })?;
    let repository = Repository::new(&[
        ("main.py", SERVER),
        ("requirements.txt", "fastmcp==4.1.2\n"),
    ])?;
    reqwest::blocking::Client::new()
        .post(format!("{}/api/v1/projects", platform.url()))
        .bearer_auth(platform.token()?)
        .json(&json!({ "name": "greeter", "source_url": repository.url() }))
        .send()?
        .error_for_status()?;
    let set = platform.berth(&["env", "greeter", "set", "GREETING=one"])?;
    let said = set.success()?.text();
    ensure!(said.contains("Nothing is live"), "{said}");
    let first = platform.deploy_live("greeter", &repository.url(), &[])?;
    // Nobody can fetch it any more: what follows needs no source.
    drop(repository);
    Ok((platform, first))
}

fn deployment(platform: &Platform, number: i64) -> Result<Value> {
    Ok(reqwest::blocking::Client::new()
        .get(format!(
            "{}/api/v1/projects/greeter/deployments/{number}",
            platform.url()
        ))
        .bearer_auth(platform.token()?)
        .send()?
        .error_for_status()?
        .json()?)
}

fn a_change_is_live_without_a_build_or_a_failed_call() -> Result<()> {
    let (platform, first) = greeter("5")?;
    let old: BTreeSet<String> = platform.containers()?.into_iter().collect();
    let caller = Caller::new(&platform, "greeter")?;
    let ((), seen) = load::during(
        PACE,
        |_| greeting(&caller),
        || change_twice(&platform, &old),
    )?;
    let (mut answers, commits): (Vec<String>, BTreeSet<String>) = seen.into_iter().unzip();
    answers.dedup();
    ensure!(
        answers == ["one", "two", "three"],
        "each value comes once: {answers:?}"
    );
    ensure!(commits.len() == 1, "{commits:?}");

    let restarted = deployment(&platform, 3)?;
    ensure!(
        restarted["origin"] == "variables"
            && restarted["commit"] == first["commit"]
            && restarted["build_of"] == deployment(&platform, 1)?["id"]
            && restarted["variables_revision"] == 3,
        "{restarted}"
    );
    let stages: Vec<&str> = restarted["timings"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|timing| timing["stage"].as_str())
        .collect();
    ensure!(stages == ["start", "import", "check"], "{stages:?}");
    let log = platform
        .berth(&["logs", "greeter", "--deployment", "3", "--build"])?
        .success()?
        .text();
    ensure!(
        log.contains("used again") && log.lines().count() == 2,
        "only what was not done is said: {log}"
    );
    let page = platform.page("/projects/greeter/variables")?;
    ensure!(page.contains("Running with revision 3."), "{page}");
    Ok(())
}

/// By the command line, twice, and until the first instance is gone.
fn change_twice(platform: &Platform, old: &BTreeSet<String>) -> Result<()> {
    for (value, revision) in [("two", 2), ("three", 3)] {
        let set = platform.berth(&[
            "env",
            "greeter",
            "set",
            &format!("GREETING={value}"),
            "--wait",
        ])?;
        let said = set.success()?;
        ensure!(said.text().contains("is live"), "{}", said.text());
        let listed = platform.berth(&["env", "greeter", "list"])?.success()?;
        ensure!(
            listed
                .text()
                .contains(&format!("Running with revision {revision}.")),
            "{}",
            listed.text()
        );
    }
    wait::until(
        "the old instance to be gone after draining",
        Duration::from_mins(1),
        || {
            let now: BTreeSet<String> = platform.containers()?.into_iter().collect();
            Ok(old.is_disjoint(&now).then_some(()))
        },
    )
}

fn a_change_that_breaks_the_server_leaves_the_old_one_serving() -> Result<()> {
    let (platform, _) = greeter("5")?;
    let caller = Caller::new(&platform, "greeter")?;
    let set = platform.berth(&["env", "greeter", "set", "GREETING=bad", "--wait"])?;
    ensure!(set.code != 0, "it fails: {}", set.text());
    ensure!(
        set.text().contains("this greeting is bad"),
        "{}",
        set.text()
    );
    ensure!(greeting(&caller)?.0 == "one");
    let page = platform.page("/projects/greeter/variables")?;
    ensure!(page.contains("Revision 2 did not start."), "{page}");
    // The instance that serves has to be started again: it finds what it had.
    let instance = wait::until("what failed to be removed", Duration::from_mins(1), || {
        let left = platform.containers()?;
        Ok((left.len() == 1).then_some(left))
    })?;
    let killed = std::process::Command::new("docker")
        .args(["kill", "--", &instance[0]])
        .output()?;
    ensure!(killed.status.success());
    wait::until("another instance", Duration::from_mins(1), || {
        let now = platform.containers()?;
        Ok((now.len() == 1 && now != instance).then_some(()))
    })?;
    ensure!(greeting(&caller)?.0 == "one", "held until it answers");
    // A value that works is taken at once.
    platform
        .berth(&["env", "greeter", "set", "GREETING=good", "--wait"])?
        .success()?;
    ensure!(greeting(&caller)?.0 == "good");
    Ok(())
}

/// Two variables that everybody can see, and one that only the start shows.
const NEEDY: &str = r#"
import os
from fastmcp import FastMCP

REGION = os.environ.get("REGION", "north")
HIDDEN = os.environ["HIDDEN" + "_ONE"]
API_KEY = os.environ["API_KEY"]

mcp = FastMCP("needy")

@mcp.tool
def region() -> str:
    return REGION
"#;

fn what_the_code_reads_is_known_and_named_when_missing() -> Result<()> {
    let platform = tests::platform::shared()?;
    let repository = Repository::new(&[
        ("main.py", NEEDY),
        ("requirements.txt", "fastmcp==4.1.2\n"),
        (
            ".env.example",
            "# From the settings page.\nAPI_KEY=your-key-here\n",
        ),
    ])?;
    let deploy = [
        "deploy",
        "--git",
        &repository.url(),
        "--project",
        "needy",
        "--wait",
    ];
    let failed = platform.berth(&deploy)?;
    ensure!(failed.code == 1, "{}", failed.text());
    ensure!(
        failed.stdout.contains("Not set: API_KEY, HIDDEN_ONE"),
        "{}",
        failed.text()
    );
    let needed: Value = reqwest::blocking::Client::new()
        .get(format!(
            "{}/api/v1/projects/needy/variables",
            platform.url()
        ))
        .bearer_auth(platform.token()?)
        .send()?
        .error_for_status()?
        .json()?;
    let by_name = |name: &str| -> Result<Value> {
        let all = needed["needed"].as_array().context("no list")?;
        let found = all.iter().find(|needed| needed["name"] == name);
        found
            .cloned()
            .with_context(|| format!("{name} in {needed}"))
    };
    let key = by_name("API_KEY")?;
    ensure!(
        key["need"] == "required"
            && key["places"] == json!(["main.py:7"])
            && key["example"] == "your-key-here"
            && key["about"] == "From the settings page.",
        "{key}"
    );
    ensure!(by_name("REGION")?["need"] == "default", "{needed}");
    ensure!(
        by_name("HIDDEN_ONE")?["places"] == json!(["main.py:6"]),
        "{needed}"
    );
    let listed = platform.berth(&["env", "needy", "list"])?.success()?.stdout;
    ensure!(listed.contains("The code also reads:"), "{listed}");
    let page = platform.page("/projects/needy/variables")?;
    ensure!(page.contains("placeholder=\"your-key-here\""), "{page}");

    platform
        .berth(&["env", "needy", "set", "API_KEY=k", "HIDDEN_ONE=h"])?
        .success()?;
    platform.deploy_live("needy", &repository.url(), &[])?;
    ensure!(!platform.page("/projects/needy")?.contains("Not set:"));
    Ok(())
}
