//! Pages for everyone, signed in or not: what the diagnoses mean.

use askama::Template;
use axum::http::StatusCode;

use super::error::{PageResult, page};

#[derive(Template)]
#[template(path = "docs/errors.html")]
struct Errors;

/// `GET /docs/errors`: every diagnosis by its code, which is the anchor. The runner's tests hold
/// the page to its catalogue.
pub async fn errors() -> PageResult {
    page(StatusCode::OK, &Errors)
}
