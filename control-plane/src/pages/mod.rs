//! What people see: HTML rendered on the server, forms that work without a script, and htmx where
//! something changes while one looks. One file a page, one template beside it in `web/templates/`.

mod account;
mod apps;
pub mod assets;
mod docs;
mod error;
mod github;
mod home;
mod members;
mod new;
mod project;
mod service_accounts;
mod starters;
mod token_form;
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
        .route("/new/plan", post(new::plan))
        .route("/new/templates", get(starters::list))
        .route(
            "/new/templates/{template}",
            get(starters::show).post(starters::create),
        )
        .route("/docs/errors", get(docs::errors))
        .route("/docs/connections", get(docs::connections))
        .route("/apps", get(apps::show))
        .route("/apps/{grant}/revoke", post(apps::revoke))
        .route("/tokens", get(tokens::show).post(tokens::create))
        .route("/tokens/{token}/revoke", post(tokens::revoke))
        .route("/members", get(members::show).post(members::add))
        .route("/members/{user}/role", post(members::change_role))
        .route("/members/{user}/remove", post(members::remove))
        .route("/members/{user}/link", post(members::renew_link))
        .route(
            "/service-accounts",
            get(service_accounts::show).post(service_accounts::create),
        )
        .route(
            "/service-accounts/{account}",
            get(service_accounts::show_one),
        )
        .route(
            "/service-accounts/{account}/delete",
            post(service_accounts::delete),
        )
        .route(
            "/service-accounts/{account}/tokens",
            post(service_accounts::create_token),
        )
        .route(
            "/service-accounts/{account}/tokens/{token}/revoke",
            post(service_accounts::revoke_token),
        )
        .route(
            "/service-accounts/{account}/clients",
            post(service_accounts::create_client),
        )
        .route(
            "/service-accounts/{account}/clients/{client}/delete",
            post(service_accounts::delete_client),
        )
        .route("/account", get(account::show))
        .route("/account/password", post(account::change_password))
        .route("/account/github", post(account::connect))
        .route("/account/github/disconnect", post(account::disconnect))
        .route("/static/{name}", get(assets::serve))
        .route("/favicon.ico", get(assets::favicon))
        .merge(github::router())
        .merge(project::router())
        .fallback(error::not_found)
}

#[cfg(test)]
mod tests;
