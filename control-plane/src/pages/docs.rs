//! Pages for everyone, signed in or not: what the diagnoses mean, and why clients do not connect.

use askama::Template;
use axum::http::StatusCode;

use super::error::{PageResult, page};
use crate::connections::Failure;

#[derive(Template)]
#[template(path = "docs/errors.html")]
struct Errors;

/// `GET /docs/errors`: every diagnosis by its code, which is the anchor. The runner's tests hold
/// the page to its catalogue.
pub async fn errors() -> PageResult {
    page(StatusCode::OK, &Errors)
}

#[derive(Template)]
#[template(path = "docs/connections.html")]
struct Connections {
    failures: &'static [Failure],
}

/// `GET /docs/connections`: every reason why a client does not connect, by its code, which is the
/// anchor.
pub async fn connections() -> PageResult {
    let failures = Failure::ALL;
    page(StatusCode::OK, &Connections { failures })
}
