//! People.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::Caller;
use super::problem::ApiResult;
use crate::app::App;
use crate::organizations;

/// `GET /me`
pub async fn me(caller: Caller) -> Json<Value> {
    Json(json!({ "id": caller.user.id, "email": caller.user.email, "name": caller.user.name }))
}

/// `GET /members`: the caller's organizations and who belongs to them.
pub async fn list(State(app): State<App>, caller: Caller) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    let mut faces = Vec::new();
    for organization in organizations::list_for(&mut db, caller.user.id).await? {
        let members = organizations::list_members(&mut db, organization.id).await?;
        faces.push(json!({
            "id": organization.id,
            "name": organization.name,
            "role": organization.role,
            "members": members,
        }));
    }
    Ok(Json(json!({ "organizations": faces })))
}
