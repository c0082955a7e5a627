//! Pull requests: GitHub is asked how one stands now, and the previews of the projects of its
//! repository follow ([`crate::previews`]).

use std::collections::BTreeSet;

use serde::Deserialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::deliveries::{self, Delivery};
use super::events::Outcome;
use super::failure::Failure;
use super::installations::Readable;
use super::{links, rest, rules};
use crate::app::App;
use crate::previews::turns::{Followed, PullRequest};
use crate::previews::{self, Preview, closing, turns};
use crate::projects::{self, Project};

/// What changes a preview; the other actions are about labels, reviews and people.
const ACTIONS: [&str; 5] = ["opened", "synchronize", REOPENED, "closed", "edited"];

/// What alone is not seen by asking how a pull request stands: it was closed between.
const REOPENED: &str = "reopened";

#[derive(Deserialize)]
struct Told {
    number: i64,
}

/// Acts on what happened to a pull request: what that is, the payload does not decide.
pub async fn take(
    app: &App,
    db: &mut PgConnection,
    delivery: &Delivery,
) -> Result<Outcome, Failure> {
    let is_of_use = |action: &str| ACTIONS.contains(&action);
    if !delivery.action.as_deref().is_some_and(is_of_use) {
        return Ok(Outcome::Ignored("This changes no preview."));
    }
    let (Some(repository), Some(installation), Ok(told)) = (
        delivery.repository,
        delivery.installation,
        serde_json::from_slice::<Told>(&delivery.payload),
    ) else {
        return Ok(Outcome::Ignored(
            "The payload has not the form of its event.",
        ));
    };
    if deliveries::is_overtaken(db, delivery, &ACTIONS).await? {
        return Ok(Outcome::Done(
            "A later delivery about this pull request waits, and is looked at.".into(),
        ));
    }
    let projects = links::list_of(db, repository, installation).await?;
    if projects.is_empty() {
        return Ok(Outcome::Ignored(
            "No project has this repository by this installation.",
        ));
    }
    let reopened = delivery.action.as_deref() == Some(REOPENED);
    let mut said = BTreeSet::new();
    let mut put_off = None;
    for project in projects {
        match look(app, project, told.number, reopened).await {
            Ok(sentence) => drop(said.insert(sentence)),
            Err(failure) if failure.may_pass() => put_off = Some(failure),
            Err(failure) => drop(said.insert(failure.to_string())),
        }
    }
    match put_off {
        Some(failure) => Err(failure),
        None => Ok(Outcome::Done(Vec::from_iter(said).join(" "))),
    }
}

/// What is needed to ask for a project's pull requests. Its link stays locked until the transaction
/// ends, so that answers are acted on in the order in which they were given.
struct Asking {
    project: Project,
    repository: Readable,
}

async fn begin(
    app: &App,
    db: &mut PgConnection,
    project: Uuid,
) -> Result<Result<Asking, String>, Failure> {
    let (true, Some(link), Some(project)) = (
        links::lock(db, project).await?,
        links::find(db, project).await?,
        projects::find(db, project).await?,
    ) else {
        return Ok(Err("The project is gone.".into()));
    };
    if !project.previews {
        return Ok(Err("The project has previews switched off.".into()));
    }
    let repository = match links::reach(app, db, &link, &project).await? {
        Ok(repository) => repository,
        Err(why) => return Ok(Err(why)),
    };
    // Its address may just have followed a new name.
    let project = projects::find(db, project.id).await?.unwrap_or(project);
    Ok(Ok(Asking {
        project,
        repository,
    }))
}

/// Asks GitHub for a pull request and has a project's preview follow it, in a transaction of its own.
async fn look(app: &App, project: Uuid, number: i64, reopened: bool) -> Result<String, Failure> {
    let mut tx = app.db.begin().await?;
    let asking = match begin(app, &mut tx, project).await? {
        Ok(asking) => asking,
        Err(why) => {
            tx.commit().await?;
            return Ok(why);
        }
    };
    let Some(mut pull) = find(app, &asking.repository, number).await? else {
        tx.commit().await?;
        return Ok("GitHub knows no such pull request.".into());
    };
    if reopened {
        closing::let_reopen(&mut tx, asking.project.id, number).await?;
    }
    pull.skipped = is_skipped(app, &mut tx, &asking, &pull).await?;
    let followed = follow(app, &mut tx, &asking.project, &pull).await?;
    tx.commit().await?;
    Ok(sentence(followed, number))
}

/// Whether a pull request's head is news and says that it is not to be deployed; GitHub is asked for its
/// message only when it is. Of a fork nothing is deployed before a member has looked at it.
async fn is_skipped(
    app: &App,
    db: &mut PgConnection,
    asking: &Asking,
    pull: &PullRequest,
) -> Result<bool, Failure> {
    if !pull.open || pull.fork {
        return Ok(false);
    }
    let known = previews::find(db, asking.project.id, &turns::slug(pull.number)).await?;
    if known.is_some_and(|it| it.is_at(&pull.head)) {
        return Ok(false);
    }
    let repository = &asking.repository;
    let (installation, name) = (repository.installation_id, &repository.full_name);
    match rest::find_commit(app, installation, name, &pull.head).await {
        Ok(found) => Ok(found.is_some_and(|commit| rules::skips(commit.message()))),
        Err(failure) if failure.may_pass() => Err(failure),
        // Rather one deployment too many.
        Err(failure) => {
            tracing::info!(repository = repository.id, why = %failure, "a commit's message is not known, so it is deployed");
            Ok(false)
        }
    }
}

async fn follow(
    app: &App,
    db: &mut PgConnection,
    project: &Project,
    pull: &PullRequest,
) -> Result<Followed, Failure> {
    let most = app.config.previews_per_project.into();
    Ok(turns::follow(db, project, pull, most, app.clock.now()).await?)
}

fn sentence(followed: Followed, number: i64) -> String {
    match followed {
        Followed::Same => format!("The preview of #{number} is as it should be."),
        Followed::Queued => format!("Queued the preview of #{number}."),
        Followed::Waits => {
            format!("The preview of #{number} waits for a member to approve its commit.")
        }
        Followed::Crowded => format!(
            "The project has as many open previews as it may; that of #{number} waits for a place."
        ),
        Followed::Closed => format!("Closed the preview of #{number}."),
        Followed::PassedOver => format!(
            "As many newer pull requests of forks wait as are kept, so #{number} gets no preview."
        ),
        Followed::Skipped => {
            format!("The preview of #{number} stays as it is: its newest commit's message says so.")
        }
    }
}

/// Compares the open pull requests of a project with its previews: what heals a lost delivery. Nothing is
/// locked while GitHub lists them, and what is as it should be is not written.
pub async fn compare(app: &App, project: Uuid) -> Result<(), Failure> {
    let mut tx = app.db.begin().await?;
    let asking = begin(app, &mut tx, project).await?;
    tx.commit().await?;
    let Ok(Asking { repository, .. }) = asking else {
        return Ok(());
    };
    let open = rest::open_pulls(app, repository.installation_id, &repository.full_name).await?;
    let pulls: Vec<PullRequest> = open
        .iter()
        .filter_map(|pull| read(pull, &repository))
        .collect();
    let known = previews::list_followed(&mut *app.db.acquire().await?, project).await?;
    for number in list_changed(&pulls, &known) {
        // Asked for anew once the link is locked: a delivery may have been quicker.
        match look(app, project, number, false).await {
            Err(failure) if failure.may_pass() => return Err(failure),
            Err(failure) => {
                tracing::warn!(project.id = %project, number, why = %failure, "a pull request was not followed");
            }
            Ok(_) => {}
        }
    }
    if known.iter().any(|it| it.state == previews::State::Crowded) {
        let_in(app, project).await?;
    }
    Ok(())
}

/// The numbers of those whose preview is not as GitHub lists them, newest first. First those that are not
/// open any more, whose places become free, or that the list moved past while its pages were read; then
/// the oldest, which have the places.
fn list_changed(pulls: &[PullRequest], known: &[Preview]) -> Vec<i64> {
    let listed: BTreeSet<i64> = pulls.iter().map(|pull| pull.number).collect();
    let forks = pulls.iter().filter(|pull| pull.fork);
    let forks: BTreeSet<i64> = forks
        .take(turns::MOST_WAITING.into())
        .map(|pull| pull.number)
        .collect();
    let differs = |pull: &PullRequest| {
        let preview = known.iter().find(|it| it.pull_request == pull.number);
        preview.map_or_else(
            || !pull.fork || forks.contains(&pull.number),
            |preview| !pull.is_shown_by(preview),
        )
    };
    let gone = known.iter().map(|preview| preview.pull_request);
    gone.filter(|number| !listed.contains(number))
        .chain(
            pulls
                .iter()
                .rev()
                .filter(|it| differs(it))
                .map(|it| it.number),
        )
        .collect()
}

async fn let_in(app: &App, project: Uuid) -> Result<(), Failure> {
    let mut tx = app.db.begin().await?;
    if links::lock(&mut tx, project).await?
        && let Some(project) = projects::find(&mut tx, project).await?
        && project.previews
    {
        let most = app.config.previews_per_project.into();
        turns::let_in(&mut tx, &project, most, app.clock.now()).await?;
    }
    tx.commit().await?;
    Ok(())
}

async fn find(
    app: &App,
    repository: &Readable,
    number: i64,
) -> Result<Option<PullRequest>, Failure> {
    let (installation, name) = (repository.installation_id, &repository.full_name);
    let found = rest::find_pull(app, installation, name, number).await?;
    Ok(found.and_then(|pull| read(&pull, repository)))
}

/// A pull request in our words; `None` when it is of another repository, or has no commit.
fn read(pull: &rest::Pull, repository: &Readable) -> Option<PullRequest> {
    let base = pull.base.repo.as_ref()?.id;
    if base != repository.id || !links::is_commit(&pull.head.sha) {
        return None;
    }
    let author = pull.user.as_ref().map(|user| user.login.clone());
    Some(PullRequest {
        number: pull.number,
        title: pull.title.clone(),
        // Whose account is gone is shown so at GitHub as well.
        author: author.unwrap_or_else(|| "ghost".into()),
        branch: pull.head.branch.clone(),
        head: pull.head.sha.to_ascii_lowercase(),
        fork: pull.head.repo.as_ref().map(|repo| repo.id) != Some(repository.id),
        open: pull.state == "open",
        skipped: false,
    })
}
