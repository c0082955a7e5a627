//! Who asks: tokens, and the JWTs that Apps sign.

use axum::http::HeaderMap;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;

use super::call::{Stop, Who, refused};
use super::state::{self, State};

/// The longest life of an App's JWT, in seconds (GitHub's documentation, "Generating a JSON Web Token
/// for a GitHub App").
const JWT_LIFETIME: i64 = 600;

/// Who stands behind an `Authorization` header.
pub fn authenticate(state: &State, headers: &HeaderMap) -> Result<Who, Stop> {
    let Some(header) = headers.get("authorization") else {
        return Ok(Who::Nobody);
    };
    let bad = || refused(401, "Bad credentials");
    let (scheme, value) = header
        .to_str()
        .ok()
        .and_then(|header| header.split_once(' '))
        .ok_or_else(bad)?;
    if scheme.eq_ignore_ascii_case("basic") {
        return client(state, value).ok_or_else(bad);
    }
    if !scheme.eq_ignore_ascii_case("bearer") && !scheme.eq_ignore_ascii_case("token") {
        return Err(bad());
    }
    if value.split('.').count() == 3 {
        return jwt(state, value).map(Who::App);
    }
    let now = state::now();
    if let Some(token) = state.tokens.get(value).filter(|one| one.expires_at > now) {
        let installation = state.installations.get(&token.installation);
        let installation = installation.ok_or_else(bad)?;
        if installation.suspended.is_some() {
            return Err(refused(403, "This installation has been suspended"));
        }
        return Ok(Who::Installation {
            id: token.installation,
            permissions: token.permissions.clone(),
            repositories: token.repositories.clone(),
        });
    }
    let user = state
        .user_tokens
        .get(value)
        .filter(|one| one.expires_at > now);
    let user = user.ok_or_else(bad)?;
    Ok(Who::User {
        user: user.user,
        app: user.app,
    })
}

fn client(state: &State, encoded: &str) -> Option<Who> {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    let app = state.apps.values().find(|app| app.client_id == id)?;
    (app.client_secret == secret).then_some(Who::Client(app.id))
}

/// Checks an App's JWT.
fn jwt(state: &State, token: &str) -> Result<u64, Stop> {
    use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
    let undecodable = || refused(401, "A JSON web token could not be decoded");
    let claims = token.split('.').nth(1).unwrap_or_default();
    let claims = BASE64_URL_SAFE_NO_PAD
        .decode(claims)
        .map_err(|_| undecodable())?;
    let claims: Value = serde_json::from_slice(&claims).map_err(|_| undecodable())?;
    let issuer = match &claims["iss"] {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err(undecodable()),
    };
    let app = state
        .apps
        .values()
        .find(|app| app.client_id == issuer || app.id.to_string() == issuer)
        .ok_or_else(|| refused(404, "Integration not found"))?;
    let mut validation = Validation::new(Algorithm::RS256);
    validation.leeway = 0;
    validation.validate_exp = false;
    validation.validate_aud = false;
    let key = DecodingKey::from_rsa_der(&app.public_key);
    jsonwebtoken::decode::<Value>(token, &key, &validation).map_err(|_| undecodable())?;
    let now = state::now().unix_timestamp();
    let expires = claims["exp"].as_i64().filter(|at| *at > now).ok_or_else(|| {
        refused(401, "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires")
    })?;
    if expires > now + JWT_LIFETIME {
        let message = "'Expiration time' claim ('exp') is too far in the future";
        return Err(refused(401, message));
    }
    if claims["iat"].as_i64().is_none_or(|at| at > now) {
        return Err(refused(
            401,
            "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
        ));
    }
    Ok(app.id)
}
