//! Which client calls the token, introspection and revocation endpoints (RFC 6749 section 2.3,
//! RFC 7523 section 2.2).

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::error::{failure, refusal};
use super::parameters::Parameters;
use crate::app::App;
use crate::clients::{self, AuthMethod, Client, Unresolved, assertions};
use crate::error::Error;
use crate::signin::address::client_address;

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
    /// The client's document, keys or assertion cannot be used; the reason.
    Unusable(String),
    /// Our fault, or something of the client's cannot be had just now.
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
            Self::Unusable(why) => refusal(StatusCode::UNAUTHORIZED, "invalid_client", why),
            Self::Failed(error) => failure(error),
        }
    }
}

/// What a request shows.
struct Shown {
    id: String,
    secret: Option<String>,
    assertion: Option<String>,
    /// Whether by HTTP Basic.
    basic: bool,
}

/// The client that calls: by HTTP Basic, by `client_secret` or `client_assertion` in the form, or,
/// for a public client, by `client_id` alone. It may fetch from elsewhere, so call it while holding
/// no connection.
pub(super) async fn authenticate(
    app: &App,
    headers: &HeaderMap,
    form: &Parameters,
) -> Result<Client, Unauthenticated> {
    let shown = read(headers, form)?;
    let invalid = Unauthenticated::Invalid { basic: shown.basic };
    let asking = client_address(headers);
    let client = match clients::resolve(app, &shown.id, asking).await {
        Ok(client) => client,
        Err(Unresolved::Unknown) => return Err(invalid),
        Err(Unresolved::Unusable(why)) => return Err(Unauthenticated::Unusable(why)),
        Err(Unresolved::Away(why)) => return Err(Error::Unavailable(why).into()),
        Err(Unresolved::Failed(error)) => return Err(error.into()),
    };
    if client.is_over(app.clock.now()) {
        return Err(Unauthenticated::Unusable(
            "the client has come to its end; make a new one for its service account".to_owned(),
        ));
    }
    match client.auth_method {
        AuthMethod::None => Ok(client),
        AuthMethod::ClientSecretPost | AuthMethod::ClientSecretBasic => {
            let accepted = shown.secret.is_some_and(|secret| client.accepts(&secret));
            if accepted { Ok(client) } else { Err(invalid) }
        }
        AuthMethod::PrivateKeyJwt => {
            let assertion = shown.assertion.ok_or_else(|| {
                Unauthenticated::Unusable(
                    "the client must show a client_assertion (RFC 7523), as its metadata says"
                        .to_owned(),
                )
            })?;
            verify(app, &client, &assertion, asking).await?;
            Ok(client)
        }
    }
}

async fn verify(
    app: &App,
    client: &Client,
    assertion: &str,
    asking: std::net::IpAddr,
) -> Result<(), Unauthenticated> {
    use assertions::Refused;
    assertions::verify(app, client, assertion, asking)
        .await
        .map_err(|refused| match refused {
            Refused::Wrong(why) => Unauthenticated::Unusable(format!("the client_assertion {why}")),
            Refused::Keys(why) => Unauthenticated::Unusable(why),
            Refused::Failed(error) => Unauthenticated::Failed(error),
        })
}

fn read(headers: &HeaderMap, form: &Parameters) -> Result<Shown, Unauthenticated> {
    const TWICE: Unauthenticated =
        Unauthenticated::Malformed("the client shows who it is in two ways; use one");
    let owned = |name: &str| form.get(name).map(str::to_owned);
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (id, secret) = read_basic(value).ok_or(Unauthenticated::Invalid { basic: true })?;
        if form.get("client_secret").is_some() || form.get("client_assertion").is_some() {
            return Err(TWICE);
        }
        if form.get("client_id").is_some_and(|other| other != id) {
            return Err(Unauthenticated::Malformed(
                "client_id and the Authorization header name different clients",
            ));
        }
        return Ok(Shown {
            id,
            secret: Some(secret).filter(|secret| !secret.is_empty()),
            assertion: None,
            basic: true,
        });
    }
    let (secret, assertion) = (owned("client_secret"), owned("client_assertion"));
    if assertion.is_some() {
        if secret.is_some() {
            return Err(TWICE);
        }
        if form.get("client_assertion_type") != Some(assertions::TYPE) {
            return Err(Unauthenticated::Malformed(
                "client_assertion_type must be urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ));
        }
    }
    let subject = || assertion.as_deref().and_then(assertions::subject);
    let id = owned("client_id")
        .or_else(subject)
        .ok_or(Unauthenticated::Invalid { basic: false })?;
    Ok(Shown {
        id,
        secret,
        assertion,
        basic: false,
    })
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
