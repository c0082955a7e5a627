//! `POST /oauth/token` (RFC 6749 section 3.2): a code, a refresh token or a service account's own
//! credentials for an access token.

mod client_credentials;
mod code;
mod refresh;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use uuid::Uuid;

use super::access_token::{self, AccessToken};
use super::client_authentication::{Unauthenticated, authenticate};
use super::error::{failure, refusal};
use super::limits::Asker;
use super::parameters::Parameters;
use super::timeline::{Observer, of_token};
use crate::app::App;
use crate::clients::{self, Client};
use crate::connections::{Failure, Step};
use crate::error::Error;
use crate::grants::Grant;

/// Why there is no token (RFC 6749 section 5.2, RFC 8707 section 2.2).
#[derive(Debug)]
pub(super) enum TokenError {
    InvalidRequest(&'static str),
    Client(Unauthenticated),
    InvalidGrant(Failure, &'static str),
    InvalidTarget(Failure, &'static str),
    UnauthorizedClient(&'static str),
    UnsupportedGrantType,
    Failed(Error),
}

impl<E: Into<Error>> From<E> for TokenError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl IntoResponse for TokenError {
    fn into_response(self) -> Response {
        let (code, description) = match self {
            Self::Client(error) => return error.respond(),
            Self::Failed(error) => return failure(&error),
            Self::InvalidRequest(description) => ("invalid_request", description),
            Self::InvalidGrant(_, description) => ("invalid_grant", description),
            Self::InvalidTarget(_, description) => ("invalid_target", description),
            Self::UnauthorizedClient(description) => ("unauthorized_client", description),
            Self::UnsupportedGrantType => (
                "unsupported_grant_type",
                "grant_type must be authorization_code, refresh_token or client_credentials",
            ),
        };
        refusal(StatusCode::BAD_REQUEST, code, description)
    }
}

impl TokenError {
    /// Whether it may have been a guess.
    fn is_suspicious(&self) -> bool {
        matches!(
            self,
            Self::InvalidGrant(..) | Self::Client(Unauthenticated::Invalid { .. })
        )
    }
}

/// RFC 6749 section 5.1.
#[derive(Debug, Serialize)]
struct Tokens {
    access_token: String,
    token_type: &'static str,
    expires_in: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    scope: String,
    /// For the connection timeline.
    #[serde(skip)]
    of: Option<Of>,
}

/// Whose tokens, and for what.
#[derive(Debug)]
struct Of {
    project: Uuid,
    user: Uuid,
}

/// Answers with tokens.
pub(super) async fn token(
    State(app): State<App>,
    asker: Asker,
    observer: Observer,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, TokenError> {
    asker.check_failures()?;
    match answer(&app, &observer, &headers, body).await {
        Ok(tokens) => {
            let mut response = Json(tokens).into_response();
            response
                .headers_mut()
                .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            Ok(response)
        }
        Err(error) => {
            if error.is_suspicious() {
                asker.count_failure();
            }
            Err(error)
        }
    }
}

async fn answer(
    app: &App,
    observer: &Observer,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Tokens, TokenError> {
    let form = read_form(headers, body).inspect_err(|error| {
        observer.note_failed(observer.step(Step::CodeExchanged), of_token(error));
    })?;
    let step = match form.get("grant_type") {
        Some("refresh_token") => Step::Refreshed,
        Some("client_credentials") => Step::ServiceToken,
        _ => Step::CodeExchanged,
    };
    let mut seen = observer.asked(step, &form);
    let client = authenticate(app, headers, &form)
        .await
        .map_err(TokenError::Client);
    if let Ok(client) = &client {
        seen = seen.client(&client.id);
    }
    let issued = match client {
        Ok(client) => issue(app, &client, &form).await,
        Err(error) => Err(error),
    };
    match &issued {
        Ok(Tokens { of: Some(of), .. }) => observer.note(seen.project(of.project).user(of.user)),
        Ok(_) => {}
        Err(error) => observer.note_failed(seen, of_token(error)),
    }
    issued
}

async fn issue(app: &App, client: &Client, form: &Parameters) -> Result<Tokens, TokenError> {
    let mut tx = app.db.begin().await?;
    let issued = match form.get("grant_type") {
        Some("authorization_code") => code::answer(app, &mut tx, client, form).await,
        Some("refresh_token") => refresh::answer(app, &mut tx, client, form).await,
        Some("client_credentials") => client_credentials::answer(app, &mut tx, client, form).await,
        Some(_) => Err(TokenError::UnsupportedGrantType),
        None => Err(TokenError::InvalidRequest("grant_type is missing")),
    };
    if issued.is_ok() {
        clients::touch(&mut tx, &client.id, app.clock.now()).await?;
    }
    // In every case: a code stays used and a family stays revoked although the answer is no.
    tx.commit().await?;
    issued
}

/// The form of a request. Nothing else is read: a query would end up in logs.
pub(super) fn read_form(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Parameters, TokenError> {
    let body =
        body.map_err(|_| TokenError::InvalidRequest("the body is too large or was cut off"))?;
    let is_form = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|media| {
            media
                .trim()
                .eq_ignore_ascii_case("application/x-www-form-urlencoded")
        });
    if !is_form {
        return Err(TokenError::InvalidRequest(
            "the body must be application/x-www-form-urlencoded",
        ));
    }
    let form = Parameters::parse(&body);
    if form.is_repeated("resource") {
        return Err(TokenError::InvalidTarget(
            Failure::RequestInvalid,
            "only one resource can be asked for at a time",
        ));
    }
    if form.any_repeated() {
        return Err(TokenError::InvalidRequest(
            "a parameter was sent more than once",
        ));
    }
    Ok(form)
}

/// The answer of a project's grant, whose client may end.
fn tokens(
    app: &App,
    client: &Client,
    grant: &Grant,
    scope: String,
    refresh_token: Option<String>,
) -> Result<Tokens, TokenError> {
    let AccessToken {
        access_token,
        expires_in,
    } = access_token::mint(app, grant, &scope, client.expires_at)?;
    Ok(Tokens {
        access_token,
        token_type: "Bearer",
        expires_in,
        refresh_token,
        scope,
        of: Some(Of {
            project: grant.project_id,
            user: grant.user_id,
        }),
    })
}
