//! What a project follows at GitHub: connecting one that is there with a repository, and how that
//! stands.

use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::choices::Choice;
use super::links::{self, Link};
use super::{deliveries, installations};
use crate::app::App;
use crate::audit::{self, Actor};
use crate::error::{Error, Result};
use crate::previews::turns;
use crate::projects::{self, Project};

/// A project's repository, and how following it stands.
#[derive(Debug, Clone)]
pub struct Following {
    /// What ties them.
    pub link: Link,
    /// `owner/name`, as last known.
    pub repository: String,
    /// Whether only some may read it.
    pub private: bool,
    /// The newest delivery about it.
    pub delivery: Option<deliveries::Told>,
}

/// What a project follows, if it follows a repository.
pub async fn find(db: &mut PgConnection, project: &Project) -> Result<Option<Following>> {
    let Some(link) = links::find(db, project.id).await? else {
        return Ok(None);
    };
    let known = installations::find_name(db, link.repository_id).await?;
    let (repository, private) = known.unwrap_or_else(|| ("a repository".into(), true));
    let delivery = deliveries::find_newest(db, link.repository_id, link.installation_id).await?;
    Ok(Some(Following {
        link,
        repository,
        private,
        delivery,
    }))
}

/// Has a project follow what a person chose. Nothing is deployed by that: what is live stays so until
/// the next push, or until somebody deploys.
pub async fn connect(
    app: &App,
    db: &mut PgConnection,
    project: &Project,
    choice: &Choice,
    actor: &Actor,
) -> Result<Project> {
    links::lock(db, project.id).await?;
    let (repository, now) = (&choice.repository, app.clock.now());
    let former = links::find(db, project.id).await?;
    if former.is_some_and(|link| link.repository_id != repository.id) {
        // They are of the former repository's pull requests.
        turns::close_all(db, project, actor, now).await?;
    }
    let url = app.config.clone_url(&repository.full_name);
    let project = projects::set_source(db, project, &url, &choice.branch).await?;
    links::create(db, &project, repository, &choice.head, actor, now).await?;
    Ok(project)
}

/// Has a project follow nothing any more. Its address stays: what anyone may read is still deployed
/// by hand.
pub async fn disconnect(
    db: &mut PgConnection,
    project: &Project,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<()> {
    links::lock(db, project.id).await?;
    let Some(link) = links::find(db, project.id).await? else {
        return Err(Error::NotFound("repository of this project"));
    };
    turns::close_all(db, project, actor, now).await?;
    links::forget(db, project.id).await?;
    let entry = audit::Entry {
        at: now,
        actor,
        action: "project.unlink_github",
        organization: Some(project.organization_id),
        project: Some(project.id),
        subject: json!({ "repository": link.repository_id }),
    };
    audit::record(db, entry).await?;
    Ok(())
}

impl Link {
    /// Since when GitHub could not be asked about the branch, once that lasts longer than two
    /// intervals of the comparison.
    pub fn unreached_since(
        &self,
        interval_seconds: u32,
        now: OffsetDateTime,
    ) -> Option<OffsetDateTime> {
        let lasting = time::Duration::seconds(interval_seconds.into()) * 2;
        self.failing_since.filter(|since| *since + lasting <= now)
    }
}
