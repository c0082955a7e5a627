//! Access tokens: JWTs that edges check without asking anyone (RFC 9068).

use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::app::App;
use crate::error::Result;
use crate::grants::{self, ACCESS_TOKEN_LIFETIME, Grant};
use crate::ids;
use crate::projects::Project;

/// What an edge reads (RFC 9068 section 2.2).
#[derive(Debug, Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: Uuid,
    client_id: &'a str,
    scope: &'a str,
    jti: Uuid,
    /// The grant, so that an edge can refuse what was revoked.
    gid: Uuid,
    /// The project: its name may pass to another one, and with it the audience.
    pid: Uuid,
    iat: i64,
    exp: i64,
}

/// A token as it is handed out.
#[derive(Debug)]
pub struct AccessToken {
    /// The token.
    pub access_token: String,
    /// How long it is good, in seconds.
    pub expires_in: i64,
}

/// Signs a token of a grant.
pub(super) fn mint(app: &App, grant: &Grant) -> Result<AccessToken> {
    let now = app.clock.now();
    let access_token = app.keys.sign(&Claims {
        iss: &app.config.issuer(),
        aud: &grant.resource,
        sub: grant.user_id,
        client_id: &grant.client_id,
        scope: &grant.scope,
        jti: ids::new_id(),
        gid: grant.id,
        pid: grant.project_id,
        iat: now.unix_timestamp(),
        exp: (now + ACCESS_TOKEN_LIFETIME).unix_timestamp(),
    })?;
    Ok(AccessToken {
        access_token,
        expires_in: ACCESS_TOKEN_LIFETIME.whole_seconds(),
    })
}

/// A token for someone who is signed in by other means, on a project they belong to: what
/// `berth call` shows. The caller has checked that they belong to it.
pub async fn mint_for_person(
    app: &App,
    db: &mut PgConnection,
    user: Uuid,
    project: &Project,
) -> Result<AccessToken> {
    let resource = app.config.project_url(&project.name);
    let grant = grants::ensure_cli(db, user, project, &resource, app.clock.now()).await?;
    mint(app, &grant)
}
