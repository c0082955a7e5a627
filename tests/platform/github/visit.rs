//! Two people with real browsers, from an empty platform to a merged pull request.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::client::Flow;
use tests::github::{Github, Repo};
use tests::platform::{Options, Platform};
use tests::{python, wait};
use thirtyfour::prelude::*;

use super::journey::{LIVE, SOON, files, server};
use crate::Test;

pub const TESTS: &[Test] = &[(
    "github::platform_browser_from_an_empty_platform_to_a_merged_pull_request",
    journey,
)];

/// How long a page may take on a busy machine.
const ANSWER: Duration = Duration::from_secs(30);

/// A person at a browser.
struct Visitor<'b> {
    browser: &'b Browser,
    login: &'static str,
}

impl Visitor<'_> {
    fn open(&self, url: &str) -> Result<()> {
        self.browser.run(async |driver| driver.goto(url).await)
    }

    /// Presses the button, or follows the link, that says this.
    fn press(&self, text: &str) -> Result<()> {
        let path = format!("//button[contains(., '{text}')] | //a[contains(., '{text}')]");
        let pressed = self.browser.run(async |driver| {
            let found = driver
                .query(By::XPath(&*path))
                .wait(ANSWER, Duration::from_millis(100));
            found.first().await?.click().await
        });
        pressed.with_context(|| self.seen(text))
    }

    fn fill(&self, name: &str, value: &str) -> Result<()> {
        let filled = self.browser.run(async |driver| {
            let field = driver
                .query(By::Name(name))
                .wait(ANSWER, Duration::from_millis(100));
            let field = field.first().await?;
            field.clear().await?;
            field.send_keys(value).await
        });
        filled.with_context(|| self.seen(name))
    }

    fn choose(&self, css: &str) -> Result<()> {
        let chosen = self.browser.run(async |driver| {
            let found = driver
                .query(By::Css(css))
                .wait(ANSWER, Duration::from_millis(100));
            found.first().await?.click().await
        });
        chosen.with_context(|| self.seen(css))
    }

    fn text(&self) -> Result<String> {
        self.browser.run(async |driver| driver.source().await)
    }

    /// Waits until the page says this.
    fn reads(&self, text: &str, within: Duration) -> Result<()> {
        wait::until(&format!("a page that says {text}"), within, || {
            Ok(self.text()?.contains(text).then_some(()))
        })
        .with_context(|| self.seen(text))
    }

    /// For a failure's message.
    fn seen(&self, what: &str) -> String {
        let picture = tests::cache().join(format!("github-visit-{}.png", self.login));
        let _ = self.browser.screenshot(&picture);
        let url = self.browser.run(async |driver| driver.current_url().await);
        format!(
            "{} looked for {what} at {url:?}; see {}",
            self.login,
            picture.display()
        )
    }

    fn sign_in_at_github(&self) -> Result<()> {
        self.fill("login", self.login)?;
        self.press("Sign in")
    }
}

struct Setting {
    github: Github,
    repo: Repo,
    platform: Platform,
}

fn journey() -> Result<()> {
    let github = Github::start()?;
    github.user("ada");
    github.user("bob");
    let repo = github.repository("bob", "tools", true)?;
    repo.push("main", &files(&server("first")), "First")?;
    let settings = github.settings();
    let platform = Platform::start(Options { settings })?;
    let setting = Setting {
        github,
        repo,
        platform,
    };
    setting.operator_makes_the_app()?;
    let browser = Browser::start()?;
    let bob = Visitor {
        browser: &browser,
        login: "bob",
    };
    setting.bob_signs_in(&bob)?;
    setting.bob_deploys(&bob)?;
    setting.a_push_comes_live()?;
    setting.a_pull_request_has_a_preview(&bob)?;
    setting.github.finish()
}

impl Setting {
    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.platform.url())
    }

    fn operator_makes_the_app(&self) -> Result<()> {
        let browser = Browser::start()?;
        let ada = Visitor {
            browser: &browser,
            login: "ada",
        };
        ada.open(&self.at("/settings/github"))?;
        ada.browser.sign_in(&self.platform)?;
        ada.reads("Create the App", ANSWER)?;
        ada.choose("input[name=public]")?;
        ada.press("Create a GitHub App")?;
        ada.press("Continue to GitHub")?;
        ada.sign_in_at_github()?;
        ada.press("Create GitHub App")?;
        ada.reads("Webhooks to", ANSWER)?;
        ada.fill("login", "bob")?;
        ada.press("Add")?;
        ada.reads("user · ", ANSWER)?;
        ada.choose("#rule option[value=listed]")?;
        ada.press("Save")?;
        wait::until("the rule to be kept", SOON, || {
            let rule = self.platform.sql("select sign_up from github_app")?;
            Ok((rule.trim() == "listed").then_some(()))
        })
    }

    fn bob_signs_in(&self, bob: &Visitor<'_>) -> Result<()> {
        bob.open(&self.at("/"))?;
        bob.press("Sign in with GitHub")?;
        bob.sign_in_at_github()?;
        bob.press("Authorize")?;
        bob.reads("Projects", ANSWER)
    }

    fn bob_deploys(&self, bob: &Visitor<'_>) -> Result<()> {
        bob.open(&self.at("/github"))?;
        bob.press("Install on GitHub")?;
        bob.choose("input[name=install_target][value=selected]")?;
        bob.choose(&format!(
            "input[name=repository_ids][value='{}']",
            self.repo.id()
        ))?;
        bob.press("Install")?;
        bob.reads("Update from GitHub", ANSWER)?;
        bob.press("Deploy")?;
        bob.reads("See the plan first", ANSWER)?;
        bob.fill("name", "demo")?;
        bob.press("See the plan first")?;
        bob.reads("What would be built", Duration::from_mins(1))?;
        bob.press("Create and deploy")?;
        self.comes_live(&self.repo.head("main")?)?;
        bob.reads("is live", ANSWER)
    }

    fn comes_live(&self, commit: &str) -> Result<()> {
        wait::until(&format!("{commit} to be live"), LIVE, || {
            let state = self.platform.sql(&format!(
                "select state from deployments where source->>'commit' = '{commit}'"
            ))?;
            ensure!(!state.contains("failed"), "it failed");
            Ok((state.trim() == "live").then_some(()))
        })
        .with_context(|| self.platform.log_tail())
    }

    /// The installed client signs in at a project or a preview through a browser of Bob's, and says what
    /// it saw before and after something else was brought live.
    fn client(&self, label: &str, meanwhile: impl Fn() -> Result<()>) -> Result<[Value; 2]> {
        let python = python::environment("client-fastmcp-4", &["fastmcp==4.1.2"])?;
        let mut command = Command::new(python);
        command
            .arg(python::client("python").join("pushed_flow.py"))
            .arg(self.platform.mcp_url(label));
        let mut flow = Flow::start(&mut command)?;
        flow.run_with(
            |browser, url| {
                // A browser of its own: GitHub asks Bob who he is, and nothing more.
                let bob = Visitor {
                    browser,
                    login: "bob",
                };
                bob.open(url)?;
                bob.press("Sign in with GitHub")?;
                bob.sign_in_at_github()?;
                bob.choose("button[value=allow]")
            },
            meanwhile,
        )?;
        let saw = |step: &str| flow.steps.get(step).cloned().context(step.to_owned());
        Ok([saw("before")?, saw("after")?])
    }

    fn a_push_comes_live(&self) -> Result<()> {
        let [before, after] = self.client("demo", || {
            let commit = self
                .repo
                .push("main", &files(&server("second")), "Second")?;
            self.comes_live(&commit)
        })?;
        ensure!(
            before == json!({ "tools": ["first"], "text": "<first>" }),
            "{before}"
        );
        ensure!(
            after == json!({ "tools": ["second"], "text": "<second>" }),
            "{after}"
        );
        Ok(())
    }

    fn a_pull_request_has_a_preview(&self, bob: &Visitor<'_>) -> Result<()> {
        let proposed = self
            .repo
            .push("feature", &files(&server("third")), "Third")?;
        let number = self.repo.open_pull("feature", "main", "A third tool")?;
        self.comes_live(&proposed)?;
        let label = format!("demo--pr-{number}");
        bob.open(&self.at("/projects/demo"))?;
        bob.reads("A third tool", ANSWER)?;
        bob.reads(&label, ANSWER)?;
        let [seen, _] = self.client(&label, || Ok(()))?;
        ensure!(
            seen == json!({ "tools": ["third"], "text": "<third>" }),
            "{seen}"
        );

        let merged = self.repo.merge_pull(number)?;
        self.comes_live(&merged)?;
        let http = self.platform.client_of(&label).build()?;
        wait::until("the preview to be gone", SOON, || {
            let answer = http.get(self.platform.mcp_url(&label)).send()?;
            Ok((answer.status().as_u16() == 404).then_some(()))
        })?;
        let running = self.platform.sql(
            "select count(*) from deployments where preview_id is not null
             and state not in ('stopped', 'canceled', 'failed', 'draining')",
        )?;
        ensure!(running.trim() == "0", "{running} of the preview run");
        bob.open(&self.at("/projects/demo"))?;
        let page = bob.text()?;
        ensure!(!page.contains(&label), "its page still names the preview");
        Ok(())
    }
}
