//! The previews of a project's pull requests, on its page, and their buttons.

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect};
use serde::Deserialize;
use sqlx::PgConnection;

use super::Nothing;
use crate::app::App;
use crate::config::ServeConfig;
use crate::error::Result;
use crate::github::links;
use crate::pages::error::PageResult;
use crate::previews::approval::{self, Approval, Approver};
use crate::previews::standing::Standing;
use crate::previews::{self, Preview, closing, turns};
use crate::projects::{self, Project};
use crate::signin::{CsrfForm, SignedIn};

/// Digits of a commit that tell it from the others of a repository.
const SHORT_COMMIT: usize = 8;

/// Previews on the page; who looks for others asks the API.
const SHOWN: u8 = 50;

/// A preview as the page shows it.
#[derive(Debug)]
pub struct PreviewRow {
    pub slug: String,
    pub number: i64,
    pub title: String,
    pub author: String,
    pub branch: String,
    pub fork: bool,
    pub commit: String,
    pub short: String,
    pub url: String,
    /// The pull request at GitHub.
    pub page: Option<String>,
    /// The class and the word of its label.
    pub kind: &'static str,
    pub word: &'static str,
    pub about: &'static str,
    /// The number of its newest deployment.
    pub deployment: Option<i32>,
    /// A member has to approve its commit.
    pub waits: bool,
    /// It can be deployed again.
    pub open: bool,
}

impl PreviewRow {
    fn new(config: &ServeConfig, project: &Project, preview: Preview, standing: &Standing) -> Self {
        let word = standing.word(&preview);
        Self {
            number: preview.pull_request,
            url: preview.url(config, &project.name),
            page: preview
                .page(project.source_url.as_deref())
                .filter(|page| page.starts_with("https://")),
            kind: word,
            word,
            about: standing.about(&preview),
            deployment: standing.newest.map(|newest| newest.number),
            waits: preview.state == previews::State::Waiting,
            open: preview.state == previews::State::Open,
            short: preview.head.chars().take(SHORT_COMMIT).collect(),
            slug: preview.slug,
            title: preview.title,
            author: preview.author,
            branch: preview.branch,
            fork: preview.fork,
            commit: preview.head,
        }
    }
}

/// Previews as the page shows them.
#[derive(Debug)]
pub struct Previews {
    pub rows: Vec<PreviewRow>,
    /// Whether there are others.
    pub more: bool,
}

impl Previews {
    /// A project's that are not closed; `None` where there cannot be any, for lack of a repository.
    pub async fn read(
        db: &mut PgConnection,
        config: &ServeConfig,
        project: &Project,
    ) -> Result<Option<Self>> {
        if links::find(db, project.id).await?.is_none() {
            return Ok(None);
        }
        let mut some = previews::list_some(db, project.id, i64::from(SHOWN) + 1).await?;
        let more = some.len() > usize::from(SHOWN);
        some.truncate(SHOWN.into());
        let standings = Standing::read_all(db, &some).await?;
        let row = |preview: Preview| {
            let standing = standings.get(&preview.id).copied().unwrap_or_default();
            PreviewRow::new(config, project, preview, &standing)
        };
        let rows = some.into_iter().map(row).collect();
        Ok(Some(Self { rows, more }))
    }
}

/// What the form that approves sends.
#[derive(Debug, Deserialize)]
pub struct Approve {
    commit: String,
    with_secrets: Option<String>,
}

/// `POST /projects/{project}/previews/{preview}/approve`: exactly the commit that was shown.
pub async fn approve(
    State(app): State<App>,
    person: SignedIn,
    Path((name, preview)): Path<(String, String)>,
    CsrfForm(form): CsrfForm<Approve>,
) -> PageResult {
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, person.user.id, &name)
        .await?
        .changeable()?;
    let approval = Approval {
        commit: form.commit,
        with_secrets: form.with_secrets.is_some(),
    };
    let by = Approver {
        user: person.user.id,
        actor: &person.actor(),
    };
    let bounds = (app.config.previews_per_project.into(), app.clock.now());
    approval::approve(&mut tx, (&project, &preview), &approval, by, bounds).await?;
    tx.commit().await?;
    Ok(Redirect::to(&format!("/projects/{}#previews", project.name)).into_response())
}

/// `POST /projects/{project}/previews/{preview}/deploy`: its commit again.
pub async fn deploy(
    State(app): State<App>,
    person: SignedIn,
    Path((name, preview)): Path<(String, String)>,
    CsrfForm(Nothing {}): CsrfForm<Nothing>,
) -> PageResult {
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, person.user.id, &name)
        .await?
        .changeable()?;
    let (actor, now) = (person.actor(), app.clock.now());
    let queued = turns::deploy(&mut tx, &project, &preview, &actor, now).await?;
    tx.commit().await?;
    let to = format!("/projects/{}/deployments/{}", project.name, queued.number);
    Ok(Redirect::to(&to).into_response())
}

/// `POST /projects/{project}/previews/{preview}/close`: until its pull request has another head.
pub async fn close(
    State(app): State<App>,
    person: SignedIn,
    Path((name, preview)): Path<(String, String)>,
    CsrfForm(Nothing {}): CsrfForm<Nothing>,
) -> PageResult {
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, person.user.id, &name)
        .await?
        .changeable()?;
    let bounds = (app.config.previews_per_project.into(), app.clock.now());
    let (named, actor) = ((&project, preview.as_str()), person.actor());
    closing::close_by_hand(&mut tx, named, &actor, bounds).await?;
    tx.commit().await?;
    Ok(Redirect::to(&format!("/projects/{}?done=closed", project.name)).into_response())
}
