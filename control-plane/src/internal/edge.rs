//! Edges: the route snapshot, held until it changes.

use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use edge::protocol::MAX_WAIT_SECONDS;
use tokio::time::Instant;

use super::InternalError;
use crate::app::App;
use crate::db::{Changed, version};
use crate::routes;

/// `?after=VERSION`.
#[derive(serde::Deserialize)]
pub struct After {
    #[serde(default)]
    after: i64,
}

/// Answers the snapshot as soon as it is not `after`, or 204 when nothing changed in time.
pub async fn routes(
    State(app): State<App>,
    Query(After { after }): Query<After>,
) -> Result<Response, InternalError> {
    let deadline = Instant::now() + Duration::from_secs(MAX_WAIT_SECONDS);
    let mut waiter = app.changes.subscribe();
    loop {
        let current = version(&mut *app.db.acquire().await?, Changed::Routes).await?;
        if current != after {
            let mut tx = app.db.begin().await?;
            let snapshot =
                routes::snapshot(&mut tx, &app.config, &app.keys, app.clock.now()).await?;
            return Ok(Json(snapshot).into_response());
        }
        if Instant::now() >= deadline {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        waiter.changed("routes", deadline).await;
    }
}
