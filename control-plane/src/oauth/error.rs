//! How the endpoints that clients call say no: JSON with a code (RFC 6749 section 5.2, RFC 7591
//! section 3.2.2).

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::error::Error;

/// A refusal. The description is for the client's developer: printable ASCII without quotes
/// (RFC 6749 section 5.2).
pub(super) fn refusal(status: StatusCode, code: &str, description: &str) -> Response {
    let mut response = (
        status,
        Json(json!({ "error": code, "error_description": description })),
    )
        .into_response();
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A failure that is not the client's fault, or too many requests.
pub(super) fn failure(error: &Error) -> Response {
    if let Error::Internal(error) = error {
        tracing::error!(error = format!("{error:#}"), "an OAuth endpoint failed");
    }
    let status = error.status();
    let code = match error {
        Error::TooMany { .. } | Error::Unavailable(_) => "temporarily_unavailable",
        _ => "server_error",
    };
    let mut response = refusal(status, code, &error.to_string());
    if let Error::TooMany { retry_after } = error {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(*retry_after));
    }
    response
}
