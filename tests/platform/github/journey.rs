//! From an empty platform to a private repository whose pushes come live; and what may go wrong
//! between GitHub and the platform.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::blocking::Client;
use serde_json::{Value, json};
use tests::github::{AppKeys, Fault, Github, Repo, examples, sign};
use tests::mcp::{Caller, served_commit};
use tests::platform::{OWNER_EMAIL, Options, Platform};
use tests::wait;

use super::person::{Page, Person};
use crate::Test;

pub const TESTS: &[Test] = &[
    (
        "github::platform_a_private_repository_is_connected_and_every_push_comes_live",
        connected,
    ),
    (
        "github::platform_lost_deliveries_are_healed_and_nothing_is_lost_by_a_crash",
        healed,
    ),
    ("github::platform_takes_every_real_payload", payloads),
];

/// A build with an environment to be made, on a busy machine.
pub(super) const LIVE: Duration = Duration::from_mins(5);

/// Deliveries are worked on at once, and after a failure within seconds.
pub(super) const SOON: Duration = Duration::from_mins(1);

pub(super) fn server(tool: &str) -> String {
    format!(
        "from fastmcp import FastMCP\n\nmcp = FastMCP(\"demo\")\n\n\n@mcp.tool\ndef {tool}() -> str:\n    \
         \"\"\"Says its name.\"\"\"\n    return \"<{tool}>\"\n"
    )
}

pub(super) fn files(server: &str) -> [(&str, &str); 2] {
    [
        ("server.py", server),
        ("requirements.txt", "fastmcp==4.1.2\n"),
    ]
}

/// A GitHub with a person and a private repository, and a platform that knows where it is.
pub(super) struct Setting {
    pub(super) github: Github,
    pub(super) repo: Repo,
    pub(super) platform: Platform,
    pub(super) ada: Person,
    app: AppKeys,
}

impl Setting {
    pub(super) fn new(reconcile_seconds: u32) -> Result<Self> {
        let github = Github::start()?;
        github.user("ada");
        let repo = github.repository("ada", "tools", true)?;
        repo.push("main", &files(&server("first")), "First")?;
        let settings = [
            ("BERTH_GITHUB_URL", github.url().to_owned()),
            ("BERTH_GITHUB_API_URL", github.api_url().to_owned()),
            (
                "BERTH_GITHUB_RECONCILE_SECONDS",
                reconcile_seconds.to_string(),
            ),
        ];
        let settings = settings
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let platform = Platform::start(Options { settings })?;
        let mut ada = Person::new()?;
        let home = ada.open(&platform.url())?;
        let fields = [("email", OWNER_EMAIL), ("password", platform.password())];
        ada.submit(&home, "/signin", &fields)?.ok()?;
        let app = set_up(&github, &platform, &mut ada)?;
        Ok(Self {
            github,
            repo,
            platform,
            ada,
            app,
        })
    }

    pub(super) fn page(&mut self, path: &str) -> Result<Page> {
        let url = format!("{}{path}", self.platform.url());
        self.ada.open(&url)?.ok()
    }

    /// Installs the App on the repository and makes the project `demo` of it.
    pub(super) fn deploy(&mut self) -> Result<()> {
        let page = self.page("/github")?;
        let choice = self.ada.submit(&page, "/github/install", &[])?.ok()?;
        let id = self.repo.id().to_string();
        let fields = [("install_target", "selected"), ("repository_ids", &*id)];
        let page = self
            .ada
            .submit(&choice, "/installations/new/permissions", &fields)?
            .ok()?;
        let page = self.agree(page)?;
        ensure!(page.body.contains("ada/tools"), "{}", page.body);
        let form = self.page(&format!("/new?repository={id}"))?;
        ensure!(form.body.contains("value=\"main\""), "{}", form.body);
        let fields = [("name", "demo"), ("source_branch", "main")];
        // The button of the plan sends the same form elsewhere.
        let (mut planned, url) = (form, format!("{}/new/plan", self.platform.url()));
        planned.body = planned
            .body
            .replace("action=\"/new\"", &format!("action=\"{url}\""));
        let plan = self.ada.submit(&planned, "/new/plan", &fields)?.ok()?;
        ensure!(plan.body.contains("What would be built"), "{}", plan.body);
        let made = self.ada.submit(&plan, "/new", &fields)?.ok()?;
        ensure!(
            made.url.path() == "/projects/demo/deployments/1",
            "{}",
            made.url
        );
        self.wait_live(&self.repo.head("main")?)
    }

    /// Agrees at GitHub where it asks.
    fn agree(&mut self, page: Page) -> Result<Page> {
        if page.url.path() == "/login/oauth/authorize" {
            let fields = [("authorize", "1")];
            return self
                .ada
                .submit(&page, "/login/oauth/authorize", &fields)?
                .ok();
        }
        page.ok()
    }

    pub(super) fn wait_live(&self, commit: &str) -> Result<()> {
        wait::until(&format!("{commit} to be live"), LIVE, || {
            let newest = self.platform.newest("demo")?;
            ensure!(newest["state"] != "failed", "{newest}");
            Ok((newest["state"] == "live" && newest["commit"] == commit).then_some(()))
        })
        .with_context(|| self.platform.log_tail())
    }

    pub(super) fn deployments(&self) -> Result<usize> {
        let all = self.platform.berth(&["deployments", "demo", "--json"])?;
        Ok(all.success()?.json()?.as_array().map_or(0, Vec::len))
    }

    /// Waits until nothing of the inbox waits.
    pub(super) fn wait_worked(&self) -> Result<()> {
        wait::until("the inbox to be worked on", SOON, || {
            let waiting = self
                .platform
                .sql("select count(*) from github_deliveries where state = 'waiting'")?;
            Ok((waiting.trim() == "0").then_some(()))
        })
    }

    fn post(&self, headers: &[(&str, &str)], body: &[u8]) -> Result<(u16, Value)> {
        let mut request = Client::new()
            .post(format!("{}/webhooks/github", self.platform.url()))
            .header("content-type", "application/json")
            .body(body.to_vec());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send()?;
        Ok((answer.status().as_u16(), answer.json()?))
    }
}

/// The operator makes the App by the manifest flow.
fn set_up(github: &Github, platform: &Platform, ada: &mut Person) -> Result<AppKeys> {
    let page = ada.open(&format!("{}/settings/github", platform.url()))?;
    let page = ada.submit(&page, "/settings/github/manifest", &[])?.ok()?;
    let asked = ada.submit(&page, "/settings/apps/new", &[])?.ok()?;
    ensure!(asked.body.contains("Sign in to GitHub"), "{}", asked.body);
    let asked = ada.submit(&asked, "/session", &[("login", "ada")])?.ok()?;
    let back = ada.submit(&asked, "/settings/apps/create", &[])?.ok()?;
    ensure!(back.url.path() == "/settings/github", "{}", back.url);
    ensure!(back.body.contains("App ID"), "{}", back.body);
    let id = *github.apps().first().context("no App")?;
    github.app_keys(id)
}

pub(super) fn says(platform: &Platform, tool: &str) -> Result<String> {
    let answer = Caller::new(platform, "demo")?.call(tool, &json!({}))?;
    let commit = served_commit(&answer)?;
    let text = answer.text()?;
    ensure!(text.contains(&format!("<{tool}>")), "{text}");
    Ok(commit)
}

fn connected() -> Result<()> {
    // Far apart, so that what comes live here comes by webhooks.
    let mut setting = Setting::new(3_600)?;
    sign_in(&mut setting)?;
    setting.deploy()?;
    says(&setting.platform, "first")?;

    let second = setting
        .repo
        .push("main", &files(&server("second")), "Second")?;
    setting.wait_live(&second)?;
    ensure!(
        says(&setting.platform, "second")? == second,
        "another commit"
    );
    believed(&setting)?;
    out_of_order(&setting)?;

    let installation = setting.github.installations()[0].id;
    let minted = setting.github.tokens_minted(installation);
    ensure!(
        minted == 2,
        "{minted} tokens: one that reads, one that writes"
    );
    let data = setting.platform.data().to_string_lossy().into_owned();
    let (url, api_url) = (setting.github.url(), setting.github.api_url());
    let arguments = [
        "doctor",
        "--data",
        &data,
        "--github-url",
        url,
        "--github-api-url",
        api_url,
    ];
    let doctor = setting.platform.berth(&arguments)?.text();
    ensure!(doctor.contains("knows the App"), "{doctor}");
    no_secret_is_told(&setting)?;
    setting.github.finish()
}

/// The owner ties their account, and a fresh browser signs in by it.
fn sign_in(setting: &mut Setting) -> Result<()> {
    let page = setting.page("/account")?;
    let asked = setting.ada.submit(&page, "/account/github", &[])?.ok()?;
    let page = setting.agree(asked)?;
    ensure!(page.body.contains("Connected as ada"), "{}", page.body);
    let mut fresh = Person::new()?;
    let page = fresh.open(&setting.platform.url())?;
    let asked = fresh.submit(&page, "/signin/github", &[])?.ok()?;
    let home = fresh
        .submit(&asked, "/session", &[("login", "ada")])?
        .ok()?;
    ensure!(home.body.contains(OWNER_EMAIL), "{}", home.body);
    setting.github.user("eve");
    let mut eve = Person::new()?;
    let page = eve.open(&setting.platform.url())?;
    let asked = eve.submit(&page, "/signin/github", &[])?.ok()?;
    let asked = eve.submit(&asked, "/session", &[("login", "eve")])?.ok()?;
    let refused = eve.submit(&asked, "/login/oauth/authorize", &[("authorize", "1")])?;
    ensure!(refused.status == 403, "{} {}", refused.status, refused.body);
    Ok(())
}

/// Forged, unsigned and weakly signed deliveries are refused, and change nothing.
fn believed(setting: &Setting) -> Result<()> {
    let body = br#"{"ref":"refs/heads/main"}"#;
    let named = [("x-github-event", "push"), ("x-github-delivery", "forged")];
    let right = sign(&setting.app.webhook_secret, body);
    let forged = sign("guessed", body);
    let altered = sign(&setting.app.webhook_secret, &body[1..]);
    for signature in [
        None,
        Some(("x-hub-signature-256", &*forged)),
        Some(("x-hub-signature-256", &*altered)),
        Some(("x-hub-signature", "sha1=00")),
    ] {
        let headers: Vec<_> = named.into_iter().chain(signature).collect();
        let (status, answer) = setting.post(&headers, body)?;
        ensure!(
            status == 401 && answer["error"] == "bad_signature",
            "{status} {answer}"
        );
    }
    let headers: Vec<_> = named
        .into_iter()
        .chain([("x-hub-signature-256", &*right)])
        .collect();
    ensure!(setting.post(&headers, body)?.0 == 202, "a right one");
    ensure!(setting.post(&headers, body)?.0 == 200, "the same again");
    setting.wait_worked()
}

/// Duplicates, replays and reordered deliveries bring nothing old live and deploy nothing twice.
fn out_of_order(setting: &Setting) -> Result<()> {
    let github = &setting.github;
    let before = setting.deployments()?;
    let pushes: Vec<u64> = github
        .deliveries()
        .iter()
        .filter(|one| one.event == "push" && one.status_code < 300 && one.status_code > 0)
        .map(|one| one.id)
        .collect();
    for id in &pushes {
        github.redeliver(*id)?;
        github.send_again(*id)?;
    }
    setting.wait_worked()?;
    ensure!(setting.deployments()? == before, "a replay deployed");
    github.hold();
    let older = setting
        .repo
        .push("main", &files(&server("third")), "Third")?;
    let newer = setting
        .repo
        .push("main", &files(&server("fourth")), "Fourth")?;
    let mut held: Vec<u64> = github.held().iter().map(|one| one.id).collect();
    held.reverse();
    github.deliver(&held)?;
    github.release();
    setting.wait_live(&newer)?;
    setting.wait_worked()?;
    ensure!(setting.deployments()? == before + 1, "more than one");
    let old = setting.platform.sql(&format!(
        "select count(*) from deployments where source->>'commit' = '{older}'"
    ))?;
    ensure!(old.trim() == "0", "the old one was queued");
    says(&setting.platform, "fourth").map(drop)
}

/// No token and no secret of the App in the log or in the clear in the database.
fn no_secret_is_told(setting: &Setting) -> Result<()> {
    let log = std::fs::read_to_string(setting.platform.log_path())?;
    let key = setting
        .app
        .private_key
        .lines()
        .nth(1)
        .context("a private key")?;
    for secret in [
        "ghs_",
        "ghu_",
        &setting.app.webhook_secret,
        &setting.app.client_secret,
        key,
    ] {
        ensure!(!log.contains(secret), "the log holds {secret}");
        for table in [
            "github_app",
            "github_tokens",
            "deployments",
            "github_deliveries",
            "sessions",
        ] {
            let found = setting.platform.sql(&format!(
                "select count(*) from {table} t where strpos(t::text, '{secret}') > 0"
            ))?;
            ensure!(found.trim() == "0", "{table} holds {secret}");
        }
    }
    Ok(())
}

fn healed() -> Result<()> {
    let mut setting = Setting::new(2)?;
    setting.deploy()?;
    setting.github.lose_next(1);
    let lost = setting.repo.push("main", &files(&server("lost")), "Lost")?;
    setting.wait_live(&lost)?;
    says(&setting.platform, "lost")?;

    // Answered, and not yet processed: GitHub does not say what the branch's head is.
    let fault = setting
        .github
        .fail("GET /repos/{owner}/{repo}", Fault::BadGateway, None);
    let kept = setting.repo.push("main", &files(&server("kept")), "Kept")?;
    setting.github.settle()?;
    wait::until("the delivery to be put off", SOON, || {
        let inbox = setting.platform.sql(
            "select string_agg(concat_ws(' ', event, state, attempts, outcome), E'\\n' order by number)
             from github_deliveries",
        )?;
        ensure!(
            inbox.contains("push waiting 1 GitHub answered 502."),
            "{inbox}"
        );
        Ok(Some(()))
    })?;
    setting.platform.kill()?;
    setting.github.lift(fault);
    setting.platform.launch()?;
    setting.platform.wait_ready()?;
    setting.wait_live(&kept)?;
    setting.wait_worked()?;

    setting.repo.delete_branch("main")?;
    wait::until("the page to say so", SOON, || {
        let page = setting.platform.page("/projects/demo")?;
        Ok(page.contains("The branch main is gone").then_some(()))
    })?;
    says(&setting.platform, "kept")?;
    setting.github.finish()
}

fn payloads() -> Result<()> {
    let setting = Setting::new(3_600)?;
    let all = examples()?;
    for (number, (event, _, payload)) in all.iter().enumerate() {
        let body = serde_json::to_vec(payload)?;
        let signature = sign(&setting.app.webhook_secret, &body);
        let id = format!("example-{number}");
        let headers = [
            ("x-github-event", &**event),
            ("x-github-delivery", &*id),
            ("x-hub-signature-256", &*signature),
        ];
        let (status, answer) = setting.post(&headers, &body)?;
        ensure!(status == 202, "{event}: {status} {answer}");
    }
    setting.wait_worked()?;
    let failed = setting.platform.sql(
        "select coalesce(string_agg(event || ' ' || coalesce(action, '') || ': ' || outcome, E'\\n'), '')
         from github_deliveries where state = 'failed'",
    )?;
    ensure!(failed.trim().is_empty(), "{failed}");
    // They name installations that this GitHub does not have.
    setting.github.take_mismatches();
    setting.github.finish()
}
