//! Edges: the route snapshot, held until it changes, and what they report.

use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use edge::protocol::{EdgeReport, MAX_WAIT_SECONDS};
use tokio::time::Instant;

use super::InternalError;
use crate::app::App;
use crate::db::{Changed, version};
use crate::edges::{self, EdgeKey};
use crate::error::Error;
use crate::previews::sleep;
use crate::{connections, routes, usage};

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
            let snapshot = routes::snapshot(&mut tx, &app.config, app.clock.now()).await?;
            return Ok(Json(snapshot).into_response());
        }
        if Instant::now() >= deadline {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        waiter.changed("routes", deadline).await;
    }
}

/// The largest report, in bytes. With as many calls as go into one and all the steps that an edge
/// keeps it has some 1.6 MB; a report refused for its size would lose them.
pub const MAX_REPORT: usize = 16 << 20;

/// Takes over what an edge has seen. All of its calls are kept, or none and the edge sends them
/// again; it does so too when the answer was lost on its way, and nothing counts twice then.
pub async fn report(
    State(app): State<App>,
    Json(report): Json<EdgeReport>,
) -> Result<StatusCode, InternalError> {
    let key = EdgeKey::read(&report.edge, &report.key)?;
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    edges::saw(&mut tx, &key, report.version, &report.instances, now).await?;
    let is_new = edges::counts(&mut tx, &key, report.id).await?;
    if is_new {
        usage::add(&mut tx, &report.calls, now).await?;
    }
    tx.commit().await?;
    wake(&app, &report).await;
    if !is_new {
        return Ok(StatusCode::NO_CONTENT);
    }
    if report.dropped > 0 {
        tracing::warn!(
            edge = report.edge,
            events = report.dropped,
            "an edge had more to report than it could keep"
        );
    }
    // Of less weight than the calls, which must not wait for it.
    if let Err(error) = keep_steps(&app, &report).await {
        tracing::warn!(
            error = cause(&error),
            "steps of the connection timeline are lost"
        );
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Starts the previews that calls wait for; a wish that comes twice is one. What keeps one from starting
/// is no fault of the report, which edges would send again.
async fn wake(app: &App, report: &EdgeReport) {
    if report.wanted.is_empty() {
        return;
    }
    if let Err(error) = sleep::wake(&app.db, &report.wanted, app.clock.now()).await {
        tracing::warn!(
            error = cause(&error),
            "previews that are called were not started"
        );
    }
}

fn cause(error: &Error) -> String {
    match error {
        Error::Internal(cause) => format!("{cause:#}"),
        other => other.to_string(),
    }
}

async fn keep_steps(app: &App, report: &EdgeReport) -> Result<(), Error> {
    let mut tx = app.db.begin().await?;
    connections::keep_report(&mut tx, &app.kek, &report.steps, app.clock.now()).await?;
    tx.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests;
