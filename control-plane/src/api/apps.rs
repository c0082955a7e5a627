//! Connected apps: what the caller has allowed.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Caller;
use super::problem::ApiResult;
use crate::app::App;
use crate::error::Error;
use crate::grants::connected_apps;

/// `GET /apps`
pub async fn list(State(app): State<App>, caller: Caller) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    let apps = connected_apps::list(&mut db, caller.user.id).await?;
    Ok(Json(json!({ "apps": apps })))
}

/// `DELETE /apps/{grant}`: ends every token of the app on that project, at once.
pub async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Path(grant): Path<String>,
) -> ApiResult<StatusCode> {
    let grant = Uuid::parse_str(&grant).map_err(|_| Error::NotFound("connected app"))?;
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    connected_apps::withdraw(&mut tx, caller.user.id, grant, &caller.actor, now).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
