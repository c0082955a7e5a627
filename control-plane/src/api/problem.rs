//! The API's face of an error: RFC 9457 problem details.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::error::{Error, invalid};

/// An error on its way to an API client.
#[derive(Debug)]
pub struct ApiError(pub Error);

/// What API handlers return.
pub type ApiResult<T> = Result<T, ApiError>;

impl<E: Into<Error>> From<E> for ApiError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.0.status();
        if let Error::Internal(error) = &self.0 {
            tracing::error!(error = format!("{error:#}"), "an API request failed");
        }
        let mut body = json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": status.as_u16(),
            "detail": self.0.to_string(),
        });
        if let Error::Invalid(fields) = &self.0 {
            body["errors"] = fields
                .iter()
                .map(|f| json!({ "field": f.name, "message": f.message }))
                .collect();
        }
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Error::TooMany { retry_after } = self.0 {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A JSON body whose faults answer as problems.
#[derive(Debug, FromRequest)]
#[from_request(via(axum::Json), rejection(ApiError))]
pub struct Body<T>(pub T);

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Self(Error::TooLarge(
                "The body is too large for this address.".into(),
            ));
        }
        Self(invalid(
            "body",
            format!("The body cannot be read: {}.", rejection.body_text()),
        ))
    }
}

/// Query parameters whose faults answer as problems.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(ApiError))]
pub struct Params<T>(pub T);

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self(invalid(
            "query",
            format!("The query cannot be read: {}.", rejection.body_text()),
        ))
    }
}
