//! `grant_type=refresh_token` (RFC 6749 section 6).

use sqlx::PgConnection;

use super::{TokenError, Tokens, tokens};
use crate::app::App;
use crate::clients::Client;
use crate::connections::Failure;
use crate::grants::refresh_tokens::{self, Rotated};
use crate::oauth::parameters::Parameters;
use crate::oauth::{resource, scope};

/// Answers with the next pair of the family. The binding to the resource stays that of the grant:
/// a request may leave `resource` out, but not name another (RFC 8707 section 2.2).
pub(super) async fn answer(
    app: &App,
    db: &mut PgConnection,
    client: &Client,
    form: &Parameters,
) -> Result<Tokens, TokenError> {
    let other = TokenError::InvalidTarget(
        Failure::ResourceUnknown,
        "resource is not the one that was allowed",
    );
    let token = form
        .get("refresh_token")
        .ok_or(TokenError::InvalidRequest("refresh_token is missing"))?;
    let asked = match form.get("resource") {
        None => None,
        Some(asked) => match resource::canonical(&app.config, asked) {
            Some(asked) => Some(asked),
            None => return Err(other),
        },
    };
    let now = app.clock.now();
    match refresh_tokens::rotate(db, token, &client.id, asked.as_deref(), now).await? {
        Rotated::Fresh(fresh) => {
            let scope = scope::narrowed(form.get("scope"), &fresh.grant.scope);
            tokens(app, client, &fresh.grant, scope, Some(fresh.refresh_token))
        }
        Rotated::Replayed => Err(TokenError::InvalidGrant(
            Failure::RefreshReplayed,
            "the refresh token was used before; its whole family is revoked now",
        )),
        Rotated::OtherResource => Err(other),
        Rotated::Unknown => Err(TokenError::InvalidGrant(
            Failure::RefreshInvalid,
            "the refresh token is unknown, expired or revoked",
        )),
    }
}
