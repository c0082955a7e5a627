//! From a template to a repository at GitHub that is live.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::github::{AppKeys, Github};
use tests::mcp::Caller;
use tests::platform::{OWNER_EMAIL, Options, Platform};
use tests::wait;

use super::person::{Page, Person};
use crate::Test;

pub const TESTS: &[Test] = &[(
    "github::platform_a_template_becomes_a_repository_and_comes_live",
    becomes_a_repository,
)];

/// A build with an environment to be made, on a busy machine.
const LIVE: Duration = Duration::from_mins(5);

struct Setting {
    github: Github,
    platform: Platform,
    ada: Person,
    app: AppKeys,
}

impl Setting {
    /// A platform whose App may create repositories.
    fn new() -> Result<Self> {
        let github = Github::start()?;
        github.user("ada");
        let platform = Platform::start(Options {
            settings: github.settings(),
        })?;
        let mut ada = Person::new()?;
        let home = ada.open(&platform.url())?;
        let fields = [("email", OWNER_EMAIL), ("password", platform.password())];
        ada.submit(&home, "/signin", &fields)?.ok()?;
        let page = ada.open(&format!("{}/settings/github", platform.url()))?;
        let chosen = [("creation", "1"), ("public", "1")];
        let page = ada
            .submit(&page, "/settings/github/manifest", &chosen)?
            .ok()?;
        let asked = ada.submit(&page, "/settings/apps/new", &[])?.ok()?;
        let asked = ada.submit(&asked, "/session", &[("login", "ada")])?.ok()?;
        ada.submit(&asked, "/settings/apps/create", &[])?.ok()?;
        let app = github.app_keys(*github.apps().first().context("no App")?)?;
        Ok(Self {
            github,
            platform,
            ada,
            app,
        })
    }

    fn page(&mut self, path: &str) -> Result<Page> {
        let url = format!("{}{path}", self.platform.url());
        self.ada.open(&url)?.ok()
    }

    /// Presses “Update from GitHub”, and agrees where GitHub asks.
    fn connect(&mut self) -> Result<()> {
        let mut page = self.page("/github")?;
        page.body = page
            .body
            .replace("action=\"/github/install\"", "action=\"/github/connect\"");
        let mut page = self.ada.submit(&page, "/github/connect", &[])?.ok()?;
        if page.url.path() == "/login/oauth/authorize" {
            let fields = [("authorize", "1")];
            page = self
                .ada
                .submit(&page, "/login/oauth/authorize", &fields)?
                .ok()?;
        }
        ensure!(page.url.path() == "/github", "{}", page.url);
        Ok(())
    }

    /// Asks for a repository, and comes back from GitHub.
    fn create(&mut self, template: &str, installation: u64, name: &str) -> Result<Page> {
        let path = format!("/new/templates/{template}");
        let page = self.page(&path)?;
        let installation = installation.to_string();
        let fields = [
            ("installation", &*installation),
            ("name", name),
            ("private", "1"),
        ];
        self.ada.submit(&page, &path, &fields)?.ok()
    }
}

fn becomes_a_repository() -> Result<()> {
    let mut setting = Setting::new()?;
    let own = setting.github.install(setting.app.id, "ada", None)?;
    setting.connect()?;
    let form = setting.create("fastmcp-hello", own, "hello")?;
    ensure!(form.url.path() == "/new", "{}: {}", form.url, form.body);
    ensure!(form.body.contains("ada/hello"), "{}", form.body);
    let fields = [("name", "hello"), ("source_branch", "main")];
    setting.ada.submit(&form, "/new", &fields)?.ok()?;
    let head = setting.github.find("ada/hello")?.head("main")?;
    wait::until("the template to be live", LIVE, || {
        let newest = setting.platform.newest("hello")?;
        ensure!(newest["state"] != "failed", "{newest}");
        Ok((newest["state"] == "live" && newest["commit"] == *head).then_some(()))
    })
    .with_context(|| setting.platform.log_tail())?;
    let answer =
        Caller::new(&setting.platform, "hello")?.call("greet", &json!({ "name": "Ada" }))?;
    let text = answer.text()?;
    ensure!(text.contains("Hello, Ada!"), "{text}");

    // A name that is taken makes nothing.
    let page = setting.create("fastmcp-hello", own, "hello")?;
    ensure!(
        page.body.contains("has a repository hello already"),
        "{}",
        page.body
    );
    in_an_organization(&mut setting)?;
    setting.github.finish()
}

/// Where the App is installed on selected repositories, the new one is added by hand.
fn in_an_organization(setting: &mut Setting) -> Result<()> {
    setting.github.organization("team", &["ada"]);
    let theirs = setting.github.install(setting.app.id, "team", Some(&[]))?;
    setting.connect()?;
    let page = setting.create("python-sdk", theirs, "words")?;
    ensure!(
        page.body.contains("team/words is created at GitHub, but"),
        "{}",
        page.body
    );
    let made = setting.github.find("team/words")?;
    setting.github.add_repositories(theirs, &[&made]);
    let form = setting
        .ada
        .submit(&page, "/new/templates/python-sdk", &[])?
        .ok()?;
    ensure!(form.url.path() == "/new", "{}: {}", form.url, form.body);
    ensure!(form.body.contains("team/words"), "{}", form.body);
    Ok(())
}
