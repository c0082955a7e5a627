//! The parts of an authorization request that may be told to the client.

use sqlx::PgConnection;

use super::Target;
use crate::app::App;
use crate::clients::{CLI_CLIENT, Client};
use crate::error::Error;
use crate::oauth::parameters::Parameters;
use crate::oauth::{pkce, resource, scope};

/// Longest name of a machine: that of a DNS label and more than enough to tell machines apart.
const MAX_DEVICE_NAME: usize = 63;

/// What is wrong with a request whose client is proven.
pub(super) enum Wrong {
    Told(&'static str, &'static str),
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Wrong {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// The target of the request and the scopes it gets.
pub(super) async fn check(
    app: &App,
    db: &mut PgConnection,
    client: &Client,
    parameters: &Parameters,
) -> Result<(Target, String), Wrong> {
    check_shape(parameters)?;
    check_challenge(parameters)?;
    if parameters.get("resource") == Some(&resource::api(&app.config)) {
        return Ok((check_login(client, parameters)?, scope::API.to_owned()));
    }
    // Everyone knows its id and anything on the computer can receive the answer, so nothing would
    // tell the command line from a program that takes its name (RFC 8252 section 8.6).
    if client.id == CLI_CLIENT {
        return Err(Wrong::Told(
            "invalid_target",
            "berth login may ask for the API only; other programs register themselves",
        ));
    }
    let scope = scope::granted(parameters.get("scope"));
    match resource::find_server(app, db, parameters.get("resource")).await? {
        Ok(server) => Ok((Target::Server(server), scope)),
        Err(why) => Err(Wrong::Told("invalid_target", why)),
    }
}

fn check_shape(parameters: &Parameters) -> Result<(), Wrong> {
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
    // It waits in the database, and Postgres takes none in any text.
    if parameters
        .get("state")
        .is_some_and(|state| state.contains('\0'))
    {
        return Err(Wrong::Told(
            "invalid_request",
            "state holds a NUL character",
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
    Ok(())
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
