//! The description of this API.

use axum::http::header;
use axum::response::{IntoResponse, Response};

/// OpenAPI 3.1, written by hand beside the code.
const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /openapi.json`
pub async fn document() -> Response {
    (
        [
            (header::CONTENT_TYPE, "application/json"),
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        ],
        DOCUMENT,
    )
        .into_response()
}
