//! The authorization request (RFC 6749 section 4.1.1): read, checked, and either whole or refused.

mod check;

use std::net::IpAddr;

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;

use self::check::{Wrong, check};
use super::parameters::Parameters;
use super::redirect_uri;
use super::resource::Server;
use super::response::Reply;
use crate::app::App;
use crate::clients::{self, Client, Unresolved};
use crate::config::ServeConfig;
use crate::connections::Failure;
use crate::error::Error;
use crate::pages::PageError;
use crate::signin::page::{Problem, page};

/// What a client wants to call.
#[derive(Debug)]
pub(super) enum Target {
    /// A project's MCP server, or that of one of its previews.
    Server(Server),
    /// The API, for `berth login`.
    Api {
        /// What the API token will be called.
        token_name: String,
    },
}

/// A request that can be answered with a code, if a person allows it.
#[derive(Debug)]
pub(super) struct AuthorizationRequest {
    /// Who asks.
    pub(super) client: Client,
    /// Where the answer goes.
    pub(super) reply: Reply,
    /// The PKCE challenge.
    pub(super) challenge: String,
    /// What it wants to call.
    pub(super) target: Target,
    /// The scopes it will get.
    pub(super) scope: String,
    /// Ask although it was allowed before.
    pub(super) prompt_consent: bool,
    /// Do not ask at all.
    pub(super) prompt_none: bool,
}

/// Why there is no answer with a code.
#[derive(Debug)]
pub(super) enum Refused {
    /// Client or redirect URI are not proven: shown to the person, never redirected.
    Shown(Failure, &'static str),
    /// The client's document cannot be used: shown to the person, with the reason.
    Unusable(String),
    /// Told to the client.
    Told {
        /// Where.
        reply: Reply,
        /// The code of RFC 6749 section 4.1.2.1, RFC 8707 or OpenID Connect Core section 3.1.2.6.
        code: &'static str,
        /// For the client's developer.
        description: &'static str,
    },
    /// Our fault.
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Refused {
    /// The answer.
    pub(super) fn respond(self, config: &ServeConfig) -> Response {
        match self {
            // Clients take 400 as "register again", which mends both cases.
            Self::Shown(_, message) => cannot_connect(message),
            Self::Unusable(why) => cannot_connect(&why),
            Self::Told {
                reply,
                code,
                description,
            } => reply.refuse(config, code, description),
            Self::Failed(error) => PageError(error).into_response(),
        }
    }
}

fn cannot_connect(message: &str) -> Response {
    let template = Problem {
        title: "This app cannot be connected",
        message,
    };
    page(StatusCode::BAD_REQUEST, &template, None)
}

/// Client and redirect URI, proven to belong together.
#[derive(Debug)]
pub(super) struct Proven {
    pub(super) client: Client,
    pub(super) redirect_uri: String,
}

/// Proves who asks and where the answer may go. Until then nothing may be redirected. It may fetch
/// from elsewhere for `asking`, so call it while holding no connection; without `asking` it only
/// looks at what is kept.
pub(super) async fn prove(
    app: &App,
    asking: Option<IpAddr>,
    parameters: &Parameters,
) -> Result<Proven, Refused> {
    if parameters.is_repeated("client_id") || parameters.is_repeated("redirect_uri") {
        return Err(Refused::Shown(
            Failure::RequestInvalid,
            "The app's request names its client_id or redirect_uri more than once; start again from the app.",
        ));
    }
    let client = match (parameters.get("client_id"), asking) {
        (None, _) => None,
        (Some(id), None) => clients::find(&mut *app.db.acquire().await?, id).await?,
        (Some(id), Some(asking)) => match clients::resolve(app, id, asking).await {
            Ok(client) => Some(client),
            Err(Unresolved::Unknown) => None,
            Err(Unresolved::Unusable(why) | Unresolved::Away(why)) => {
                return Err(Refused::Unusable(why));
            }
            Err(Unresolved::Failed(error)) => return Err(Refused::Failed(error)),
        },
    };
    let Some(client) = client else {
        return Err(Refused::Shown(
            Failure::ClientUnknown,
            "The app is not registered here, or its registration has expired; start again from the app.",
        ));
    };
    let requested = parameters.get("redirect_uri").unwrap_or_default();
    let is_registered = client
        .redirect_uris
        .iter()
        .any(|uri| redirect_uri::matches(uri, requested));
    if !is_registered {
        return Err(Refused::Shown(
            Failure::RedirectUriMismatch,
            "The app wants its answer at an address it has not registered; start again from the app.",
        ));
    }
    Ok(Proven {
        client,
        redirect_uri: requested.to_owned(),
    })
}

impl AuthorizationRequest {
    /// Reads the query of `/oauth/authorize`.
    pub(super) async fn read(app: &App, asking: IpAddr, query: &str) -> Result<Self, Refused> {
        let parameters = Parameters::parse(query.as_bytes());
        let Proven {
            client,
            redirect_uri,
        } = prove(app, Some(asking), &parameters).await?;
        let mut db = app.db.acquire().await?;
        let state = parameters.get("state").map(str::to_owned);
        let reply = Reply {
            redirect_uri,
            state,
        };
        match check(app, &mut db, &client, &parameters).await {
            Ok((target, scope)) => {
                let prompt = |value| {
                    parameters
                        .get("prompt")
                        .is_some_and(|p| p.split(' ').any(|word| word == value))
                };
                Ok(Self {
                    client,
                    reply,
                    challenge: parameters
                        .get("code_challenge")
                        .unwrap_or_default()
                        .to_owned(),
                    target,
                    scope,
                    prompt_consent: prompt("consent"),
                    prompt_none: prompt("none"),
                })
            }
            Err(Wrong::Told(code, description)) => Err(Refused::Told {
                reply,
                code,
                description,
            }),
            Err(Wrong::Failed(error)) => Err(Refused::Failed(error)),
        }
    }

    /// Refuses the request with an answer to the client.
    pub(super) fn refuse(self, code: &'static str, description: &'static str) -> Refused {
        Refused::Told {
            reply: self.reply,
            code,
            description,
        }
    }
}
