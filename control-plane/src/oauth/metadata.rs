//! `GET /.well-known/oauth-authorization-server` (RFC 8414). Constant for a platform: nothing a
//! project or a client does can change it.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::scope;
use super::timeline::Observer;
use crate::app::App;
use crate::clients::{AuthMethod, keys};
use crate::connections::Step;

/// The document (RFC 8414 section 2, RFC 9207 section 3, Client ID Metadata Document draft).
#[derive(Debug, Serialize)]
pub(super) struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    registration_endpoint: String,
    revocation_endpoint: String,
    introspection_endpoint: String,
    jwks_uri: String,
    response_types_supported: &'static [&'static str],
    response_modes_supported: &'static [&'static str],
    grant_types_supported: &'static [&'static str],
    code_challenge_methods_supported: &'static [&'static str],
    token_endpoint_auth_methods_supported: &'static [&'static str],
    token_endpoint_auth_signing_alg_values_supported: &'static [&'static str],
    revocation_endpoint_auth_methods_supported: &'static [&'static str],
    revocation_endpoint_auth_signing_alg_values_supported: &'static [&'static str],
    introspection_endpoint_auth_methods_supported: &'static [&'static str],
    introspection_endpoint_auth_signing_alg_values_supported: &'static [&'static str],
    scopes_supported: &'static [&'static str],
    authorization_response_iss_parameter_supported: bool,
    client_id_metadata_document_supported: bool,
}

const AUTH_METHODS: &[&str] = &[
    AuthMethod::None.name(),
    AuthMethod::ClientSecretPost.name(),
    AuthMethod::ClientSecretBasic.name(),
    AuthMethod::PrivateKeyJwt.name(),
];

/// Answers the document.
pub(super) async fn show(State(app): State<App>, observer: Observer) -> Json<Metadata> {
    observer.note(observer.step(Step::ServerMetadata));
    let issuer = app.config.issuer();
    let at = |path: &str| format!("{issuer}{path}");
    Json(Metadata {
        authorization_endpoint: at("/oauth/authorize"),
        token_endpoint: at("/oauth/token"),
        registration_endpoint: at("/oauth/register"),
        revocation_endpoint: at("/oauth/revoke"),
        introspection_endpoint: at("/oauth/introspect"),
        jwks_uri: at("/oauth/keys"),
        response_types_supported: &["code"],
        response_modes_supported: &["query"],
        grant_types_supported: &["authorization_code", "refresh_token", "client_credentials"],
        code_challenge_methods_supported: &["S256"],
        token_endpoint_auth_methods_supported: AUTH_METHODS,
        token_endpoint_auth_signing_alg_values_supported: keys::ALGORITHMS,
        revocation_endpoint_auth_methods_supported: AUTH_METHODS,
        revocation_endpoint_auth_signing_alg_values_supported: keys::ALGORITHMS,
        introspection_endpoint_auth_methods_supported: AUTH_METHODS,
        introspection_endpoint_auth_signing_alg_values_supported: keys::ALGORITHMS,
        scopes_supported: scope::SUPPORTED,
        authorization_response_iss_parameter_supported: true,
        client_id_metadata_document_supported: true,
        issuer,
    })
}
