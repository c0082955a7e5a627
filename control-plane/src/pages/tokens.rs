//! API tokens: create (shown once), list, revoke.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use serde::Deserialize;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::error::{PageResult, page};
use super::view::{Done, Moment, Shell};
use crate::api_tokens;
use crate::app::App;
use crate::error::{Error, invalid};
use crate::signin::{CsrfForm, SignedIn};

/// Days a token may work, and how that is called. Empty means until it is revoked.
const LIFETIMES: [(&str, &str); 4] = [
    ("30", "30 days"),
    ("90", "90 days"),
    ("365", "a year"),
    ("", "until I revoke it"),
];

#[derive(Template)]
#[template(path = "tokens.html")]
struct Tokens {
    shell: Shell,
    list: Vec<Row>,
    lifetimes: &'static [(&'static str, &'static str)],
    form: Form,
    problem: Option<String>,
    created: Option<String>,
    login: String,
}

struct Row {
    id: Uuid,
    name: String,
    created: Moment,
    used: Option<Moment>,
    expires: Option<Moment>,
}

/// The form, as it is sent and as it comes back.
#[derive(Deserialize)]
#[serde(default)]
pub struct Form {
    name: String,
    days: String,
}

impl Default for Form {
    fn default() -> Self {
        Self {
            name: String::new(),
            days: "90".into(),
        }
    }
}

impl Form {
    /// When the token is to end.
    fn end(&self, now: OffsetDateTime) -> Result<Option<OffsetDateTime>, Error> {
        if self.days.is_empty() {
            return Ok(None);
        }
        let days: u16 = self
            .days
            .parse()
            .map_err(|_| invalid("days", "Choose how long the token works."))?;
        Ok(Some(now + Duration::days(days.into())))
    }
}

impl Tokens {
    async fn load(app: &App, person: &SignedIn) -> Result<Self, Error> {
        let now = app.clock.now();
        let mut db = app.db.acquire().await?;
        let tokens = api_tokens::list(&mut db, person.user.id, now).await?;
        let row = |token: api_tokens::ApiToken| Row {
            id: token.id,
            name: token.name,
            created: Moment::new(token.created_at, now),
            used: token.last_used_at.map(|at| Moment::new(at, now)),
            expires: token.expires_at.map(|at| Moment::new(at, now)),
        };
        Ok(Self {
            shell: Shell::new(person, "tokens"),
            list: tokens.into_iter().map(row).collect(),
            lifetimes: &LIFETIMES,
            form: Form::default(),
            problem: None,
            created: None,
            login: String::new(),
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
    CsrfForm(form): CsrfForm<Form>,
) -> PageResult {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let created = api_tokens::create(
        &mut tx,
        person.user.id,
        &form.name,
        form.end(now)?,
        &person.actor(),
        now,
    )
    .await;
    tx.commit().await?;
    let mut template = Tokens::load(&app, &person).await?;
    let status = match created {
        Ok((_, token)) => {
            template.login = format!(
                "berth login --server {} --token {token}",
                app.config.issuer()
            );
            template.created = Some(token);
            StatusCode::CREATED
        }
        Err(Error::Invalid(fields)) => {
            template.problem = fields.into_iter().next().map(|field| field.message);
            template.form = form;
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Err(other) => return Err(other.into()),
    };
    page(status, &template)
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
