//! A person's API tokens: create (shown once), list, revoke.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use serde::Deserialize;
use uuid::Uuid;

use super::error::{PageResult, page};
use super::token_form::{Created, Form, Row, rows};
use super::view::{Done, Shell};
use crate::api_tokens;
use crate::app::App;
use crate::error::Result;
use crate::signin::{CsrfForm, SignedIn};

#[derive(Template)]
#[template(path = "tokens.html")]
struct Tokens {
    shell: Shell,
    /// Where the forms are sent.
    base: &'static str,
    list: Vec<Row>,
    form: Form,
    created: Option<Created>,
}

impl Tokens {
    async fn load(app: &App, person: &SignedIn) -> Result<Self> {
        let mut db = app.db.acquire().await?;
        Ok(Self {
            shell: Shell::new(person, "tokens"),
            base: "/tokens",
            list: rows(&mut db, person.user.id, app.clock.now()).await?,
            form: Form::new(&mut db, person.user.id, true).await?,
            created: None,
        })
    }
}

/// `GET /tokens`
pub async fn show(
    State(app): State<App>,
    person: SignedIn,
    Query(done): Query<Done>,
) -> PageResult {
    let mut template = Tokens::load(&app, &person).await?;
    template.shell = template.shell.after(&done);
    page(StatusCode::OK, &template)
}

/// `POST /tokens`. Answers with the page itself and not with a redirect: the token is kept nowhere
/// from where the next page could take it.
pub async fn create(
    State(app): State<App>,
    person: SignedIn,
    CsrfForm(fields): CsrfForm<Vec<(String, String)>>,
) -> PageResult {
    let mut template = Tokens::load(&app, &person).await?;
    let created = template
        .form
        .create(&app, person.user.id, &person.actor(), fields)
        .await?;
    let Some(created) = created else {
        return page(StatusCode::UNPROCESSABLE_ENTITY, &template);
    };
    template = Tokens::load(&app, &person).await?;
    template.created = Some(created);
    page(StatusCode::CREATED, &template)
}

/// A form that has nothing but its CSRF token.
#[derive(Deserialize)]
pub struct Nothing {}

/// `POST /tokens/{token}/revoke`
pub async fn revoke(
    State(app): State<App>,
    person: SignedIn,
    Path(token): Path<Uuid>,
    CsrfForm(Nothing {}): CsrfForm<Nothing>,
) -> PageResult {
    let mut tx = app.db.begin().await?;
    api_tokens::revoke(
        &mut tx,
        person.user.id,
        token,
        &person.actor(),
        app.clock.now(),
    )
    .await?;
    tx.commit().await?;
    Ok(Redirect::to("/tokens?done=revoked").into_response())
}
