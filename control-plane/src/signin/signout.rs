//! Signing out: `POST /signout`.

use crate::pages::PageError;
use axum::response::{AppendHeaders, IntoResponse as _, Redirect, Response};
use http::header::SET_COOKIE;
use serde::Deserialize;
use tower_sessions::Session;

use super::csrf::CsrfForm;
use super::sessions::internal;

/// The form has nothing but the CSRF token.
#[derive(Debug, Deserialize)]
pub(super) struct Nothing {}

/// Removes the cookie. Browsers obey this for a `__Host-` cookie only with its attributes, which
/// the session layer leaves out when it removes one.
const REMOVE_COOKIE: &str = "__Host-berth=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax";

/// `POST /signout`: ends the session on the server, so that a copy of the cookie is worth nothing.
pub(super) async fn sign_out(
    session: Session,
    CsrfForm(_): CsrfForm<Nothing>,
) -> Result<Response, PageError> {
    session.flush().await.map_err(internal)?;
    Ok((
        AppendHeaders([(SET_COOKIE, REMOVE_COOKIE)]),
        Redirect::to("/signin"),
    )
        .into_response())
}
