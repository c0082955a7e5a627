//! Assertions: a client shows who it is by signing a short-lived JWT with its own key (RFC 7523
//! section 3, OpenID Connect Core section 9, `private_key_jwt`). Each is good once.

use std::net::IpAddr;

use jsonwebtoken::{Header, Validation};
use serde::Deserialize;
use serde_json::Value;
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::documents::Unresolved;
use super::{Client, keys};
use crate::app::App;
use crate::crypto::sha256;
use crate::error::{Error, Result};

/// What `client_assertion_type` must be (RFC 7523 section 2.2).
pub const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// An assertion ends at most this far ahead: it is made for one request.
const LONGEST: Duration = Duration::minutes(10);

/// How far clocks may differ.
const LEEWAY: Duration = Duration::seconds(30);

/// Why an assertion shows nothing.
#[derive(Debug)]
pub enum Refused {
    /// It is wrong; the words go on after "the client_assertion ".
    Wrong(&'static str),
    /// The keys to check it with cannot be used: a sentence.
    Keys(String),
    /// Our fault, or the keys cannot be had just now.
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What is read of an assertion.
#[derive(Debug, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    jti: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Whom an assertion names, before anything is checked: with it a request needs no `client_id`
/// (RFC 7521 section 4.2).
pub fn subject(assertion: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Subject {
        sub: String,
    }
    let claims: Subject = jsonwebtoken::dangerous::insecure_decode_claims(assertion).ok()?;
    Some(claims.sub)
}

/// Checks that `client` has signed `assertion`, for us, just now, and has not shown it before.
/// Keys may be fetched for `asking`, so call it while holding no connection.
pub async fn verify(
    app: &App,
    client: &Client,
    assertion: &str,
    asking: IpAddr,
) -> Result<(), Refused> {
    let header = jsonwebtoken::decode_header(assertion)
        .map_err(|_| Refused::Wrong("is not a signed JWT"))?;
    if !keys::ALGORITHMS.contains(&format!("{:?}", header.alg).as_str()) {
        return Err(Refused::Wrong(
            "is signed with an algorithm other than ES256, RS256, PS256 and EdDSA",
        ));
    }
    if header.crit.is_some() {
        return Err(Refused::Wrong("has critical headers, which are not known"));
    }
    let claims = checked_signature(app, client, assertion, &header, asking).await?;
    let now = app.clock.now();
    let ends = check_claims(app, client, &claims, now).map_err(Refused::Wrong)?;
    let jti = claims.jti.as_deref().unwrap_or_default();
    let mut db = app.db.acquire().await?;
    if use_once(&mut db, &client.id, jti, ends + LEEWAY).await? {
        Ok(())
    } else {
        Err(Refused::Wrong(
            "was shown before; make a new one, with its own jti, for each request",
        ))
    }
}

/// The claims, if one of the client's keys signed them. A key that is not known makes us look for
/// new ones.
async fn checked_signature(
    app: &App,
    client: &Client,
    assertion: &str,
    header: &Header,
    asking: IpAddr,
) -> Result<Claims, Refused> {
    for newer in [false, true] {
        let set = key_set(app, client, asking, newer).await?;
        if let Some(claims) = signed_by_one_of(&set, assertion, header) {
            return claims;
        }
        if client.jwks_uri.is_none() {
            break;
        }
    }
    Err(Refused::Wrong(
        "is not signed by a key of the client; look at its kid, and at the client's jwks or jwks_uri",
    ))
}

async fn key_set(
    app: &App,
    client: &Client,
    asking: IpAddr,
    newer: bool,
) -> Result<Value, Refused> {
    match (&client.jwks, &client.jwks_uri) {
        (Some(set), _) => Ok(set.clone()),
        (None, Some(url)) => {
            let now = app.clock.now();
            let keys = app.documents.keys(url, asking, newer, now).await;
            keys.map_err(|error| match error {
                Unresolved::Unusable(why) => Refused::Keys(why),
                Unresolved::Away(why) => Refused::Failed(Error::Unavailable(why)),
                Unresolved::Failed(error) => Refused::Failed(error),
                Unresolved::Unknown => Refused::Wrong("names keys that are not there"),
            })
        }
        (None, None) => Err(Refused::Wrong("is not how this client shows who it is")),
    }
}

/// `None` when no key fits; an error when one does and the claims are not as they must be.
fn signed_by_one_of(
    set: &Value,
    assertion: &str,
    header: &Header,
) -> Option<Result<Claims, Refused>> {
    let mut rules = Validation::new(header.alg);
    // Time and names are checked afterwards, by our clock and with a reason each.
    rules.validate_exp = false;
    rules.validate_aud = false;
    rules.required_spec_claims.clear();
    let signed = keys::candidates(set, header)
        .iter()
        .find_map(|key| jsonwebtoken::decode::<Value>(assertion, key, &rules).ok())?;
    Some(serde_json::from_value(signed.claims).map_err(|_| {
        Refused::Wrong(
            "needs the claims iss, sub, aud, exp and jti, as RFC 7523 section 3 has them",
        )
    }))
}

/// RFC 7523 section 3; gives back when the assertion ends.
fn check_claims(
    app: &App,
    client: &Client,
    claims: &Claims,
    now: OffsetDateTime,
) -> Result<OffsetDateTime, &'static str> {
    if claims.iss != client.id || claims.sub != client.id {
        return Err("must have the client_id as iss and sub");
    }
    let issuer = app.config.issuer();
    let token_endpoint = format!("{issuer}/oauth/token");
    let ours = |audience: &String| *audience == issuer || *audience == token_endpoint;
    let for_us = match &claims.aud {
        Audience::One(audience) => ours(audience),
        Audience::Many(audiences) => audiences.iter().any(ours),
    };
    if !for_us {
        return Err("must have the issuer or the URL of the token endpoint as aud");
    }
    if claims.jti.as_deref().unwrap_or_default().is_empty() {
        return Err("needs a jti, so that it can be used once only");
    }
    let ends = instant(claims.exp).ok_or("has no usable exp")?;
    if ends <= now - LEEWAY {
        return Err("has expired; make one for each request, and look at the clock");
    }
    if ends > now + LONGEST + LEEWAY {
        return Err("must expire within 10 minutes");
    }
    if let Some(begins) = claims.nbf
        && instant(begins).is_none_or(|begins| begins > now + LEEWAY)
    {
        return Err("is not valid yet; look at the clock");
    }
    Ok(ends)
}

/// RFC 7519 section 2, NumericDate: seconds, which may have a fraction.
fn instant(seconds: f64) -> Option<OffsetDateTime> {
    let since = Duration::checked_seconds_f64(seconds)?;
    OffsetDateTime::UNIX_EPOCH.checked_add(since)
}

/// Notes an assertion; `false` when it was noted before.
async fn use_once(
    db: &mut PgConnection,
    client: &str,
    jti: &str,
    until: OffsetDateTime,
) -> Result<bool> {
    let noted = sqlx::query!(
        "insert into client_assertions (client_id, jti_hash, expires_at) values ($1, $2, $3)
         on conflict do nothing",
        client,
        sha256(jti),
        until,
    )
    .execute(db)
    .await?;
    Ok(noted.rows_affected() == 1)
}

/// Forgets assertions that nobody could show again.
pub(super) async fn purge_expired(db: &mut PgConnection, now: OffsetDateTime) -> Result<()> {
    sqlx::query!("delete from client_assertions where expires_at < $1", now)
        .execute(db)
        .await?;
    Ok(())
}
