//! People: who the caller is, and who belongs to their organizations.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Caller;
use super::problem::{ApiResult, Body, Params};
use crate::app::App;
use crate::error::{Error, Result};
use crate::members;
use crate::organizations::{self, Organization, Role};

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

/// Body of `POST /members`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct New {
    email: String,
    role: String,
    #[serde(default)]
    organization: Option<Uuid>,
}

/// `POST /members`: the one-time link is in this answer and nowhere else.
pub async fn add(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<New>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    let role = Role::parse(&new.role)?;
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let organization = organizations::get_for(&mut tx, caller.user.id, new.organization).await?;
    let added = members::add(&mut tx, &organization, &new.email, role, &caller.actor, now).await?;
    tx.commit().await?;
    let face = json!({
        "user_id": added.user.id,
        "email": added.user.email,
        "role": role,
        "organization": organization.id,
        "setup_url": added.setup_token.map(|token| app.config.setup_url(&token)),
    });
    Ok((StatusCode::CREATED, Json(face)))
}

/// Names the organization, for people who belong to several.
#[derive(Debug, serde::Deserialize)]
pub struct Of {
    #[serde(default)]
    pub(super) organization: Option<Uuid>,
}

/// The organization and the member that a path and a query name.
async fn named(
    db: &mut PgConnection,
    caller: &Caller,
    of: &Of,
    member: &str,
) -> Result<(Organization, Uuid)> {
    let organization = organizations::get_for(db, caller.user.id, of.organization).await?;
    let id = Uuid::parse_str(member).ok();
    let found = organizations::list_members(db, organization.id)
        .await?
        .into_iter()
        .find(|it| Some(it.user_id) == id || it.email.eq_ignore_ascii_case(member))
        .ok_or(Error::NotFound("member"))?;
    Ok((organization, found.user_id))
}

/// Body of `PATCH /members/{user}`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    role: String,
}

/// `PATCH /members/{user}`
pub async fn change(
    State(app): State<App>,
    caller: Caller,
    Path(user): Path<String>,
    Params(of): Params<Of>,
    Body(change): Body<Change>,
) -> ApiResult<Json<Value>> {
    let role = Role::parse(&change.role)?;
    let mut tx = app.db.begin().await?;
    let (organization, user) = named(&mut tx, &caller, &of, &user).await?;
    let now = app.clock.now();
    members::change_role(&mut tx, &organization, user, role, &caller.actor, now).await?;
    tx.commit().await?;
    Ok(Json(
        json!({ "user_id": user, "role": role, "organization": organization.id }),
    ))
}

/// `DELETE /members/{user}`
pub async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path(user): Path<String>,
    Params(of): Params<Of>,
) -> ApiResult<StatusCode> {
    let mut tx = app.db.begin().await?;
    let (organization, user) = named(&mut tx, &caller, &of, &user).await?;
    let now = app.clock.now();
    members::remove(
        &mut tx,
        &organization,
        user,
        caller.user.id,
        &caller.actor,
        now,
    )
    .await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /members/{user}/setup-link`: another one-time link for someone who has no password yet.
pub async fn renew_link(
    State(app): State<App>,
    caller: Caller,
    Path(user): Path<String>,
    Params(of): Params<Of>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    let mut tx = app.db.begin().await?;
    let (organization, user) = named(&mut tx, &caller, &of, &user).await?;
    let now = app.clock.now();
    let token = members::renew_link(&mut tx, &organization, user, &caller.actor, now).await?;
    tx.commit().await?;
    let face = json!({ "user_id": user, "setup_url": app.config.setup_url(&token) });
    Ok((StatusCode::CREATED, Json(face)))
}
