//! GitHub: installations, repositories and branches that one's organizations may use.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::Caller;
use super::problem::{ApiResult, Params};
use crate::app::App;
use crate::error::Error;
use crate::github::installations::{self, Readable};
use crate::github::{choices, registration, rest};

/// Repositories of one answer.
const PAGE: i64 = 50;

fn face(it: &Readable) -> Value {
    json!({
        "id": it.id,
        "installation": it.installation_id,
        "full_name": it.full_name,
        "private": it.private,
        "default_branch": it.default_branch,
    })
}

/// `GET /github/installations`
pub async fn list_installations(State(app): State<App>, caller: Caller) -> ApiResult<Json<Value>> {
    let mut db = app.db.acquire().await?;
    let app_is_set_up = registration::exists(&mut db).await?;
    let list = installations::list_for(&mut db, caller.user.id).await?;
    let faces: Vec<Value> = list
        .iter()
        .map(|it| {
            json!({
                "id": it.id,
                "account": it.account,
                "account_kind": it.account_kind,
                "state": it.state,
                "repositories": it.repositories,
            })
        })
        .collect();
    Ok(Json(
        json!({ "app_is_set_up": app_is_set_up, "installations": faces }),
    ))
}

/// `?search=&page=`
#[derive(Debug, serde::Deserialize)]
pub struct Filter {
    #[serde(default)]
    search: String,
    page: Option<i64>,
}

/// `GET /github/repositories`: of all installations.
pub async fn search_repositories(
    State(app): State<App>,
    caller: Caller,
    Params(filter): Params<Filter>,
) -> ApiResult<Json<Value>> {
    list(&app, &caller, None, &filter).await
}

/// `GET /github/installations/{installation}/repositories`
pub async fn list_repositories(
    State(app): State<App>,
    caller: Caller,
    Path(installation): Path<i64>,
    Params(filter): Params<Filter>,
) -> ApiResult<Json<Value>> {
    list(&app, &caller, Some(installation), &filter).await
}

async fn list(
    app: &App,
    caller: &Caller,
    installation: Option<i64>,
    filter: &Filter,
) -> ApiResult<Json<Value>> {
    let user = caller.user.id;
    // An old list is better than none; what keeps GitHub from answering is told beside it.
    let stale = installations::refresh_for(app, user).await.err();
    let mut db = app.db.acquire().await?;
    if let Some(id) = installation
        && !installations::list_for(&mut db, user)
            .await?
            .iter()
            .any(|it| it.id == id)
    {
        return Err(Error::NotFound("installation").into());
    }
    let page = filter.page.unwrap_or(1).clamp(1, i64::from(i32::MAX));
    let mut list = installations::list_readable(
        &mut db,
        user,
        installation,
        filter.search.trim(),
        (page - 1) * PAGE,
        PAGE + 1,
    )
    .await?;
    let more = i64::try_from(list.len()).is_ok_and(|found| found > PAGE);
    list.truncate(usize::try_from(PAGE).unwrap_or_default());
    let faces: Vec<Value> = list.iter().map(face).collect();
    Ok(Json(json!({
        "repositories": faces,
        "page": page,
        "next_page": more.then_some(page + 1),
        "stale": stale.map(|failure| failure.to_string()),
    })))
}

/// `GET /github/repositories/{repository}/branches`
pub async fn list_branches(
    State(app): State<App>,
    caller: Caller,
    Path(repository): Path<i64>,
) -> ApiResult<Json<Value>> {
    let repository = choices::current(&app, caller.user.id, repository).await?;
    let branches = rest::branches(
        &app,
        repository.installation_id,
        &repository.full_name,
        usize::MAX,
    )
    .await
    .map_err(Error::from)?;
    let faces: Vec<Value> = branches
        .iter()
        .map(|branch| json!({ "name": branch.name, "commit": branch.commit.sha }))
        .collect();
    Ok(Json(json!({
        "repository": face(&repository),
        "branches": faces,
    })))
}
