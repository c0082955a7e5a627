//! A pull request runs beside production, follows its head, and ends with it.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::mcp::{Caller, served_commit};
use tests::wait;

use super::journey::{LIVE, SOON, Setting, files, server};
use crate::Test;

pub const TESTS: &[Test] = &[(
    "github::platform_a_pull_request_has_a_preview_and_a_fork_waits_for_a_member",
    previews,
)];

/// A server with one tool, which says what the variables hold.
fn revealing(tool: &str) -> String {
    format!(
        "import os\n\n{}\n\n@mcp.tool\ndef reveal() -> str:\n    \"\"\"Says what it finds.\"\"\"\n    \
         return \"|\".join([os.environ.get(\"PLAIN\", \"none\"), os.environ.get(\"SECRET\", \"none\")])\n",
        server(tool)
    )
}

/// A preview as the command line lists it.
fn preview(setting: &Setting, slug: &str) -> Result<Option<Value>> {
    let listed = setting.platform.berth(&["previews", "demo", "--json"])?;
    let listed = listed.success()?.json()?;
    let mut all = listed.as_array().context("a list")?.iter();
    Ok(all.find(|it| it["slug"] == slug).cloned())
}

fn wait_live(setting: &Setting, slug: &str, commit: &str) -> Result<()> {
    wait::until(&format!("{slug} at {commit}"), LIVE, || {
        let Some(found) = preview(setting, slug)? else {
            return Ok(None);
        };
        let about = found["about"].as_str().unwrap_or_default();
        ensure!(!about.contains("ailed"), "{found}");
        Ok((about == "Live." && found["commit"] == commit).then_some(()))
    })
    .with_context(|| setting.platform.log_tail())
}

/// Calls a tool of a preview, or of production, with the owner's API token.
fn call(setting: &Setting, label: &str, tool: &str) -> Result<(String, String)> {
    let token = setting.platform.token()?;
    let answer = Caller::with_token(&setting.platform, label, token)?.call(tool, &json!({}))?;
    let commit = served_commit(&answer).unwrap_or_default();
    Ok((commit, answer.text()?))
}

/// Calls a tool that says its name, once the edge has heard of the deployment that has it.
fn says(setting: &Setting, label: &str, tool: &str) -> Result<String> {
    wait::until(&format!("{label} to have {tool}"), SOON, || {
        let (commit, text) = call(setting, label, tool)?;
        Ok(text.contains(&format!("<{tool}>")).then_some(commit))
    })
}

fn previews() -> Result<()> {
    // Far apart, so that what happens here comes by webhooks.
    let mut setting = Setting::new(3_600)?;
    setting.deploy()?;
    let berth = |arguments: &[&str]| setting.platform.berth(arguments)?.success().map(drop);
    berth(&["env", "demo", "set", "--preview", "--plain", "PLAIN=plain"])?;
    berth(&["env", "demo", "set", "--preview", "SECRET=canary"])?;

    let proposed = setting
        .repo
        .push("feature", &files(&revealing("proposed")), "Propose")?;
    let number = setting.repo.open_pull("feature", "main", "A new tool")?;
    let slug = format!("pr-{number}");
    let label = format!("demo--{slug}");
    wait_live(&setting, &slug, &proposed)?;
    ensure!(
        says(&setting, &label, "proposed")? == proposed,
        "another commit"
    );
    let (_, text) = call(&setting, &label, "reveal")?;
    ensure!(text.contains("plain|canary"), "{text}");
    says(&setting, "demo", "first")?;
    let (_, text) = call(&setting, "demo", "proposed")?;
    ensure!(!text.contains("<proposed>"), "production has it: {text}");
    apart(&setting, &label)?;

    let better = setting
        .repo
        .push("feature", &files(&revealing("better")), "Improve")?;
    wait_live(&setting, &slug, &better)?;
    ensure!(
        says(&setting, &label, "better")? == better,
        "the old commit"
    );
    sleeps_and_wakes(&setting, &slug, &label)?;

    let merged = setting.repo.merge_pull(number)?;
    wait::until("the preview to be gone", SOON, || {
        Ok(preview(&setting, &slug)?.is_none().then_some(()))
    })?;
    setting.wait_live(&merged)?;
    ensure!(says(&setting, "demo", "better")? == merged, "not merged");
    wait::until("its address to say why", SOON, || {
        let (_, text) = call(&setting, &label, "better")?;
        Ok(text.contains("its pull request is closed").then_some(()))
    })?;
    of_a_fork(&setting)?;
    setting.github.finish()
}

/// A token for production is refused at the preview.
fn apart(setting: &Setting, label: &str) -> Result<()> {
    let of_production = Caller::new(&setting.platform, "demo")?;
    let there = Caller::with_token(&setting.platform, label, of_production.token())?;
    let answer = there.call("proposed", &json!({}))?;
    ensure!(answer.status() == 401, "{}", answer.status());
    let told = answer.headers().get("www-authenticate");
    let told = told.context("no challenge")?.to_str()?;
    ensure!(told.contains(label), "{told}");
    Ok(())
}

fn sleeps_and_wakes(setting: &Setting, slug: &str, label: &str) -> Result<()> {
    wait::until("the preview to fall asleep", SOON, || {
        // Again and again: the edge may still have calls to report.
        setting.platform.sql(
            "update previews set last_used_at = now() - interval '1 hour' where not asleep;
             update deployments set live_at = now() - interval '1 hour' where preview_id is not null and state = 'live'",
        )?;
        let found = preview(setting, slug)?.context("it is gone")?;
        Ok((found["asleep"] == true).then_some(()))
    })?;
    // Held until it is there, for fifty seconds at the most; on a busy machine it may take longer.
    wait::until("the preview to wake", LIVE, || {
        let (_, text) = call(setting, label, "better")?;
        Ok(text.contains("<better>").then_some(()))
    })
}

/// The code of a fork waits, and runs without the secret.
fn of_a_fork(setting: &Setting) -> Result<()> {
    setting.github.user("mallory");
    let fork = setting.repo.fork("mallory")?;
    let foreign = fork.push("feature", &files(&revealing("foreign")), "Offer")?;
    let number = setting
        .repo
        .open_pull_from(&fork, "feature", "main", "From outside")?;
    let slug = format!("pr-{number}");
    wait::until("the fork's to wait", SOON, || {
        let found = preview(setting, &slug)?;
        Ok(found.filter(|it| it["state"] == "waiting").map(drop))
    })?;
    let page = setting.platform.page("/projects/demo")?;
    ensure!(page.contains("Approve commit"), "{page}");
    let runs = setting.platform.sql(&format!(
        "select count(*) from deployments where source->>'commit' = '{foreign}'"
    ))?;
    ensure!(runs.trim() == "0", "it is built");
    let approve = ["previews", "approve", "demo", &*slug, "--commit", &*foreign];
    setting.platform.berth(&approve)?.success()?;
    wait_live(setting, &slug, &foreign)?;
    let label = format!("demo--{slug}");
    says(setting, &label, "foreign")?;
    let (_, text) = call(setting, &label, "reveal")?;
    ensure!(text.contains("plain|none"), "{text}");
    fork.push("feature", &files(&revealing("later")), "More")?;
    wait::until("the later commit to wait", SOON, || {
        let found = preview(setting, &slug)?;
        Ok(found.filter(|it| it["state"] == "waiting").map(drop))
    })
}
