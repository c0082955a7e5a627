//! Access tokens: JWTs that edges check without asking anyone (RFC 9068).

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::access::{self, Mode};
use crate::app::App;
use crate::clients::CLI_CLIENT;
use crate::error::{Error, Result};
use crate::grants::{ACCESS_TOKEN_LIFETIME, Grant, NewGrant, standing};
use crate::ids;
use crate::projects::Project;
use crate::routes::SCOPE;

/// What an edge reads (RFC 9068 section 2.2).
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Claims {
    /// Who issued it: this platform.
    pub(super) iss: String,
    /// The project's MCP URL.
    pub(super) aud: String,
    /// Whose calls they are.
    pub(super) sub: Uuid,
    /// The client that calls.
    pub(super) client_id: String,
    /// Space-separated scopes.
    pub(super) scope: String,
    /// Names this token.
    pub(super) jti: Uuid,
    /// The grant, so that an edge can refuse what was revoked.
    pub(super) gid: Uuid,
    /// The project: its name may pass to another one, and with it the audience.
    pub(super) pid: Uuid,
    /// When it was issued, Unix seconds.
    pub(super) iat: i64,
    /// When it ends, Unix seconds.
    pub(super) exp: i64,
}

/// A token as it is handed out.
#[derive(Debug)]
pub struct AccessToken {
    /// The token.
    pub access_token: String,
    /// How long it is good, in seconds.
    pub expires_in: i64,
}

/// Signs a token of a grant, with all its scopes or fewer, which ends with its client at `end`.
pub(super) fn mint(
    app: &App,
    grant: &Grant,
    scope: &str,
    end: Option<OffsetDateTime>,
) -> Result<AccessToken> {
    let now = app.clock.now();
    let usual = now + ACCESS_TOKEN_LIFETIME;
    let end = end.map_or(usual, |end| end.min(usual));
    let access_token = app.keys.sign(&Claims {
        iss: app.config.issuer(),
        aud: grant.resource.clone(),
        sub: grant.user_id,
        client_id: grant.client_id.clone(),
        scope: scope.to_owned(),
        jti: ids::new_id(),
        gid: grant.id,
        pid: grant.project_id,
        iat: now.unix_timestamp(),
        exp: end.unix_timestamp(),
    })?;
    Ok(AccessToken {
        access_token,
        expires_in: (end - now).whole_seconds(),
    })
}

/// The claims of a token that we signed, expired or not; `None` for everything else.
pub(super) fn read(app: &App, token: &str) -> Option<Claims> {
    let header = jsonwebtoken::decode_header(token).ok()?;
    if header.typ.as_deref() != Some("at+jwt") {
        return None;
    }
    let keys: JwkSet = serde_json::from_value(app.keys.jwks()).ok()?;
    let key = DecodingKey::from_jwk(keys.find(&header.kid?)?).ok()?;
    let mut rules = Validation::new(Algorithm::ES256);
    // Whoever asks compares the end with our clock, and the audience with what it wants.
    rules.validate_exp = false;
    rules.validate_aud = false;
    rules.set_issuer(&[app.config.issuer()]);
    jsonwebtoken::decode(token, &key, &rules)
        .ok()
        .map(|data| data.claims)
}

/// A token for someone who is signed in by other means, on a project they may see: what `berth
/// call` shows. Fails when they may not call it, or when it takes no tokens of ours.
pub async fn mint_for_person(
    app: &App,
    db: &mut PgConnection,
    user: Uuid,
    project: &Project,
) -> Result<AccessToken> {
    if access::mode_of(db, project.id).await? != Mode::Platform {
        return Err(Error::Conflict(format!(
            "{} takes no tokens of Berth, since its access mode is not platform; call its URL without one.",
            project.name
        )));
    }
    if !access::may_call(db, user, project.id).await? {
        return Err(Error::Forbidden(format!(
            "You may look at {0} but not call it; ask an owner of the organization to allow you under Access of {0}.",
            project.name
        )));
    }
    let resource = app.config.project_url(&project.name);
    let new = NewGrant {
        user,
        client_id: CLI_CLIENT,
        project,
        resource: &resource,
        scope: SCOPE,
    };
    let grant = standing::ensure(db, new, app.clock.now()).await?;
    mint(app, &grant, &grant.scope, None)
}
