//! Signing out: `POST /signout`.

use crate::pages::PageError;
use axum::response::Redirect;
use serde::Deserialize;
use tower_sessions::Session;

use super::csrf::CsrfForm;
use super::sessions::internal;

/// The form has nothing but the CSRF token.
#[derive(Debug, Deserialize)]
pub(super) struct Nothing {}

/// `POST /signout`: ends the session on the server, so that a copy of the cookie is worth nothing.
pub(super) async fn sign_out(
    session: Session,
    CsrfForm(_): CsrfForm<Nothing>,
) -> Result<Redirect, PageError> {
    session.flush().await.map_err(internal)?;
    Ok(Redirect::to("/signin"))
}
