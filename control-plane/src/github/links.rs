//! Projects whose source is a repository of an installation, and bringing the head of their
//! production branch live.

use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::failure::Failure;
use super::installations::{self, Readable};
use super::rest::{self, Branch};
use super::rules;
use crate::app::App;
use crate::audit::{self, Actor};
use crate::branch_rules::{self, Rules};
use crate::deployments::{self, Request};
use crate::error::{Error, Result};
use crate::projects::{self, Project};

/// A project's repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The project.
    pub project_id: Uuid,
    /// The installation by which it is read.
    pub installation_id: i64,
    /// The repository's number.
    pub repository_id: i64,
    /// The branch's newest head that was dealt with: deployed, or left where it was because a person
    /// chose what is deployed instead. Only another one is news.
    pub head: Option<String>,
    /// Why pushes do not come live.
    pub problem: Option<String>,
    /// When the branch was last compared with GitHub.
    pub checked_at: Option<OffsetDateTime>,
    /// The branch's head, when the project's rules have it not deployed.
    pub skipped: Option<String>,
    /// Which rule: the rest of a sentence that begins with the commit.
    pub skipped_why: Option<String>,
    /// Since when the branch could not be compared for a reason that passes by itself.
    pub failing_since: Option<OffsetDateTime>,
}

/// What came of looking at a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked {
    /// Its head is what was deployed last.
    Same(String),
    /// A deployment of this commit was queued.
    Queued(String),
    /// The project's rules have its head not deployed.
    Skipped {
        /// The head.
        head: String,
        /// Which rule: the rest of a sentence that begins with the commit.
        why: String,
    },
    /// It cannot come live, and the project's page says why.
    Stuck(String),
}

/// Ties a project to a repository, which its organization may use. `head` is the branch's: it is not
/// deployed by being compared, whatever the project begins with.
pub async fn create(
    db: &mut PgConnection,
    project: &Project,
    repository: &Readable,
    head: &str,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<()> {
    let allowed =
        installations::find_readable_of(db, project.organization_id, repository.id).await?;
    if allowed.is_none() {
        return Err(Error::NotFound("repository"));
    }
    sqlx::query!(
        "insert into github_links (project_id, installation_id, repository_id, head, checked_at)
         values ($1, $2, $3, $4, $5)
         on conflict (project_id) do update set installation_id = excluded.installation_id,
             repository_id = excluded.repository_id, head = excluded.head, problem = null, checked_at = excluded.checked_at,
             skipped = null, skipped_why = null, failing_since = null",
        project.id,
        repository.installation_id,
        repository.id,
        head,
        now,
    )
    .execute(&mut *db)
    .await?;
    let entry = audit::Entry {
        at: now,
        actor,
        action: "project.link_github",
        organization: Some(project.organization_id),
        project: Some(project.id),
        subject: json!({ "repository": repository.id, "name": repository.full_name }),
    };
    audit::record(db, entry).await?;
    Ok(())
}

/// A project's link.
pub async fn find(db: &mut PgConnection, project: Uuid) -> sqlx::Result<Option<Link>> {
    sqlx::query_as!(
        Link,
        "select project_id, installation_id, repository_id, head, problem, checked_at, skipped, skipped_why,
             failing_since
         from github_links where project_id = $1",
        project,
    )
    .fetch_optional(db)
    .await
}

/// Waits for whoever looks at a project's branch, and keeps others from it until the transaction
/// ends. Always the link before the project: looking takes them in this order too.
pub async fn lock(db: &mut PgConnection, project: Uuid) -> sqlx::Result<bool> {
    let locked = sqlx::query_scalar!(
        "select project_id from github_links where project_id = $1 for update",
        project,
    )
    .fetch_optional(db)
    .await?;
    Ok(locked.is_some())
}

/// Unties a project whose source became another.
pub async fn forget(db: &mut PgConnection, project: Uuid) -> sqlx::Result<()> {
    sqlx::query!("delete from github_links where project_id = $1", project)
        .execute(db)
        .await?;
    Ok(())
}

/// Has a branch's head that the rules had not deployed considered anew, in the next comparison at the
/// latest.
pub async fn consider_anew(db: &mut PgConnection, project: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        "update github_links set skipped = null, skipped_why = null, checked_at = null
         where project_id = $1",
        project,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The same for another branch: what was deployed of the former one says nothing of it.
pub async fn begin_anew(db: &mut PgConnection, project: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        "update github_links set head = null where project_id = $1",
        project,
    )
    .execute(&mut *db)
    .await?;
    consider_anew(db, project).await
}

/// The projects of a repository, as seen by a delivery of an installation. The installation must be
/// the one that the project was linked by.
pub async fn list_of(
    db: &mut PgConnection,
    repository: i64,
    installation: i64,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "select project_id from github_links where repository_id = $1 and installation_id = $2
         order by project_id",
        repository,
        installation,
    )
    .fetch_all(db)
    .await
}

/// The projects of an installation.
pub async fn list_of_installation(
    db: &mut PgConnection,
    installation: i64,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "select project_id from github_links where installation_id = $1 order by project_id",
        installation,
    )
    .fetch_all(db)
    .await
}

/// Projects that were not compared with GitHub since `before`, the longest ago first.
pub async fn list_due(
    db: &mut PgConnection,
    before: OffsetDateTime,
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "select project_id from github_links where checked_at is null or checked_at <= $1
         order by checked_at nulls first limit $2",
        before,
        limit,
    )
    .fetch_all(db)
    .await
}

/// Notes that a project's branch was asked for in vain, so that the others have their turn. No problem
/// of the project's: GitHub's trouble is told once it lasts.
pub async fn note_attempt(
    db: &mut PgConnection,
    project: Uuid,
    now: OffsetDateTime,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update github_links set checked_at = $2, failing_since = coalesce(failing_since, $2)
         where project_id = $1",
        project,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Notes that GitHub is away, of projects that wait for their turn because of that.
pub async fn note_unreached(
    db: &mut PgConnection,
    projects: &[Uuid],
    now: OffsetDateTime,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update github_links set failing_since = $2 where failing_since is null and project_id in (
             select project_id from github_links where project_id = any($1)
             order by project_id for update skip locked)",
        projects,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Has the projects of an installation compared in the next round.
pub async fn make_due(db: &mut PgConnection, installation: i64) -> sqlx::Result<()> {
    sqlx::query!(
        "update github_links set checked_at = null where installation_id = $1",
        installation,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Has a project compared in the next round.
pub async fn make_project_due(db: &mut PgConnection, project: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        "update github_links set checked_at = null where project_id = $1",
        project,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Why a project whose organization may not use its repository is not deployed.
pub const NOT_SHOWN: &str = "Nobody in this organization shows GitHub any more that they may use the project's repository; what is live stays so. Press “Update from GitHub” on the page GitHub, or give the project another source.";

/// Why a project is not deployed whose repository is out of the App's reach.
pub const UNREACHABLE: &str = "The repository was deleted, or the App may not read it any more; add it to the App's installation at GitHub, or give the project another source.";

/// Says on the pages of an organization's projects that their repositories are out of its reach,
/// where they are. Nobody waits here for whoever looks at a project: what is left out, the next
/// comparison says.
pub async fn note_unreadable(
    db: &mut PgConnection,
    organization: Uuid,
    now: OffsetDateTime,
) -> sqlx::Result<()> {
    let lost = sqlx::query_scalar!(
        "select l.project_id from github_links l join projects p on p.id = l.project_id
         where p.organization_id = $1 and not exists (
             select from github_readable r where r.organization_id = $1 and r.repository_id = l.repository_id)
         for update of l skip locked",
        organization,
    )
    .fetch_all(&mut *db)
    .await?;
    for project in lost {
        note_failure(db, project, NOT_SHOWN, now).await?;
    }
    Ok(())
}

/// Notes why a project's branch could not be compared, so that the others have their turn.
pub async fn note_failure(
    db: &mut PgConnection,
    project: Uuid,
    why: &str,
    now: OffsetDateTime,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update github_links set problem = $2, checked_at = $3, failing_since = null,
             problem_at = case when problem is distinct from $2 then $3 else problem_at end
         where project_id = $1",
        project,
        why,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The branch whose pushes come live: the project's, or else the repository's default.
pub fn production_branch(project: &Project, repository: &Readable) -> Option<String> {
    project
        .source_branch
        .clone()
        .or_else(|| repository.default_branch.clone())
}

/// Asks GitHub for the head of a project's production branch, and queues its deployment if it is
/// news. What a delivery said does not matter: deliveries come late, twice and out of order.
/// `db` is a transaction; the project's link stays locked until its end, so that two never look at
/// once. `None` when there is no link.
pub async fn look(
    app: &App,
    db: &mut PgConnection,
    project: Uuid,
) -> Result<Option<Looked>, Failure> {
    let (true, Some(link), Some(project)) = (
        lock(db, project).await?,
        find(db, project).await?,
        projects::find(db, project).await?,
    ) else {
        return Ok(None);
    };
    let looked = look_at(app, db, &link, &project).await?;
    let now = app.clock.now();
    let (head, problem, skipped) = match &looked {
        Looked::Same(sha) | Looked::Queued(sha) => (Some(sha), None, None),
        Looked::Skipped { head, why } => (None, None, Some((head, why))),
        Looked::Stuck(why) => (None, Some(why), None),
    };
    sqlx::query!(
        "update github_links set head = coalesce($2, head), problem = $3, checked_at = $4,
             problem_at = case when problem is distinct from $3 then $4 else problem_at end,
             skipped = $5, skipped_why = $6, failing_since = null
         where project_id = $1",
        project.id,
        head,
        problem,
        now,
        skipped.map(|(head, _)| head),
        skipped.map(|(_, why)| why),
    )
    .execute(db)
    .await?;
    Ok(Some(looked))
}

async fn look_at(
    app: &App,
    db: &mut PgConnection,
    link: &Link,
    project: &Project,
) -> Result<Looked, Failure> {
    let repository = match reach(app, db, link, project).await? {
        Ok(repository) => repository,
        Err(why) => return Ok(Looked::Stuck(why)),
    };
    let Some(branch) = production_branch(project, &repository) else {
        return Ok(Looked::Stuck(
            "The repository has no default branch; choose the project's branch in its settings."
                .into(),
        ));
    };
    let found = rest::find_branch(
        app,
        repository.installation_id,
        &repository.full_name,
        &branch,
    )
    .await?;
    let Some(found) = found.filter(|found| is_commit(&found.commit.sha)) else {
        return Ok(Looked::Stuck(format!(
            "The branch {branch} is gone from {}; what is live stays so. Push it again, or choose another branch in the project's settings.",
            repository.full_name
        )));
    };
    let deployed = find_deployed(db, project.id).await?;
    let head = found.commit.sha.clone();
    if link.head.as_ref() == Some(&head) || deployed.as_ref() == Some(&head) {
        return Ok(Looked::Same(head));
    }
    if let (Some(skipped), Some(why)) = (&link.skipped, &link.skipped_why)
        && *skipped == head
        && !has_failed_since(db, link).await?
    {
        let why = why.clone();
        return Ok(Looked::Skipped { head, why });
    }
    let rules = branch_rules::get(db, project.id).await?;
    if let Some(why) = reason_to_skip(app, &rules, &repository, &found, deployed.as_deref()).await?
    {
        return Ok(Looked::Skipped { head, why });
    }
    queue_head(db, project.id, branch, &head, app.clock.now()).await?;
    Ok(Looked::Queued(head))
}

/// The repository of a project's link as it is now, if the project's organization may use it, or why
/// not in a sentence.
pub(super) async fn reach(
    app: &App,
    db: &mut PgConnection,
    link: &Link,
    project: &Project,
) -> Result<Result<Readable, String>, Failure> {
    let link = &follow_installation(db, link, project).await?;
    if let Some(why) = state_problem(db, link).await? {
        return Ok(Err(why));
    }
    if !is_shown(db, link, project).await? {
        return Ok(Err(NOT_SHOWN.into()));
    }
    let repository = settle(app, db, link, project).await?;
    Ok(repository.ok_or_else(|| UNREACHABLE.into()))
}

/// Queues a branch's head.
async fn queue_head(
    db: &mut PgConnection,
    project: Uuid,
    branch: String,
    head: &str,
    now: OffsetDateTime,
) -> Result<(), Failure> {
    let request = Request {
        branch: Some(branch),
        commit: Some(head.to_owned()),
        ..Request::default()
    };
    // The address may just have been changed by a new name.
    let project = projects::find(db, project)
        .await?
        .ok_or_else(|| Failure::Ours("The project is gone.".into()))?;
    deployments::queue(db, &project, request, "push", &Actor::GitHub, now).await?;
    Ok(())
}

/// The commit of a project's newest deployment that has not failed, be it a push's or not; `None` when
/// there is none, or it is not known yet.
async fn find_deployed(db: &mut PgConnection, project: Uuid) -> sqlx::Result<Option<String>> {
    let newest = sqlx::query_scalar!(
        r#"select coalesce(commit_id, source->>'commit', '') as "commit!" from deployments
         where project_id = $1 and preview_id is null and state not in ('failed', 'canceled')
         order by number desc limit 1"#,
        project,
    )
    .fetch_optional(db)
    .await?;
    Ok(newest.filter(|commit| is_commit(commit)))
}

/// Whether a deployment of production came to nothing since the branch was last compared: what the head
/// changes is told by what was deployed, so it is to be told anew.
async fn has_failed_since(db: &mut PgConnection, link: &Link) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists(select from deployments where project_id = $1 and preview_id is null
             and state in ('failed', 'canceled') and finished_at > $2) as "exists!""#,
        link.project_id,
        link.checked_at,
    )
    .fetch_one(db)
    .await
}

/// Why a branch's head is not deployed, if the rules say so. What it changes is told by all that came
/// since `deployed`, so that a push which was skipped is looked at again with the next one.
async fn reason_to_skip(
    app: &App,
    rules: &Rules,
    repository: &Readable,
    found: &Branch,
    deployed: Option<&str>,
) -> Result<Option<String>, Failure> {
    if let Some(marker) = rules::skip_marker(found.commit.message()) {
        return Ok(Some(format!("its message says {marker}")));
    }
    let Some(base) = deployed.filter(|_| rules.look_at_files()) else {
        return Ok(None);
    };
    let (installation, name, head) = (
        repository.installation_id,
        &repository.full_name,
        &found.commit.sha,
    );
    match rest::compare(app, installation, name, base, head).await {
        Ok(since) => Ok(rules::reason_to_skip(rules, &since)),
        Err(failure @ (Failure::Limited { .. } | Failure::Unauthorized(_) | Failure::Ours(_))) => {
            Err(failure)
        }
        // The branch was just read, so it is this comparison that fails: what was deployed is not in
        // the repository any more, or too much has changed. Rather one deployment too many.
        Err(failure) => {
            tracing::info!(repository = repository.id, why = %failure, "changes are not known, so the head is deployed");
            Ok(None)
        }
    }
}

/// An App that was installed anew has another number; the repository is the same.
async fn follow_installation(
    db: &mut PgConnection,
    link: &Link,
    project: &Project,
) -> Result<Link> {
    let mut link = link.clone();
    let now_at = installations::find_readable_of(db, project.organization_id, link.repository_id)
        .await?
        .map(|it| it.installation_id);
    if let Some(id) = now_at.filter(|id| *id != link.installation_id) {
        sqlx::query!(
            "update github_links set installation_id = $2 where project_id = $1",
            link.project_id,
            id,
        )
        .execute(db)
        .await?;
        link.installation_id = id;
    }
    Ok(link)
}

async fn state_problem(db: &mut PgConnection, link: &Link) -> Result<Option<String>> {
    let state = installations::find_state(db, link.installation_id).await?;
    Ok(match state.as_deref() {
        Some("active") => None,
        Some("suspended") => Some(
            "The App's installation is suspended at GitHub; what is live stays so. Unsuspend it there.".into(),
        ),
        _ => Some(
            "The App is not installed at GitHub any more; what is live stays so. Install it again, then choose the repository anew.".into(),
        ),
    })
}

/// Whether somebody of the project's organization has shown that they may use its repository, in
/// reach of the App or not.
async fn is_shown(db: &mut PgConnection, link: &Link, project: &Project) -> Result<bool> {
    Ok(sqlx::query_scalar!(
        r#"select exists(select from github_connections c
             where c.organization_id = $1 and c.installation_id = $2 and (c.whole or exists (
                 select from github_access a
                 where a.organization_id = $1 and a.installation_id = $2 and a.user_id = c.user_id
                   and a.repository_id = $3))) as "exists!""#,
        project.organization_id,
        link.installation_id,
        link.repository_id,
    )
    .fetch_one(db)
    .await?)
}

/// The repository under the name that it has now, if the project's organization may still use it;
/// the project's address follows its name.
async fn settle(
    app: &App,
    db: &mut PgConnection,
    link: &Link,
    project: &Project,
) -> Result<Option<Readable>, Failure> {
    let (installation, repository) = (link.installation_id, link.repository_id);
    let readable = async |db: &mut PgConnection| {
        let found = installations::find_readable_of(db, project.organization_id, repository).await;
        found.map(|found| found.filter(|it| it.installation_id == installation))
    };
    let known = readable(db).await?.map(|it| it.full_name);
    if !installations::settle(app, installation, repository, known.as_deref()).await? {
        return Ok(None);
    }
    let found = readable(db).await?;
    if let Some(found) = &found {
        let url = app.config.clone_url(&found.full_name);
        if project.source_url.as_ref() != Some(&url) {
            projects::move_source(db, project, &url, &Actor::GitHub, app.clock.now()).await?;
        }
    }
    Ok(found)
}

/// 40 hexadecimal digits: what GitHub gives, and what a deployment takes.
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// What a runner may read of a repository now: for a deployment that has not ended, since a runner
/// that lost its sources builds anew what is live, or a plan that is being made.
pub async fn find_for_fetch(
    db: &mut PgConnection,
    repository: i64,
) -> sqlx::Result<Option<Readable>> {
    sqlx::query_as!(
        Readable,
        r#"select r.repository_id as "id!", r.installation_id as "installation_id!", r.full_name as "full_name!",
             r.private as "private!", r.default_branch
         from github_readable r join github_installations i on i.id = r.installation_id and i.state = 'active'
         where r.repository_id = $1 and r.state = 'active' and (
             exists (select from deployments d join projects p on p.id = d.project_id
                 where p.organization_id = r.organization_id and d.state not in ('stopped', 'failed', 'canceled')
                   and d.source->>'repository' = $1::bigint::text)
             or exists (select from plans q join members m on m.user_id = q.user_id
                 where m.organization_id = r.organization_id and q.answered_at is null
                   and q.source->>'repository' = $1::bigint::text))
         limit 1"#,
        repository,
    )
    .fetch_optional(db)
    .await
}
