//! What GitHub shows of what its pushes bring: checks with their reasons at the right lines, and
//! deployments.

use anyhow::{Context as _, Result, ensure};
use tests::github::{Check, Deployment};
use tests::wait;

use super::journey::{LIVE, SOON, Setting, files, server};
use crate::Test;

pub const TESTS: &[Test] = &[(
    "github::platform_tells_github_what_became_of_each_push",
    told,
)];

/// A value of a secret variable, and never to be seen elsewhere.
const CANARY: &str = "canary-5c1f0e7d9a";

/// Tells its secret and then fails for it, on line 5.
const LEAKY: &str = r#"import os
from fastmcp import FastMCP

print("the key is", os.environ["CANARY"])
raise ValueError("the key " + os.environ["CANARY"] + " is not @octocat's <b>")
"#;

/// Lacks a package, on line 2.
const LACKING: &str = "from fastmcp import FastMCP\nimport pandas\n\nmcp = FastMCP(\"demo\")\n";

/// Waits for the check of a commit to have ended so.
fn wait_check(setting: &Setting, commit: &str, conclusion: &str) -> Result<Check> {
    let found = wait::until(&format!("{commit} to be {conclusion}"), LIVE, || {
        let all = setting.repo.checks();
        let newest = all.into_iter().rev().find(|it| it.head_sha == commit);
        Ok(newest.filter(|it| it.conclusion.as_deref() == Some(conclusion)))
    });
    found.with_context(|| {
        let all = setting.repo.checks();
        format!("{all:#?}\n{}", setting.platform.log_tail())
    })
}

/// Waits for the last status of a commit's deployment.
fn wait_status(setting: &Setting, commit: &str, state: &str) -> Result<Deployment> {
    wait::until(&format!("{commit} to be {state}"), SOON, || {
        let all = setting.repo.deployments();
        let newest = all.into_iter().rev().find(|it| it.sha == commit);
        Ok(newest.filter(|it| it.statuses.last().is_some_and(|last| last.state == state)))
    })
}

fn push(setting: &Setting, text: &str, message: &str) -> Result<String> {
    setting.repo.push("main", &files(text), message)
}

fn told() -> Result<()> {
    let mut setting = Setting::new(3_600)?;
    setting.deploy()?;
    let first = setting.repo.head("main")?;
    let check = wait_check(&setting, &first, "success")?;
    ensure!(check.name == "Berth: demo", "{check:?}");
    let summary = check.summary.context("a summary")?;
    ensure!(
        summary.contains("/mcp`") && summary.contains("**Steps:**"),
        "{summary}"
    );
    let deployment = wait_status(&setting, &first, "success")?;
    ensure!(deployment.environment == "production" && deployment.production);
    let page = format!("{}/projects/demo", setting.platform.url());
    ensure!(deployment.statuses[0].log_url == format!("{page}/deployments/1"));
    secret(&setting)?;

    failures(&setting, &first)?;
    let mended = push(&setting, &server("first"), "Mend it")?;
    wait_check(&setting, &mended, "success")?;
    wait_status(&setting, &mended, "success")?;
    wait_status(&setting, &first, "inactive")?;
    held(&setting)?;

    let bodies = setting.github.bodies();
    ensure!(bodies.len() > 10, "what was sent is not kept");
    for body in &bodies {
        ensure!(!body.contains(CANARY), "{body}");
    }
    setting.github.finish()
}

/// A secret variable; the server restarts with it, which is no news of the commit.
fn secret(setting: &Setting) -> Result<()> {
    let before = setting.repo.checks().len();
    let file = setting.platform.data().join("variables.env");
    std::fs::write(&file, format!("CANARY={CANARY}\n"))?;
    setting
        .platform
        .berth(&["env", "demo", "import", &file.to_string_lossy()])?
        .success()?;
    std::fs::remove_file(&file)?;
    wait::until("the restart to be live", LIVE, || {
        let newest = setting.platform.newest("demo")?;
        Ok((newest["state"] == "live" && newest["number"] == 2).then_some(()))
    })?;
    ensure!(
        setting.repo.checks().len() == before,
        "a check of a restart"
    );
    Ok(())
}

fn failures(setting: &Setting, live: &str) -> Result<()> {
    let leaky = push(setting, LEAKY, "Leak")?;
    let check = wait_check(setting, &leaky, "failure")?;
    ensure!(check.annotations.len() == 1, "{check:?}");
    let annotation = &check.annotations[0];
    ensure!(
        annotation["path"] == "server.py" && annotation["start_line"] == 5,
        "{annotation}"
    );
    let summary = check.summary.context("a summary")?;
    ensure!(summary.contains("•••"), "the secret is masked: {summary}");
    ensure!(
        !summary.contains("@octocat") && !summary.contains("<b>"),
        "{summary}"
    );

    let lacking = push(setting, LACKING, "Forget a package")?;
    let check = wait_check(setting, &lacking, "failure")?;
    let annotation = &check.annotations[0];
    ensure!(
        annotation["path"] == "server.py" && annotation["start_line"] == 2,
        "{annotation}"
    );
    let summary = check.summary.context("a summary")?;
    ensure!(
        summary.contains("**Next step:** Add `pandas` to requirements"),
        "{summary}"
    );
    wait_status(setting, &lacking, "failure")?;
    // What was live stays so, here as there.
    wait_status(setting, live, "success")?;

    // An older one is not run again; the head is.
    let old = setting
        .repo
        .checks()
        .into_iter()
        .find(|it| it.head_sha == leaky);
    setting
        .github
        .rerequest_check(old.context("its check")?.id)?;
    wait_check(setting, &leaky, "neutral")?;
    let runs = |sha: &str| {
        setting
            .repo
            .checks()
            .iter()
            .filter(|it| it.head_sha == sha)
            .count()
    };
    ensure!(runs(&leaky) == 1, "run again");
    setting.github.rerequest_check(check.id)?;
    wait::until("the head to be run again", LIVE, || {
        let all = setting.repo.checks();
        let newest = all.iter().rev().find(|it| it.head_sha == lacking);
        let ended = newest.is_some_and(|it| it.conclusion.as_deref() == Some("failure"));
        Ok((ended && runs(&lacking) == 2).then_some(()))
    })
}

/// What would break callers waits for a member, and GitHub says what it is.
fn held(setting: &Setting) -> Result<()> {
    setting
        .platform
        .berth(&["projects", "set", "demo", "--hold-breaking", "on"])?
        .success()?;
    let other = push(setting, &server("other"), "Rename the tool")?;
    let check = wait_check(setting, &other, "action_required")?;
    let summary = check.summary.context("a summary")?;
    ensure!(
        summary.contains("**Breaks callers** (1)") && summary.contains("`tool first`"),
        "{summary}"
    );
    wait_status(setting, &other, "pending")?;
    let number = setting.platform.newest("demo")?["number"].to_string();
    setting
        .platform
        .berth(&["promote", "demo", &number, "--wait"])?
        .success()?;
    wait_check(setting, &other, "success")?;
    wait_status(setting, &other, "success")?;
    Ok(())
}
