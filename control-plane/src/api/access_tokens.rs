//! Access tokens for a project's MCP URL, for someone who is signed in already: what `berth call`
//! shows at the public URL. A public project needs none, and Berth has none for one that asks
//! callers itself.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Caller;
use super::problem::ApiResult;
use crate::access::{self, Mode};
use crate::app::App;
use crate::error::Error;
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
    let resource = app.config.project_url(&project.name);
    match access::mode_of(&mut tx, project.id).await? {
        Mode::Platform => {}
        Mode::Public => {
            let body = json!({ "access_token": null, "resource": resource });
            return Ok((StatusCode::OK, Json(body)).into_response());
        }
        Mode::Tenant => {
            return Err(Error::Conflict(format!(
                "{0} decides itself who may call, so Berth has no token for it; connect an MCP client \
                 to {resource} and sign in as {0} asks you to.",
                project.name
            ))
            .into());
        }
    }
    let token = oauth::mint_for_person(&app, &mut tx, caller.user.id, &project).await?;
    tx.commit().await?;
    let body = json!({
        "access_token": token.access_token,
        "token_type": "Bearer",
        "expires_in": token.expires_in,
        "resource": resource,
    });
    let mut response = (StatusCode::CREATED, Json(body)).into_response();
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
