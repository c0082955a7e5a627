//! The operator's page of webhooks: the newest deliveries and what came of them.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::operator_only;
use crate::app::App;
use crate::github::deliveries::{self, Row};
use crate::pages::error::{PageResult, page};
use crate::pages::view::{Moment, Shell};
use crate::signin::SignedIn;

/// Deliveries that are shown.
const SHOWN: i64 = 100;

#[derive(Template)]
#[template(path = "github/deliveries.html")]
struct Page {
    shell: Shell,
    failed: bool,
    list: Vec<(Row, Moment)>,
}

/// `?failed=1`: only those with trouble.
#[derive(Debug, Deserialize)]
pub struct Filter {
    failed: Option<String>,
}

/// `GET /settings/github/deliveries`
pub async fn show(
    State(app): State<App>,
    person: SignedIn,
    Query(filter): Query<Filter>,
) -> PageResult {
    operator_only(&app, &person).await?;
    let failed = filter.failed.is_some();
    let rows = deliveries::list(&mut *app.db.acquire().await?, failed, SHOWN).await?;
    let now = app.clock.now();
    let template = Page {
        shell: Shell::new(&person, "settings"),
        failed,
        list: rows
            .into_iter()
            .map(|row| {
                let at = Moment::new(row.received_at, now);
                (row, at)
            })
            .collect(),
    };
    page(StatusCode::OK, &template)
}
