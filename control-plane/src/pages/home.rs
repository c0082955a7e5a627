//! The start page: every project of someone's organizations, or how to make the first.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::error::{PageResult, page};
use super::project::attempt::{Attempt, Standing};
use super::view::{Done, People, Shell};
use crate::app::App;
use crate::config::ServeConfig;
use crate::error::Result;
use crate::projects::Project;
use crate::signin::SignedIn;
use crate::{deployments, projects};

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    shell: Shell,
    projects: Vec<Row>,
    commands: String,
}

struct Row {
    name: String,
    url: String,
    kind: &'static str,
    label: &'static str,
    newest: Option<Attempt>,
}

/// `GET /`
pub async fn show(
    State(app): State<App>,
    person: SignedIn,
    Query(done): Query<Done>,
) -> PageResult {
    let mut db = app.db.acquire().await?;
    let mut rows = Vec::new();
    for project in projects::list_for(&mut db, person.user.id).await? {
        rows.push(row(&mut db, &app.config, &project, app.clock.now()).await?);
    }
    let template = Home {
        shell: Shell::new(&person, "projects").after(&done),
        projects: rows,
        commands: format!(
            "berth login --server {}\nberth deploy .",
            app.config.issuer()
        ),
    };
    page(StatusCode::OK, &template)
}

async fn row(
    db: &mut PgConnection,
    config: &ServeConfig,
    project: &Project,
    now: OffsetDateTime,
) -> Result<Row> {
    let live = deployments::find_live(db, project.id).await?;
    let newest = deployments::find_newest(db, project.id, None).await?;
    let standing = Standing::of(live.is_some(), newest.as_ref().map(|newest| newest.state));
    Ok(Row {
        name: project.name.clone(),
        url: config.project_url(&project.name),
        kind: standing.kind(),
        label: standing.label(),
        newest: newest.map(|newest| Attempt::new(newest, &People::default(), now)),
    })
}
