//! What is known of a deployment or a preview when it is told.

use runner::protocol::{Diagnosis, Timing};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::items::{Item, Kind};
use crate::app::App;
use crate::build_settings;
use crate::config::ServeConfig;
use crate::deployments::{self, Deployment, State};
use crate::error::Result;
use crate::github::links::{self, Link};
use crate::github::{Failure, installations};
use crate::projects::{self, Project};
use crate::surface::{self, Change};
use crate::variables;

/// A preview as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Its id.
    pub id: Uuid,
    /// What follows `PROJECT--` in its address.
    pub slug: String,
    /// The pull request's number.
    pub pull_request: i64,
    /// The newest commit.
    pub head: String,
    /// `waiting`, `open`, `crowded` or `closed`.
    pub state: String,
    /// Whether its instance was stopped because nobody called.
    pub asleep: bool,
    /// Whether it is closed until the next commit.
    pub stays_closed: bool,
}

/// A deployment as it is told.
#[derive(Debug)]
pub struct Deployed {
    /// The deployment.
    pub it: Deployment,
    /// Its commit.
    pub commit: String,
    /// Its project's root directory in the repository when it was asked for.
    pub root: String,
    /// Why it failed, if it did.
    pub diagnosis: Option<Diagnosis>,
    /// How long each stage took.
    pub timings: Vec<Timing>,
    /// What it is compared with, by number, and what it changes for callers.
    pub changes: Option<(i32, Vec<Change>)>,
    /// Whether its build serves, be it after a restart or, of a preview, a sleep.
    pub up: bool,
    /// The newest deployment of the same environment after it; restarts are none.
    pub newer: Option<i32>,
    /// Variables that the code fails without and that are not set, with places in the source.
    pub missing: Vec<(String, Vec<String>)>,
}

impl Deployed {
    /// Whether it failed.
    pub fn has_failed(&self) -> bool {
        self.it.state == State::Failed
    }
}

/// Everything that an item is made of.
#[derive(Debug)]
pub struct Facts {
    /// The project.
    pub project: Project,
    /// Its repository.
    pub link: Link,
    /// The repository's name at present.
    pub repository: String,
    /// Whether other projects are of the same repository.
    pub shared: bool,
    /// Whether pull requests get comments.
    pub comments: bool,
    /// The deployment; of a comment the newest of the preview.
    pub deployed: Option<Deployed>,
    /// The preview, if it is of one.
    pub preview: Option<Preview>,
}

/// What became of looking.
#[derive(Debug)]
pub enum Found {
    /// It is of no use any more.
    Gone,
    /// The repository cannot be written to now; one sentence.
    OutOfReach(&'static str),
    /// Here it is.
    Here(Box<Facts>),
}

impl Facts {
    /// Reads them for an item.
    pub async fn load(app: &App, item: &Item) -> Result<Found, Failure> {
        let db = &mut *app.db.acquire().await?;
        let (Some(project), Some(link)) = (
            projects::find(db, item.project).await?,
            links::find(db, item.project).await?,
        ) else {
            return Ok(Found::Gone);
        };
        if link.repository_id != item.repository {
            return Ok(Found::Gone);
        }
        let state = installations::find_state(db, link.installation_id).await?;
        if state.as_deref() != Some("active") {
            return Ok(Found::OutOfReach(
                "The App's installation is suspended or gone.",
            ));
        }
        let readable =
            installations::find_readable_of(db, project.organization_id, link.repository_id)
                .await?
                .filter(|it| it.installation_id == link.installation_id);
        let Some(readable) = readable else {
            return Ok(Found::OutOfReach(
                "The repository is out of the project's reach.",
            ));
        };
        let preview = find_preview(db, item).await?;
        let deployed = match (item.kind, &preview) {
            (Kind::Comment, None) => return Ok(Found::Gone),
            (Kind::Comment, Some(preview)) => newest_of(db, preview.id).await?,
            _ => Some(item.subject),
        };
        let deployed = match deployed {
            Some(id) => Some(Deployed::load(db, &project, id, preview.is_some()).await?),
            None => None,
        };
        let row = sqlx::query!(
            r#"select github_comments, (select count(*) from github_links where repository_id = $2) > 1 as "shared!"
             from projects where id = $1"#,
            project.id,
            link.repository_id,
        )
        .fetch_one(db)
        .await?;
        Ok(Found::Here(Box::new(Self {
            project,
            link,
            repository: readable.full_name,
            shared: row.shared,
            comments: row.github_comments,
            deployed,
            preview,
        })))
    }

    /// The page of its deployment, or else of its project.
    pub fn page(&self, config: &ServeConfig) -> String {
        let project = format!("{}/projects/{}", config.issuer(), self.project.name);
        match &self.deployed {
            Some(deployed) => format!("{project}/deployments/{}", deployed.it.number),
            None => project,
        }
    }

    /// Where clients call it.
    pub fn url(&self, config: &ServeConfig) -> String {
        config.project_url(&self.host())
    }

    /// Whether the deployment's instance is stopped until somebody calls.
    pub fn is_asleep(&self, deployed: &Deployed) -> bool {
        let asleep = self.preview.as_ref().is_some_and(|it| it.asleep);
        asleep
            && deployed.newer.is_none()
            && deployed.it.live_at.is_some()
            && !deployed.has_failed()
    }

    /// The host label: the project's, or its preview's.
    pub fn host(&self) -> String {
        match &self.preview {
            Some(preview) => format!("{}--{}", self.project.name, preview.slug),
            None => self.project.name.clone(),
        }
    }
}

impl Deployed {
    async fn load(
        db: &mut PgConnection,
        project: &Project,
        id: Uuid,
        of_preview: bool,
    ) -> Result<Self> {
        let it = deployments::get(db, project.id, &id.to_string()).await?;
        let before = find_before(db, &it, of_preview).await?;
        let changes = before.and_then(|before| {
            let changes = surface::diff(&before.offers()?, &it.offers()?);
            Some((before.number, changes))
        });
        let row = sqlx::query!(
            r#"select exists(select from deployments o where o.project_id = d.project_id and case
                   when o.origin = 'wake' then o.preview_id = d.preview_id and o.number > d.number
                       and coalesce(o.commit_id, o.source->>'commit') = coalesce(d.commit_id, d.source->>'commit')
                       and o.state in ('queued', 'building', 'starting', 'checking', 'live')
                   else o.state = 'live' and coalesce(o.build_of, o.id) = coalesce(d.build_of, d.id) end) as "up!",
               (select max(o.number) from deployments o where o.project_id = d.project_id and o.number > d.number
                   and o.preview_id is not distinct from d.preview_id and o.origin not in ('variables', 'wake')) as newer,
               coalesce(d.commit_id, d.source->>'commit', '') as "commit!"
             from deployments d where d.id = $1"#,
            id,
        )
        .fetch_one(&mut *db)
        .await?;
        let needed = variables::needed_by(db, project.id, it.preview_id, it.plan.as_ref()).await?;
        let missing = needed.into_iter().filter(variables::Needed::is_missing);
        Ok(Self {
            commit: row.commit,
            root: build_settings::of_deployment(db, id)
                .await?
                .root_directory
                .unwrap_or_default(),
            diagnosis: read(it.diagnosis.as_ref()).filter(|_| it.state == State::Failed),
            timings: read(Some(&it.timings)).unwrap_or_default(),
            changes,
            up: row.up,
            newer: row.newer,
            missing: missing.map(|it| (it.name, it.places)).collect(),
            it,
        })
    }
}

/// What a runner reported; a form that this version does not know is left out.
fn read<T: DeserializeOwned>(value: Option<&Value>) -> Option<T> {
    T::deserialize(value?).ok()
}

async fn find_preview(db: &mut PgConnection, item: &Item) -> Result<Option<Preview>> {
    Ok(sqlx::query_as!(
        Preview,
        "select id, slug, pull_request, head, state, asleep, stays_closed from previews
         where id = $1 or id = (select preview_id from deployments where id = $1)",
        item.subject,
    )
    .fetch_optional(db)
    .await?)
}

async fn newest_of(db: &mut PgConnection, preview: Uuid) -> Result<Option<Uuid>> {
    Ok(sqlx::query_scalar!(
        "select id from deployments where preview_id = $1 and origin not in ('wake', 'variables')
         order by number desc limit 1",
        preview,
    )
    .fetch_optional(db)
    .await?)
}

/// What a deployment is compared with: the one that it replaced, or else the live one; a preview with
/// what is live in production, which its pull request would replace.
async fn find_before(
    db: &mut PgConnection,
    it: &Deployment,
    of_preview: bool,
) -> Result<Option<Deployment>> {
    let number = sqlx::query_scalar!(
        "select number from deployments
         where project_id = $1 and preview_id is null and id <> $2 and case
             when $3::timestamptz is null or $5::boolean then state = 'live'
             else live_at is not null and (live_at, number) < ($3, $4) end
         order by live_at desc, number desc limit 1",
        it.project_id,
        it.id,
        it.live_at,
        it.number,
        of_preview,
    )
    .fetch_optional(&mut *db)
    .await?;
    match number {
        Some(number) => Ok(Some(
            deployments::get(db, it.project_id, &number.to_string()).await?,
        )),
        None => Ok(None),
    }
}
