//! One's own account: how one signs in.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect};
use serde::Deserialize;

use super::error::{PageResult, page};
use super::tokens::Nothing;
use super::view::{Done, Moment, Shell, toward};
use crate::app::App;
use crate::error::{Error, Result};
use crate::github::attempts::Purpose;
use crate::github::{authorize, identities, registration};
use crate::signin::{CsrfForm, SignedIn, admit_attempt, forget_attempts, new_password};
use crate::users::{self, password};

#[derive(Template)]
#[template(path = "account.html")]
struct Account {
    shell: Shell,
    name: String,
    has_password: bool,
    /// Characters that a new password has at least.
    least: usize,
    current_problem: Option<String>,
    password_problem: Option<String>,
    /// Whether there is an App to sign in by.
    github: bool,
    identity: Option<(String, Moment)>,
}

impl Account {
    async fn load(app: &App, person: &SignedIn) -> Result<Self> {
        let mut db = app.db.acquire().await?;
        let now = app.clock.now();
        let identity = identities::find_of(&mut db, person.user.id).await?;
        Ok(Self {
            shell: Shell::new(person, "account"),
            name: person.user.name.clone(),
            has_password: users::has_password(&mut db, person.user.id).await?,
            least: password::MIN_LENGTH,
            current_problem: None,
            password_problem: None,
            github: registration::exists(&mut db).await?,
            identity: identity.map(|it| (it.login, Moment::new(it.linked_at, now))),
        })
    }

    fn answer(&self, app: &App, status: StatusCode) -> PageResult {
        toward(page(status, self), &app.config.github_origin())
    }
}

/// `GET /account`
pub async fn show(
    State(app): State<App>,
    person: SignedIn,
    Query(done): Query<Done>,
) -> PageResult {
    let mut template = Account::load(&app, &person).await?;
    template.shell = template.shell.after(&done);
    template.answer(&app, StatusCode::OK)
}

/// What the form of another password sends.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Passwords {
    current: String,
    password: String,
}

/// `POST /account/password`. Attempts count as those to sign in do: whoever finds a browser open has no
/// more of them.
pub async fn change_password(
    State(app): State<App>,
    person: SignedIn,
    headers: HeaderMap,
    CsrfForm(form): CsrfForm<Passwords>,
) -> PageResult {
    let user = &person.user;
    admit_attempt(&app, &headers, &user.email)?;
    let changed =
        new_password::change(&app, &person.session, user, form.current, form.password).await;
    let fields = match changed {
        Ok(()) => {
            forget_attempts(&app, &headers, &user.email);
            return Ok(Redirect::to("/account?done=password").into_response());
        }
        Err(Error::Invalid(fields)) => fields,
        Err(error) => return Err(error.into()),
    };
    let mut template = Account::load(&app, &person).await?;
    for field in fields {
        let slot = match field.name {
            "current" => &mut template.current_problem,
            _ => &mut template.password_problem,
        };
        *slot = Some(field.message);
    }
    template.answer(&app, StatusCode::UNPROCESSABLE_ENTITY)
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
