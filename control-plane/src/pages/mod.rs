//! What people see: HTML rendered on the server, forms that work without a script, and htmx where
//! something changes while one looks. One file a page, one template beside it in `web/templates/`.

pub mod assets;
mod docs;
mod error;
mod home;
mod new;
mod project;
mod tokens;
mod view;

use axum::Router;
use axum::routing::{get, post};

use crate::app::App;

pub use error::PageError;

/// Every page of someone who is signed in, and the files they load.
pub fn router() -> Router<App> {
    Router::new()
        .route("/", get(home::show))
        .route("/new", get(new::show).post(new::create))
        .route("/docs/errors", get(docs::errors))
        .route("/tokens", get(tokens::show).post(tokens::create))
        .route("/tokens/{token}/revoke", post(tokens::revoke))
        .route("/static/{name}", get(assets::serve))
        .route("/favicon.ico", get(assets::favicon))
        .merge(project::router())
        .fallback(error::not_found)
}

#[cfg(test)]
mod tests;
