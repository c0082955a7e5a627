//! Which pushes come live: by what they change, by what their commit says, and by whom.

use anyhow::{Context as _, Result, ensure};
use tests::wait;

use super::journey::{LIVE, Setting, files, says, server};
use crate::Test;

pub const TESTS: &[Test] = &[(
    "github::platform_deploys_only_the_pushes_that_its_rules_let_through",
    chosen,
)];

impl Setting {
    /// Runs `berth`; what it printed.
    fn run(&self, arguments: &[&str]) -> Result<String> {
        let ran = self.platform.berth(arguments)?;
        Ok(ran.success()?.text())
    }

    /// Waits until a push was worked on, and makes sure that it deployed nothing, for this reason.
    fn ensure_skipped(&mut self, commit: &str, why: &str, deployments: usize) -> Result<()> {
        self.github.settle()?;
        self.wait_worked()?;
        ensure!(self.deployments()? == deployments, "{commit} was deployed");
        let outcome = self.platform.sql(
            "select outcome from github_deliveries where event = 'push' order by number desc limit 1",
        )?;
        let said = format!("{} was not deployed: {why}.", &commit[..12]);
        ensure!(outcome.trim() == said, "{outcome}");
        let page = self.page("/projects/demo")?.body;
        for part in [&commit[..8], "was not deployed", why, "Deploy anyway"] {
            ensure!(page.contains(part), "{part}: {page}");
        }
        let status = self.run(&["github", "status", "demo"])?;
        ensure!(status.contains(why), "{status}");
        Ok(())
    }
}

fn chosen() -> Result<()> {
    // Far apart, so that what is seen here comes by webhooks.
    let mut setting = Setting::new(3_600)?;
    setting.deploy()?;
    let first = setting.repo.head("main")?;
    let watch = ["projects", "set", "demo", "--watch-path", "/server.py"];
    setting.run(&watch)?;
    let docs = setting.repo.push("main", &[("docs/a.txt", "a")], "Docs")?;
    setting.ensure_skipped(&docs, "it changes nothing under /server.py", 1)?;

    let text = server("second");
    let message = "Second\n\nNot yet. [skip ci]";
    let marked = setting.repo.push("main", &files(&text), message)?;
    setting.ensure_skipped(&marked, "its message says [skip ci]", 1)?;

    let page = setting.page("/projects/demo")?;
    let field = format!("name=\"reference\" value=\"{marked}\"");
    ensure!(page.body.contains(&field), "{}", page.body);
    let fields = [("reference", &*marked)];
    let made = setting
        .ada
        .submit(&page, "/projects/demo/deploy", &fields)?
        .ok()?;
    ensure!(made.url.path().ends_with("/deployments/2"), "{}", made.url);
    setting.wait_live(&marked)?;
    says(&setting.platform, "second")?;
    let page = setting.page("/projects/demo")?.body;
    ensure!(!page.contains("was not deployed"), "{page}");

    held(&setting)?;
    by_hand(&setting, &first)?;
    setting.github.finish()
}

/// What a push brings waits for a member.
fn held(setting: &Setting) -> Result<()> {
    setting.run(&["projects", "set", "demo", "--auto-promote", "off"])?;
    let text = server("third");
    let third = setting.repo.push("main", &files(&text), "Third")?;
    wait::until("the third to be held", LIVE, || {
        let newest = setting.platform.newest("demo")?;
        ensure!(newest["state"] != "failed", "{newest}");
        let held = newest["state"] == "held" && newest["commit"] == *third;
        Ok((held && newest["held_for"] == "promotion").then_some(()))
    })
    .with_context(|| setting.platform.log_tail())?;
    says(&setting.platform, "second")?;
    let page = setting.platform.page("/projects/demo/deployments/3")?;
    ensure!(page.contains("Held: it waits for a member."), "{page}");
    setting.run(&["promote", "demo", "3", "--wait"])?;
    says(&setting.platform, "third").map(drop)
}

/// Another commit by the beginning of its id, and a project by the name of its repository.
fn by_hand(setting: &Setting, first: &str) -> Result<()> {
    let short = &first[..10];
    let again = ["deploy", "--project", "demo", "--commit", short, "--wait"];
    setting.run(&again)?;
    ensure!(says(&setting.platform, "first")? == first, "another commit");
    let listed = setting.run(&["github", "repositories", "--search", "tool"])?;
    ensure!(listed.contains("ada/tools"), "{listed}");
    let new = [
        "deploy",
        "--github",
        "ada/tools",
        "--project",
        "twin",
        "--wait",
    ];
    setting.run(&new)?;
    let status = setting.run(&["github", "status", "twin"])?;
    ensure!(status.contains("come live"), "{status}");
    Ok(())
}
