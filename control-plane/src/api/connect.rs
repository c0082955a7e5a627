//! How clients are told of a project.

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Caller;
use super::problem::ApiResult;
use crate::app::App;
use crate::connect::{Credential, Target, guides};
use crate::error::{Error, invalid};
use crate::projects;

/// `?client=` and `?credential=`.
#[derive(Debug, Deserialize)]
pub struct Wanted {
    client: Option<String>,
    credential: Option<String>,
}

/// `GET /projects/{project}/connect`: what to do in each client, or in one of them.
pub async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(project): Path<String>,
    Query(wanted): Query<Wanted>,
) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    let project = projects::get_for(&mut db, caller.user.id, &project)
        .await?
        .project;
    let target = Target::of(&mut db, &app.config, &project).await?;
    let offered = Credential::of(target.mode());
    let credential = credential(offered, wanted.credential.as_deref())?;
    let mut clients = guides(&target, credential);
    if let Some(id) = wanted.client {
        clients.retain(|guide| guide.id == id);
        if clients.is_empty() {
            return Err(Error::NotFound("client").into());
        }
    }
    Ok(Json(json!({
        "url": target.url(),
        "credentials": offered,
        "clients": clients,
    })))
}

fn credential(offered: &[Credential], name: Option<&str>) -> Result<Credential, Error> {
    let Some(name) = name else {
        return Ok(offered[0]);
    };
    let names: Vec<&str> = offered.iter().map(|it| it.name()).collect();
    offered
        .iter()
        .copied()
        .find(|it| it.name() == name)
        .ok_or_else(|| {
            invalid(
                "credential",
                format!(
                    "Clients of this project do not show “{name}”; ask for one of {}.",
                    names.join(", ")
                ),
            )
        })
}
