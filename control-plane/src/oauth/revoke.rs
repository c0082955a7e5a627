//! `POST /oauth/revoke` (RFC 7009): a client gives its tokens back.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use sqlx::PgConnection;
use uuid::Uuid;

use super::access_token;
use super::client_authentication::authenticate;
use super::limits::Asker;
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
    asker: Asker,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, TokenError> {
    asker.admit_revocation()?;
    let form = read_form(&headers, body)?;
    let client = authenticate(&app, &headers, &form)
        .await
        .map_err(TokenError::Client)?;
    let mut tx = app.db.begin().await?;
    let token = form
        .get("token")
        .ok_or(TokenError::InvalidRequest("token is missing"))?;
    let now = app.clock.now();
    // `token_type_hint` only says where to look first (section 2.1); all places are quick.
    let grant = match refresh_tokens::find(&mut tx, token, &client.id, now).await? {
        Some(known) => Some(known.grant.id),
        None => of_access_token(&app, &mut tx, token, &client).await?,
    };
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

/// The client's grant that an access token names, expired or not.
async fn of_access_token(
    app: &App,
    db: &mut PgConnection,
    token: &str,
    client: &Client,
) -> Result<Option<Uuid>> {
    match access_token::read(app, token) {
        Some(claims) => grants::find_of_client(db, claims.gid, &client.id).await,
        None => Ok(None),
    }
}
