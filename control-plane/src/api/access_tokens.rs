//! Access tokens for a project's MCP URL, for someone who is signed in already: what `berth call`
//! shows at the public URL.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Caller;
use super::problem::ApiResult;
use crate::app::App;
use crate::{oauth, projects};

/// `POST /projects/{project}/access-tokens`
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
) -> ApiResult<Response> {
    let mut tx = app.db.begin().await?;
    let project = projects::get_for(&mut tx, caller.user.id, &project)
        .await?
        .project;
    let token = oauth::mint_for_person(&app, &mut tx, caller.user.id, &project).await?;
    tx.commit().await?;
    let body = json!({
        "access_token": token.access_token,
        "token_type": "Bearer",
        "expires_in": token.expires_in,
        "resource": app.config.project_url(&project.name),
    });
    let mut response = (StatusCode::CREATED, Json(body)).into_response();
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
