//! A GitHub with an App, and how tests ask it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::blocking::{Client, Response};
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use tests::github::{AppKeys, Github, Repo};

use crate::github::receiver::Hook;

/// What the tests' App asks for.
pub fn manifest_of(hook: &str) -> Value {
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
            "administration": "write", "issues": "read",
        },
        "default_events": [
            "push", "create", "delete", "pull_request", "pull_request_review", "issue_comment",
            "repository", "check_run", "check_suite",
        ],
    })
}

/// A GitHub where an App is installed on a private repository.
pub struct Setting {
    pub github: Github,
    pub app: AppKeys,
    pub installation: u64,
    pub repo: Repo,
    pub http: Client,
}

impl Setting {
    pub fn new() -> Result<Self> {
        let hook = Hook::listen()?;
        Self::with_hook(&hook.url)
    }

    pub fn with_hook(hook: &str) -> Result<Self> {
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

    pub fn jwt(&self) -> Result<String> {
        jwt_of(&self.app, -60, 540)
    }

    pub fn token(&self) -> Result<String> {
        let path = format!("/app/installations/{}/access_tokens", self.installation);
        let answer = self.post(&path, &self.jwt()?, &json!({}))?;
        let token = body(answer, 201)?["token"].as_str().map(str::to_owned);
        token.context("no token")
    }

    pub fn get(&self, path: &str, token: &str) -> Result<Response> {
        let url = format!("{}{path}", self.github.api_url());
        Ok(self.http.get(url).bearer_auth(token).send()?)
    }

    pub fn post(&self, path: &str, token: &str, json: &Value) -> Result<Response> {
        let url = format!("{}{path}", self.github.api_url());
        Ok(self.http.post(url).bearer_auth(token).json(json).send()?)
    }

    pub fn patch(&self, path: &str, token: &str, json: &Value) -> Result<Response> {
        let url = format!("{}{path}", self.github.api_url());
        Ok(self.http.patch(url).bearer_auth(token).json(json).send()?)
    }

    /// Gets JSON with 200.
    pub fn read(&self, path: &str, token: &str) -> Result<Value> {
        body(self.get(path, token)?, 200).with_context(|| path.to_owned())
    }
}

pub fn client() -> Result<Client> {
    Ok(Client::builder()
        .redirect(Policy::none())
        .user_agent("berth-tests")
        .timeout(Duration::from_secs(30))
        .build()?)
}

pub fn body(answer: Response, status: u16) -> Result<Value> {
    let became = answer.status().as_u16();
    let text = answer.text()?;
    ensure!(became == status, "{became} and not {status}: {text}");
    Ok(serde_json::from_str(&text)?)
}

pub fn jwt_of(app: &AppKeys, issued: i64, expires: i64) -> Result<String> {
    let now = i64::try_from(jsonwebtoken::get_current_timestamp())?;
    let claims = json!({ "iat": now + issued, "exp": now + expires, "iss": app.client_id });
    let key = EncodingKey::from_rsa_pem(app.private_key.as_bytes())?;
    Ok(jsonwebtoken::encode(
        &Header::new(Algorithm::RS256),
        &claims,
        &key,
    )?)
}
