//! One's own account: how one signs in.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};

use super::error::{PageResult, page};
use super::tokens::Nothing;
use super::view::{Done, Moment, Shell, toward};
use crate::app::App;
use crate::github::attempts::Purpose;
use crate::github::{authorize, identities, registration};
use crate::signin::{CsrfForm, SignedIn};
use crate::users;

#[derive(Template)]
#[template(path = "account.html")]
struct Account {
    shell: Shell,
    name: String,
    has_password: bool,
    /// Whether there is an App to sign in by.
    github: bool,
    identity: Option<(String, Moment)>,
}

/// `GET /account`
pub async fn show(
    State(app): State<App>,
    person: SignedIn,
    Query(done): Query<Done>,
) -> PageResult {
    let mut db = app.db.acquire().await?;
    let now = app.clock.now();
    let identity = identities::find_of(&mut db, person.user.id).await?;
    let template = Account {
        shell: Shell::new(&person, "account").after(&done),
        name: person.user.name.clone(),
        has_password: users::has_password(&mut db, person.user.id).await?,
        github: registration::exists(&mut db).await?,
        identity: identity.map(|it| (it.login, Moment::new(it.linked_at, now))),
    };
    toward(page(StatusCode::OK, &template), &app.config.github_origin())
}

/// `POST /account/github`: sends the browser to GitHub. Only a form of ours begins this: a link
/// could tie an account that somebody else signed this browser in to.
pub async fn connect(
    State(app): State<App>,
    person: SignedIn,
    CsrfForm(Nothing {}): CsrfForm<Nothing>,
) -> PageResult {
    let mut db = app.db.acquire().await?;
    let registration = registration::get(&mut db, &app.kek).await?;
    let purpose = Purpose::Link {
        user: person.user.id,
    };
    let url = authorize::begin(&app, &mut db, &registration, &person.session, &purpose).await?;
    Ok(Redirect::to(&url).into_response())
}

/// `POST /account/github/disconnect`
pub async fn disconnect(
    State(app): State<App>,
    person: SignedIn,
    CsrfForm(Nothing {}): CsrfForm<Nothing>,
) -> PageResult {
    let mut tx = app.db.begin().await?;
    identities::unlink(&mut tx, person.user.id, app.clock.now()).await?;
    tx.commit().await?;
    Ok(Redirect::to("/account?done=removed").into_response())
}
