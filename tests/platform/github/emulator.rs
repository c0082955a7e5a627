//! The tests' GitHub proved by itself, with real clients.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::hmac;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::blocking::{Client, Response};
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::github::{AppKeys, Change, Fault, Github, Repo, examples};
use tests::oauth::{CHALLENGE, VERIFIER, parameter, parameters};

use super::receiver::Hook;
use crate::Test;

pub const TESTS: &[Test] = &[
    ("github::emulator_serves_git_to_tokens", git),
    ("github::emulator_signs_people_in", sign_in),
    ("github::emulator_makes_apps_from_manifests", manifest),
    ("github::emulator_checks_what_apps_sign", jwt),
    ("github::emulator_narrows_tokens", narrowed),
    ("github::emulator_signs_webhooks", webhooks),
    ("github::emulator_tells_what_happens", events),
    ("github::emulator_holds_loses_and_reorders", deliveries),
    ("github::emulator_shows_repositories", repositories),
    ("github::emulator_keeps_feedback", feedback),
    ("github::emulator_fails_on_demand", faults),
    ("github::emulator_is_held_to_the_description", held),
    ("github::emulator_knows_real_payloads", real_payloads),
];

/// What the tests' App asks for.
fn manifest_of(hook: &str) -> Value {
    json!({
        "name": "Berth of Ada",
        "url": "http://berth.example",
        "hook_attributes": { "url": hook },
        "redirect_url": "http://berth.example/github/created",
        "callback_urls": ["http://berth.example/signin/github"],
        "setup_url": "http://berth.example/github/installed",
        "public": true,
        "default_permissions": {
            "contents": "read", "metadata": "read", "pull_requests": "write",
            "checks": "write", "statuses": "write", "deployments": "write", "members": "read",
            "administration": "write",
        },
        "default_events": [
            "push", "create", "delete", "pull_request", "pull_request_review", "issue_comment",
            "repository", "check_run", "check_suite",
        ],
    })
}

/// A GitHub where an App is installed on a private repository.
struct Setting {
    github: Github,
    app: AppKeys,
    installation: u64,
    repo: Repo,
    http: Client,
}

impl Setting {
    fn new() -> Result<Self> {
        let hook = Hook::listen()?;
        Self::with_hook(&hook.url)
    }

    fn with_hook(hook: &str) -> Result<Self> {
        let github = Github::start()?;
        github.user("ada");
        let repo = github.repository("ada", "tools", true)?;
        repo.push(
            "main",
            &[("server.py", "one\n"), ("lib/a.py", "a\n")],
            "First",
        )?;
        let app = github.app("ada", &manifest_of(hook))?;
        let installation = github.install(app.id, "ada", Some(&[&repo]))?;
        Ok(Self {
            github,
            app,
            installation,
            repo,
            http: client()?,
        })
    }

    fn jwt(&self) -> Result<String> {
        jwt_of(&self.app, -60, 540)
    }

    fn token(&self) -> Result<String> {
        let path = format!("/app/installations/{}/access_tokens", self.installation);
        let answer = self.post(&path, &self.jwt()?, &json!({}))?;
        let token = body(answer, 201)?["token"].as_str().map(str::to_owned);
        token.context("no token")
    }

    fn get(&self, path: &str, token: &str) -> Result<Response> {
        let url = format!("{}{path}", self.github.api_url());
        Ok(self.http.get(url).bearer_auth(token).send()?)
    }

    fn post(&self, path: &str, token: &str, json: &Value) -> Result<Response> {
        let url = format!("{}{path}", self.github.api_url());
        Ok(self.http.post(url).bearer_auth(token).json(json).send()?)
    }

    fn patch(&self, path: &str, token: &str, json: &Value) -> Result<Response> {
        let url = format!("{}{path}", self.github.api_url());
        Ok(self.http.patch(url).bearer_auth(token).json(json).send()?)
    }

    /// Gets JSON with 200.
    fn read(&self, path: &str, token: &str) -> Result<Value> {
        body(self.get(path, token)?, 200).with_context(|| path.to_owned())
    }
}

fn client() -> Result<Client> {
    Ok(Client::builder()
        .redirect(Policy::none())
        .user_agent("berth-tests")
        .timeout(Duration::from_secs(30))
        .build()?)
}

fn body(answer: Response, status: u16) -> Result<Value> {
    let became = answer.status().as_u16();
    let text = answer.text()?;
    ensure!(became == status, "{became} and not {status}: {text}");
    Ok(serde_json::from_str(&text)?)
}

fn jwt_of(app: &AppKeys, issued: i64, expires: i64) -> Result<String> {
    let now = i64::try_from(jsonwebtoken::get_current_timestamp())?;
    let claims = json!({ "iat": now + issued, "exp": now + expires, "iss": app.client_id });
    let key = EncodingKey::from_rsa_pem(app.private_key.as_bytes())?;
    Ok(jsonwebtoken::encode(
        &Header::new(Algorithm::RS256),
        &claims,
        &key,
    )?)
}

/// Clones with the real program; the token goes where no argument shows it.
fn clone(url: &str, token: Option<&str>, into: &Path) -> Result<bool> {
    let mut command = Command::new("git");
    command
        .args(["clone", "--quiet", "--"])
        .arg(url)
        .arg(into)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", into.parent().context("a parent")?);
    if let Some(token) = token {
        use base64::prelude::{BASE64_STANDARD, Engine as _};
        let basic = BASE64_STANDARD.encode(format!("x-access-token:{token}"));
        command
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "http.extraHeader")
            .env(
                "GIT_CONFIG_VALUE_0",
                format!("Authorization: Basic {basic}"),
            );
    }
    Ok(command.output()?.status.success())
}

fn git() -> Result<()> {
    let setting = Setting::new()?;
    let token = setting.token()?;
    let directory = TempDir::new()?;
    let url = setting.repo.clone_url();
    let into = |name: &str| directory.path().join(name);
    ensure!(clone(&url, Some(&token), &into("with"))?, "git got nothing");
    let text = std::fs::read_to_string(into("with").join("server.py"))?;
    ensure!(text == "one\n", "{text}");
    ensure!(
        !clone(&url, None, &into("without"))?,
        "git got it without a token"
    );
    ensure!(
        !clone(&url, Some("ghs_wrong"), &into("wrong"))?,
        "any token will do"
    );

    let fetch = |token: &str, into: &Path| -> Result<git2::Repository, git2::Error> {
        let mut callbacks = git2::RemoteCallbacks::new();
        callbacks.credentials(|_, _, _| git2::Cred::userpass_plaintext("x-access-token", token));
        let mut options = git2::FetchOptions::new();
        options.remote_callbacks(callbacks).depth(1);
        git2::build::RepoBuilder::new()
            .fetch_options(options)
            .clone(&url, into)
    };
    let cloned = fetch(&token, &into("git2"))?;
    let head = cloned.head()?.peel_to_commit()?.id().to_string();
    ensure!(head == setting.repo.head("main")?, "{head}");

    // Another private repository, which the installation does not reach.
    let other = setting.github.repository("ada", "secret", true)?;
    other.push("main", &[("a", "a")], "First")?;
    ensure!(
        !clone(&other.clone_url(), Some(&token), &into("other"))?,
        "too much"
    );
    let public = setting.github.repository("ada", "open", false)?;
    public.push("main", &[("a", "a")], "First")?;
    ensure!(
        clone(&public.clone_url(), None, &into("public"))?,
        "public needs no token"
    );

    // The former name leads to it; pull requests have names of their own.
    setting.repo.rename("renamed")?;
    ensure!(
        clone(&url, Some(&token), &into("moved"))?,
        "a former name leads nowhere"
    );
    setting
        .repo
        .push("change", &[("server.py", "two\n")], "Second")?;
    let number = setting.repo.open_pull("change", "main", "Change")?;
    let refspec = format!("refs/pull/{number}/head:refs/heads/pull");
    let mut callbacks = git2::RemoteCallbacks::new();
    callbacks.credentials(|_, _, _| git2::Cred::userpass_plaintext("x-access-token", &token));
    let mut options = git2::FetchOptions::new();
    options.remote_callbacks(callbacks);
    let now = setting.repo.clone_url();
    cloned
        .remote_anonymous(&now)?
        .fetch(&[refspec], Some(&mut options), None)?;
    let pull = cloned.find_reference("refs/heads/pull")?.peel_to_commit()?;
    ensure!(
        pull.id().to_string() == setting.repo.head("change")?,
        "{pull:?}"
    );

    // A token is good for its time, and for an installation that is there.
    setting.github.expire_tokens();
    ensure!(
        !clone(&now, Some(&token), &into("expired"))?,
        "an expired token will do"
    );
    let token = setting.token()?;
    setting.github.suspend(setting.installation);
    ensure!(
        !clone(&now, Some(&token), &into("suspended"))?,
        "suspended, and yet"
    );
    setting.github.finish()
}

/// A browser's cookie after signing in on the page.
fn browser(github: &Github, http: &Client, login: &str) -> Result<String> {
    let answer = http
        .post(format!("{}/session", github.url()))
        .form(&[("login", login), ("return_to", "/")])
        .send()?;
    let cookie = answer.headers().get("set-cookie").context("no cookie")?;
    let cookie = cookie.to_str()?.split(';').next().unwrap_or_default();
    Ok(cookie.to_owned())
}

fn sign_in() -> Result<()> {
    let setting = Setting::new()?;
    let (github, http, app) = (&setting.github, &setting.http, &setting.app);
    let callback = "http://berth.example/signin/github";
    let mut url = url::Url::parse(&format!("{}/login/oauth/authorize", github.url()))?;
    url.query_pairs_mut()
        .append_pair("client_id", &app.client_id)
        .append_pair("redirect_uri", callback)
        .append_pair("state", "a state")
        .append_pair("code_challenge", CHALLENGE)
        .append_pair("code_challenge_method", "S256");
    let stranger = http.get(url.clone()).send()?;
    let to = stranger.headers().get("location").context("no redirect")?;
    ensure!(to.to_str()?.starts_with("/login?return_to="), "{to:?}");

    let cookie = browser(github, http, "ada")?;
    let look = || http.get(url.clone()).header("cookie", &cookie).send();
    let page = look()?.error_for_status()?.text()?;
    ensure!(page.contains("Authorize Berth of Ada"), "{page}");
    let decide = |decision: &str| {
        http.post(format!("{}/login/oauth/authorize", github.url()))
            .header("cookie", &cookie)
            .form(&[
                ("query", url.query().unwrap_or_default()),
                ("authorize", decision),
            ])
            .send()
    };
    let denied = parameters(&decide("0")?)?;
    ensure!(
        parameter(&denied, "error")? == "access_denied",
        "{denied:?}"
    );
    let allowed = parameters(&decide("1")?)?;
    ensure!(parameter(&allowed, "state")? == "a state", "{allowed:?}");
    // From now on nobody is asked.
    let silent = parameters(&look()?)?;

    let exchange = |code: &str, verifier: &str, secret: &str| -> Result<Value> {
        let answer = http
            .post(format!("{}/login/oauth/access_token", github.url()))
            .header("accept", "application/json")
            .form(&[
                ("client_id", &*app.client_id),
                ("client_secret", secret),
                ("code", code),
                ("redirect_uri", callback),
                ("code_verifier", verifier),
            ])
            .send()?;
        body(answer, 200)
    };
    let code = parameter(&allowed, "code")?;
    let wrong = exchange(&code, VERIFIER, "wrong")?;
    ensure!(wrong["error"] == "incorrect_client_credentials", "{wrong}");
    let token = exchange(&code, VERIFIER, &app.client_secret)?;
    let token = token["access_token"].as_str().context("no token")?;
    ensure!(token.starts_with("ghu_"), "{token}");
    let again = exchange(&code, VERIFIER, &app.client_secret)?;
    ensure!(again["error"] == "bad_verification_code", "{again}");
    let code = parameter(&silent, "code")?;
    let other = exchange(
        &code,
        "another verifier, long enough to be one of its kind",
        &app.client_secret,
    )?;
    ensure!(other["error"] == "bad_verification_code", "{other}");

    let ada = setting.read("/user", token)?;
    ensure!(
        ada["login"] == "ada" && ada["id"] == github.account("ada")?,
        "{ada}"
    );
    let installations = setting.read("/user/installations", token)?;
    ensure!(installations["total_count"] == 1, "{installations}");
    let path = format!("/user/installations/{}/repositories", setting.installation);
    let repositories = setting.read(&path, token)?;
    ensure!(
        repositories["repositories"][0]["full_name"] == "ada/tools",
        "{repositories}"
    );

    let team = github.organization("team", &["ada", "bob"]);
    github.install(app.id, "team", None)?;
    let organizations = setting.read("/user/orgs", token)?;
    ensure!(organizations[0]["id"] == team, "{organizations}");
    let membership = setting.read("/user/memberships/orgs/team", token)?;
    ensure!(membership["state"] == "active", "{membership}");
    let member = setting.get("/orgs/team/members/bob", token)?.status();
    let stranger = setting.get("/orgs/team/members/nobody", token)?.status();
    ensure!(
        (member.as_u16(), stranger.as_u16()) == (204, 404),
        "{member} {stranger}"
    );
    github.leave("team", "ada")?;
    let left = setting.get("/user/memberships/orgs/team", token)?.status();
    ensure!(left == 404, "{left}");

    // No token is kept after signing in.
    let revoked = http
        .delete(format!(
            "{}/applications/{}/token",
            github.api_url(),
            app.client_id
        ))
        .basic_auth(&app.client_id, Some(&app.client_secret))
        .json(&json!({ "access_token": token }))
        .send()?;
    ensure!(revoked.status() == 204, "{}", revoked.status());
    let gone = setting.get("/user", token)?.status();
    ensure!(gone == 401 && github.user_tokens() == 0, "{gone}");

    // A code goes to the App's own addresses only.
    let elsewhere = url.as_str().replace("berth.example", "evil.example");
    let refused = http
        .get(elsewhere)
        .header("cookie", &cookie)
        .send()?
        .status();
    ensure!(refused == 400, "{refused}");
    setting.github.finish()
}

fn manifest() -> Result<()> {
    let hook = Hook::listen()?;
    let (github, http) = (Github::start()?, client()?);
    github.user("ada");
    github.organization("team", &["ada"]);
    let repo = github.repository("team", "tools", true)?;
    let cookie = browser(&github, &http, "ada")?;
    let manifest = manifest_of(&hook.url);
    let kept = http
        .post(format!(
            "{}/organizations/team/settings/apps/new?state=abc",
            github.url()
        ))
        .form(&[("manifest", manifest.to_string())])
        .send()?;
    let to = kept
        .headers()
        .get("location")
        .context("no redirect")?
        .to_str()?;
    let key = parameter_of(to, "manifest_token")?;
    let page = http
        .get(format!("{}{to}", github.url()))
        .header("cookie", &cookie)
        .send()?;
    ensure!(page.text()?.contains("Create GitHub App"), "no button");
    let made = http
        .post(format!("{}/settings/apps/create", github.url()))
        .header("cookie", &cookie)
        .form(&[("manifest_token", &*key), ("app_name", "Berth two")])
        .send()?;
    let answered = parameters(&made)?;
    ensure!(parameter(&answered, "state")? == "abc", "{answered:?}");
    let convert = |code: &str| {
        let url = format!("{}/app-manifests/{code}/conversions", github.api_url());
        http.post(url).send()
    };
    let code = parameter(&answered, "code")?;
    let app = body(convert(&code)?, 201)?;
    ensure!(
        app["slug"] == "berth-two" && app["owner"]["login"] == "team",
        "{app}"
    );
    ensure!(convert(&code)?.status() == 404, "a code is good once");
    let pem = app["pem"].as_str().context("no key")?;
    ensure!(
        pem.starts_with("-----BEGIN RSA PRIVATE KEY-----"),
        "no PKCS#1"
    );

    // The first event: the platform cannot know the secret yet.
    let ping = hook.next()?;
    ensure!(
        ping.header("x-github-event") == "ping",
        "{:?}",
        ping.headers
    );

    let keys = github.app_keys(app["id"].as_u64().context("no id")?)?;
    ensure!(
        app["webhook_secret"] == keys.webhook_secret.as_str(),
        "another secret"
    );
    // Installed on the page, for one repository.
    let url = format!(
        "{}/apps/berth-two/installations/new?state=def",
        github.url()
    );
    let accounts = http.get(&url).header("cookie", &cookie).send()?.text()?;
    ensure!(accounts.contains(">team<"), "{accounts}");
    let url = format!(
        "{}/apps/berth-two/installations/new/permissions",
        github.url()
    );
    let installed = http
        .post(url)
        .header("cookie", &cookie)
        .form(&[
            ("account", "team"),
            ("state", "def"),
            ("install_target", "selected"),
            ("repository_ids", &repo.id().to_string()),
        ])
        .send()?;
    let answered = parameters(&installed)?;
    ensure!(
        parameter(&answered, "setup_action")? == "install",
        "{answered:?}"
    );
    ensure!(parameter(&answered, "state")? == "def", "{answered:?}");
    let told = hook.next()?;
    let payload: Value = serde_json::from_slice(&told.body)?;
    ensure!(payload["action"] == "created", "{payload}");
    ensure!(
        payload["repositories"][0]["full_name"] == "team/tools",
        "{payload}"
    );

    // Events without the permission for them.
    let mut greedy = manifest_of(&hook.url);
    greedy["name"] = "Greedy".into();
    greedy["default_permissions"] = json!({ "metadata": "read" });
    ensure!(
        github.app("ada", &greedy).is_err(),
        "events without permission"
    );
    github.finish()
}

fn parameter_of(url: &str, name: &str) -> Result<String> {
    let url = url::Url::parse("http://localhost")?.join(url)?;
    let mut pairs = url.query_pairs();
    let found = pairs.find(|(known, _)| known == name);
    Ok(found.context("no such parameter")?.1.into_owned())
}

fn jwt() -> Result<()> {
    let setting = Setting::new()?;
    let app = setting.read("/app", &setting.jwt()?)?;
    ensure!(
        app["id"] == setting.app.id && app["installations_count"] == 1,
        "{app}"
    );
    let listed = setting.read("/app/installations", &setting.jwt()?)?;
    ensure!(listed[0]["id"] == setting.installation, "{listed}");
    let path = format!("/app/installations/{}", setting.installation);
    setting.read(&path, &setting.jwt()?)?;
    for (issued, expires) in [(-600, -1), (-60, 700), (60, 500)] {
        let answer = setting.get("/app", &jwt_of(&setting.app, issued, expires)?)?;
        ensure!(
            answer.status() == 401,
            "{issued} {expires}: {}",
            answer.status()
        );
    }
    let mut forged = setting.jwt()?;
    forged.truncate(forged.len() - 4);
    ensure!(
        setting.get("/app", &forged)?.status() == 401,
        "a forged signature"
    );
    let other = setting.github.app("ada", &{
        let mut manifest = manifest_of("http://127.0.0.1:9/");
        manifest["name"] = "Other".into();
        manifest["hook_attributes"]["active"] = false.into();
        manifest
    })?;
    let path = format!("/app/installations/{}/access_tokens", setting.installation);
    let stolen = setting.post(&path, &jwt_of(&other, -60, 540)?, &json!({}))?;
    ensure!(stolen.status() == 404, "another App's installation");
    ensure!(
        setting.github.tokens_minted(setting.installation) == 0,
        "minted"
    );
    setting.token()?;
    ensure!(
        setting.github.tokens_minted(setting.installation) == 1,
        "not counted"
    );
    let answer = setting.get("/app", "nonsense")?;
    let limit = answer.headers().get("x-ratelimit-remaining").cloned();
    ensure!(limit.is_some(), "no rate limit");
    ensure!(
        answer.headers().contains_key("x-github-request-id"),
        "no request id"
    );
    let refused = body(answer, 401)?;
    ensure!(refused["message"] == "Bad credentials", "{refused}");
    setting.github.suspend(setting.installation);
    let suspended = setting.post(&path, &setting.jwt()?, &json!({}))?;
    ensure!(suspended.status() == 403, "{}", suspended.status());
    setting.github.finish()
}

fn narrowed() -> Result<()> {
    let setting = Setting::new()?;
    let second = setting.github.repository("ada", "second", true)?;
    setting
        .github
        .add_repositories(setting.installation, &[&second]);
    let path = format!("/app/installations/{}/access_tokens", setting.installation);
    let asked = json!({
        "repository_ids": [second.id()], "permissions": { "contents": "read" },
    });
    let made = body(setting.post(&path, &setting.jwt()?, &asked)?, 201)?;
    ensure!(made["repository_selection"] == "selected", "{made}");
    let token = made["token"].as_str().context("no token")?;
    let listed = setting.read("/installation/repositories", token)?;
    ensure!(listed["total_count"] == 1, "{listed}");
    ensure!(
        setting.get("/repos/ada/tools", token)?.status() == 404,
        "too much"
    );
    let status = json!({ "state": "success" });
    second.push("main", &[("a", "a")], "First")?;
    let path = format!("/repos/ada/second/statuses/{}", second.head("main")?);
    let refused = body(setting.post(&path, token, &status)?, 403)?;
    ensure!(
        refused["message"] == "Resource not accessible by integration",
        "{refused}"
    );
    let path = format!("/app/installations/{}/access_tokens", setting.installation);
    for asked in [
        json!({ "permissions": { "contents": "write" } }),
        json!({ "repository_ids": [1] }),
    ] {
        let refused = setting.post(&path, &setting.jwt()?, &asked)?;
        ensure!(refused.status() == 422, "{asked}: {}", refused.status());
    }
    setting.github.finish()
}

fn webhooks() -> Result<()> {
    let hook = Hook::listen()?;
    let setting = Setting::with_hook(&hook.url)?;
    let sha = setting
        .repo
        .push("main", &[("server.py", "two\n")], "Second")?;
    let push = loop {
        let received = hook.next()?;
        if received.header("x-github-event") == "push" {
            break received;
        }
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, setting.app.webhook_secret.as_bytes());
    let signature = push.header("x-hub-signature-256");
    let hex = signature.strip_prefix("sha256=").context("no signature")?;
    let tag: Vec<u8> = (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16))
        .collect::<Result<_, _>>()?;
    hmac::verify(&key, &push.body, &tag)
        .ok()
        .context("a wrong signature")?;
    ensure!(tests::github::sign(&setting.app.webhook_secret, &push.body) == signature);
    ensure!(push.header("user-agent").starts_with("GitHub-Hookshot/"));
    let target = push.header("x-github-hook-installation-target-id");
    ensure!(target == setting.app.id.to_string(), "{target}");
    let payload: Value = serde_json::from_slice(&push.body)?;
    ensure!(payload["after"] == sha.as_str(), "{payload}");
    ensure!(
        payload["installation"]["id"] == setting.installation,
        "{payload}"
    );
    ensure!(
        payload["commits"][0]["modified"][0] == "server.py",
        "{payload}"
    );
    setting.github.settle()?;
    let kept = setting.github.deliveries();
    let kept = kept
        .iter()
        .find(|one| one.guid == push.header("x-github-delivery"));
    ensure!(kept.context("not kept")?.status_code == 202, "{kept:?}");
    let listed = setting.read("/app/hook/deliveries?per_page=2", &setting.jwt()?)?;
    ensure!(
        listed.as_array().is_some_and(|all| all.len() == 2),
        "{listed}"
    );
    setting.github.finish()
}

/// The event and action of everything that was sent since last asked.
fn told(github: &Github) -> Vec<String> {
    let all = github.held();
    github.lose_held();
    let name = |one: &tests::github::Delivery| match &one.action {
        Some(action) => format!("{}.{action}", one.event),
        None => one.event.clone(),
    };
    all.iter().map(name).collect()
}

fn events() -> Result<()> {
    let setting = Setting::new()?;
    let (github, repo) = (&setting.github, &setting.repo);
    github.settle()?;
    github.hold();
    let check = |what: &str, expected: &[&str]| {
        let told = told(github);
        ensure!(told == expected, "{what}: {told:?}");
        Ok(())
    };
    repo.push("change", &[("server.py", "two\n")], "Second")?;
    check("a new branch", &["create", "push", "check_suite.requested"])?;
    let number = repo.open_pull("change", "main", "Change")?;
    check("a pull request", &["pull_request.opened"])?;
    repo.force_push("change", &[("server.py", "three\n")], "Third")?;
    check(
        "a forced push",
        &["push", "check_suite.requested", "pull_request.synchronize"],
    )?;
    repo.close_pull(number)?;
    repo.reopen_pull(number)?;
    check(
        "closed and reopened",
        &["pull_request.closed", "pull_request.reopened"],
    )?;
    repo.approve(number, "ada")?;
    repo.comment(number, "ada", "Fine.")?;
    check(
        "what people say",
        &["pull_request_review.submitted", "issue_comment.created"],
    )?;
    let merged = repo.merge_pull(number)?;
    ensure!(repo.head("main")? == merged, "main did not move");
    check(
        "merged",
        &["pull_request.closed", "push", "check_suite.requested"],
    )?;
    repo.delete_branch("change")?;
    check("a branch deleted", &["delete", "push"])?;

    github.user("eve");
    let fork = repo.fork("eve")?;
    fork.push("patch", &[("server.py", "four\n")], "Fourth")?;
    check("a fork is not installed", &[])?;
    let number = repo.open_pull_from(&fork, "patch", "main", "Patch")?;
    fork.push("patch", &[("server.py", "five\n")], "Fifth")?;
    check(
        "from a fork",
        &["pull_request.opened", "pull_request.synchronize"],
    )?;
    fork.delete_branch("patch")?;
    check("its branch is gone", &["pull_request.closed"])?;
    ensure!(!repo.pulls()[usize::try_from(number)? - 1].open, "open");

    repo.rename("renamed")?;
    check("renamed", &["repository.renamed"])?;
    let second = github.repository("ada", "second", true)?;
    check("installed on some", &[])?;
    github.add_repositories(setting.installation, &[&second]);
    github.remove_repositories(setting.installation, &[&second]);
    check(
        "some more",
        &[
            "installation_repositories.added",
            "installation_repositories.removed",
        ],
    )?;
    github.suspend(setting.installation);
    repo.push("main", &[("server.py", "six\n")], "Sixth")?;
    github.unsuspend(setting.installation);
    check(
        "suspended",
        &["installation.suspend", "installation.unsuspend"],
    )?;
    github.organization("team", &["ada"]);
    let there = github.install(setting.app.id, "team", None)?;
    repo.transfer("team")?;
    check(
        "transferred",
        &[
            "installation.created",
            "installation_repositories.removed",
            "repository.transferred",
        ],
    )?;
    repo.push_changes("main", &[Change::Remove("server.py")], "Empty")?;
    check("pushed there", &["push", "check_suite.requested"])?;
    repo.delete()?;
    check(
        "deleted",
        &["repository.deleted", "installation_repositories.removed"],
    )?;
    github.uninstall(there);
    check("uninstalled", &["installation.deleted"])?;
    setting.github.finish()
}

fn deliveries() -> Result<()> {
    let hook = Hook::listen()?;
    let setting = Setting::with_hook(&hook.url)?;
    let (github, repo) = (&setting.github, &setting.repo);
    github.settle()?;
    while hook.next()?.header("x-github-event") != "installation" {}
    github.hold();
    repo.push("main", &[("a", "1")], "One")?;
    repo.push("main", &[("a", "2")], "Two")?;
    let pushes: Vec<_> = github
        .held()
        .into_iter()
        .filter(|one| one.event == "push")
        .collect();
    let [one, two] = &*pushes else {
        anyhow::bail!("{pushes:?}");
    };
    github.deliver(&[two.id, one.id])?;
    ensure!(
        hook.next()?.header("x-github-delivery") == two.guid,
        "not in this order"
    );
    ensure!(
        hook.next()?.header("x-github-delivery") == one.guid,
        "not in this order"
    );
    github.lose_held();
    github.release();
    let again = github.redeliver(one.id)?;
    ensure!(again.guid == one.guid && again.redelivery, "{again:?}");
    ensure!(
        hook.next()?.header("x-github-delivery") == one.guid,
        "another id"
    );
    let copy = github.send_again(one.id)?;
    ensure!(
        copy.guid != one.guid && copy.payload == one.payload,
        "{copy:?}"
    );
    let received = hook.next()?;
    ensure!(
        received.header("x-hub-signature-256") == one.signature(),
        "another signature"
    );
    // A push is three events: itself and two of others' suites; all of it gets lost.
    github.lose_next(2);
    let lost = repo.push("main", &[("a", "3")], "Three")?;
    github.settle()?;
    let kept = github.deliveries();
    let kept = kept
        .iter()
        .rfind(|one| one.event == "push")
        .context("no push")?;
    ensure!(kept.status_code == 0 && kept.payload_has(&lost), "{kept:?}");
    setting.github.finish()
}

fn repositories() -> Result<()> {
    let setting = Setting::new()?;
    let (repo, token) = (&setting.repo, setting.token()?);
    for number in 0..5 {
        let name = format!("feature/{number}");
        repo.push(&name, &[("lib/a.py", &*format!("{number}\n"))], "Change")?;
    }
    let one = setting.read("/repos/ada/tools", &token)?;
    ensure!(one["id"] == repo.id() && one["private"] == true, "{one}");
    setting.read(&format!("/repositories/{}", repo.id()), &token)?;
    setting.read("/repos/ada/tools/installation", &setting.jwt()?)?;

    // Pages lead to each other.
    let mut names = BTreeSet::new();
    let mut next = Some("/repos/ada/tools/branches?per_page=2".to_owned());
    while let Some(path) = next.take() {
        let answer = setting.get(&path, &token)?;
        let link = answer.headers().get("link").cloned();
        for branch in body(answer, 200)?.as_array().context("a list")? {
            names.insert(branch["name"].as_str().unwrap_or_default().to_owned());
        }
        let link = link.context("no links")?;
        next = link.to_str()?.split(", ").find_map(|link| {
            let url = link.strip_suffix(">; rel=\"next\"")?;
            Some(
                url.trim_start_matches('<')
                    .strip_prefix(setting.github.api_url())?
                    .to_owned(),
            )
        });
    }
    ensure!(names.len() == 6, "{names:?}");

    let branch = setting.read("/repos/ada/tools/branches/feature/3", &token)?;
    let sha = branch["commit"]["sha"]
        .as_str()
        .context("no commit")?
        .to_owned();
    ensure!(sha == repo.head("feature/3")?, "{branch}");
    let reference = setting.read("/repos/ada/tools/git/ref/heads/feature/3", &token)?;
    ensure!(reference["object"]["sha"] == sha.as_str(), "{reference}");
    setting.read("/repos/ada/tools/git/matching-refs/heads/feature", &token)?;
    let commits = setting.read("/repos/ada/tools/commits?sha=feature/3&path=lib", &token)?;
    ensure!(commits[0]["sha"] == sha.as_str(), "{commits}");
    let commit = setting.read(&format!("/repos/ada/tools/commits/{sha}"), &token)?;
    ensure!(commit["files"][0]["filename"] == "lib/a.py", "{commit}");
    ensure!(commit["author"]["login"] == "ada", "{commit}");
    let compared = setting.read("/repos/ada/tools/compare/main...feature/3", &token)?;
    ensure!(
        compared["ahead_by"] == 1 && compared["status"] == "ahead",
        "{compared}"
    );
    let patch = compared["files"][0]["patch"].as_str().context("no patch")?;
    ensure!(patch == "@@ -1 +1 @@\n-a\n+3", "{patch}");
    let file = setting.read("/repos/ada/tools/contents/lib/a.py?ref=feature/3", &token)?;
    ensure!(file["content"] == "Mwo=\n", "{file}");
    let listed = setting.read("/repos/ada/tools/contents/", &token)?;
    ensure!(
        listed.as_array().is_some_and(|all| all.len() == 2),
        "{listed}"
    );
    let tree = setting.read("/repos/ada/tools/git/trees/main?recursive=1", &token)?;
    ensure!(
        tree["tree"].as_array().is_some_and(|all| all.len() == 3),
        "{tree}"
    );

    // Unchanged answers are not sent again.
    let path = "/repos/ada/tools/branches/main";
    let first = setting.get(path, &token)?;
    let tag = first.headers().get("etag").context("no tag")?.clone();
    let again = setting
        .http
        .get(format!("{}{path}", setting.github.api_url()))
        .bearer_auth(&token)
        .header("if-none-match", &tag)
        .send()?;
    ensure!(again.status() == 304, "{}", again.status());

    let number = repo.open_pull("feature/3", "main", "Three")?;
    let pulls = setting.read("/repos/ada/tools/pulls?head=ada:feature/3", &token)?;
    ensure!(pulls[0]["number"] == number, "{pulls}");
    let pull = setting.read(&format!("/repos/ada/tools/pulls/{number}"), &token)?;
    ensure!(
        pull["mergeable"] == true && pull["changed_files"] == 1,
        "{pull}"
    );
    setting.read(&format!("/repos/ada/tools/pulls/{number}/files"), &token)?;
    repo.approve(number, "ada")?;
    let reviews = setting.read(&format!("/repos/ada/tools/pulls/{number}/reviews"), &token)?;
    ensure!(reviews[0]["state"] == "APPROVED", "{reviews}");
    let may = setting.read("/repos/ada/tools/collaborators/ada/permission", &token)?;
    ensure!(may["permission"] == "admin", "{may}");

    // A former name leads to the number.
    repo.rename("renamed")?;
    let moved = setting.get("/repos/ada/tools/branches/main", &token)?;
    ensure!(moved.status() == 301, "{}", moved.status());
    let to = moved
        .headers()
        .get("location")
        .context("no address")?
        .to_str()?
        .to_owned();
    let followed = setting.http.get(to).bearer_auth(&token).send()?;
    body(followed, 200)?;
    for missing in ["/repos/ada/nothing", "/repos/ada/renamed/branches/nothing"] {
        body(setting.get(missing, &token)?, 404)?;
    }

    // A repository from a template, by a person for an App that may.
    repo.make_template()?;
    let person = setting.github.user_token("ada", setting.app.id)?;
    let asked = json!({ "name": "copy", "private": true });
    let made = setting.post("/repos/ada/renamed/generate", &person, &asked)?;
    ensure!(body(made, 201)?["full_name"] == "ada/copy", "another name");
    let copied = setting.github.find("ada/copy")?;
    copied.head("main")?;
    setting.github.finish()
}

fn feedback() -> Result<()> {
    let setting = Setting::new()?;
    let (repo, token) = (&setting.repo, setting.token()?);
    let sha = repo.push("change", &[("server.py", "two\n")], "Second")?;
    let number = repo.open_pull("change", "main", "Change")?;
    let annotation = json!({
        "path": "server.py", "start_line": 1, "end_line": 1, "annotation_level": "failure",
        "message": "It does not start.",
    });
    let asked = json!({
        "name": "Berth", "head_sha": sha, "status": "in_progress",
        "output": { "title": "Building", "summary": "…", "annotations": [annotation] },
    });
    let path = "/repos/ada/tools/check-runs";
    let made = body(setting.post(path, &token, &asked)?, 201)?;
    ensure!(made["pull_requests"][0]["number"] == number, "{made}");
    let id = made["id"].as_u64().context("no id")?;
    let path = format!("/repos/ada/tools/check-runs/{id}");
    let many = json!({
        "output": { "title": "t", "summary": "s", "annotations": vec![annotation; 51] },
    });
    ensure!(
        setting.patch(&path, &token, &many)?.status() == 422,
        "51 annotations"
    );
    let wrong = setting.github.take_mismatches();
    ensure!(
        wrong.iter().any(|one| one.contains("annotations")),
        "{wrong:?}"
    );
    let ended = json!({ "status": "completed", "conclusion": "failure" });
    let ended = body(setting.patch(&path, &token, &ended)?, 200)?;
    ensure!(ended["conclusion"] == "failure", "{ended}");
    setting.read(&path, &token)?;
    let annotations = setting.read(&format!("{path}/annotations"), &token)?;
    ensure!(annotations[0]["path"] == "server.py", "{annotations}");
    let listed = setting.read(
        &format!("/repos/ada/tools/commits/{sha}/check-runs"),
        &token,
    )?;
    ensure!(listed["total_count"] == 1, "{listed}");
    setting.github.settle()?;
    setting.github.hold();
    setting.github.rerequest_check(id)?;
    setting.github.rerequest_suite(repo, "change")?;
    let told = told(&setting.github);
    ensure!(
        told == ["check_run.rerequested", "check_suite.rerequested"],
        "{told:?}"
    );
    ensure!(
        repo.checks()[0].conclusion.as_deref() == Some("failure"),
        "not kept"
    );

    let path = format!("/repos/ada/tools/statuses/{sha}");
    let status = json!({ "state": "success", "context": "berth", "description": "Live" });
    body(setting.post(&path, &token, &status)?, 201)?;
    ensure!(repo.statuses()[0].context == "berth", "not kept");

    let path = "/repos/ada/tools/deployments";
    let asked = json!({ "ref": sha, "environment": "preview", "transient_environment": true });
    // The check failed, and nothing was said about required contexts.
    ensure!(
        setting.post(path, &token, &asked)?.status() == 409,
        "checks failed"
    );
    let asked = json!({
        "ref": sha, "environment": "preview", "transient_environment": true,
        "required_contexts": [], "auto_merge": false,
    });
    let made = body(setting.post(path, &token, &asked)?, 201)?;
    let id = made["id"].as_u64().context("no id")?;
    let status = json!({
        "state": "success", "environment_url": "http://tools--pr-1.example/mcp",
        "log_url": "http://berth.example/log", "description": "Live",
    });
    let statuses = format!("{path}/{id}/statuses");
    body(setting.post(&statuses, &token, &status)?, 201)?;
    setting.read(&statuses, &token)?;
    setting.read(&format!("{path}/{id}"), &token)?;
    let listed = setting.read(&format!("{path}?environment=preview"), &token)?;
    ensure!(listed[0]["id"] == id, "{listed}");
    ensure!(
        repo.deployments()[0].statuses[0].state == "success",
        "not kept"
    );

    let path = format!("/repos/ada/tools/issues/{number}/comments");
    let made = body(
        setting.post(&path, &token, &json!({ "body": "Building" }))?,
        201,
    )?;
    ensure!(made["user"]["login"] == "berth-of-ada[bot]", "{made}");
    let id = made["id"].as_u64().context("no id")?;
    let edited = format!("/repos/ada/tools/issues/comments/{id}");
    body(
        setting.patch(&edited, &token, &json!({ "body": "Live" }))?,
        200,
    )?;
    setting.read(&edited, &token)?;
    let others = repo.comment(number, "ada", "Mine.")?;
    let foreign = format!("/repos/ada/tools/issues/comments/{others}");
    let refused = setting.patch(&foreign, &token, &json!({ "body": "Yours" }))?;
    ensure!(refused.status() == 403, "{}", refused.status());
    let comments = setting.read(&path, &token)?;
    ensure!(
        comments.as_array().is_some_and(|all| all.len() == 2),
        "{comments}"
    );
    ensure!(repo.comments(number)[0].edits == 1, "not counted");
    setting.github.finish()
}

fn faults() -> Result<()> {
    let setting = Setting::new()?;
    let token = setting.token()?;
    let github = &setting.github;
    let route = "GET /repos/{owner}/{repo}";
    let ask = || setting.get("/repos/ada/tools", &token);
    github.fail(route, Fault::RateLimit(60), Some(1));
    let limited = ask()?;
    ensure!(
        limited.headers()["x-ratelimit-remaining"] == "0",
        "{limited:?}"
    );
    ensure!(
        limited.status() == 403 && ask()?.status() == 200,
        "not once"
    );
    github.fail(route, Fault::SecondaryLimit(7), Some(1));
    ensure!(ask()?.headers()["retry-after"] == "7", "no retry-after");
    github.fail(route, Fault::TooMany(7), Some(1));
    ensure!(ask()?.status() == 429, "no 429");
    let down = github.fail("GET *", Fault::BadGateway, None);
    ensure!(ask()?.status() == 502 && ask()?.status() == 502, "no 502");
    github.lift(down);
    github.fail(route, Fault::Drop, Some(1));
    ensure!(ask().is_err() && ask()?.status() == 200, "not dropped");
    github.fail(route, Fault::Slow(Duration::from_millis(300)), Some(1));
    let began = std::time::Instant::now();
    ask()?;
    ensure!(began.elapsed() >= Duration::from_millis(300), "not slow");
    let counted = github
        .requests()
        .iter()
        .filter(|one| one.route == "/repos/{owner}/{repo}")
        .count();
    ensure!(counted == 8, "{counted}");
    setting.github.finish()
}

/// Each of these differs from the description, and is found.
fn held() -> Result<()> {
    let setting = Setting::new()?;
    let (github, token) = (&setting.github, setting.token()?);
    let found = |what: &str| {
        let all = github.take_mismatches();
        ensure!(all.iter().any(|one| one.contains(what)), "{what}: {all:?}");
        Ok(())
    };
    setting.get("/repos/ada/tools?nonsense=1", &token)?;
    found("nonsense")?;
    setting.get("/repos/ada/tools/branches?per_page=many", &token)?;
    found("per_page")?;
    let sha = setting.repo.head("main")?;
    let path = format!("/repos/ada/tools/statuses/{sha}");
    setting.post(&path, &token, &json!({ "state": "fine" }))?;
    found("fine")?;
    setting.post(&path, &token, &json!({ "state": "success", "invented": 1 }))?;
    found("invented")?;
    setting.get("/no/such/route", &token)?;
    found("no such route")?;
    setting
        .http
        .get(format!("{}/meta", github.api_url()))
        .send()?;
    found("/meta")?;
    let answer = |change: fn(&mut Value)| -> Result<Vec<String>> {
        let mut body = setting.read("/repos/ada/tools", &token)?;
        change(&mut body);
        Ok(github.check_answer("GET", "/repos/{owner}/{repo}", 200, &body))
    };
    let right = answer(|_| {})?;
    ensure!(right.is_empty(), "{right:?}");
    let changes: [fn(&mut Value); 4] = [
        |body| body["id"] = "1".into(),
        |body| body["owner"]["login"] = Value::Null,
        |body| body["invented"] = 1.into(),
        |body| {
            drop(
                body.as_object_mut()
                    .and_then(|members| members.remove("default_branch")),
            )
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        ensure!(answer(change)?.len() == 1, "change {number} was not found");
    }
    let status = github.check_answer("GET", "/repos/{owner}/{repo}", 418, &json!({}));
    ensure!(status.len() == 1, "{status:?}");
    setting.get("/invented", &token)?;
    let failed = setting.github.finish();
    ensure!(failed.is_err(), "a mismatch is no failure");
    Ok(())
}

/// The examples are real, so what they say of the schemas holds for the emulator's own payloads.
fn real_payloads() -> Result<()> {
    let all = examples()?;
    ensure!(all.len() > 60, "only {}", all.len());
    let events: BTreeSet<&str> = all.iter().map(|(event, _, _)| &**event).collect();
    ensure!(events.len() == 10, "{events:?}");
    Ok(())
}
