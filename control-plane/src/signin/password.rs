//! Signing in with a password: `GET` and `POST /signin`.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use tower_sessions::Session;

use super::attempts::{admit_attempt, forget_attempts};
use super::csrf::{self, CsrfForm};
use super::page::page;
use super::{next, person, sessions};
use crate::app::App;
use crate::audit::{self, Actor};
use crate::error::Error;
use crate::github::registration;
use crate::oauth;
use crate::pages::PageError;
use crate::users::{self, User};

/// The page.
#[derive(Debug, Template)]
#[template(path = "signin/signin.html")]
struct SignIn<'a> {
    csrf: &'a str,
    next: &'a str,
    email: &'a str,
    problem: Option<&'a str>,
    /// Whether there is an App to sign in by.
    github: bool,
}

/// `?next=/path`.
#[derive(Debug, Deserialize)]
pub(super) struct Next {
    next: Option<String>,
}

/// What the page sends.
#[derive(Debug, Deserialize)]
pub(super) struct Credentials {
    #[serde(default)]
    email: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    next: Option<String>,
}

/// `GET /signin`: the form, or straight on for someone who is signed in.
pub(super) async fn show(
    State(app): State<App>,
    session: Session,
    Query(query): Query<Next>,
) -> Result<Response, PageError> {
    let next = next::safe(query.next.as_deref());
    if person::find_user(&session, &app).await?.is_some() {
        return Ok(Redirect::to(next).into_response());
    }
    form(&app, &session, next, "", None).await
}

/// `POST /signin`
pub(super) async fn sign_in(
    State(app): State<App>,
    session: Session,
    headers: HeaderMap,
    CsrfForm(form): CsrfForm<Credentials>,
) -> Result<Response, PageError> {
    let next = next::safe(form.next.as_deref());
    if let Err(error) = admit_attempt(&app, &headers, &form.email) {
        return refuse(&app, &session, next, &form.email, error).await;
    }
    let Some(user) = users::verify_password(&app.db, &form.email, form.password).await? else {
        let error =
            Error::Unauthorized("E-mail or password is wrong; check both and try again.".into());
        return refuse(&app, &session, next, &form.email, error).await;
    };
    forget_attempts(&app, &headers, &form.email);
    record(&app, &user).await?;
    sessions::establish(&session, &user).await?;
    oauth::signed_in(&app, &headers, next);
    Ok(Redirect::to(next).into_response())
}

async fn record(app: &App, user: &User) -> Result<(), Error> {
    let subject = serde_json::json!({ "with": "password" });
    let actor = Actor::User(user.id);
    let mut db = app.db.acquire().await?;
    audit::record_person(&mut db, &actor, "user.sign_in", subject, app.clock.now()).await
}

async fn refuse(
    app: &App,
    session: &Session,
    next: &str,
    email: &str,
    error: Error,
) -> Result<Response, PageError> {
    let status = match error {
        // 401 would need a challenge that browsers answer with a box of their own.
        Error::Unauthorized(_) => StatusCode::UNPROCESSABLE_ENTITY,
        ref other => other.status(),
    };
    let mut response = form(app, session, next, email, Some(&error.to_string())).await?;
    *response.status_mut() = status;
    if let Error::TooMany { retry_after } = error {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
    }
    Ok(response)
}

async fn form(
    app: &App,
    session: &Session,
    next: &str,
    email: &str,
    problem: Option<&str>,
) -> Result<Response, PageError> {
    let csrf = csrf::token(session).await?;
    // Signing in may go on to a client whose consent is remembered; the browser must let it.
    let form_action = oauth::form_action_after_sign_in(app, next).await?;
    let github = registration::exists(&mut *app.db.acquire().await?).await?;
    let sources: Vec<String> = form_action
        .into_iter()
        .chain(github.then(|| app.config.github_origin()))
        .collect();
    let form_action = (!sources.is_empty()).then(|| sources.join(" "));
    Ok(page(
        StatusCode::OK,
        &SignIn {
            csrf: &csrf,
            next,
            email,
            problem,
            github,
        },
        form_action.as_deref(),
    ))
}
