//! Sending the answer of an authorization request back to the client (RFC 6749 section 4.1.2).

use axum::response::{IntoResponse as _, Redirect, Response};
use serde::{Deserialize, Serialize};

use crate::config::ServeConfig;

/// Where an answer goes, once that place is proven to be the client's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reply {
    /// The redirect URI, as it was requested.
    pub(super) redirect_uri: String,
    /// What the client wants back with the answer.
    pub(super) state: Option<String>,
}

impl Reply {
    /// Answers with parameters, the client's `state` if it sent one, and who answers (RFC 9207).
    pub(super) fn send(&self, config: &ServeConfig, parameters: &[(&str, &str)]) -> Response {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(parameters);
        if let Some(state) = &self.state {
            query.append_pair("state", state);
        }
        query.append_pair("iss", &config.issuer());
        // Appended as text: the URI goes back byte for byte as the client wrote it.
        let separator = if self.redirect_uri.contains('?') {
            '&'
        } else {
            '?'
        };
        // 303, so that a browser that comes from a form does not send the form on (RFC 9700
        // section 4.12).
        Redirect::to(&format!(
            "{}{separator}{}",
            self.redirect_uri,
            query.finish()
        ))
        .into_response()
    }

    /// Answers with an error (RFC 6749 section 4.1.2.1).
    pub(super) fn refuse(&self, config: &ServeConfig, code: &str, description: &str) -> Response {
        self.send(
            config,
            &[("error", code), ("error_description", description)],
        )
    }
}
