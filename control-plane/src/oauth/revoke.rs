//! `POST /oauth/revoke` (RFC 7009): a client gives its tokens back.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::client_authentication::authenticate;
use super::token::{TokenError, read_form};
use crate::api_tokens;
use crate::app::App;
use crate::audit::Actor;
use crate::clients::{CLI_CLIENT, Client};
use crate::error::Result;
use crate::grants::{self, refresh_tokens};

/// Revokes the grant of a refresh or access token, which ends every token of it. A token that is
/// unknown or another client's gets the same answer (section 2.2).
pub(super) async fn revoke(
    State(app): State<App>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, TokenError> {
    let form = read_form(&headers, body)?;
    let mut tx = app.db.begin().await?;
    let client = authenticate(&mut tx, &headers, &form)
        .await
        .map_err(TokenError::Client)?;
    let token = form
        .get("token")
        .ok_or(TokenError::InvalidRequest("token is missing"))?;
    let grant = match refresh_tokens::find_grant(&mut tx, token, &client.id).await? {
        Some(grant) => Some(grant),
        None => of_access_token(&mut tx, token, &client).await?,
    };
    let now = app.clock.now();
    if let Some(grant) = grant {
        let why = "given back by the client";
        grants::revoke(&mut tx, grant, &Actor::System, why, now).await?;
    } else if client.id == CLI_CLIENT
        && let Some(found) = api_tokens::authenticate(&mut tx, token, now).await?
    {
        // Its access token is an API token; whoever shows it may end it.
        let actor = Actor::ApiToken(found.token);
        api_tokens::revoke(&mut tx, found.user.id, found.token, &actor, now).await?;
    }
    tx.commit().await?;
    Ok(StatusCode::OK.into_response())
}

/// What is read of an access token.
#[derive(Deserialize)]
struct Claims {
    gid: Uuid,
}

/// The client's grant that an access token names. Its signature does not matter: a grant's id is
/// known to its client alone, and only that client's grants are looked at.
async fn of_access_token(
    db: &mut PgConnection,
    token: &str,
    client: &Client,
) -> Result<Option<Uuid>> {
    let claims = token
        .split('.')
        .nth(1)
        .and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let Some(claims) = claims.and_then(|json| serde_json::from_slice::<Claims>(&json).ok()) else {
        return Ok(None);
    };
    grants::find_of_client(db, claims.gid, &client.id).await
}
