//! The authorization server: OAuth 2.1 as the Model Context Protocol profiles it (revisions
//! 2025-03-26 to 2026-07-28). Public clients register themselves, a person allows each on one
//! project, and the access token is good for that project alone. One client is built in, `berth
//! login`: it alone may ask for the API, and is given an API token.

mod access_token;
mod authorize;
mod client_authentication;
mod consent;
mod error;
mod introspect;
mod keys;
mod limits;
mod metadata;
mod parameters;
mod pkce;
mod register;
mod request;
mod resource;
mod response;
mod revoke;
mod scope;
mod timeline;
mod token;

#[cfg(test)]
mod tests;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::app::App;
use crate::clients::redirect_uri;

pub use access_token::{AccessToken, mint_for_person};
pub use authorize::form_action_after_sign_in;
pub use timeline::signed_in;

/// Largest body. The largest honest one is a registration of a few kilobytes.
const MAX_BODY: usize = 64 * 1024;

/// Browsers may keep the answer to a preflight for a day.
const PREFLIGHT_SECONDS: &str = "86400";

/// Every endpoint. The pages among them need [`crate::signin::session_layer`] around the router.
pub fn router() -> Router<App> {
    let for_clients = Router::new()
        .route(
            "/.well-known/oauth-authorization-server",
            get(metadata::show),
        )
        .route("/oauth/keys", get(keys::show))
        .route("/oauth/register", post(register::register))
        .route("/oauth/token", post(token::token))
        .route("/oauth/revoke", post(revoke::revoke))
        .route("/oauth/introspect", post(introspect::introspect))
        .layer(axum::Extension(register::limiter()))
        .layer(middleware::from_fn(allow_every_origin));
    Router::new()
        .route("/oauth/authorize", get(authorize::authorize))
        .route("/oauth/consent", post(consent::decide))
        .merge(for_clients)
        .layer(axum::Extension(limits::Limits::new()))
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

/// Clients run in browsers too, on origins nobody knows beforehand. Nothing here looks at cookies.
async fn allow_every_origin(request: Request, next: Next) -> Response {
    let preflight = request.method() == Method::OPTIONS;
    let mut response = if preflight {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    set(headers, header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    if preflight {
        set(
            headers,
            header::ACCESS_CONTROL_ALLOW_METHODS,
            "GET, POST, OPTIONS",
        );
        set(
            headers,
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "Authorization, Content-Type, MCP-Protocol-Version",
        );
        set(headers, header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS);
    } else {
        set(
            headers,
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            "WWW-Authenticate, Retry-After",
        );
    }
    response
}

fn set(headers: &mut HeaderMap, name: header::HeaderName, value: &'static str) {
    headers.insert(name, HeaderValue::from_static(value));
}
