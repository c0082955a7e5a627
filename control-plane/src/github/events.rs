//! What deliveries mean. A payload says that something happened and where; how things stand now,
//! GitHub is asked, since deliveries come late, twice and out of order.

use serde::Deserialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::deliveries::{self, Delivery};
use super::failure::Failure;
use super::feedback::permissions;
use super::links::{self, Looked};
use super::rest::{Installation, Repository};
use super::{checks, installations, pull_requests, worker};
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

/// Acts on a delivery. `db` is for reading: what is changed is committed on its own, step by step, so
/// that one project's trouble takes nothing back.
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
        "check_run" | "check_suite" => checks::take(app, db, delivery).await,
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
    if deliveries::is_overtaken(db, delivery, &[]).await? {
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
    look_at_all(app, &projects).await?.done()
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

/// What came of looking at some projects.
struct LookedAt {
    /// A sentence for each.
    said: Vec<String>,
    /// The first failure that may pass.
    put_off: Option<Failure>,
}

impl LookedAt {
    /// For deliveries about these projects alone, which are tried again.
    fn done(self) -> Result<Outcome, Failure> {
        match self.put_off {
            Some(failure) => Err(failure),
            None => Ok(Outcome::Done(self.said.join(" "))),
        }
    }

    /// For deliveries that others share: what is not done is left to the comparison of branches.
    fn after(self, what: String) -> Outcome {
        Outcome::Done(match self.put_off {
            Some(failure) => format!(
                "{what} Not all of its projects could be looked at ({failure}); the comparison of branches goes on with them."
            ),
            None => what,
        })
    }
}

/// Looks at each project in a transaction of its own, so that none holds back the others.
async fn look_at_all(app: &App, projects: &[Uuid]) -> Result<LookedAt, Failure> {
    let mut looked = LookedAt {
        said: Vec::new(),
        put_off: None,
    };
    for id in projects {
        let mut tx = app.db.begin().await?;
        let sentence = match links::look(app, &mut tx, *id).await {
            Ok(outcome) => {
                tx.commit().await?;
                match outcome {
                    Some(Looked::Queued(sha)) => format!("Queued {}.", &sha[..12]),
                    Some(Looked::Same(_)) => "The branch's head is deployed already.".to_owned(),
                    Some(Looked::Skipped { head, why }) => {
                        format!("{} was not deployed: {why}.", &head[..12])
                    }
                    Some(Looked::Stuck(why)) => why,
                    None => "The project is gone.".to_owned(),
                }
            }
            Err(failure) => {
                tx.rollback().await?;
                let sentence = failure.to_string();
                if failure.may_pass() {
                    looked.put_off.get_or_insert(failure);
                } else {
                    worker::note(app, *id, &failure).await?;
                }
                sentence
            }
        };
        looked.said.push(sentence);
    }
    looked.said.dedup();
    Ok(looked)
}

#[derive(Deserialize)]
struct Installed {
    installation: Installation,
    #[serde(default)]
    repositories: Vec<Repository>,
}

/// What is said of the installation is committed before its projects are looked at.
async fn installation(
    app: &App,
    db: &mut PgConnection,
    delivery: &Delivery,
) -> Result<Outcome, Failure> {
    let Ok(told) = serde_json::from_slice::<Installed>(&delivery.payload) else {
        return Ok(UNREADABLE);
    };
    let id = told.installation.id;
    let state = installations::update(app, id).await?;
    if state == "active" {
        let mut own = app.db.acquire().await?;
        permissions::changed(&mut own, id, app.clock.now()).await?;
    }
    if state != "deleted" && delivery.action.as_deref() == Some("created") {
        let mut tx = app.db.begin().await?;
        installations::keep_repositories(&mut tx, id, &told.repositories, app.clock.now()).await?;
        tx.commit().await?;
    }
    let projects = links::list_of_installation(db, id).await?;
    let looked = look_at_all(app, &projects).await?;
    Ok(looked.after(format!("The installation is {state}.")))
}

/// Repositories came to an installation, or went.
async fn scope(app: &App, db: &mut PgConnection, delivery: &Delivery) -> Result<Outcome, Failure> {
    let Some(id) = delivery.installation else {
        return Ok(UNREADABLE);
    };
    if installations::find_state(db, id).await?.as_deref() != Some("active") {
        return Ok(Outcome::Ignored("Nobody here uses this installation."));
    }
    installations::refresh(app, id).await?;
    let projects = links::list_of_installation(db, id).await?;
    let looked = look_at_all(app, &projects).await?;
    Ok(looked.after("The installation's repositories were read again.".into()))
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
    installations::refresh(app, id).await?;
    if delivery.action.as_deref() == Some("deleted") {
        let mut own = app.db.acquire().await?;
        installations::note_deleted(&mut own, repository, app.clock.now()).await?;
    }
    let projects = links::list_of(db, repository, id).await?;
    let looked = look_at_all(app, &projects).await?;
    Ok(looked.after("The repository was looked at again.".into()))
}
