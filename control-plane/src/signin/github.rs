//! Signing in with GitHub: `POST /signin/github`, and `GET /github/callback`, where everyone comes
//! back who was sent to GitHub to say who they are.

use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json;
use sqlx::PgConnection;
use tower_sessions::Session;
use uuid::Uuid;

use super::creating::Coming;
use super::csrf::CsrfForm;
use super::page::{Problem, page};
use super::{admit_address, next, person, sessions};
use crate::app::App;
use crate::audit::{self, Actor};
use crate::config::Secret;
use crate::error::{Error, Result};
use crate::github::attempts::{self, Purpose};
use crate::github::registration::{self, Registration};
use crate::github::rest::Account;
use crate::github::{authorize, identities, proofs, rest};
use crate::pages::PageError;
use crate::users::{self, User};
use crate::{oauth, organizations, projects};

/// What the sign-in page sends.
#[derive(Debug, Deserialize)]
pub(super) struct Begin {
    #[serde(default)]
    next: Option<String>,
}

/// `POST /signin/github`: sends the browser to GitHub.
pub(super) async fn begin(
    State(app): State<App>,
    session: Session,
    headers: HeaderMap,
    CsrfForm(form): CsrfForm<Begin>,
) -> Result<Response, PageError> {
    admit_address(&app, &headers)?;
    let purpose = Purpose::SignIn {
        next: next::safe(form.next.as_deref()).to_owned(),
    };
    let mut db = app.db.acquire().await?;
    let registration = registration::get(&mut db, &app.kek).await?;
    let url = authorize::begin(&app, &mut db, &registration, &session, &purpose).await?;
    Ok(Redirect::to(&url).into_response())
}

/// What GitHub brings (RFC 6749 section 4.1.2).
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    #[serde(default)]
    state: String,
    code: Option<String>,
    error: Option<String>,
}

/// `GET /github/callback`
pub(super) async fn come_back(
    State(app): State<App>,
    session: Session,
    headers: HeaderMap,
    Query(answer): Query<Answer>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let mut db = app.db.acquire().await?;
    let attempt = attempts::finish(&mut db, &app.kek, &session, &answer.state, now).await?;
    let registration = registration::get(&mut db, &app.kek).await?;
    // GitHub is asked next; nobody else should wait for that.
    drop(db);
    let (Some(code), None, Some(verifier)) = (answer.code, answer.error, attempt.verifier) else {
        return Ok(problem(
            StatusCode::FORBIDDEN,
            "GitHub did not say who you are",
            "You declined at GitHub, or it refused; go back and begin again.",
        ));
    };
    let token = authorize::exchange(&app, &registration, &code, verifier)
        .await
        .map_err(Error::from)?;
    match attempt.purpose {
        Purpose::SignIn { next } => {
            sign_in(&app, &session, &headers, &registration, &token, &next).await
        }
        Purpose::Link { user } => link(&app, &session, &token, user).await,
        Purpose::Connect { user, organization } => {
            let same = is_still(&app, &session, user).await?;
            bring(&app, &registration, &token, same.id, organization).await?;
            Ok(Redirect::to("/github?done=saved").into_response())
        }
        Purpose::CreateRepository {
            user,
            organization,
            order,
        } => {
            let coming = Coming {
                app: &app,
                session: &session,
                registration: &registration,
                token: &token,
                user: is_still(&app, &session, user).await?.id,
                organization,
            };
            coming.create(order).await
        }
        Purpose::Create { .. } | Purpose::Install { .. } => {
            Err(Error::Conflict("This answer from GitHub is not for this page.".into()).into())
        }
    }
}

async fn sign_in(
    app: &App,
    session: &Session,
    headers: &HeaderMap,
    registration: &Registration,
    token: &Secret,
    next: &str,
) -> Result<Response, PageError> {
    let account = rest::person(app, token).await.map_err(Error::from)?;
    let known = identities::find_person(&mut *app.db.acquire().await?, &account).await?;
    let user = match known {
        Some(user) => user,
        None if identities::may_sign_up(app, registration, token, &account).await? => {
            sign_up(app, &account).await?
        }
        None => {
            return Ok(problem(
                StatusCode::FORBIDDEN,
                "GitHub knows you, this platform does not",
                "Sign in with your password and connect your account at GitHub on the page Account; or ask the operator to let you sign up.",
            ));
        }
    };
    let subject = json!({ "with": "github" });
    let actor = Actor::User(user.id);
    let mut db = app.db.acquire().await?;
    audit::record_person(&mut db, &actor, "user.sign_in", subject, app.clock.now()).await?;
    drop(db);
    sessions::establish(session, &user).await?;
    let next = next::safe(Some(next));
    oauth::signed_in(app, headers, next);
    Ok(Redirect::to(next).into_response())
}

async fn sign_up(app: &App, account: &Account) -> Result<User> {
    let mut tx = app.db.begin().await?;
    let user = identities::sign_up(&mut tx, account, app.clock.now()).await?;
    tx.commit().await?;
    Ok(user)
}

/// The person who began, if they are still the one who is signed in.
async fn is_still(app: &App, session: &Session, user: Uuid) -> Result<User> {
    person::find_user(session, app)
        .await?
        .filter(|present| present.id == user)
        .ok_or_else(|| {
            Error::Forbidden(
                "Somebody else is signed in now than who went to GitHub; begin again.".into(),
            )
        })
}

async fn link(
    app: &App,
    session: &Session,
    token: &Secret,
    user: Uuid,
) -> Result<Response, PageError> {
    let user = is_still(app, session, user).await?;
    let account = rest::person(app, token).await.map_err(Error::from)?;
    let mut tx = app.db.begin().await?;
    let now = app.clock.now();
    // GitHub took its time: whose way in was reset meanwhile is not tied to what somebody else brought.
    users::lock(&mut tx, user.id).await?;
    let alive = match session.id() {
        Some(id) => sessions::is_alive(&mut tx, &id, now).await?,
        None => false,
    };
    if !alive {
        return Err(Error::Forbidden(
            "You were signed out meanwhile; sign in, and begin again.".into(),
        )
        .into());
    }
    identities::link(&mut tx, user.id, &account, now).await?;
    tx.commit().await?;
    Ok(Redirect::to("/account?done=saved").into_response())
}

/// Lets an organization use what a person shows GitHub to be theirs.
pub(super) async fn bring(
    app: &App,
    registration: &Registration,
    token: &Secret,
    user: Uuid,
    organization: Uuid,
) -> Result<()> {
    let proof = proofs::prove(app, registration.id, token)
        .await
        .map_err(Error::from)?;
    let mut tx = app.db.begin().await?;
    check_may_connect(&mut tx, user, organization).await?;
    proofs::connect(&mut tx, organization, user, &proof, app.clock.now()).await?;
    tx.commit().await?;
    Ok(())
}

/// Refuses who may not connect repositories for an organization: they may have lost their role
/// since they went to GitHub.
pub(super) async fn check_may_connect(
    db: &mut PgConnection,
    user: Uuid,
    organization: Uuid,
) -> Result<()> {
    let role = organizations::role_of(db, user, organization).await?;
    if role.is_some_and(|role| projects::may_change(&role)) {
        return Ok(());
    }
    Err(Error::Forbidden(
        "You may not connect repositories for this organization; ask one of its admins.".into(),
    ))
}

fn problem(status: StatusCode, title: &str, message: &str) -> Response {
    page(status, &Problem { title, message }, None)
}
