//! Deleting a project: a page that says what goes, and asks for the name.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use serde::Deserialize;

use super::Frame;
use crate::app::App;
use crate::pages::error::{PageResult, page};
use crate::pages::view::Shell;
use crate::projects;
use crate::signin::{CsrfForm, SignedIn};

#[derive(Template)]
#[template(path = "project/delete.html")]
struct Delete {
    shell: Shell,
    project: Frame,
    confirm: String,
    problem: Option<String>,
}

/// `GET /projects/{project}/delete`
pub async fn show(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
) -> PageResult {
    let mut db = app.db.acquire().await?;
    let member = projects::get_for(&mut db, person.user.id, &name)
        .await?
        .deletable()?;
    let template = Delete {
        shell: Shell::new(&person, "projects"),
        project: Frame::new(&app.config, &member, "settings"),
        confirm: String::new(),
        problem: None,
    };
    page(StatusCode::OK, &template)
}

/// The form.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Form {
    confirm: String,
}

/// `POST /projects/{project}/delete`
pub async fn delete(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    CsrfForm(form): CsrfForm<Form>,
) -> PageResult {
    let mut tx = app.db.begin().await?;
    let member = projects::get_for(&mut tx, person.user.id, &name)
        .await?
        .deletable()?;
    if form.confirm.trim() != member.project.name {
        let template = Delete {
            shell: Shell::new(&person, "projects"),
            project: Frame::new(&app.config, &member, "settings"),
            confirm: form.confirm,
            problem: Some(format!(
                "Type {} exactly; nothing was deleted.",
                member.project.name
            )),
        };
        return page(StatusCode::UNPROCESSABLE_ENTITY, &template);
    }
    projects::delete(&mut tx, &member.project, &person.actor(), app.clock.now()).await?;
    tx.commit().await?;
    Ok(Redirect::to("/?done=deleted").into_response())
}
