//! `GET /oauth/authorize` (RFC 6749 section 3.1). Looking changes nothing: clients ask for the
//! very same URL before they open the browser on it.

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use tower_sessions::Session;

use super::consent::Pending;
use super::parameters::Parameters;
use super::redirect_uri;
use super::request::{AuthorizationRequest, Refused, Target, prove};
use crate::app::App;
use crate::error::Result;
use crate::organizations;
use crate::signin::{next, person};

/// This endpoint's path.
const PATH: &str = "/oauth/authorize";

/// Answers with a code where the person allowed this before, and asks them otherwise.
pub(super) async fn authorize(
    State(app): State<App>,
    session: Session,
    RawQuery(query): RawQuery,
) -> Response {
    match answer(&app, &session, &query.unwrap_or_default()).await {
        Ok(response) => response,
        Err(refused) => refused.respond(&app.config),
    }
}

async fn answer(app: &App, session: &Session, query: &str) -> Result<Response, Refused> {
    let user = person::find_user(session, app).await?;
    let mut db = app.db.acquire().await?;
    let request = AuthorizationRequest::read(app, &mut db, query).await?;
    let Some(user) = user else {
        if request.prompt_none {
            return Err(request.refuse("login_required", "nobody is signed in"));
        }
        return Ok(Redirect::to(&next::signin_url(&format!("{PATH}?{query}"))).into_response());
    };
    if let Target::Project(project) = &request.target
        && organizations::role_of(&mut db, user.id, project.organization_id)
            .await?
            .is_none()
    {
        return Err(request.refuse(
            "access_denied",
            "the person who is signed in has no access to this MCP server",
        ));
    }
    let (ask, never_ask) = (request.prompt_consent, request.prompt_none);
    let pending = Pending::new(request, user.id, app);
    let remembered = pending.is_remembered(&mut db).await?;
    drop(db);
    if remembered && !ask {
        return pending.allow(app).await;
    }
    if never_ask {
        return Err(pending.refuse("consent_required", "the person has not allowed this yet"));
    }
    pending.ask(app, session, &user).await
}

/// Where a browser may end up when signing in goes on to `next`: the client's place, if `next` is
/// an authorization request with a proven one. For the sign-in page's policy.
pub async fn form_action_after_sign_in(app: &App, next: &str) -> Result<Option<String>> {
    let Some(query) = next
        .strip_prefix(PATH)
        .and_then(|rest| rest.strip_prefix('?'))
    else {
        return Ok(None);
    };
    let mut db = app.db.acquire().await?;
    match prove(&mut db, &Parameters::parse(query.as_bytes())).await {
        Ok(proven) => Ok(redirect_uri::source(&proven.redirect_uri)),
        Err(Refused::Failed(error)) => Err(error),
        Err(_) => Ok(None),
    }
}
