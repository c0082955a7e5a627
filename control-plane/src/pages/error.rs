//! The HTML face of an error, and answering with a page at all.

use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use crate::error::Error;
use crate::telemetry;

/// An error on its way to someone's browser.
#[derive(Debug)]
pub struct PageError(pub Error);

/// What handlers of pages return.
pub type PageResult<T = Response> = Result<T, PageError>;

impl<E: Into<Error>> From<E> for PageError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct Page {
    status: u16,
    title: &'static str,
    message: String,
    next: Option<&'static str>,
    request_id: String,
}

fn title(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "Nothing lies here",
        StatusCode::UNAUTHORIZED => "Sign in first",
        StatusCode::FORBIDDEN => "Not allowed",
        StatusCode::TOO_MANY_REQUESTS => "Too fast",
        StatusCode::SERVICE_UNAVAILABLE => "Just a moment",
        status if status.is_server_error() => "Something went wrong",
        _ => "That did not work",
    }
}

/// A further step, where the sentence itself does not name one.
fn next(status: StatusCode) -> Option<&'static str> {
    match status {
        StatusCode::NOT_FOUND => {
            Some("Check the address, or ask an admin of the organization to add you.")
        }
        StatusCode::CONFLICT => Some("Go back and reload the page to see how things stand now."),
        _ => None,
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let status = self.0.status();
        match &self.0 {
            Error::Internal(error) => {
                tracing::error!(error = format!("{error:#}"), "a page failed");
            }
            Error::Unavailable(sentence) => {
                tracing::warn!(error = sentence, "a page could not be made");
            }
            _ => {}
        }
        let message = self.0.to_string();
        let page = Page {
            status: status.as_u16(),
            title: title(status),
            message: message.clone(),
            next: next(status),
            request_id: telemetry::request_id(),
        };
        let mut response = match page.render() {
            Ok(html) => (status, Html(html)).into_response(),
            Err(_) => (status, message).into_response(),
        };
        if let Error::TooMany { retry_after } = self.0 {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
        }
        response
    }
}

/// Renders a page. What may be cached, framed and loaded is set for all answers in one place.
pub fn page(status: StatusCode, template: &impl Template) -> PageResult {
    let html = template
        .render()
        .map_err(|error| Error::Internal(error.into()))?;
    Ok((status, Html(html)).into_response())
}

/// Whatever has no page.
pub async fn not_found() -> PageError {
    PageError(Error::NotFound("page"))
}
