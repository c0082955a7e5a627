//! What a source would be built to, before it is.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use runner::protocol::{BuildSettings, PlanAnswer};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::Caller;
use super::problem::{ApiResult, Body};
use super::projects::TWO_SOURCES;
use crate::app::App;
use crate::error::invalid;
use crate::github::choices::{self, Named};
use crate::projects::Settings;
use crate::{build_settings, plans, runners};

/// How long the answer to a question is held while there is none: within idle limits of proxies.
const HELD: Duration = Duration::from_secs(25);

/// Body of `POST /plans`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct New {
    source_url: Option<String>,
    github_repository: Option<Named>,
    source_branch: Option<String>,
    entrypoint: Option<String>,
    #[serde(default)]
    build: BuildSettings,
}

fn face(id: Uuid, answer: Option<&PlanAnswer>) -> Value {
    json!({
        "id": id,
        "state": if answer.is_some() { "done" } else { "planning" },
        "commit": answer.and_then(|answer| answer.commit.as_ref()).map(|commit| &commit.id),
        "plan": answer.and_then(|answer| answer.plan.as_ref()),
        "diagnosis": answer.and_then(|answer| answer.diagnosis.as_ref()),
    })
}

/// `POST /plans`: answered at once; the plan is at `/plans/{plan}`.
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<New>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    let choice = match (&new.github_repository, &new.source_url) {
        (Some(_), Some(_)) => return Err(invalid("source_url", TWO_SOURCES).into()),
        (Some(named), None) => {
            Some(choices::choose(&app, caller.user.id, named, new.source_branch.as_deref()).await?)
        }
        (None, _) => None,
    };
    let settings = Settings {
        source_url: new.source_url,
        source_branch: new.source_branch,
        entrypoint: new.entrypoint,
        ..Settings::default()
    }
    .check(&app.config.sources())?;
    let build = build_settings::check(new.build)?;
    let source = match &choice {
        Some(choice) => choice.source(&app),
        None => plans::source_of(&settings)?,
    };
    let entrypoint = settings.entrypoint.as_deref();
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let id = plans::ask(&mut tx, caller.user.id, &source, entrypoint, &build, now).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(face(id, None))))
}

/// `GET /plans/{plan}`: held while there is none yet, for less than half a minute.
pub async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(plan): Path<Uuid>,
) -> ApiResult<Json<Value>> {
    let deadline = Instant::now() + HELD;
    let answer = plans::wait(&app.db, &app.changes, caller.user.id, plan, deadline).await?;
    Ok(Json(face(plan, answer.as_ref())))
}

/// `GET /runtimes`: the runtime images that runners have.
pub async fn runtimes(State(app): State<App>, _caller: Caller) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    Ok(Json(
        json!({ "runtimes": runners::list_images(&mut db).await? }),
    ))
}
