//! API tokens of the caller.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgConnection;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::Caller;
use super::problem::{ApiResult, Body};
use crate::api_tokens::{self, GoodFor, NewToken};
use crate::app::App;
use crate::error::{Error, Result, invalid};
use crate::projects;

/// Longest life of a token that has an end, days.
const MAX_DAYS: i64 = 3_650;

/// `GET /tokens`
pub async fn list(State(app): State<App>, caller: Caller) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    Ok(Json(
        json!({ "tokens": api_tokens::list(&mut db, caller.user.id, app.clock.now()).await? }),
    ))
}

/// Body of `POST /tokens`, and of the same for a service account.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct New {
    name: String,
    #[serde(default)]
    good_for: Option<GoodFor>,
    #[serde(default)]
    projects: Option<Vec<String>>,
    #[serde(default)]
    expires_in_days: Option<i64>,
}

impl New {
    /// Whether the token is to be good for everything, and it says so.
    pub(super) fn is_for_everything(&self) -> bool {
        self.good_for == Some(GoodFor::Everything)
    }

    /// Creates the token for `user`; the answer holds it. `otherwise` is what it is good for when
    /// nothing is said.
    pub(super) async fn create(
        &self,
        db: &mut PgConnection,
        caller: &Caller,
        user: Uuid,
        otherwise: GoodFor,
        now: OffsetDateTime,
    ) -> Result<Value> {
        let projects = match &self.projects {
            Some(names) => Some(projects::ids_for_calls(db, user, names).await?),
            None => None,
        };
        let expires_at = end(self.expires_in_days, caller, now)?;
        let new = NewToken {
            user,
            name: &self.name,
            good_for: self.good_for.unwrap_or(otherwise),
            projects: projects.as_deref(),
            expires_at,
        };
        let (id, token) = api_tokens::create(db, new, &caller.actor, now).await?;
        let end = expires_at.and_then(|at| at.format(&Rfc3339).ok());
        Ok(json!({ "id": id, "name": self.name.trim(), "token": token, "expires_at": end }))
    }
}

/// When what `caller` makes ends: after so many days, and not after the token that they show.
pub(super) fn end(
    days: Option<i64>,
    caller: &Caller,
    now: OffsetDateTime,
) -> Result<Option<OffsetDateTime>> {
    let wanted = match days {
        None => None,
        Some(days @ 1..=MAX_DAYS) => Some(now + Duration::days(days)),
        Some(_) => {
            return Err(invalid(
                "expires_in_days",
                format!("Choose 1 to {MAX_DAYS} days, or leave it out."),
            ));
        }
    };
    api_tokens::end_within(wanted, caller.expires_at)
}

/// `POST /tokens`: the token itself is in this answer and nowhere else.
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<New>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let answer = new
        .create(&mut tx, &caller, caller.user.id, GoodFor::Everything, now)
        .await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(answer)))
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
