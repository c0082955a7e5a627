//! `GET /oauth/keys`: the public keys of access tokens (RFC 7517).

use axum::Json;
use axum::extract::State;
use serde_json::Value;

use crate::app::App;

/// Answers the JWK set.
pub(super) async fn show(State(app): State<App>) -> Json<Value> {
    Json(app.keys.jwks())
}
