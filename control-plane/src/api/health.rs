//! Liveness and readiness.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::problem::ApiResult;
use crate::app::App;
use crate::error::Error;
use crate::runners;

/// A runner that has not been heard of for this long is away: three held syncs.
const RUNNER_SILENCE: time::Duration = time::Duration::seconds(60);

/// The process answers.
pub async fn live() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// The database answers and a runner is connected: deployments can be made.
pub async fn ready(State(app): State<App>) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    if !runners::any_since(&mut db, app.clock.now() - RUNNER_SILENCE).await? {
        return Err(Error::Unavailable(
            "No runner is connected; start `berth runner`, or look at its log.".into(),
        )
        .into());
    }
    Ok(Json(json!({ "status": "ready" })))
}
