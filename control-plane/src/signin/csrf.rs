//! Unsafe requests must come from our own pages: a token of the session in the form field `csrf`
//! or the header `X-CSRF-Token`, and an origin that is ours.

use crate::pages::PageError;
use axum::body::{Body, Bytes};
use axum::extract::{Form, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use serde::de::DeserializeOwned;
use tower_sessions::Session;

use super::sessions::internal;
use crate::app::App;
use crate::error::{Error, Result};
use crate::ids;

/// The session's key of the token.
const KEY: &str = "csrf";

/// The form's field of the token.
const FIELD: &str = "csrf";

/// The header of the token, for requests that a script makes.
const HEADER: &str = "x-csrf-token";

/// The session's token, made now if it has none. It stays the same until someone signs in.
pub async fn token(session: &Session) -> Result<String> {
    if let Some(token) = session.get(KEY).await.map_err(internal)? {
        return Ok(token);
    }
    renew(session).await
}

/// Gives the session another token.
pub async fn renew(session: &Session) -> Result<String> {
    let token = ids::random_token("");
    session.insert(KEY, &token).await.map_err(internal)?;
    Ok(token)
}

/// The session's token for a form of a page. Starts a session for a visitor who has none.
#[derive(Debug)]
pub struct CsrfToken(pub String);

impl FromRequestParts<App> for CsrfToken {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, PageError> {
        Ok(Self(token(&session_of(parts)?).await?))
    }
}

/// A form that one of our pages sent. Refuses every other with 403.
#[derive(Debug)]
pub struct CsrfForm<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for CsrfForm<T> {
    type Rejection = Response;

    async fn from_request(request: Request, app: &App) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let fail = |error: Error| PageError(error).into_response();
        check_origin(&parts.headers, app).map_err(fail)?;
        let session = session_of(&parts).map_err(fail)?;
        let bytes = Bytes::from_request(Request::from_parts(parts.clone(), body), app)
            .await
            .map_err(axum::response::IntoResponse::into_response)?;
        let sent = match parts.headers.get(HEADER) {
            Some(value) => value.to_str().ok().map(str::to_owned),
            None => field(&bytes),
        };
        check_token(&session, sent.as_deref()).await.map_err(fail)?;
        let request = Request::from_parts(parts, Body::from(bytes));
        let Form(form) = Form::from_request(request, app)
            .await
            .map_err(axum::response::IntoResponse::into_response)?;
        Ok(Self(form))
    }
}

/// Checks a request that a script of our pages makes with the session's cookie.
pub async fn check_csrf_header(parts: &Parts, app: &App) -> Result<()> {
    check_origin(&parts.headers, app)?;
    let sent = parts
        .headers
        .get(HEADER)
        .and_then(|value| value.to_str().ok());
    check_token(&session_of(parts)?, sent).await
}

fn session_of(parts: &Parts) -> Result<Session> {
    parts
        .extensions
        .get::<Session>()
        .cloned()
        .ok_or_else(|| Error::Internal(anyhow::anyhow!("this route is outside the session layer")))
}

fn field(body: &[u8]) -> Option<String> {
    url::form_urlencoded::parse(body)
        .find(|(name, _)| name == FIELD)
        .map(|(_, value)| value.into_owned())
}

async fn check_token(session: &Session, sent: Option<&str>) -> Result<()> {
    let expected: Option<String> = session.get(KEY).await.map_err(internal)?;
    let same = match (&expected, sent) {
        (Some(expected), Some(sent)) => {
            aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_bytes(), sent.as_bytes())
                .is_ok()
        }
        _ => false,
    };
    if same {
        return Ok(());
    }
    Err(Error::Forbidden(
        "This form is out of date, or your browser keeps no cookies; go back, reload the page and try again.".into(),
    ))
}

/// Refuses what a browser says came from elsewhere. Programs send neither header; they have no
/// session that someone else could use.
fn check_origin(headers: &HeaderMap, app: &App) -> Result<()> {
    let foreign = || {
        Err(Error::Forbidden(
            "This request came from another site and was refused; open the page here and try again.".into(),
        ))
    };
    let text = |name| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap_or("unreadable"))
    };
    let site = text("sec-fetch-site");
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return foreign();
    }
    match text("origin") {
        None => Ok(()),
        Some(origin) if origin == app.config.url.origin().ascii_serialization() => Ok(()),
        // A page with `Referrer-Policy: no-referrer` sends this even to itself.
        Some("null") if site == Some("same-origin") => Ok(()),
        Some(_) => foreign(),
    }
}
