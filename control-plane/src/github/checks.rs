//! Checks: somebody asks at GitHub to run one again.

use serde::Deserialize;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::deliveries::Delivery;
use super::events::Outcome;
use super::failure::Failure;
use super::feedback::items;
use super::links;
use crate::app::App;
use crate::audit::Actor;
use crate::deployments::{self, Deployment, Request};
use crate::error::{Error, Result};
use crate::previews::turns;
use crate::projects::{self, Project};

/// Said of checks that are not of a project of this repository and installation.
const NOT_OURS: Outcome = Outcome::Ignored("No deployment here has this check.");

#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    check_run: Option<Run>,
    #[serde(default)]
    check_suite: Option<Suite>,
}

#[derive(Deserialize)]
struct Run {
    #[serde(default)]
    external_id: Option<String>,
}

#[derive(Deserialize)]
struct Suite {
    head_sha: String,
}

/// Deploys what a check is of once more, or all that is of a commit, if the commit is still what its
/// branch stands at. GitHub lets those ask who may write to the repository.
pub async fn take(
    app: &App,
    db: &mut PgConnection,
    delivery: &Delivery,
) -> Result<Outcome, Failure> {
    if delivery.action.as_deref() != Some("rerequested") {
        return Ok(Outcome::Ignored("Only requests to run again are acted on."));
    }
    let (Ok(told), Some(repository), Some(installation)) = (
        serde_json::from_slice::<Told>(&delivery.payload),
        delivery.repository,
        delivery.installation,
    ) else {
        return Ok(Outcome::Ignored(
            "The payload has not the form of its event.",
        ));
    };
    let projects = links::list_of(db, repository, installation).await?;
    let asked = if let Some(run) = told.check_run {
        let id = run.external_id.and_then(|id| Uuid::parse_str(&id).ok());
        find(db, &projects, id, None).await?
    } else if let Some(suite) = told.check_suite {
        find(db, &projects, None, Some(&suite.head_sha)).await?
    } else {
        Vec::new()
    };
    if asked.is_empty() {
        return Ok(NOT_OURS);
    }
    let mut said = Vec::new();
    for (project, deployment) in asked {
        let mut tx = app.db.begin().await?;
        said.push(run_again(app, &mut tx, project, deployment).await?);
        tx.commit().await?;
    }
    Ok(Outcome::Done(said.join(" ")))
}

/// The deployment of this id, or each project's newest of this commit, that has a check.
async fn find(
    db: &mut PgConnection,
    projects: &[Uuid],
    id: Option<Uuid>,
    commit: Option<&str>,
) -> sqlx::Result<Vec<(Uuid, Uuid)>> {
    let rows = sqlx::query!(
        r#"select distinct on (d.project_id, d.preview_id) d.project_id, d.id
         from deployments d join github_feedback f on f.deployment_id = d.id and f.kind = 'check'
         where d.project_id = any($1) and (d.id = $2 or coalesce(d.commit_id, d.source->>'commit') = $3)
         order by d.project_id, d.preview_id, d.number desc"#,
        projects,
        id,
        commit,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|it| (it.project_id, it.id)).collect())
}

/// `db` is a transaction; the project's link stays locked until its end, as when its branch is looked
/// at.
async fn run_again(
    app: &App,
    db: &mut PgConnection,
    project: Uuid,
    deployment: Uuid,
) -> Result<String, Failure> {
    let (true, Some(link), Some(project)) = (
        links::lock(db, project).await?,
        links::find(db, project).await?,
        projects::find(db, project).await?,
    ) else {
        return Ok("The project is gone.".into());
    };
    let it = deployments::get(db, project.id, &deployment.to_string()).await?;
    let row = sqlx::query!(
        r#"select coalesce(d.commit_id, d.source->>'commit', '') as "commit!",
             case when d.preview_id is null then $2 else v.head end as head,
             exists(select from deployments o where o.project_id = d.project_id and o.number > d.number
                 and o.preview_id is not distinct from d.preview_id
                 and o.origin not in ('variables', 'wake')
                 and coalesce(o.commit_id, o.source->>'commit') = coalesce(d.commit_id, d.source->>'commit')) as "again!"
         from deployments d left join previews v on v.id = d.preview_id and v.state = 'open' where d.id = $1"#,
        deployment,
        link.head,
    )
    .fetch_one(&mut *db)
    .await?;
    if row.again || it.state.is_pending() {
        return Ok(format!("Deployment {} was run again already.", it.number));
    }
    let now = app.clock.now();
    let is_head = row.head.as_ref() == Some(&row.commit);
    if !is_head {
        items::ask_again(db, it.id, true, now).await?;
        return Ok(format!("Deployment {} is overtaken.", it.number));
    }
    let queued = match &it.preview {
        Some(slug) => turns::deploy(db, &project, slug, &Actor::GitHub, now).await,
        None => queue(db, &project, &it, &row.commit, now).await,
    };
    // Only now: reports take the project, which queueing locks, before what is told.
    items::ask_again(db, it.id, false, now).await?;
    match queued {
        Ok(queued) => Ok(format!(
            "Queued deployment {} of {}.",
            queued.number, project.name
        )),
        // What keeps it from being deployed stands on the project's page.
        Err(Error::Conflict(why)) => Ok(why),
        Err(error) => Err(error.into()),
    }
}

async fn queue(
    db: &mut PgConnection,
    project: &Project,
    it: &Deployment,
    commit: &str,
    now: OffsetDateTime,
) -> Result<Deployment> {
    let request = Request {
        branch: it.branch().map(str::to_owned),
        commit: Some(commit.to_owned()),
        entrypoint: it.entrypoint.clone(),
        upload: None,
    };
    deployments::queue(db, project, request, "push", &Actor::GitHub, now).await
}
