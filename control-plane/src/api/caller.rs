//! Who calls the API: an API token, or a person's browser session.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Method, header};
use sqlx::PgConnection;
use time::OffsetDateTime;
use tower_sessions::Session;
use tower_sessions::session::Id;
use uuid::Uuid;

use super::problem::ApiError;
use crate::api_tokens;
use crate::app::App;
use crate::audit::Actor;
use crate::error::{Error, Result};
use crate::signin;
use crate::users::User;

/// Someone who may use the API.
#[derive(Debug)]
pub struct Caller {
    /// The person, whose access decides.
    pub user: User,
    /// For the audit log: the token or the person.
    pub actor: Actor,
    /// What they showed.
    pub credential: Credential,
    /// When the token they showed ends: what it creates must not outlive it.
    pub expires_at: Option<OffsetDateTime>,
}

/// What a caller showed, to look at again while a long answer goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// An API token.
    Token(Uuid),
    /// A browser session.
    Session(Id),
}

impl Credential {
    /// Whether it would still be accepted. Looking does not keep a session alive.
    pub async fn still_works(&self, db: &mut PgConnection, now: OffsetDateTime) -> Result<bool> {
        match self {
            Self::Token(id) => api_tokens::still_works(db, *id, now).await,
            Self::Session(id) => signin::sessions::is_alive(db, id, now).await,
        }
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let shown = parts
            .headers
            .get(header::AUTHORIZATION)
            .map(|value| value.to_str().unwrap_or_default());
        match shown {
            Some(value) => by_token(app, value).await,
            None => by_session(parts, app).await,
        }
    }
}

async fn by_token(app: &App, value: &str) -> Result<Caller, ApiError> {
    // RFC 7235 section 2.1: the scheme's case does not matter.
    let token = value
        .split_once(' ')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map_or("", |(_, token)| token.trim());
    let mut db = app.db.acquire().await?;
    let found = api_tokens::authenticate(&mut db, token, app.clock.now()).await?.ok_or_else(|| {
        Error::Unauthorized(
            "This API token is unknown, expired or revoked; create one with `berth tokens create` or on the Tokens page."
                .into(),
        )
    })?;
    if found.only_calls {
        return Err(Error::Forbidden(
            "This token is good for calls of MCP servers only; use one that is good for everything, or run `berth login`."
                .into(),
        )
        .into());
    }
    Ok(Caller {
        user: found.user,
        actor: Actor::ApiToken(found.token),
        credential: Credential::Token(found.token),
        expires_at: found.expires_at,
    })
}

/// A session is sent by the browser unasked, so a change must also show the page's CSRF token.
async fn by_session(parts: &mut Parts, app: &App) -> Result<Caller, ApiError> {
    let safe = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    let session = signin::find_session_user(parts, app).await?;
    let id = parts.extensions.get().and_then(Session::id);
    let (Some(user), Some(id)) = (session, id) else {
        return Err(Error::Unauthorized(
            "Sign in first: send `Authorization: Bearer brt_…`, or run `berth login`.".into(),
        )
        .into());
    };
    if !safe {
        signin::check_csrf_header(parts, app).await?;
    }
    Ok(Caller {
        actor: Actor::User(user.id),
        user,
        credential: Credential::Session(id),
        expires_at: None,
    })
}
