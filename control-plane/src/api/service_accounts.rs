//! Service accounts, their API tokens and their OAuth clients.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::Caller;
use super::problem::{ApiResult, Body};
use super::tokens;
use crate::api_tokens::{self, GoodFor};
use crate::app::App;
use crate::clients::service::{self, Auth, NewServiceClient};
use crate::error::{Error, invalid};
use crate::{organizations, service_accounts};

/// `GET /service-accounts`: those of all organizations that the caller belongs to.
pub async fn list(State(app): State<App>, caller: Caller) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    let mut accounts = Vec::new();
    for organization in organizations::list_for(&mut db, caller.user.id).await? {
        accounts.extend(service_accounts::list(&mut db, organization.id).await?);
    }
    Ok(Json(json!({ "service_accounts": accounts })))
}

/// Body of `POST /service-accounts`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct New {
    name: String,
    #[serde(default)]
    organization: Option<Uuid>,
}

/// `POST /service-accounts`
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<New>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    let mut tx = app.db.begin().await?;
    let organization = organizations::get_for(&mut tx, caller.user.id, new.organization)
        .await?
        .manageable()?;
    let now = app.clock.now();
    let account =
        service_accounts::create(&mut tx, &organization, &new.name, &caller.actor, now).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(json!(account))))
}

/// `DELETE /service-accounts/{account}`
pub async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(account): Path<String>,
) -> ApiResult<StatusCode> {
    let mut tx = app.db.begin().await?;
    let account = service_accounts::get_for(&mut tx, caller.user.id, &account).await?;
    service_accounts::delete(&mut tx, &account, &caller.actor, app.clock.now()).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /service-accounts/{account}/tokens`
pub async fn list_tokens(
    State(app): State<App>,
    caller: Caller,
    Path(account): Path<String>,
) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    let account = service_accounts::get_for(&mut db, caller.user.id, &account).await?;
    Ok(Json(
        json!({ "tokens": api_tokens::list(&mut db, account.id, app.clock.now()).await? }),
    ))
}

/// `POST /service-accounts/{account}/tokens`: the token itself is in this answer and nowhere else.
pub async fn create_token(
    State(app): State<App>,
    caller: Caller,
    Path(account): Path<String>,
    Body(new): Body<tokens::New>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    if new.is_for_everything() {
        return Err(invalid(
            "good_for",
            "A service account's token is good for calls only; leave it out.",
        )
        .into());
    }
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let account = service_accounts::get_for(&mut tx, caller.user.id, &account).await?;
    let answer = new
        .create(&mut tx, &caller, account.id, GoodFor::Calls, now)
        .await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(answer)))
}

/// `DELETE /service-accounts/{account}/tokens/{token}`
pub async fn revoke_token(
    State(app): State<App>,
    caller: Caller,
    Path((account, token)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    let token = Uuid::parse_str(&token).map_err(|_| Error::NotFound("token"))?;
    let mut tx = app.db.begin().await?;
    let account = service_accounts::get_for(&mut tx, caller.user.id, &account).await?;
    let now = app.clock.now();
    api_tokens::revoke(&mut tx, account.id, token, &caller.actor, now).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /service-accounts/{account}/clients`
pub async fn list_clients(
    State(app): State<App>,
    caller: Caller,
    Path(account): Path<String>,
) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    let account = service_accounts::get_for(&mut db, caller.user.id, &account).await?;
    Ok(Json(
        json!({ "clients": service::list(&mut db, account.id).await? }),
    ))
}

/// Body of `POST /service-accounts/{account}/clients`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewClient {
    name: String,
    /// Public keys (RFC 7517), for a client that signs assertions instead of showing a secret.
    #[serde(default)]
    jwks: Option<Value>,
    #[serde(default)]
    expires_in_days: Option<i64>,
}

/// `POST /service-accounts/{account}/clients`: the secret is in this answer and nowhere else.
pub async fn create_client(
    State(app): State<App>,
    caller: Caller,
    Path(account): Path<String>,
    Body(new): Body<NewClient>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    let auth = new.jwks.map_or(Auth::Secret, Auth::Jwks);
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let account = service_accounts::get_for(&mut tx, caller.user.id, &account).await?;
    let new = NewServiceClient {
        name: &new.name,
        auth,
        expires_at: tokens::end(new.expires_in_days, &caller, now)?,
    };
    let (client, secret) = service::create(&mut tx, account.id, new, &caller.actor, now).await?;
    tx.commit().await?;
    let face = json!({
        "client_id": client.id,
        "name": client.name,
        "auth_method": client.auth_method.name(),
        "client_secret": secret,
        "expires_at": client.expires_at.and_then(|at| at.format(&Rfc3339).ok()),
        "token_url": app.config.token_url(),
    });
    Ok((StatusCode::CREATED, Json(face)))
}

/// `DELETE /service-accounts/{account}/clients/{client}`
pub async fn delete_client(
    State(app): State<App>,
    caller: Caller,
    Path((account, client)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    let mut tx = app.db.begin().await?;
    let account = service_accounts::get_for(&mut tx, caller.user.id, &account).await?;
    let now = app.clock.now();
    service::delete(&mut tx, account.id, &client, &caller.actor, now).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
