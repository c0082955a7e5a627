//! `POST /oauth/introspect` (RFC 7662): a client asks whether a token of its own still works.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::access_token;
use super::client_authentication::authenticate;
use super::limits::Asker;
use super::token::{TokenError, read_form};
use crate::app::App;
use crate::clients::Client;
use crate::error::Result;
use crate::grants::{self, refresh_tokens};

/// Answers what the token is, or that it is not active: unknown, expired, revoked, another
/// client's, or its person may not call the project any more (section 2.2).
pub(super) async fn introspect(
    State(app): State<App>,
    asker: Asker,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, TokenError> {
    asker.admit_introspection()?;
    let form = read_form(&headers, body)?;
    let client = authenticate(&app, &headers, &form)
        .await
        .map_err(TokenError::Client)?;
    let mut db = app.db.acquire().await?;
    // `token_type_hint` only says where to look first (section 2.1); both places are quick.
    let token = form
        .get("token")
        .ok_or(TokenError::InvalidRequest("token is missing"))?;
    let known = match of_refresh_token(&app, &mut db, token, &client).await? {
        Some(known) => Some(known),
        None => of_access_token(&app, &mut db, token, &client).await?,
    };
    let mut response = Json(known.unwrap_or_else(|| json!({ "active": false }))).into_response();
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn of_refresh_token(
    app: &App,
    db: &mut PgConnection,
    token: &str,
    client: &Client,
) -> Result<Option<Value>> {
    let known = refresh_tokens::find(db, token, &client.id, app.clock.now()).await?;
    Ok(known.filter(|known| known.is_active).map(|known| {
        json!({
            "active": true,
            "scope": known.grant.scope,
            "client_id": known.grant.client_id,
            "sub": known.grant.user_id,
            "aud": known.grant.resource,
            "iss": app.config.issuer(),
            "iat": known.created_at.unix_timestamp(),
            "exp": known.expires_at.unix_timestamp(),
        })
    }))
}

async fn of_access_token(
    app: &App,
    db: &mut PgConnection,
    token: &str,
    client: &Client,
) -> Result<Option<Value>> {
    let Some(claims) = access_token::read(app, token) else {
        return Ok(None);
    };
    let grant = grants::find_active(db, claims.gid, &client.id).await?;
    if grant.is_none() || claims.exp <= app.clock.now().unix_timestamp() {
        return Ok(None);
    }
    Ok(Some(json!({
        "active": true,
        "token_type": "Bearer",
        "scope": claims.scope,
        "client_id": claims.client_id,
        "sub": claims.sub,
        "aud": claims.aud,
        "iss": claims.iss,
        "jti": claims.jti,
        "iat": claims.iat,
        "exp": claims.exp,
    })))
}
