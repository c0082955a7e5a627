//! The audit log.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::Caller;
use super::problem::{ApiResult, Params};
use crate::app::App;
use crate::audit;

/// Rows of one answer.
const PAGE: i64 = 100;

/// `?before=ID`
#[derive(Debug, serde::Deserialize)]
pub struct Before {
    before: Option<i64>,
}

/// `GET /audit`, newest first; `before` gives the next page.
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(Before { before }): Params<Before>,
) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    let rows = audit::list_for(&mut db, caller.user.id, before, PAGE).await?;
    Ok(Json(json!({ "audit": rows })))
}
