//! Projects.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use runner::protocol::BuildSettings;
use serde_json::{Value, json};
use sqlx::PgConnection;
use time::format_description::well_known::Rfc3339;

use super::Caller;
use super::problem::{ApiResult, Body};
use crate::app::App;
use crate::branch_rules::Rules;
use crate::error::invalid;
use crate::github::choices::{self, Choice, Named};
use crate::github::{following, links, worker};
use crate::projects::{self, Project, Settings};
use crate::variables::Standing;
use crate::{access, branch_rules, build_settings, deployments, volumes};

/// A project as the API shows it.
pub(super) async fn face(app: &App, db: &mut PgConnection, project: &Project) -> ApiResult<Value> {
    let live = deployments::find_live(db, project.id).await?;
    let variables = Standing::read(db, project.id).await?;
    let rules = branch_rules::get(db, project.id).await?;
    Ok(json!({
        "id": project.id,
        "name": project.name,
        "organization": project.organization_id,
        "url": app.config.project_url(&project.name),
        "access": access::mode_of(db, project.id).await?,
        "dashboard_url": format!("{}/projects/{}", app.config.issuer(), project.name),
        "source_url": project.source_url,
        "source_branch": project.source_branch,
        "entrypoint": project.entrypoint,
        "hold_breaking": project.hold_breaking,
        "redis": project.redis,
        "previews": project.previews,
        "auto_promote": rules.auto_promote,
        "watch_paths": rules.watch_paths,
        "ignored_paths": rules.ignored_paths,
        "github": following::find(db, project).await?.map(|it| super::following::face(app, &it)),
        "volumes": volumes::list(db, project.id).await?,
        "live": live.map(|d| json!({ "number": d.number, "id": d.id, "commit": d.commit_id })),
        "variables": variables,
        "created_at": project.created_at.format(&Rfc3339).unwrap_or_default(),
    }))
}

/// `GET /projects`
pub async fn list(State(app): State<App>, caller: Caller) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    let mut faces = Vec::new();
    for project in projects::list_for(&mut db, caller.user.id).await? {
        faces.push(face(&app, &mut db, &project).await?);
    }
    Ok(Json(json!({ "projects": faces })))
}

/// Body of `POST /projects`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct New {
    name: String,
    source_url: Option<String>,
    github_repository: Option<Named>,
    source_branch: Option<String>,
    commit: Option<String>,
    entrypoint: Option<String>,
    #[serde(default)]
    hold_breaking: bool,
    #[serde(default)]
    redis: bool,
    previews: Option<bool>,
    #[serde(default)]
    build: BuildSettings,
}

/// What is said of a repository at GitHub and an address together.
pub(super) const TWO_SOURCES: &str =
    "Give either github_repository or source_url: the address follows from the repository.";

impl New {
    /// The repository of GitHub that is meant, if one is, and what is deployed of it first.
    async fn choice(&self, app: &App, caller: &Caller) -> ApiResult<Option<Choice>> {
        let Some(named) = &self.github_repository else {
            return match &self.commit {
                Some(_) => Err(invalid("commit", NOT_YET).into()),
                None => Ok(None),
            };
        };
        if self.source_url.is_some() {
            return Err(invalid("source_url", TWO_SOURCES).into());
        }
        let (user, branch) = (caller.user.id, self.source_branch.as_deref());
        let choice = choices::choose(app, user, named, branch).await?;
        let commit = self.commit.as_deref();
        Ok(Some(choice.beginning_with(app, commit).await?))
    }
}

/// What is said of a commit of a project that is not deployed by being made.
const NOT_YET: &str = "Only a project with github_repository is deployed at once; make this one, then POST the commit to its deployments.";

/// `POST /projects`. A repository of GitHub is deployed at once, since its pushes are.
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<New>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    let choice = new.choice(&app, &caller).await?;
    let (source_url, source_branch) = match &choice {
        Some(choice) => (
            Some(app.config.clone_url(&choice.repository.full_name)),
            Some(choice.branch.clone()),
        ),
        None => (new.source_url, new.source_branch),
    };
    let settings = Settings {
        source_url,
        source_branch,
        entrypoint: new.entrypoint,
        hold_breaking: new.hold_breaking,
        redis: new.redis,
        previews: new.previews.unwrap_or(true),
    }
    .check(&app.config.sources())?;
    let build = build_settings::check(new.build)?;
    let mut tx = app.db.begin().await?;
    let organization = match &choice {
        Some(choice) => choice.organization,
        None => projects::home_of(&mut tx, caller.user.id).await?,
    };
    let project = projects::create(
        &mut tx,
        organization,
        &new.name,
        &settings,
        &caller.actor,
        app.clock.now(),
    )
    .await?;
    let (actor, now) = (&caller.actor, app.clock.now());
    if build != BuildSettings::default() {
        build_settings::set(&mut tx, &project, &build, actor, now).await?;
    }
    if let Some(choice) = &choice {
        let (repository, head) = (&choice.repository, &choice.head);
        links::create(&mut tx, &project, repository, head, actor, now).await?;
        deployments::queue(&mut tx, &project, choice.request(), "api", actor, now).await?;
    }
    let face = face(&app, &mut tx, &project).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(face)))
}

/// `GET /projects/{project}`
pub async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    let member = projects::get_for(&mut db, caller.user.id, &project).await?;
    Ok(Json(face(&app, &mut db, &member.project).await?))
}

/// Body of `PATCH /projects/{project}`: what is absent stays, what is `null` is cleared.
#[expect(
    clippy::option_option,
    reason = "absent, null and a value are three things in a merge patch (RFC 7396)"
)]
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    #[serde(default, deserialize_with = "present")]
    source_url: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    source_branch: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    entrypoint: Option<Option<String>>,
    hold_breaking: Option<bool>,
    redis: Option<bool>,
    previews: Option<bool>,
    auto_promote: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    watch_paths: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "present")]
    ignored_paths: Option<Option<Vec<String>>>,
}

impl Change {
    /// The settings once this is applied.
    fn settings(&self, old: &Project) -> Settings {
        let text = |new: &Option<Option<String>>, old: &Option<String>| {
            new.clone().unwrap_or_else(|| old.clone())
        };
        Settings {
            source_url: text(&self.source_url, &old.source_url),
            source_branch: text(&self.source_branch, &old.source_branch),
            entrypoint: text(&self.entrypoint, &old.entrypoint),
            hold_breaking: self.hold_breaking.unwrap_or(old.hold_breaking),
            redis: self.redis.unwrap_or(old.redis),
            previews: self.previews.unwrap_or(old.previews),
        }
    }

    /// The branch rules once this is applied.
    fn rules(self, old: Rules) -> Rules {
        Rules {
            auto_promote: self.auto_promote.unwrap_or(old.auto_promote),
            watch_paths: self
                .watch_paths
                .map_or(old.watch_paths, Option::unwrap_or_default),
            ignored_paths: self
                .ignored_paths
                .map_or(old.ignored_paths, Option::unwrap_or_default),
        }
    }
}

/// Tells an absent member (`None`) from a `null` one (`Some(None)`).
#[expect(
    clippy::option_option,
    reason = "absent, null and a value are three things in a merge patch (RFC 7396)"
)]
fn present<'de, T: serde::Deserialize<'de>, D: serde::Deserializer<'de>>(
    member: D,
) -> Result<Option<Option<T>>, D::Error> {
    serde::Deserialize::deserialize(member).map(Some)
}

/// `PATCH /projects/{project}`. Another branch and other rules are looked at at once.
pub async fn change(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
    Body(change): Body<Change>,
) -> ApiResult<Json<Value>> {
    let (actor, now) = (&caller.actor, app.clock.now());
    let mut tx = app.db.begin().await?;
    let old = projects::get_for(&mut tx, caller.user.id, &project)
        .await?
        .changeable()?;
    let settings = change.settings(&old).check(&app.config.sources())?;
    let old_rules = branch_rules::get(&mut tx, old.id).await?;
    let rules = change.rules(old_rules.clone()).check()?;
    // First, since it takes the link before the project, as whoever looks at the branch does.
    if rules != old_rules {
        branch_rules::set(&mut tx, &old, &rules, actor, now).await?;
    }
    let project = projects::change(&mut tx, &old, &settings, actor, now).await?;
    tx.commit().await?;
    if rules != old_rules || project.source_branch != old.source_branch {
        worker::look_now(&app, project.id).await?;
    }
    let mut db = app.db.acquire().await?;
    Ok(Json(face(&app, &mut db, &project).await?))
}

/// `DELETE /projects/{project}`
pub async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
) -> ApiResult<StatusCode> {
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, caller.user.id, &project)
        .await?
        .deletable()?
        .project;
    projects::delete(&mut tx, &project, &caller.actor, app.clock.now()).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
