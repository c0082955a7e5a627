//! `GET /oauth/authorize` (RFC 6749 section 3.1). Looking changes nothing: clients ask for the
//! very same URL before they open the browser on it.

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use tower_sessions::Session;

use super::consent::{Pending, Visitor};
use super::limits::Asker;
use super::parameters::Parameters;
use super::redirect_uri;
use super::request::{AuthorizationRequest, Refused, Target, prove};
use super::timeline::{Observer, of_authorization};
use crate::access;
use crate::app::App;
use crate::connections::Step;
use crate::error::Result;
use crate::signin::{next, person};

/// This endpoint's path.
const PATH: &str = "/oauth/authorize";

/// Answers with a code where the person allowed this before, and asks them otherwise.
pub(super) async fn authorize(
    State(app): State<App>,
    session: Session,
    asker: Asker,
    observer: Observer,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    match answer(&app, &session, &asker, &observer, &query).await {
        Ok(response) => response,
        Err(refused) => {
            let step = match refused {
                Refused::Unusable(_) => Step::ClientDocument,
                _ => Step::Authorize,
            };
            let parameters = Parameters::parse(query.as_bytes());
            let seen = observer.asked(step, &parameters);
            observer.note_failed(seen, of_authorization(&refused, &parameters));
            refused.respond(&app.config)
        }
    }
}

async fn answer(
    app: &App,
    session: &Session,
    asker: &Asker,
    observer: &Observer,
    query: &str,
) -> Result<Response, Refused> {
    asker.admit_authorization()?;
    let user = person::find_user(session, app).await?;
    let request = AuthorizationRequest::read(app, asker.address(), query).await?;
    let asked = |step| observer.asked(step, &Parameters::parse(query.as_bytes()));
    observer.note(asked(Step::Authorize));
    let again = format!("{PATH}?{query}");
    let Some(user) = user else {
        if request.prompt_none {
            return Err(request.refuse("login_required", "nobody is signed in"));
        }
        return Ok(Redirect::to(&next::signin_url(&again)).into_response());
    };
    let mut db = app.db.acquire().await?;
    if let Target::Server(server) = &request.target
        && !access::may_call(&mut db, user.id, server.project.id).await?
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
        let response = pending.allow(app).await?;
        observer.note(asked(Step::Consent).user(user.id).detail("allowed before"));
        return Ok(response);
    }
    if never_ask {
        return Err(pending.refuse("consent_required", "the person has not allowed this yet"));
    }
    let visitor = Visitor {
        session,
        email: &user.email,
        again: &again,
    };
    observer.note(pending.told(observer.step(Step::ConsentShown)));
    pending.ask(app, &visitor).await
}

/// The query of an authorization request of ours.
pub(super) fn query_of(path: &str) -> Option<&str> {
    path.strip_prefix(PATH)?.strip_prefix('?')
}

/// Where a browser may end up when signing in goes on to `next`: the client's place, if `next` is
/// an authorization request with a proven one. For the sign-in page's policy.
pub async fn form_action_after_sign_in(app: &App, next: &str) -> Result<Option<String>> {
    let Some(query) = query_of(next) else {
        return Ok(None);
    };
    match prove(app, None, &Parameters::parse(query.as_bytes())).await {
        Ok(proven) => Ok(redirect_uri::source(&proven.redirect_uri)),
        Err(Refused::Failed(error)) => Err(error),
        Err(_) => Ok(None),
    }
}
