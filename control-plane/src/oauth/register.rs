//! `POST /oauth/register`: clients register themselves (RFC 7591). Open to everyone, so a
//! registration proves nothing; it is bounded in size and rate, and forgotten when unused.

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
use super::{redirect_uri, scope};
use crate::app::App;
use crate::clients::{self, AuthMethod, NewClient};
use crate::error::Error;
use crate::ids;
use crate::signin::address::client_address;
use crate::signin::attempts::Limiter;

/// Registrations per address and minute. Hosted clients register for many people from few
/// addresses, at every new connection.
const PER_ADDRESS: u32 = 60;

/// Redirect URIs of one client. The most known is four.
const MAX_REDIRECT_URIS: usize = 20;

/// Characters of a name that are kept.
const MAX_NAME: usize = 80;

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

impl<E: Into<Error>> From<E> for RegisterError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
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
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, RegisterError> {
    let now = app.clock.now();
    limiter.admit(client_address(&headers), now)?;
    let body = body.map_err(|_| RegisterError::TooLarge)?;
    let Ok(Value::Object(sent)) = serde_json::from_slice(&body) else {
        return Err(RegisterError::InvalidClientMetadata(
            "the body must be a JSON object (RFC 7591 section 3.1)",
        ));
    };
    let registration = Registration::read(&sent)?;
    let id = ids::random_token("brc_");
    let secret = (registration.auth_method != AuthMethod::None).then(|| ids::random_token("brs_"));
    let mut db = app.db.acquire().await?;
    let new = NewClient {
        id: &id,
        name: &registration.name,
        redirect_uris: &registration.redirect_uris,
        grant_types: &registration.grant_types,
        auth_method: registration.auth_method,
        secret: secret.as_deref(),
        metadata: registration.metadata.clone(),
    };
    clients::create(&mut db, new, now).await?;
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
    name: String,
    redirect_uris: Vec<String>,
    grant_types: Vec<String>,
    auth_method: AuthMethod,
    scope: String,
    metadata: Value,
}

impl Registration {
    fn read(sent: &Map<String, Value>) -> Result<Self, RegisterError> {
        let text = |name: &str| sent.get(name).and_then(Value::as_str);
        let mut metadata = Map::new();
        // OpenID Connect Registration section 2; clients want it back.
        if let Some(kind @ ("native" | "web")) = text("application_type") {
            metadata.insert("application_type".to_owned(), kind.into());
        }
        Ok(Self {
            name: read_name(text("client_name")),
            redirect_uris: read_redirect_uris(sent)?,
            grant_types: read_grant_types(sent)?,
            auth_method: read_auth_method(text("token_endpoint_auth_method")),
            scope: scope::granted(text("scope")).unwrap_or_else(|| scope::SUPPORTED.join(" ")),
            metadata: Value::Object(metadata),
        })
    }

    /// RFC 7591 section 3.2.1.
    fn answer(self, id: &str, secret: Option<String>, issued_at: i64) -> Value {
        let mut answer = json!({
            "client_id": id,
            "client_id_issued_at": issued_at,
            "client_name": self.name,
            "redirect_uris": self.redirect_uris,
            "grant_types": self.grant_types,
            "response_types": ["code"],
            "token_endpoint_auth_method": self.auth_method.name(),
            "scope": self.scope,
        });
        if let Some(secret) = secret {
            answer["client_secret"] = secret.into();
            // It does not expire.
            answer["client_secret_expires_at"] = 0.into();
        }
        if let Some(kind) = self.metadata.get("application_type") {
            answer["application_type"] = kind.clone();
        }
        answer
    }
}

/// A name people can read: one line, without characters that turn or hide text.
fn read_name(sent: Option<&str>) -> String {
    let hides = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    };
    let name: String = sent
        .unwrap_or_default()
        .chars()
        .filter(|c| !hides(*c))
        .take(MAX_NAME)
        .collect();
    let name = name.trim();
    if name.is_empty() {
        "An app without a name".to_owned()
    } else {
        name.to_owned()
    }
}

fn read_redirect_uris(sent: &Map<String, Value>) -> Result<Vec<String>, RegisterError> {
    let wrong = |why: &str| RegisterError::InvalidRedirectUri(why.to_owned());
    let uris: Option<Vec<String>> = sent
        .get("redirect_uris")
        .and_then(Value::as_array)
        .and_then(|uris| {
            uris.iter()
                .map(|uri| uri.as_str().map(str::to_owned))
                .collect()
        });
    let uris = uris
        .filter(|uris| !uris.is_empty())
        .ok_or_else(|| wrong("redirect_uris must name at least one URI"))?;
    if uris.len() > MAX_REDIRECT_URIS {
        return Err(wrong("redirect_uris names more than 20 URIs"));
    }
    for (index, uri) in uris.iter().enumerate() {
        // By its place and not its text, which may be anything.
        redirect_uri::check(uri).map_err(|why| {
            RegisterError::InvalidRedirectUri(format!("redirect URI number {} {why}", index + 1))
        })?;
    }
    Ok(uris)
}

/// Those we know of those asked for (RFC 7591 section 3.2.1 lets us); both when none were named.
fn read_grant_types(sent: &Map<String, Value>) -> Result<Vec<String>, RegisterError> {
    let known = ["authorization_code", "refresh_token"];
    let strings = |name: &str| -> Option<Vec<&str>> {
        sent.get(name)
            .and_then(Value::as_array)
            .map(|list| list.iter().filter_map(Value::as_str).collect())
    };
    if strings("response_types").is_some_and(|types| !types.is_empty() && !types.contains(&"code"))
    {
        return Err(RegisterError::InvalidClientMetadata(
            "response_types must have code in it",
        ));
    }
    let asked = strings("grant_types")
        .filter(|types| !types.is_empty())
        .unwrap_or_else(|| known.to_vec());
    if !asked.contains(&"authorization_code") {
        return Err(RegisterError::InvalidClientMetadata(
            "grant_types must have authorization_code in it",
        ));
    }
    Ok(known
        .iter()
        .filter(|grant| asked.contains(*grant))
        .map(ToString::to_string)
        .collect())
}

/// The method that was asked for if it is one with a secret; everything else becomes a public
/// client, which PKCE protects. RFC 7591 would make an unnamed one `client_secret_basic`, but
/// clients that name none keep no secret.
fn read_auth_method(sent: Option<&str>) -> AuthMethod {
    match sent {
        Some("client_secret_post") => AuthMethod::ClientSecretPost,
        Some("client_secret_basic") => AuthMethod::ClientSecretBasic,
        _ => AuthMethod::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_readable_line() {
        assert_eq!(read_name(Some("Claude")), "Claude");
        assert_eq!(read_name(Some("  a\nb\u{202e}c\u{200b} ")), "abc");
        assert_eq!(read_name(Some(" \t ")), "An app without a name");
        assert_eq!(read_name(None), "An app without a name");
        assert_eq!(read_name(Some(&"x".repeat(500))).len(), MAX_NAME);
    }
}
