//! What clients did to connect to a project.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Caller;
use super::problem::ApiResult;
use crate::app::App;
use crate::connections::{self, Attempt, Failure, Standing};
use crate::projects;

/// `GET /projects/{project}/connections`: the attempts of the last 7 days, newest first.
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    let project = projects::get_for(&mut db, caller.user.id, &project)
        .await?
        .project;
    let attempts = connections::list(&mut db, project.id, app.clock.now()).await?;
    let issuer = app.config.issuer();
    let faces: Vec<Value> = attempts.iter().map(|it| face(it, &issuer)).collect();
    Ok(Json(json!({ "connections": faces })))
}

fn face(it: &Attempt, issuer: &str) -> Value {
    let (state, why) = match it.standing {
        Standing::Connected => ("connected", None),
        Standing::Underway => ("underway", None),
        Standing::Failed(failure) => ("failed", Some(failure)),
    };
    let steps: Vec<Value> = it
        .events
        .iter()
        .map(|event| {
            json!({
                "step": event.step.name(),
                "title": event.step.title(),
                "failure": event.failure.map(|it| failure(it, issuer)),
                "detail": event.detail,
                "first_at": time(event.first_at),
                "last_at": time(event.last_at),
                "count": event.count,
            })
        })
        .collect();
    json!({
        "client": it.client,
        "client_id": it.client_id,
        "user_agent": it.user_agent,
        "user": it.user,
        "state": state,
        "failure": why.map(|it| failure(it, issuer)),
        "since": time(it.since),
        "last_at": time(it.last_at),
        "steps": steps,
    })
}

fn failure(it: Failure, issuer: &str) -> Value {
    json!({
        "code": it.code(),
        "title": it.title(),
        "cause": it.cause(),
        "fix": it.fix(),
        "page": format!("{issuer}/docs/connections#{}", it.code()),
    })
}

fn time(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}
