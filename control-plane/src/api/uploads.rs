//! Archives to deploy.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Caller;
use super::problem::ApiResult;
use crate::app::App;
use crate::{projects, uploads};

/// `PUT /projects/{project}/uploads`: the body is a gzip-compressed tar archive; the answer is
/// the name to deploy it by.
pub async fn receive(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
    body: Body,
) -> ApiResult<(StatusCode, Json<Value>)> {
    let project = {
        let mut db = app.db.acquire().await?;
        projects::get_for(&mut db, caller.user.id, &project)
            .await?
            .changeable()?
    };
    let limit = app.config.upload_limit_bytes();
    let (sha256, size) = uploads::receive(&app.config.data, body.into_data_stream(), limit).await?;
    let mut db = app.db.acquire().await?;
    uploads::keep(&mut db, project.id, &sha256, size, app.clock.now()).await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({ "sha256": sha256, "size_bytes": size })),
    ))
}
