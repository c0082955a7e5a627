//! Answering with a page: headers that every page of signing in and consent carries.

use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::error::Error;
use crate::pages::PageError;

/// What may load, be framed and be sent where. `form_action` names one more place a form's
/// redirect may end: browsers hold redirects after a form to this list too.
pub fn content_security_policy(form_action: Option<&str>) -> String {
    let more = form_action
        .map(|source| format!(" {source}"))
        .unwrap_or_default();
    format!(
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; font-src 'self'; \
         connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'{more}"
    )
}

/// Renders a page. It is never cached: it holds a form's token or a person's data.
pub fn page(status: StatusCode, template: &impl Template, form_action: Option<&str>) -> Response {
    let html = match template.render() {
        Ok(html) => html,
        Err(error) => return PageError(Error::Internal(error.into())).into_response(),
    };
    let mut response = (status, Html(html)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("same-origin"),
    );
    let policy = HeaderValue::try_from(content_security_policy(form_action))
        .unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

/// A page that says what went wrong and what to do.
#[derive(Debug, Template)]
#[template(path = "signin/problem.html")]
pub struct Problem<'a> {
    /// A few words.
    pub title: &'a str,
    /// One sentence with the next step.
    pub message: &'a str,
}
