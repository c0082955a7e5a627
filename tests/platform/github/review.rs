//! What a pull request tells of itself before it is merged, and what a fork's never learns.

use anyhow::{Context as _, Result, ensure};
use tests::github::{Check, Comment};
use tests::wait;

use super::journey::{LIVE, SOON, Setting, files, says, server};
use crate::Test;

pub const TESTS: &[Test] = &[(
    "github::platform_pull_requests_tell_what_they_break_and_forks_learn_no_secret",
    review,
)];

/// Values of secret variables of production, of previews, of the fork's branch and of builds.
const CANARIES: [&str; 4] = [
    "canary-production-1d4b",
    "canary-preview-8a07",
    "canary-branch-c39e",
    "canary-build-52f6",
];

/// Lacks a package, on line 3.
const LACKING: &str = "from fastmcp import FastMCP\n\nimport pandas\n\nmcp = FastMCP(\"demo\")\n";

/// Tells all that it finds and fails with it.
const CURIOUS: &str = r#"import os
from fastmcp import FastMCP

found = " ".join(f"{name}={value}" for name, value in os.environ.items())
print("it finds", found)
raise ValueError("it found " + found)
"#;

/// A name that Git allows: 250 bytes, and what means something to shells, URLs, SQL and Markdown.
fn odd_branch() -> String {
    let odd = "fix/$(id)`;'\"%2e#é@octocat&<b>-";
    format!("{odd}{}", "x".repeat(250 - odd.len()))
}

fn wait_check(setting: &Setting, commit: &str, name: &str, conclusion: &str) -> Result<Check> {
    wait::until(
        &format!("{name} of {commit} to be {conclusion}"),
        LIVE,
        || {
            let all = setting.repo.checks();
            let newest = all
                .into_iter()
                .rev()
                .find(|it| it.head_sha == commit && it.name == name);
            Ok(newest.filter(|it| it.conclusion.as_deref() == Some(conclusion)))
        },
    )
    .with_context(|| {
        let all = setting.repo.checks();
        format!("{all:#?}\n{}", setting.platform.log_tail())
    })
}

/// Waits until the only comment on a pull request says this.
fn wait_comment(setting: &Setting, number: u64, text: &str) -> Result<Comment> {
    wait::until(&format!("a comment that says {text}"), LIVE, || {
        let mut all = setting.repo.comments(number);
        ensure!(all.len() <= 1, "{all:#?}");
        Ok(all.pop().filter(|it| it.body.contains(text)))
    })
    .with_context(|| format!("{:#?}", setting.repo.comments(number)))
}

fn review() -> Result<()> {
    let mut setting = Setting::new(3_600)?;
    setting.deploy()?;
    secrets(&setting)?;
    broken_and_mended(&setting)?;
    breaking(&setting)?;
    curious_fork(&setting)?;
    setting.github.finish()
}

fn secrets(setting: &Setting) -> Result<()> {
    let [production, preview, branch, build] = CANARIES;
    for (scope, value) in [
        (&["--scope", "production"][..], production),
        (&["--preview"], preview),
        (&["--branch", "curious"], branch),
        (&["--build"], build),
    ] {
        // By a file, as a secret should be.
        let file = setting.platform.data().join("variables.env");
        std::fs::write(&file, format!("API_KEY={value}\n"))?;
        let path = file.to_string_lossy().into_owned();
        let mut arguments = vec!["env", "demo", "import"];
        arguments.extend(scope);
        arguments.push(&path);
        setting.platform.berth(&arguments)?.success()?;
        std::fs::remove_file(&file)?;
    }
    wait::until("the restart to be live", LIVE, || {
        let newest = setting.platform.newest("demo")?;
        Ok((newest["state"] == "live" && newest["number"] == 2).then_some(()))
    })
}

/// The reason at the line that is at fault, and one comment that is edited as it goes on.
fn broken_and_mended(setting: &Setting) -> Result<()> {
    let branch = odd_branch();
    let broken = setting
        .repo
        .push(&branch, &files(LACKING), "Forget a package")?;
    let number = setting.repo.open_pull(&branch, "main", "Use a table")?;
    let check = wait_check(setting, &broken, "Berth: demo preview", "failure")?;
    let annotation = &check.annotations[0];
    ensure!(
        annotation["path"] == "server.py" && annotation["start_line"] == 3,
        "{annotation}"
    );
    let summary = check.summary.context("a summary")?;
    ensure!(summary.contains("Add `pandas`"), "{summary}");
    let first = wait_comment(setting, number, "Add `pandas`")?;

    let mended = setting
        .repo
        .force_push(&branch, &files(&server("first")), "Do without")?;
    wait_check(setting, &mended, "Berth: demo preview", "success")?;
    let then = wait_comment(setting, number, &format!("demo--pr-{number}."))?;
    ensure!(then.id == first.id && then.edits > 0, "{then:?}");
    ensure!(!then.body.contains("pandas"), "{}", then.body);
    setting.repo.close_pull(number)?;
    let last = wait_comment(setting, number, "closed")?;
    ensure!(last.id == first.id, "{last:?}");
    Ok(())
}

/// What would break callers is told before the merge, and after it waits for a member.
fn breaking(setting: &Setting) -> Result<()> {
    setting
        .platform
        .berth(&["projects", "set", "demo", "--hold-breaking", "on"])?
        .success()?;
    let proposed = setting
        .repo
        .push("rename", &files(&server("other")), "Rename the tool")?;
    let number = setting.repo.open_pull("rename", "main", "Another name")?;
    let check = wait_check(setting, &proposed, "Berth: demo preview", "success")?;
    let summary = check.summary.context("a summary")?;
    let tells = |text: &str| text.contains("Breaks callers") && text.contains("`tool first`");
    ensure!(tells(&summary), "{summary}");
    let comment = wait_comment(setting, number, "Breaks callers")?;
    ensure!(tells(&comment.body), "{}", comment.body);

    let merged = setting.repo.merge_pull(number)?;
    let check = wait_check(setting, &merged, "Berth: demo", "action_required")?;
    let summary = check.summary.context("a summary")?;
    ensure!(tells(&summary), "{summary}");
    let newest = setting.platform.newest("demo")?;
    ensure!(
        newest["state"] == "held" && newest["commit"] == *merged,
        "{newest}"
    );
    says(&setting.platform, "first").map(drop)
}

/// A stranger's code runs once it is approved, finds no secret, and so tells none.
fn curious_fork(setting: &Setting) -> Result<()> {
    setting.github.user("mallory");
    let fork = setting.repo.fork("mallory")?;
    let curious = fork.push("curious", &files(CURIOUS), "Look around")?;
    let number = setting
        .repo
        .open_pull_from(&fork, "curious", "main", "Look around")?;
    wait_comment(setting, number, "approve")?;
    let slug = format!("pr-{number}");
    let approve = ["previews", "approve", "demo", &*slug, "--commit", &*curious];
    setting.platform.berth(&approve)?.success()?;
    wait_check(setting, &curious, "Berth: demo preview", "failure")?;
    wait_comment(setting, number, "ValueError")?;

    let logs = wait::until("what it said", SOON, || {
        let logs = setting
            .platform
            .sql("select string_agg(line, E'\\n') from log_lines")?;
        Ok(logs.contains("it finds").then_some(logs))
    })?;
    ensure!(logs.contains("BERTH_PROJECT=demo"), "{logs}");
    let log = std::fs::read_to_string(setting.platform.log_path())?;
    let page = setting.platform.page("/projects/demo")?;
    let told = setting.github.bodies();
    ensure!(told.len() > 10, "what was sent is not kept");
    for canary in CANARIES {
        for text in told.iter().chain([&logs, &log, &page]) {
            ensure!(!text.contains(canary), "{canary} is in {text}");
        }
    }
    Ok(())
}
