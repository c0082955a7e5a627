//! The JSON API, version 1. Described by `openapi.json` beside this file, which is served as it is
//! and checked against [`endpoints`] by a test.

mod access;
mod access_tokens;
mod apps;
mod audit;
mod build;
mod caller;
mod connect;
mod connections;
mod deployments;
mod following;
mod github;
mod health;
mod login;
mod logs;
mod members;
mod openapi;
mod plans;
mod previews;
mod problem;
mod projects;
mod service_accounts;
mod surfaces;
mod templates;
mod tokens;
mod tools;
mod uploads;
mod variables;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{MethodRouter, delete, get, patch, post, put};

use crate::app::App;

pub use caller::Caller;
pub use problem::ApiError;

/// Largest JSON body. The largest honest one sets every variable of a project.
const MAX_JSON_BYTES: usize = 16 * 1024 * 1024;

/// Largest body of a stranger's: an e-mail address and a password.
const MAX_LOGIN_BYTES: usize = 16 * 1024;

/// Everything under `/api/v1`.
pub fn router() -> Router<App> {
    endpoints()
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| {
            router.route(&format!("/api/v1{path}"), methods)
        })
        .layer(DefaultBodyLimit::max(MAX_JSON_BYTES))
        // The one body that is a file has its own limit while streaming, a setting.
        .route(
            "/api/v1/projects/{project}/uploads",
            put(uploads::receive).layer(DefaultBodyLimit::disable()),
        )
}

fn endpoints() -> Vec<(&'static str, MethodRouter<App>)> {
    vec![
        ("/health", get(health::live)),
        ("/ready", get(health::ready)),
        ("/openapi.json", get(openapi::document)),
        (
            "/login",
            post(login::login).layer(DefaultBodyLimit::max(MAX_LOGIN_BYTES)),
        ),
        ("/me", get(members::me)),
        ("/members", get(members::list).post(members::add)),
        (
            "/members/{user}",
            patch(members::change).delete(members::remove),
        ),
        ("/members/{user}/setup-link", post(members::renew_link)),
        (
            "/service-accounts",
            get(service_accounts::list).post(service_accounts::create),
        ),
        (
            "/service-accounts/{account}",
            delete(service_accounts::delete),
        ),
        (
            "/service-accounts/{account}/tokens",
            get(service_accounts::list_tokens).post(service_accounts::create_token),
        ),
        (
            "/service-accounts/{account}/tokens/{token}",
            delete(service_accounts::revoke_token),
        ),
        (
            "/service-accounts/{account}/clients",
            get(service_accounts::list_clients).post(service_accounts::create_client),
        ),
        (
            "/service-accounts/{account}/clients/{client}",
            delete(service_accounts::delete_client),
        ),
        ("/audit", get(audit::list)),
        ("/apps", get(apps::list)),
        ("/apps/{grant}", delete(apps::revoke)),
        ("/tokens", get(tokens::list).post(tokens::create)),
        ("/tokens/{token}", delete(tokens::revoke)),
        ("/projects", get(projects::list).post(projects::create)),
        (
            "/projects/{project}",
            get(projects::show)
                .patch(projects::change)
                .delete(projects::delete),
        ),
        (
            "/projects/{project}/deployments",
            get(deployments::list).post(deployments::create),
        ),
        (
            "/projects/{project}/deployments/{deployment}",
            get(deployments::show),
        ),
        (
            "/projects/{project}/deployments/{deployment}/cancel",
            post(deployments::cancel),
        ),
        (
            "/projects/{project}/deployments/{deployment}/promote",
            post(deployments::promote),
        ),
        (
            "/projects/{project}/deployments/{deployment}/lock",
            get(build::lock),
        ),
        (
            "/projects/{project}/deployments/{deployment}/surface",
            get(surfaces::show),
        ),
        (
            "/projects/{project}/deployments/{deployment}/diff",
            get(surfaces::diff),
        ),
        (
            "/projects/{project}/build",
            get(build::show).patch(build::change),
        ),
        (
            "/projects/{project}/build-variables",
            get(build::list_variables).patch(build::change_variables),
        ),
        (
            "/projects/{project}/github",
            put(following::connect).delete(following::disconnect),
        ),
        ("/templates", get(templates::list)),
        ("/github/installations", get(github::list_installations)),
        ("/github/repositories", get(github::search_repositories)),
        (
            "/github/installations/{installation}/repositories",
            get(github::list_repositories),
        ),
        (
            "/github/repositories/{repository}/branches",
            get(github::list_branches),
        ),
        ("/plans", post(plans::create)),
        ("/plans/{plan}", get(plans::show)),
        ("/runtimes", get(plans::runtimes)),
        (
            "/projects/{project}/deployments/{deployment}/logs",
            get(logs::list),
        ),
        ("/projects/{project}/previews", get(previews::list)),
        (
            "/projects/{project}/previews/{preview}/approve",
            post(previews::approve),
        ),
        (
            "/projects/{project}/previews/{preview}/deploy",
            post(previews::deploy),
        ),
        (
            "/projects/{project}/previews/{preview}/close",
            post(previews::close),
        ),
        ("/projects/{project}/rollback", post(deployments::roll_back)),
        ("/projects/{project}/variables", get(variables::list)),
        ("/projects/{project}/variables", patch(variables::change)),
        (
            "/projects/{project}/variables/generate",
            post(variables::generate),
        ),
        ("/projects/{project}/tools", get(tools::list)),
        ("/projects/{project}/connections", get(connections::list)),
        ("/projects/{project}/connect", get(connect::show)),
        (
            "/projects/{project}/access",
            get(access::show).patch(access::change),
        ),
        (
            "/projects/{project}/access-tokens",
            post(access_tokens::create),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn the_description_and_the_routes_name_the_same_paths() {
        let document: serde_json::Value =
            serde_json::from_str(include_str!("openapi.json")).unwrap();
        let described: BTreeSet<&str> = document["paths"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut routed: BTreeSet<&str> = super::endpoints()
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        routed.insert("/projects/{project}/uploads");
        assert_eq!(described, routed);
    }
}
