//! Which client calls the token and revocation endpoints (RFC 6749 section 2.3).

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sqlx::PgConnection;

use super::error::{failure, refusal};
use super::parameters::Parameters;
use crate::clients::{self, Client};
use crate::error::Error;

/// Why it is not known who calls.
#[derive(Debug)]
pub(super) enum Unauthenticated {
    /// The request contradicts itself.
    Malformed(&'static str),
    /// No such client, or not its secret. Clients register again when they read this.
    Invalid {
        /// They tried HTTP Basic, so they are told in that language.
        basic: bool,
    },
    /// Our fault.
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Unauthenticated {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Unauthenticated {
    /// The answer.
    pub(super) fn respond(&self) -> Response {
        match self {
            Self::Malformed(description) => {
                refusal(StatusCode::BAD_REQUEST, "invalid_request", description)
            }
            Self::Invalid { basic } => {
                let mut response = refusal(
                    StatusCode::UNAUTHORIZED,
                    "invalid_client",
                    "the client is not registered here or its secret is wrong; register again",
                );
                if *basic {
                    let challenge = HeaderValue::from_static("Basic realm=berth");
                    response
                        .headers_mut()
                        .insert(header::WWW_AUTHENTICATE, challenge);
                }
                response
            }
            Self::Failed(error) => failure(error),
        }
    }
}

/// The client that calls: by HTTP Basic, by `client_secret` in the form, or, for a public client,
/// by `client_id` alone.
pub(super) async fn authenticate(
    db: &mut PgConnection,
    headers: &HeaderMap,
    form: &Parameters,
) -> Result<Client, Unauthenticated> {
    let (id, secret, basic) = match headers.get(header::AUTHORIZATION) {
        Some(value) => {
            let (id, secret) = read_basic(value).ok_or(Unauthenticated::Invalid { basic: true })?;
            if form.get("client_secret").is_some() {
                return Err(Unauthenticated::Malformed(
                    "the client shows its secret in two ways; use one",
                ));
            }
            if form.get("client_id").is_some_and(|other| other != id) {
                return Err(Unauthenticated::Malformed(
                    "client_id and the Authorization header name different clients",
                ));
            }
            (id, Some(secret).filter(|secret| !secret.is_empty()), true)
        }
        None => match form.get("client_id") {
            Some(id) => (
                id.to_owned(),
                form.get("client_secret").map(str::to_owned),
                false,
            ),
            None => return Err(Unauthenticated::Invalid { basic: false }),
        },
    };
    let client = clients::find(db, &id)
        .await?
        .ok_or(Unauthenticated::Invalid { basic })?;
    if !client.accepts(secret.as_deref()) {
        return Err(Unauthenticated::Invalid { basic });
    }
    Ok(client)
}

/// RFC 6749 section 2.3.1: both halves are form-encoded before they are joined.
fn read_basic(value: &HeaderValue) -> Option<(String, String)> {
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some((form_decode(id), form_decode(secret)))
}

fn form_decode(text: &str) -> String {
    let pair = format!("v={}", text.replace('&', "%26"));
    url::form_urlencoded::parse(pair.as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_is_url_decoded() {
        let header = |text: &str| {
            HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(text))).unwrap()
        };
        assert_eq!(
            read_basic(&header("a%3Ab:c+d%25&e")),
            Some(("a:b".into(), "c d%&e".into()))
        );
        assert_eq!(
            read_basic(&header("only-id:")),
            Some(("only-id".into(), String::new()))
        );
        assert_eq!(read_basic(&header("no colon")), None);
        assert_eq!(read_basic(&HeaderValue::from_static("Bearer x")), None);
        assert_eq!(read_basic(&HeaderValue::from_static("Basic ???")), None);
    }
}
