//! What the authorization server tells the connection timeline (see [`crate::connections`]).
//! Nothing here asks the database or can fail.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use http::HeaderMap;

use super::authorize::query_of;
use super::client_authentication::Unauthenticated;
use super::parameters::Parameters;
use super::request::Refused;
use super::resource;
use super::token::TokenError;
use crate::app::App;
use crate::clients::CLI_CLIENT;
use crate::connections::{self, Failure, Seen, Step, Visitor};
use crate::error::Error;

/// Watches one request.
#[derive(Debug)]
pub(super) struct Observer {
    app: App,
    visitor: Visitor,
}

impl FromRequestParts<App> for Observer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(Self::new(app, &parts.headers))
    }
}

impl Observer {
    fn new(app: &App, headers: &HeaderMap) -> Self {
        Self {
            app: app.clone(),
            visitor: Visitor::of(headers),
        }
    }

    /// A step as of now.
    pub(super) fn step(&self, step: Step) -> Seen {
        Seen::new(step, &self.visitor, self.app.clock.now())
    }

    /// A step of the client that these parameters name, on the project that they name.
    pub(super) fn asked(&self, step: Step, parameters: &Parameters) -> Seen {
        let mut seen = self.step(step);
        if let Some(id) = parameters.get("client_id") {
            seen = seen.client(id);
        }
        let named = parameters.get("resource");
        match named.and_then(|it| resource::project_name(&self.app.config, it)) {
            Some(name) => seen.project_named(name),
            None => seen,
        }
    }

    /// Has it written. A sign-in of the command line is no connection.
    pub(super) fn note(&self, seen: Seen) {
        if !seen.is_by(CLI_CLIENT) {
            connections::record(&self.app, seen);
        }
    }

    /// Has it written as failed, unless the failure is ours.
    pub(super) fn note_failed(&self, seen: Seen, why: Option<(Failure, String)>) {
        if let Some((failure, detail)) = why {
            self.note(seen.failed(failure).detail(detail));
        }
    }
}

/// Someone signed in and goes on to `next`: a step, where that is an authorization request.
///
/// Not who: what they were on their way to is only what the address said.
pub fn signed_in(app: &App, headers: &HeaderMap, next: &str) {
    if let Some(query) = query_of(next) {
        let observer = Observer::new(app, headers);
        let parameters = Parameters::parse(query.as_bytes());
        observer.note(observer.asked(Step::SignedIn, &parameters));
    }
}

/// Why an authorization request was refused.
pub(super) fn of_authorization(
    refused: &Refused,
    parameters: &Parameters,
) -> Option<(Failure, String)> {
    Some(match refused {
        Refused::Shown(failure @ Failure::RedirectUriMismatch, _) => {
            let uri = parameters.get("redirect_uri").unwrap_or_default();
            // What follows may carry a state of the client's own.
            let place = uri.split(['?', '#']).next().unwrap_or_default();
            (*failure, format!("it asked for its answer at “{place}”"))
        }
        Refused::Shown(failure, message) => (*failure, (*message).to_owned()),
        Refused::Unusable(why) => (Failure::ClientDocumentRefused, why.clone()),
        Refused::Told {
            code, description, ..
        } => {
            let failure = match *code {
                "access_denied" => Failure::NoAccess,
                "login_required" | "consent_required" => Failure::InteractionNeeded,
                "invalid_target" => Failure::ResourceUnknown,
                // Every complaint about PKCE begins with its parameter's name.
                _ if description.starts_with("code_challenge") => Failure::PkceMissing,
                _ => Failure::RequestInvalid,
            };
            (failure, (*description).to_owned())
        }
        Refused::Failed(error) => return of_error(error),
    })
}

/// Why there is no token.
pub(super) fn of_token(error: &TokenError) -> Option<(Failure, String)> {
    let (failure, description) = match error {
        TokenError::InvalidRequest(description) => (Failure::RequestInvalid, description),
        TokenError::InvalidGrant(failure, description)
        | TokenError::InvalidTarget(failure, description) => (*failure, description),
        TokenError::UnauthorizedClient(description) => (Failure::GrantTypeRefused, description),
        TokenError::UnsupportedGrantType => {
            (Failure::GrantTypeRefused, &"the grant_type is not known")
        }
        TokenError::Client(Unauthenticated::Malformed(description)) => {
            (Failure::RequestInvalid, description)
        }
        TokenError::Client(Unauthenticated::Invalid { .. }) => (
            Failure::ClientAuthenticationFailed,
            &"the client is not registered here or its secret is wrong",
        ),
        TokenError::Client(Unauthenticated::Unusable(why)) => {
            return Some((Failure::ClientAuthenticationFailed, why.clone()));
        }
        TokenError::Client(Unauthenticated::Failed(error)) | TokenError::Failed(error) => {
            return of_error(error);
        }
    };
    Some((failure, (*description).to_owned()))
}

/// Of what is nobody's mistake, only that there was too much of it.
pub(super) fn of_error(error: &Error) -> Option<(Failure, String)> {
    matches!(error, Error::TooMany { .. }).then(|| (Failure::TooManyRequests, error.to_string()))
}
