//! The authorization request (RFC 6749 section 4.1.1): read, checked, and either whole or refused.

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use sqlx::PgConnection;

use super::parameters::Parameters;
use super::response::Reply;
use super::{pkce, redirect_uri, resource, scope};
use crate::app::App;
use crate::clients::{self, CLI_CLIENT, Client};
use crate::config::ServeConfig;
use crate::error::Error;
use crate::pages::PageError;
use crate::projects::{self, Project};
use crate::signin::page::{Problem, page};

/// Longest name of a machine: that of a DNS label and more than enough to tell machines apart.
const MAX_DEVICE_NAME: usize = 63;

/// What a client wants to call.
#[derive(Debug)]
pub(super) enum Target {
    /// A project's MCP server.
    Project(Project),
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
    /// Which of its registered redirect URIs was matched.
    pub(super) registered_uri: String,
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
    Shown(&'static str),
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
            Self::Shown(message) => {
                let template = Problem {
                    title: "This app cannot be connected",
                    message,
                };
                page(StatusCode::BAD_REQUEST, &template, None)
            }
            Self::Told {
                reply,
                code,
                description,
            } => reply.refuse(config, code, description),
            Self::Failed(error) => PageError(error).into_response(),
        }
    }
}

/// Client and redirect URI, proven to belong together.
#[derive(Debug)]
pub(super) struct Proven {
    pub(super) client: Client,
    pub(super) registered_uri: String,
    pub(super) redirect_uri: String,
}

/// Proves who asks and where the answer may go. Until then nothing may be redirected.
pub(super) async fn prove(
    db: &mut PgConnection,
    parameters: &Parameters,
) -> Result<Proven, Refused> {
    if parameters.is_repeated("client_id") || parameters.is_repeated("redirect_uri") {
        return Err(Refused::Shown(
            "The app's request names its client_id or redirect_uri more than once; start again from the app.",
        ));
    }
    let client = match parameters.get("client_id") {
        Some(id) => clients::find(db, id).await?,
        None => None,
    };
    let Some(client) = client else {
        return Err(Refused::Shown(
            "The app is not registered here, or its registration has expired; start again from the app.",
        ));
    };
    let requested = parameters.get("redirect_uri").unwrap_or_default();
    let registered = client
        .redirect_uris
        .iter()
        .find(|uri| redirect_uri::matches(uri, requested));
    let Some(registered_uri) = registered.cloned() else {
        return Err(Refused::Shown(
            "The app wants its answer at an address it has not registered; start again from the app.",
        ));
    };
    Ok(Proven {
        client,
        registered_uri,
        redirect_uri: requested.to_owned(),
    })
}

impl AuthorizationRequest {
    /// Reads the query of `/oauth/authorize`.
    pub(super) async fn read(
        app: &App,
        db: &mut PgConnection,
        query: &str,
    ) -> Result<Self, Refused> {
        let parameters = Parameters::parse(query.as_bytes());
        let Proven {
            client,
            registered_uri,
            redirect_uri,
        } = prove(db, &parameters).await?;
        let state = parameters.get("state").map(str::to_owned);
        let reply = Reply {
            redirect_uri,
            state,
        };
        match Self::check(app, db, &client, &parameters).await {
            Ok((target, scope)) => {
                let prompt = |value| {
                    parameters
                        .get("prompt")
                        .is_some_and(|p| p.split(' ').any(|word| word == value))
                };
                Ok(Self {
                    client,
                    registered_uri,
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

    /// The rest of the request: its target and the scopes it gets.
    async fn check(
        app: &App,
        db: &mut PgConnection,
        client: &Client,
        parameters: &Parameters,
    ) -> Result<(Target, String), Wrong> {
        if parameters.is_repeated("resource") {
            return Err(Wrong::Told(
                "invalid_target",
                "only one resource can be asked for at a time",
            ));
        }
        if parameters.any_repeated() {
            return Err(Wrong::Told(
                "invalid_request",
                "a parameter was sent more than once",
            ));
        }
        match parameters.get("response_type") {
            Some("code") => {}
            Some(_) => {
                return Err(Wrong::Told(
                    "unsupported_response_type",
                    "response_type must be code",
                ));
            }
            None => {
                return Err(Wrong::Told(
                    "invalid_request",
                    "response_type is missing; it must be code",
                ));
            }
        }
        if parameters
            .get("response_mode")
            .is_some_and(|mode| mode != "query")
        {
            return Err(Wrong::Told(
                "invalid_request",
                "response_mode must be query",
            ));
        }
        check_challenge(parameters)?;
        if parameters.get("resource") == Some(&resource::api(&app.config)) {
            return Ok((check_login(client, parameters)?, scope::API.to_owned()));
        }
        let scope = scope::granted(parameters.get("scope")).ok_or(Wrong::Told(
            "invalid_scope",
            "none of the scopes is known; ask for mcp",
        ))?;
        let resource = parameters.get("resource").ok_or(Wrong::Told(
            "invalid_target",
            "resource is missing; send the URL of the MCP server, for example https://project.example.net/mcp (RFC 8707)",
        ))?;
        let project = match resource::project_name(&app.config, resource) {
            Some(name) => projects::find_by_name(db, &name).await?,
            None => None,
        };
        let project = project.ok_or(Wrong::Told(
            "invalid_target",
            "resource is no MCP server of this platform",
        ))?;
        Ok((Target::Project(project), scope))
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

/// What is wrong with a request whose client is proven.
enum Wrong {
    Told(&'static str, &'static str),
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Wrong {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// A request for the API: `berth login`, which says on which machine it runs.
fn check_login(client: &Client, parameters: &Parameters) -> Result<Target, Wrong> {
    if client.id != CLI_CLIENT {
        return Err(Wrong::Told(
            "invalid_target",
            "only berth login may ask for the API; other programs use an API token",
        ));
    }
    let token_name = match parameters.get("device_name") {
        None => "berth login".to_owned(),
        Some(name) if is_device_name(name) => format!("berth login on {name}"),
        Some(_) => {
            return Err(Wrong::Told(
                "invalid_request",
                "device_name must be 1 to 63 letters, digits, dots, hyphens and underscores",
            ));
        }
    };
    Ok(Target::Api { token_name })
}

/// It is shown to the person who decides, so it holds no words and nothing that looks like markup.
fn is_device_name(name: &str) -> bool {
    name.len() <= MAX_DEVICE_NAME
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

fn check_challenge(parameters: &Parameters) -> Result<(), Wrong> {
    let Some(challenge) = parameters.get("code_challenge") else {
        return Err(Wrong::Told(
            "invalid_request",
            "code_challenge is missing; PKCE is required (RFC 7636)",
        ));
    };
    // RFC 7636 section 4.3: without a method it would be plain.
    if parameters.get("code_challenge_method") != Some("S256") {
        return Err(Wrong::Told(
            "invalid_request",
            "code_challenge_method must be S256",
        ));
    }
    if !pkce::is_challenge(challenge) {
        return Err(Wrong::Told(
            "invalid_request",
            "code_challenge is not a SHA-256 in base64url",
        ));
    }
    Ok(())
}
