//! `POST /oauth/token` (RFC 6749 section 3.2): a code or a refresh token for an access token.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use sqlx::PgConnection;

use super::client_authentication::{Unauthenticated, authenticate};
use super::error::{failure, refusal};
use super::parameters::Parameters;
use super::{access_token, pkce, resource, scope};
use crate::app::App;
use crate::clients::{self, CLI_CLIENT, Client};
use crate::error::Error;
use crate::grants::codes::{self, Redeemed};
use crate::grants::refresh_tokens::{self, Rotated};
use crate::grants::{self, Grant};
use crate::login_codes;

/// Why there is no token (RFC 6749 section 5.2, RFC 8707 section 2.2).
#[derive(Debug)]
pub(super) enum TokenError {
    InvalidRequest(&'static str),
    Client(Unauthenticated),
    InvalidGrant(&'static str),
    InvalidTarget(&'static str),
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
            Self::InvalidGrant(description) => ("invalid_grant", description),
            Self::InvalidTarget(description) => ("invalid_target", description),
            Self::UnsupportedGrantType => (
                "unsupported_grant_type",
                "grant_type must be authorization_code or refresh_token",
            ),
        };
        refusal(StatusCode::BAD_REQUEST, code, description)
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
}

/// What a client has shown that it may have.
enum Allowed {
    /// An access token of a grant.
    Project(Box<Grant>),
    /// The API token of a sign-in by `berth login`.
    Api(Box<login_codes::Code>),
}

/// What a code is bound to.
struct Binding<'a> {
    client_id: &'a str,
    redirect_uri: &'a str,
    challenge: &'a str,
    resource: &'a str,
}

/// Answers with tokens.
pub(super) async fn token(
    State(app): State<App>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, TokenError> {
    let form = read_form(&headers, body)?;
    let mut tx = app.db.begin().await?;
    let client = authenticate(&mut tx, &headers, &form)
        .await
        .map_err(TokenError::Client)?;
    let allowed = match form.get("grant_type") {
        Some("authorization_code") => by_code(&app, &mut tx, &client, &form).await,
        Some("refresh_token") => by_refresh_token(&app, &mut tx, &client, &form).await,
        Some(_) => return Err(TokenError::UnsupportedGrantType),
        None => return Err(TokenError::InvalidRequest("grant_type is missing")),
    };
    let issued = match allowed {
        Ok(Allowed::Project(grant)) => issue(&app, &mut tx, &client, *grant).await,
        Ok(Allowed::Api(code)) => issue_api_token(&app, &mut tx, &code).await,
        Err(error) => Err(error),
    };
    // In every case: a code stays used and a family stays revoked although the answer is no.
    tx.commit().await?;
    let mut response = Json(issued?).into_response();
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
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

/// RFC 6749 section 4.1.3 with RFC 7636 section 4.6. A code is used up by any presentation.
async fn by_code(
    app: &App,
    db: &mut PgConnection,
    client: &Client,
    form: &Parameters,
) -> Result<Allowed, TokenError> {
    let incomplete = TokenError::InvalidRequest("code, redirect_uri and code_verifier are needed");
    let (Some(code), Some(_), Some(_)) = (
        form.get("code"),
        form.get("redirect_uri"),
        form.get("code_verifier"),
    ) else {
        return Err(incomplete);
    };
    let reused = TokenError::InvalidGrant("the code was used before; its tokens are revoked now");
    let now = app.clock.now();
    match codes::redeem(db, code, now).await? {
        Redeemed::Fresh(code) => {
            let binding = Binding {
                client_id: &code.grant.client_id,
                redirect_uri: &code.redirect_uri,
                challenge: &code.challenge,
                resource: &code.grant.resource,
            };
            check_binding(app, client, form, &binding)?;
            return Ok(Allowed::Project(Box::new(code.grant)));
        }
        Redeemed::Reused => return Err(reused),
        Redeemed::Unknown => {}
    }
    match login_codes::redeem(db, code, now).await? {
        login_codes::Redeemed::Fresh(code) => {
            let binding = Binding {
                client_id: CLI_CLIENT,
                redirect_uri: &code.redirect_uri,
                challenge: &code.challenge,
                resource: &resource::api(&app.config),
            };
            check_binding(app, client, form, &binding)?;
            Ok(Allowed::Api(code))
        }
        login_codes::Redeemed::Reused => Err(reused),
        login_codes::Redeemed::Unknown => Err(TokenError::InvalidGrant(
            "the code is unknown or has expired",
        )),
    }
}

/// Whether the request is the one that the code was issued for.
fn check_binding(
    app: &App,
    client: &Client,
    form: &Parameters,
    binding: &Binding<'_>,
) -> Result<(), TokenError> {
    if binding.client_id != client.id {
        return Err(TokenError::InvalidGrant(
            "the code was issued to another client",
        ));
    }
    if form.get("redirect_uri") != Some(binding.redirect_uri) {
        return Err(TokenError::InvalidGrant(
            "redirect_uri is not the one of the authorization request",
        ));
    }
    let verifier = form.get("code_verifier").unwrap_or_default();
    if !pkce::is_verifier(verifier) || !pkce::fits(verifier, binding.challenge) {
        return Err(TokenError::InvalidGrant(
            "code_verifier does not fit the code_challenge",
        ));
    }
    check_resource(app, form, binding.resource)
}

/// RFC 6749 section 6. The scope stays that of the grant, whatever is asked for.
async fn by_refresh_token(
    app: &App,
    db: &mut PgConnection,
    client: &Client,
    form: &Parameters,
) -> Result<Allowed, TokenError> {
    let token = form
        .get("refresh_token")
        .ok_or(TokenError::InvalidRequest("refresh_token is missing"))?;
    let grant = match refresh_tokens::rotate(db, token, &client.id, app.clock.now()).await? {
        Rotated::Fresh(grant) => grant,
        Rotated::Replayed => {
            return Err(TokenError::InvalidGrant(
                "the refresh token was used before; its whole family is revoked now",
            ));
        }
        Rotated::Unknown => {
            return Err(TokenError::InvalidGrant(
                "the refresh token is unknown, expired or revoked",
            ));
        }
    };
    check_resource(app, form, &grant.resource)?;
    Ok(Allowed::Project(Box::new(grant)))
}

/// A token request may leave `resource` out, but not name another (RFC 8707 section 2.2).
fn check_resource(app: &App, form: &Parameters, allowed: &str) -> Result<(), TokenError> {
    match form.get("resource") {
        Some(other) if !resource::is_same(&app.config, other, allowed) => Err(
            TokenError::InvalidTarget("resource is not the one that was allowed"),
        ),
        _ => Ok(()),
    }
}

async fn issue(
    app: &App,
    db: &mut PgConnection,
    client: &Client,
    grant: Grant,
) -> Result<Tokens, TokenError> {
    let now = app.clock.now();
    let refresh_token = if scope::gives_refresh_token(client, &grant.scope) {
        Some(refresh_tokens::issue(db, grant.id, now).await?)
    } else {
        None
    };
    grants::touch(db, grant.id, now).await?;
    clients::touch(db, &client.id, now).await?;
    let access = access_token::mint(app, &grant)?;
    Ok(Tokens {
        access_token: access.access_token,
        token_type: "Bearer",
        expires_in: access.expires_in,
        refresh_token,
        scope: grant.scope,
    })
}

/// No refresh token: the API token lasts, and ends on the Tokens page.
async fn issue_api_token(
    app: &App,
    db: &mut PgConnection,
    code: &login_codes::Code,
) -> Result<Tokens, TokenError> {
    let now = app.clock.now();
    clients::touch(db, CLI_CLIENT, now).await?;
    Ok(Tokens {
        access_token: login_codes::give_token(db, code, now).await?,
        token_type: "Bearer",
        expires_in: login_codes::TOKEN_LIFETIME.whole_seconds(),
        refresh_token: None,
        scope: scope::API.to_owned(),
    })
}
