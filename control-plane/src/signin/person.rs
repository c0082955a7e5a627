//! Who is signed in.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderValue, Method, StatusCode};
use tower_sessions::Session;
use uuid::Uuid;

use super::sessions::{USER, internal};
use super::{csrf, next};
use crate::app::App;
use crate::audit::Actor;
use crate::error::{Error, Result};
use crate::pages::PageError;
use crate::users::{self, User};

/// Someone who is signed in, for pages. Sends everyone else to sign in and back.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// The person.
    pub user: User,
    /// The session's CSRF token, for the page's forms.
    pub csrf: String,
    /// The session itself.
    pub session: Session,
}

impl SignedIn {
    /// For the audit log.
    pub fn actor(&self) -> Actor {
        Actor::User(self.user.id)
    }
}

/// Why there is no [`SignedIn`].
#[derive(Debug)]
pub enum Refusal {
    /// Nobody is signed in; this is the way there and back.
    SignIn {
        /// `/signin?next=…`
        url: String,
        /// A script asked, which cannot follow a redirect to a page.
        script: bool,
    },
    /// It could not be found out.
    Failed(PageError),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::SignIn { url, script: false } => Redirect::to(&url).into_response(),
            // htmx follows this header with the whole page.
            Self::SignIn { url, script: true } => {
                let mut response = StatusCode::UNAUTHORIZED.into_response();
                if let Ok(url) = HeaderValue::try_from(url) {
                    response.headers_mut().insert("hx-redirect", url);
                }
                response
            }
            Self::Failed(failure) => failure.into_response(),
        }
    }
}

impl FromRequestParts<App> for SignedIn {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let failed = |error: Error| Refusal::Failed(PageError(error));
        let Some(user) = find_session_user(parts, app).await.map_err(failed)? else {
            return Err(sign_in_first(parts));
        };
        let session = parts
            .extensions
            .get::<Session>()
            .cloned()
            .expect("a session's user was just found");
        let csrf = csrf::token(&session).await.map_err(failed)?;
        Ok(Self {
            user,
            csrf,
            session,
        })
    }
}

fn sign_in_first(parts: &Parts) -> Refusal {
    let path = if parts.method == Method::GET {
        parts
            .uri
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str)
    } else {
        "/"
    };
    Refusal::SignIn {
        url: next::signin_url(path),
        script: parts.headers.contains_key("hx-request"),
    }
}

/// The person of the request's session; `None` when nobody is signed in. Needs the session layer.
pub async fn find_session_user(parts: &Parts, app: &App) -> Result<Option<User>> {
    let session = parts.extensions.get::<Session>().ok_or_else(|| {
        Error::Internal(anyhow::anyhow!("this route is outside the session layer"))
    })?;
    find_user(session, app).await
}

/// The person of a session.
pub async fn find_user(session: &Session, app: &App) -> Result<Option<User>> {
    let Some(id) = session.get::<Uuid>(USER).await.map_err(internal)? else {
        return Ok(None);
    };
    let mut db = app.db.acquire().await?;
    users::find(&mut db, id).await
}
