//! E-mail and password for an API token: `berth login --email`.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::problem::{ApiResult, Body};
use crate::api_tokens::{self, NewToken};
use crate::app::App;
use crate::audit::Actor;
use crate::error::Error;
use crate::login_codes::TOKEN_LIFETIME;
use crate::signin;
use crate::users;

/// Body of `POST /login`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    email: String,
    password: String,
    /// The token's name; the machine's name by convention.
    #[serde(default)]
    name: Option<String>,
}

/// `POST /login`: a new API token for someone who knows their password.
pub async fn login(
    State(app): State<App>,
    headers: HeaderMap,
    Body(login): Body<Login>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    signin::admit_attempt(&app, &headers, &login.email)?;
    let user = users::verify_password(&app.db, &login.email, login.password)
        .await?
        .ok_or_else(|| {
            Error::Unauthorized("E-mail or password is wrong; check both and try again.".into())
        })?;
    signin::forget_attempts(&app, &headers, &login.email);
    let actor = Actor::User(user.id);
    let now = app.clock.now();
    let name = login.name.unwrap_or_else(|| "berth login".to_owned());
    let mut tx = app.db.begin().await?;
    let new = NewToken::for_everything(user.id, &name, Some(now + TOKEN_LIFETIME));
    let (id, secret) = api_tokens::create(&mut tx, new, &actor, now).await?;
    tx.commit().await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({ "id": id, "name": name.trim(), "token": secret })),
    ))
}
