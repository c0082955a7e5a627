//! Connected apps: what someone has allowed, and taking it back.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use serde::Deserialize;
use uuid::Uuid;

use super::error::{PageResult, page};
use super::view::{Done, Moment, Shell};
use crate::app::App;
use crate::grants::connected_apps::{self, ConnectedApp};
use crate::signin::{CsrfForm, SignedIn};

#[derive(Template)]
#[template(path = "apps.html")]
struct Apps {
    shell: Shell,
    own: Vec<Row>,
    of_service_accounts: Vec<Row>,
}

struct Row {
    app: ConnectedApp,
    since: Moment,
    used: Option<Moment>,
}

/// `GET /apps`
pub async fn show(
    State(app): State<App>,
    person: SignedIn,
    Query(done): Query<Done>,
) -> PageResult {
    let now = app.clock.now();
    let mut db = app.db.acquire().await?;
    let apps = connected_apps::list(&mut db, person.user.id).await?;
    let row = |app: ConnectedApp| Row {
        since: Moment::new(app.created_at, now),
        used: app.last_used_at.map(|at| Moment::new(at, now)),
        app,
    };
    let (of_service_accounts, own) = apps
        .into_iter()
        .map(row)
        .partition(|row| row.app.service_account.is_some());
    let template = Apps {
        shell: Shell::new(&person, "apps").after(&done),
        own,
        of_service_accounts,
    };
    page(StatusCode::OK, &template)
}

/// A form that has nothing but its CSRF token.
#[derive(Deserialize)]
pub struct Nothing {}

/// `POST /apps/{grant}/revoke`
pub async fn revoke(
    State(app): State<App>,
    person: SignedIn,
    Path(grant): Path<Uuid>,
    CsrfForm(Nothing {}): CsrfForm<Nothing>,
) -> PageResult {
    let mut tx = app.db.begin().await?;
    connected_apps::withdraw(
        &mut tx,
        person.user.id,
        grant,
        &person.actor(),
        app.clock.now(),
    )
    .await?;
    tx.commit().await?;
    Ok(Redirect::to("/apps?done=disconnected").into_response())
}
