//! `POST /oauth/register`: clients register themselves (RFC 7591). Open to everyone, so a
//! registration proves nothing; it is bounded in size, rate and number, and forgotten when unused.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use time::Duration;

use super::error::{failure, refusal};
use super::scope;
use super::timeline::{Observer, of_error};
use crate::app::App;
use crate::clients::metadata::{self, Keys, Metadata, Wrong};
use crate::clients::{self, AuthMethod, NewClient};
use crate::connections::{Failure, Step};
use crate::error::Error;
use crate::ids;
use crate::signin::address::client_address;
use crate::signin::attempts::Limiter;

/// Registrations per address and minute. Hosted clients register for many people from few
/// addresses, at every new connection.
const PER_ADDRESS: u32 = 60;

/// Counts registrations by address.
pub(super) type RegistrationLimiter = Arc<Limiter<IpAddr>>;

/// One for a router.
pub(super) fn limiter() -> RegistrationLimiter {
    Arc::new(Limiter::new(PER_ADDRESS, Duration::MINUTE))
}

/// Why there is no registration (RFC 7591 section 3.2.2).
#[derive(Debug)]
pub(super) enum RegisterError {
    InvalidRedirectUri(String),
    InvalidClientMetadata(&'static str),
    TooLarge,
    Failed(Error),
}

impl RegisterError {
    /// For the connection timeline.
    fn reason(&self) -> Option<(Failure, String)> {
        let description = match self {
            Self::InvalidRedirectUri(description) => description.clone(),
            Self::InvalidClientMetadata(description) => (*description).to_owned(),
            Self::TooLarge => "the registration is larger than 64 KiB".to_owned(),
            Self::Failed(error) => return of_error(error),
        };
        Some((Failure::RegistrationRefused, description))
    }
}

impl From<Error> for RegisterError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Wrong> for RegisterError {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::RedirectUri(why) => Self::InvalidRedirectUri(why),
            Wrong::Other(why) => Self::InvalidClientMetadata(why),
        }
    }
}

impl IntoResponse for RegisterError {
    fn into_response(self) -> Response {
        match self {
            Self::InvalidRedirectUri(description) => refusal(
                StatusCode::BAD_REQUEST,
                "invalid_redirect_uri",
                &description,
            ),
            Self::InvalidClientMetadata(description) => refusal(
                StatusCode::BAD_REQUEST,
                "invalid_client_metadata",
                description,
            ),
            Self::TooLarge => refusal(
                StatusCode::PAYLOAD_TOO_LARGE,
                "invalid_client_metadata",
                "the registration is larger than 64 KiB",
            ),
            Self::Failed(error) => failure(&error),
        }
    }
}

/// Registers a client. Members that are unknown, or that do not matter here, are ignored.
pub(super) async fn register(
    State(app): State<App>,
    Extension(limiter): Extension<RegistrationLimiter>,
    observer: Observer,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, RegisterError> {
    let admitted = limiter
        .admit(client_address(&headers), app.clock.now())
        .map_err(RegisterError::Failed);
    let answer = match admitted {
        Ok(()) => answer(&app, &observer, body).await,
        Err(error) => Err(error),
    };
    if let Err(error) = &answer {
        observer.note_failed(observer.step(Step::Registered), error.reason());
    }
    answer
}

async fn answer(
    app: &App,
    observer: &Observer,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, RegisterError> {
    let now = app.clock.now();
    let body = body.map_err(|_| RegisterError::TooLarge)?;
    let Ok(Value::Object(sent)) = serde_json::from_slice(&body) else {
        return Err(RegisterError::InvalidClientMetadata(
            "the body must be a JSON object (RFC 7591 section 3.1)",
        ));
    };
    let registration = Registration::read(&sent)?;
    let id = ids::random_token("brc_");
    let secret = matches!(
        registration.auth_method,
        AuthMethod::ClientSecretPost | AuthMethod::ClientSecretBasic
    )
    .then(|| ids::random_token("brs_"));
    let mut db = app.db.acquire().await.map_err(Error::from)?;
    let new = NewClient {
        id: &id,
        name: registration.name(),
        redirect_uris: &registration.metadata.redirect_uris,
        grant_types: &registration.metadata.grant_types,
        auth_method: registration.auth_method,
        secret: secret.as_deref(),
        keys: &registration.keys,
        metadata: json!({ "application_type": registration.application_type }),
    };
    clients::ensure_room(&mut db, now).await?;
    clients::create(&mut db, new, now).await?;
    observer.note(observer.step(Step::Registered).client(&id));
    let body = registration.answer(&id, secret, now.unix_timestamp());
    let mut response = (StatusCode::CREATED, Json(body)).into_response();
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What we keep of what was sent.
#[derive(Debug)]
struct Registration {
    metadata: Metadata,
    auth_method: AuthMethod,
    keys: Keys,
    scope: String,
    /// OpenID Connect Registration section 2; clients want it back.
    application_type: Option<&'static str>,
}

impl Registration {
    fn read(sent: &Map<String, Value>) -> Result<Self, RegisterError> {
        let text = |name: &str| sent.get(name).and_then(Value::as_str);
        let auth_method = read_auth_method(text("token_endpoint_auth_method"));
        Ok(Self {
            metadata: Metadata::read(sent)?,
            auth_method,
            keys: if auth_method == AuthMethod::PrivateKeyJwt {
                metadata::read_keys(sent)?
            } else {
                Keys::default()
            },
            scope: match text("scope").map(str::trim) {
                // What may be asked for, when it is not said.
                None | Some("") => scope::SUPPORTED.join(" "),
                asked => scope::granted(asked),
            },
            application_type: match text("application_type") {
                Some("native") => Some("native"),
                Some("web") => Some("web"),
                _ => None,
            },
        })
    }

    fn name(&self) -> &str {
        self.metadata
            .name
            .as_deref()
            .unwrap_or("An app without a name")
    }

    /// RFC 7591 section 3.2.1.
    fn answer(self, id: &str, secret: Option<String>, issued_at: i64) -> Value {
        let mut answer = json!({
            "client_id": id,
            "client_id_issued_at": issued_at,
            "client_name": self.name(),
            "redirect_uris": self.metadata.redirect_uris,
            "grant_types": self.metadata.grant_types,
            "response_types": ["code"],
            "token_endpoint_auth_method": self.auth_method.name(),
            "scope": self.scope,
        });
        if let Some(secret) = secret {
            answer["client_secret"] = secret.into();
            // It does not expire.
            answer["client_secret_expires_at"] = 0.into();
        }
        let rest = [
            ("application_type", self.application_type.map(Value::from)),
            ("jwks", self.keys.jwks),
            ("jwks_uri", self.keys.jwks_uri.map(Value::from)),
        ];
        for (name, value) in rest {
            if let Some(value) = value {
                answer[name] = value;
            }
        }
        answer
    }
}

/// The method that was asked for if it is one with a secret or a key; everything else becomes a
/// public client, which PKCE protects. RFC 7591 would make an unnamed one `client_secret_basic`,
/// but clients that name none keep no secret.
fn read_auth_method(sent: Option<&str>) -> AuthMethod {
    match sent {
        Some("client_secret_post") => AuthMethod::ClientSecretPost,
        Some("client_secret_basic") => AuthMethod::ClientSecretBasic,
        Some("private_key_jwt") => AuthMethod::PrivateKeyJwt,
        _ => AuthMethod::None,
    }
}
