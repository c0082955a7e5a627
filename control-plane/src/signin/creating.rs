//! Coming back from GitHub to have a repository made from a template.

use axum::response::{IntoResponse as _, Redirect, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tower_sessions::Session;
use uuid::Uuid;

use super::github::{bring, check_may_connect};
use super::sessions::internal;
use crate::app::App;
use crate::audit::{self, Actor};
use crate::config::Secret;
use crate::error::Result;
use crate::github::creation::{self, Order};
use crate::github::registration::Registration;
use crate::github::rest::Repository;
use crate::pages::PageError;

/// The session's key of what came of the last attempt.
const REPORT: &str = "github_creation";

/// What came of an attempt that did not lead on, for the template's page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What was asked for; with the repository's number, if it is there.
    pub order: Order,
    /// For which organization.
    pub organization: Uuid,
    /// What happened and what to do.
    pub sentence: String,
    /// The name of the repository, if it is there.
    pub repository: Option<String>,
}

/// What came of this browser's last attempt.
pub async fn find_report(session: &Session) -> Result<Option<Report>> {
    session.get(REPORT).await.map_err(internal)
}

/// Who came back, for what.
pub(super) struct Coming<'a> {
    pub(super) app: &'a App,
    pub(super) session: &'a Session,
    pub(super) registration: &'a Registration,
    pub(super) token: &'a Secret,
    pub(super) user: Uuid,
    pub(super) organization: Uuid,
}

impl Coming<'_> {
    /// Makes the repository and goes on to the form of a new project, or to the template's page,
    /// which says why not.
    pub(super) async fn create(&self, mut order: Order) -> Result<Response, PageError> {
        let Self { app, token, .. } = self;
        check_may_connect(&mut *app.db.acquire().await?, self.user, self.organization).await?;
        let (made, problem) = match creation::create(app, self.registration.id, token, &order).await
        {
            Ok(made) => (Some(made), None),
            Err(stopped) => (stopped.made, Some(stopped.sentence)),
        };
        if let Some(made) = &made
            && order.made.is_none()
        {
            self.note(made, &order).await?;
        }
        let problem = match (problem, &made) {
            (None, Some(made)) => self.reach(made).await,
            (problem, _) => problem,
        };
        let Some(sentence) = problem else {
            let id = made.map(|made| made.id).unwrap_or_default();
            return Ok(Redirect::to(&format!("/new?repository={id}")).into_response());
        };
        // One that was made before is still there, whatever came of this attempt.
        let repository = made.as_ref().map(|made| made.full_name.clone());
        let before = self.made_before(&order).await?;
        order.made = made.map(|made| made.id).or(order.made);
        let to = format!("/new/templates/{}?attempt=1", order.starter);
        let report = Report {
            order,
            organization: self.organization,
            sentence,
            repository: repository.or(before),
        };
        self.session
            .insert(REPORT, &report)
            .await
            .map_err(internal)?;
        Ok(Redirect::to(&to).into_response())
    }

    /// The name of the repository that an attempt goes on with, as the attempt before left it.
    async fn made_before(&self, order: &Order) -> Result<Option<String>> {
        let report = find_report(self.session).await?;
        Ok(report
            .filter(|it| order.made.is_some() && it.order.made == order.made)
            .and_then(|it| it.repository))
    }

    /// Lets the organization use the repository; says why it cannot.
    async fn reach(&self, made: &Repository) -> Option<String> {
        let Self { app, user, .. } = self;
        let name = &made.full_name;
        let brought = bring(app, self.registration, self.token, *user, self.organization).await;
        let readable = match brought {
            Ok(()) => self.is_readable(made.id).await,
            Err(error) => Err(error),
        };
        match readable {
            Ok(true) => None,
            Ok(false) => Some(format!(
                "{name} is created at GitHub and holds the template, but the App is installed on selected repositories there and this one is none of them. Add it to the App's installation, then go on here."
            )),
            Err(error) => Some(format!(
                "{name} is created at GitHub and holds the template, but what you may use here could not be brought up to date. {error} Go on in a moment."
            )),
        }
    }

    async fn is_readable(&self, id: i64) -> Result<bool> {
        let mut db = self.app.db.acquire().await?;
        creation::is_readable(&mut db, self.organization, id).await
    }

    async fn note(&self, made: &Repository, order: &Order) -> Result<()> {
        let entry = audit::Entry {
            at: self.app.clock.now(),
            actor: &Actor::User(self.user),
            action: "github.create_repository",
            organization: Some(self.organization),
            project: None,
            subject: json!({ "repository": made.id, "name": made.full_name, "template": order.starter }),
        };
        audit::record(&mut *self.app.db.acquire().await?, entry).await?;
        Ok(())
    }
}
