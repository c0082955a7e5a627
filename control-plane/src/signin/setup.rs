//! One-time links by which a password is set: `GET` and `POST /setup/{token}`.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use serde::Deserialize;
use tower_sessions::Session;

use super::csrf::{self, CsrfForm};
use super::page::{Problem, page};
use super::sessions;
use crate::app::App;
use crate::error::Error;
use crate::pages::PageError;
use crate::users;

/// The page.
#[derive(Debug, Template)]
#[template(path = "signin/setup.html")]
struct Setup<'a> {
    csrf: &'a str,
    token: &'a str,
    email: &'a str,
    least: usize,
    problem: Option<&'a str>,
}

/// What the page sends.
#[derive(Debug, Deserialize)]
pub(super) struct NewPassword {
    #[serde(default)]
    password: String,
}

/// `GET /setup/{token}`: looking does not use the link up.
pub(super) async fn show(
    State(app): State<App>,
    session: Session,
    Path(token): Path<String>,
) -> Result<Response, PageError> {
    form(&app, &session, &token, None).await
}

/// `POST /setup/{token}`: sets the password, uses the link up and signs in.
pub(super) async fn set_password(
    State(app): State<App>,
    session: Session,
    Path(token): Path<String>,
    CsrfForm(new): CsrfForm<NewPassword>,
) -> Result<Response, PageError> {
    let mut tx = app.db.begin().await?;
    match users::use_setup_link(&mut tx, &token, new.password, app.clock.now()).await {
        Ok(Some(user)) => {
            // None that came of an earlier password lasts, whenever it began.
            sessions::end_of(&mut tx, user.id).await?;
            tx.commit().await?;
            sessions::establish(&session, &user).await?;
            Ok(Redirect::to("/").into_response())
        }
        Ok(None) => Ok(over()),
        Err(error @ Error::Invalid(_)) => {
            drop(tx);
            let mut response = form(&app, &session, &token, Some(&error.to_string())).await?;
            *response.status_mut() = error.status();
            Ok(response)
        }
        Err(error) => Err(error.into()),
    }
}

async fn form(
    app: &App,
    session: &Session,
    token: &str,
    problem: Option<&str>,
) -> Result<Response, PageError> {
    let mut db = app.db.acquire().await?;
    let Some(user) = users::find_setup_link(&mut db, token, app.clock.now()).await? else {
        return Ok(over());
    };
    drop(db);
    let csrf = csrf::token(session).await?;
    let template = Setup {
        csrf: &csrf,
        token,
        email: &user.email,
        least: users::password::MIN_LENGTH,
        problem,
    };
    Ok(page(StatusCode::OK, &template, None))
}

fn over() -> Response {
    let template = Problem {
        title: "This link no longer works",
        message: "It was used before or is too old. Sign in with your password, or ask an admin of \
                  your organization for a new link; the owner runs `berth admin setup-link` on the \
                  machine, or `berth admin reset-password EMAIL` for who has forgotten theirs.",
    };
    page(StatusCode::NOT_FOUND, &template, None)
}
