//! API tokens of the caller.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Caller;
use super::problem::{ApiResult, Body};
use crate::api_tokens;
use crate::app::App;
use crate::error::{Error, invalid};

/// Longest life of a token that has an end, days.
const MAX_DAYS: i64 = 3_650;

/// `GET /tokens`
pub async fn list(State(app): State<App>, caller: Caller) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    Ok(Json(
        json!({ "tokens": api_tokens::list(&mut db, caller.user.id, app.clock.now()).await? }),
    ))
}

/// Body of `POST /tokens`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct New {
    name: String,
    #[serde(default)]
    expires_in_days: Option<i64>,
}

/// `POST /tokens`: the token itself is in this answer and nowhere else.
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<New>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    let now = app.clock.now();
    let expires_at = match new.expires_in_days {
        None => None,
        Some(days @ 1..=MAX_DAYS) => Some(now + time::Duration::days(days)),
        Some(_) => {
            return Err(invalid(
                "expires_in_days",
                format!("Choose 1 to {MAX_DAYS} days, or leave it out."),
            )
            .into());
        }
    };
    let mut tx = app.db.begin().await?;
    let (token, secret) = api_tokens::create(
        &mut tx,
        caller.user.id,
        &new.name,
        expires_at,
        &caller.actor,
        now,
    )
    .await?;
    tx.commit().await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({ "id": token.id, "name": token.name, "token": secret })),
    ))
}

/// `DELETE /tokens/{token}`
pub async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Path(token): Path<String>,
) -> ApiResult<StatusCode> {
    let token = Uuid::parse_str(&token).map_err(|_| Error::NotFound("token"))?;
    let mut tx = app.db.begin().await?;
    api_tokens::revoke(
        &mut tx,
        caller.user.id,
        token,
        &caller.actor,
        app.clock.now(),
    )
    .await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
