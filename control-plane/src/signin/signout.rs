//! Signing out: `POST /signout`.

use crate::pages::PageError;
use axum::response::{AppendHeaders, IntoResponse as _, Redirect, Response};
use http::header::SET_COOKIE;
use serde::Deserialize;
use tower_sessions::Session;

use super::csrf::CsrfForm;
use super::next;
use super::sessions::internal;

/// What the page sends.
#[derive(Debug, Deserialize)]
pub(super) struct SignOut {
    /// Where to go on when someone has signed in again, for “Use another account”.
    #[serde(default)]
    next: Option<String>,
}

/// Removes the cookie. Browsers obey this for a `__Host-` cookie only with its attributes, which
/// the session layer leaves out when it removes one.
const REMOVE_COOKIE: &str = "__Host-berth=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax";

/// `POST /signout`: ends the session on the server, so that a copy of the cookie is worth nothing.
pub(super) async fn sign_out(
    session: Session,
    CsrfForm(form): CsrfForm<SignOut>,
) -> Result<Response, PageError> {
    session.flush().await.map_err(internal)?;
    Ok((
        AppendHeaders([(SET_COOKIE, REMOVE_COOKIE)]),
        Redirect::to(&next::signin_url(next::safe(form.next.as_deref()))),
    )
        .into_response())
}
