//! `GET /oauth/keys`: the public keys of access tokens (RFC 7517), and those of the edges, with
//! which instances check what they are told of callers.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::error::failure;
use crate::app::App;
use crate::error::Result;
use crate::{edges, signing_keys};

/// Answers the JWK set. Nothing while the database is away: a set that lacks keys would be kept by
/// whoever asked.
pub(super) async fn show(State(app): State<App>) -> Response {
    match read(&app).await {
        Ok(keys) => Json(json!({ "keys": keys })).into_response(),
        Err(error) => failure(&error),
    }
}

async fn read(app: &App) -> Result<Vec<Value>> {
    let mut db = app.db.acquire().await?;
    let now = app.clock.now();
    let mut keys = signing_keys::public_keys(&mut db, now).await?;
    keys.extend(edges::public_keys(&mut db, now).await?);
    Ok(keys)
}
