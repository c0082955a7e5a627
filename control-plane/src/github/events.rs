//! What deliveries mean. A payload says that something happened and where; how things stand now,
//! GitHub is asked, since deliveries come late, twice and out of order.

use serde::Deserialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::client::{Call, Credential};
use super::deliveries::{self, Delivery};
use super::failure::Failure;
use super::links::{self, Looked};
use super::rest::{Installation, Repository};
use super::{checks, installations, pull_requests, registration};
use crate::app::App;

/// Where branches stand among references.
const HEADS: &str = "refs/heads/";

/// What came of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was acted on, or there was nothing to do; one sentence.
    Done(String),
    /// It is of no use here; one sentence.
    Ignored(&'static str),
}

/// Acts on a delivery. `db` is a transaction that is rolled back when this fails.
pub async fn process(
    app: &App,
    db: &mut PgConnection,
    delivery: &Delivery,
) -> Result<Outcome, Failure> {
    match delivery.event.as_str() {
        "ping" => Ok(Outcome::Done("GitHub reaches this platform.".into())),
        "push" => push(app, db, delivery).await,
        "create" | "delete" => branch(app, db, delivery).await,
        "installation" => installation(app, db, delivery).await,
        "installation_repositories" => scope(app, db, delivery).await,
        "repository" => repository(app, db, delivery).await,
        "pull_request" => pull_requests::take(app, db, delivery).await,
        "check_run" => checks::take(app, db, delivery).await,
        _ => Ok(Outcome::Ignored("Events of this kind are not used.")),
    }
}

async fn push(app: &App, db: &mut PgConnection, delivery: &Delivery) -> Result<Outcome, Failure> {
    let Some(branch) = delivery
        .reference
        .as_deref()
        .and_then(|reference| reference.strip_prefix(HEADS))
    else {
        return Ok(Outcome::Ignored("Only branches come live."));
    };
    if deliveries::is_overtaken(db, delivery).await? {
        return Ok(Outcome::Done(
            "A later push to this branch waits, and is looked at.".into(),
        ));
    }
    look_at_branch(app, db, delivery, branch).await
}

#[derive(Deserialize)]
struct Made {
    #[serde(rename = "ref")]
    reference: String,
    ref_type: String,
}

async fn branch(app: &App, db: &mut PgConnection, delivery: &Delivery) -> Result<Outcome, Failure> {
    let Ok(made) = serde_json::from_slice::<Made>(&delivery.payload) else {
        return Ok(UNREADABLE);
    };
    if made.ref_type != "branch" {
        return Ok(Outcome::Ignored("Only branches come live."));
    }
    look_at_branch(app, db, delivery, &made.reference).await
}

const UNREADABLE: Outcome = Outcome::Ignored("The payload has not the form of its event.");

/// Looks at the production branches that are called so.
async fn look_at_branch(
    app: &App,
    db: &mut PgConnection,
    delivery: &Delivery,
    branch: &str,
) -> Result<Outcome, Failure> {
    let (Some(repository), Some(installation)) = (delivery.repository, delivery.installation)
    else {
        return Ok(UNREADABLE);
    };
    let mut projects = Vec::new();
    for id in links::list_of(db, repository, installation).await? {
        if follows(db, id, branch).await? {
            projects.push(id);
        }
    }
    if projects.is_empty() {
        return Ok(Outcome::Ignored(
            "No project follows this branch by this installation.",
        ));
    }
    look_at_all(app, db, &projects).await
}

/// Whether a project's production branch is called so. One that takes the repository's default
/// branch is looked at in any case: which that is may just have changed.
async fn follows(db: &mut PgConnection, project: Uuid, branch: &str) -> Result<bool, Failure> {
    let project = crate::projects::find(db, project).await?;
    Ok(project.is_some_and(|it| {
        it.source_branch
            .as_deref()
            .is_none_or(|production| production == branch)
    }))
}

async fn look_at_all(
    app: &App,
    db: &mut PgConnection,
    projects: &[Uuid],
) -> Result<Outcome, Failure> {
    let mut said = Vec::new();
    for id in projects {
        said.push(match links::look(app, db, *id).await? {
            Some(Looked::Queued(sha)) => format!("Queued {}.", &sha[..12]),
            Some(Looked::Same(_)) => "The branch's head is deployed already.".to_owned(),
            Some(Looked::Stuck(why)) => why,
            None => "The project is gone.".to_owned(),
        });
    }
    said.dedup();
    Ok(Outcome::Done(said.join(" ")))
}

#[derive(Deserialize)]
struct Installed {
    installation: Installation,
    #[serde(default)]
    repositories: Vec<Repository>,
}

async fn installation(
    app: &App,
    db: &mut PgConnection,
    delivery: &Delivery,
) -> Result<Outcome, Failure> {
    let Ok(told) = serde_json::from_slice::<Installed>(&delivery.payload) else {
        return Ok(UNREADABLE);
    };
    let (id, now) = (told.installation.id, app.clock.now());
    let state = match find(app, id).await? {
        Some(found) => {
            installations::keep(db, &found, now).await?;
            if delivery.action.as_deref() == Some("created") {
                installations::keep_repositories(db, id, &told.repositories, now).await?;
            }
            if found.suspended_at.is_some() {
                "suspended"
            } else {
                "active"
            }
        }
        None => "deleted",
    };
    installations::set_state(db, id, state, now).await?;
    let projects = links::list_of_installation(db, id).await?;
    look_at_all(app, db, &projects).await?;
    Ok(Outcome::Done(format!("The installation is {state}.")))
}

/// An installation as GitHub has it now.
async fn find(app: &App, id: i64) -> Result<Option<Installation>, Failure> {
    let registration = registration::get(&mut *app.db.acquire().await?, &app.kek).await?;
    let assertion = registration.assertion(app.clock.now())?;
    let number = id.to_string();
    let path = ["app", "installations", &number];
    let found = app
        .github
        .client
        .ask(&Credential::App(&assertion), Call::get(&path))
        .await;
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Failure::NotFound) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Repositories came to an installation, or went.
async fn scope(app: &App, db: &mut PgConnection, delivery: &Delivery) -> Result<Outcome, Failure> {
    let Some(id) = delivery.installation else {
        return Ok(UNREADABLE);
    };
    if installations::find_state(db, id).await?.as_deref() != Some("active") {
        return Ok(Outcome::Ignored("Nobody here uses this installation."));
    }
    installations::refresh(app, db, id).await?;
    let projects = links::list_of_installation(db, id).await?;
    look_at_all(app, db, &projects).await?;
    Ok(Outcome::Done(
        "The installation's repositories were read again.".into(),
    ))
}

/// A repository got another name, owner or visibility, or was deleted.
async fn repository(
    app: &App,
    db: &mut PgConnection,
    delivery: &Delivery,
) -> Result<Outcome, Failure> {
    let (Some(repository), Some(id)) = (delivery.repository, delivery.installation) else {
        return Ok(UNREADABLE);
    };
    if installations::find_state(db, id).await?.as_deref() != Some("active") {
        return Ok(Outcome::Ignored("Nobody here uses this installation."));
    }
    installations::refresh(app, db, id).await?;
    if delivery.action.as_deref() == Some("deleted") {
        installations::note_deleted(db, repository, app.clock.now()).await?;
    }
    let projects = links::list_of(db, repository, id).await?;
    look_at_all(app, db, &projects).await?;
    Ok(Outcome::Done("The repository was looked at again.".into()))
}
