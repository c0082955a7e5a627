//! The requests by which checks, deployments and comments are written and found again.
//!
//! <https://docs.github.com/en/rest/checks/runs>, <https://docs.github.com/en/rest/deployments>,
//! <https://docs.github.com/en/rest/issues/comments>

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use uuid::Uuid;

use super::facts::Facts;
use crate::app::App;
use crate::github::client::{Call, Credential};
use crate::github::tokens::{self, Purpose};
use crate::github::{Failure, rest};

/// Entries of a page, the most that GitHub gives.
const PER_PAGE: usize = 100;

/// Pages of comments that are looked through for ours.
const MAX_PAGES: usize = 10;

/// A repository that is written to.
#[derive(Debug)]
pub struct Place<'a> {
    app: &'a App,
    installation: i64,
    owner: &'a str,
    name: &'a str,
}

/// A check run that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its number.
    pub id: i64,
    /// Whether it has annotations.
    pub annotated: bool,
}

#[derive(Deserialize)]
struct Numbered {
    id: i64,
}

#[derive(Deserialize)]
struct CheckRun {
    id: i64,
    #[serde(default)]
    external_id: Option<String>,
    output: Output,
}

#[derive(Deserialize)]
struct Output {
    #[serde(default)]
    annotations_count: u64,
}

#[derive(Deserialize)]
struct CheckRuns {
    check_runs: Vec<CheckRun>,
}

#[derive(Deserialize)]
struct Deployment {
    id: i64,
    #[serde(default)]
    payload: Value,
}

#[derive(Deserialize)]
struct Comment {
    id: i64,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    performed_via_github_app: Option<Numbered>,
}

impl From<CheckRun> for Known {
    fn from(check: CheckRun) -> Self {
        Self {
            id: check.id,
            annotated: check.output.annotations_count > 0,
        }
    }
}

impl<'a> Place<'a> {
    /// The repository of these facts.
    pub fn of(app: &'a App, facts: &'a Facts) -> Result<Self, Failure> {
        let (owner, name) = rest::parts(&facts.repository).ok_or(Failure::NotFound)?;
        Ok(Self {
            app,
            installation: facts.link.installation_id,
            owner,
            name,
        })
    }

    /// Asks with the token that writes. One that GitHub refuses is not used again.
    async fn ask<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, Failure> {
        let (app, installation) = (self.app, self.installation);
        let token = tokens::get(app, installation, Purpose::Feedback).await?;
        let who = Credential::Writer(installation, &token.secret);
        let answer = app.github.client.ask(&who, call).await;
        if let Err(Failure::Unauthorized(_)) = &answer {
            tokens::forget(app, installation, Purpose::Feedback).await?;
        }
        answer
    }

    /// Makes a check run; its number.
    pub async fn create_check(&self, body: Value) -> Result<i64, Failure> {
        let path = ["repos", self.owner, self.name, "check-runs"];
        let made: Numbered = self.ask(Call::post(&path, Some(body))).await?;
        Ok(made.id)
    }

    /// Changes one.
    pub async fn update_check(&self, id: i64, body: Value) -> Result<(), Failure> {
        let id = id.to_string();
        let path = ["repos", self.owner, self.name, "check-runs", &id];
        let _: IgnoredAny = self.ask(Call::patch(&path, body)).await?;
        Ok(())
    }

    /// A check run by its number.
    pub async fn get_check(&self, id: i64) -> Result<Known, Failure> {
        let id = id.to_string();
        let path = ["repos", self.owner, self.name, "check-runs", &id];
        let found: CheckRun = self.ask(Call::get(&path)).await?;
        Ok(found.into())
    }

    /// The check run of a deployment, which may have been made without our hearing of it.
    pub async fn find_check(
        &self,
        app_id: i64,
        sha: &str,
        name: &str,
        deployment: Uuid,
    ) -> Result<Option<Known>, Failure> {
        let path = ["repos", self.owner, self.name, "commits", sha, "check-runs"];
        let query = [
            ("check_name", name.to_owned()),
            ("filter", "all".to_owned()),
            ("app_id", app_id.to_string()),
            ("per_page", PER_PAGE.to_string()),
        ];
        let found: CheckRuns = self.ask(Call::get(&path).query(&query)).await?;
        let id = deployment.to_string();
        let mut all = found.check_runs.into_iter();
        Ok(all
            .find(|check| check.external_id.as_ref() == Some(&id))
            .map(Known::from))
    }

    /// Makes a deployment; its number.
    pub async fn create_deployment(&self, body: Value) -> Result<i64, Failure> {
        let path = ["repos", self.owner, self.name, "deployments"];
        let made: Numbered = self.ask(Call::post(&path, Some(body))).await?;
        Ok(made.id)
    }

    /// The deployment of one of ours: `payload.berth` names it.
    pub async fn find_deployment(&self, sha: &str, ours: Uuid) -> Result<Option<i64>, Failure> {
        let path = ["repos", self.owner, self.name, "deployments"];
        let query = [("sha", sha.to_owned()), ("per_page", PER_PAGE.to_string())];
        let all: Vec<Deployment> = self.ask(Call::get(&path).query(&query)).await?;
        let id = ours.to_string();
        let names_it = |payload: &Value| match payload {
            // Some versions give the object back as text.
            Value::String(text) => text.contains(&id),
            other => other["berth"] == id,
        };
        Ok(all
            .into_iter()
            .find(|it| names_it(&it.payload))
            .map(|it| it.id))
    }

    /// Adds a status to one.
    pub async fn add_status(&self, deployment: i64, body: Value) -> Result<(), Failure> {
        let id = deployment.to_string();
        let path = [
            "repos",
            self.owner,
            self.name,
            "deployments",
            &id,
            "statuses",
        ];
        let _: IgnoredAny = self.ask(Call::post(&path, Some(body))).await?;
        Ok(())
    }

    /// Comments on a pull request; the comment's number.
    pub async fn create_comment(&self, pull_request: i64, body: Value) -> Result<i64, Failure> {
        let number = pull_request.to_string();
        let path = [
            "repos", self.owner, self.name, "issues", &number, "comments",
        ];
        let made: Numbered = self.ask(Call::post(&path, Some(body))).await?;
        Ok(made.id)
    }

    /// Changes a comment.
    pub async fn edit_comment(&self, id: i64, body: Value) -> Result<(), Failure> {
        let id = id.to_string();
        let path = ["repos", self.owner, self.name, "issues", "comments", &id];
        let _: IgnoredAny = self.ask(Call::patch(&path, body)).await?;
        Ok(())
    }

    /// The comment that our App made and that begins with a mark. Anyone may write the mark, so the
    /// App is compared.
    pub async fn find_comment(
        &self,
        app_id: i64,
        pull_request: i64,
        mark: &str,
    ) -> Result<Option<i64>, Failure> {
        let number = pull_request.to_string();
        let path = [
            "repos", self.owner, self.name, "issues", &number, "comments",
        ];
        for page in 1..=MAX_PAGES {
            let query = [
                ("per_page", PER_PAGE.to_string()),
                ("page", page.to_string()),
            ];
            let all: Vec<Comment> = self.ask(Call::get(&path).query(&query)).await?;
            let last = all.len() < PER_PAGE;
            let found = all.into_iter().find(|comment| {
                comment
                    .performed_via_github_app
                    .as_ref()
                    .is_some_and(|by| by.id == app_id)
                    && comment
                        .body
                        .as_deref()
                        .is_some_and(|body| body.starts_with(mark))
            });
            if found.is_some() || last {
                return Ok(found.map(|comment| comment.id));
            }
        }
        Ok(None)
    }
}
