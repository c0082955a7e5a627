//! The part of the stand-in that makes repositories and takes a first commit.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::stand_in::{Shared, World, repository, sha};

/// The number of the repository that is made.
pub const MADE: i64 = 101;

/// What may be made, and was.
#[derive(Debug)]
pub struct Making {
    /// What the installation's owner granted.
    pub permissions: BTreeMap<String, String>,
    /// Repositories that the installation leaves out.
    pub hidden: BTreeSet<i64>,
    /// What was asked for.
    pub orders: Vec<Value>,
    /// The tree of every branch.
    pub tree: String,
    /// The paths in it.
    pub entries: Vec<String>,
    /// What was sent to be written.
    pub files: BTreeMap<String, String>,
}

impl Default for Making {
    fn default() -> Self {
        Self {
            permissions: BTreeMap::new(),
            hidden: BTreeSet::new(),
            orders: Vec::new(),
            tree: sha('7'),
            entries: vec!["README.md".to_owned()],
            files: BTreeMap::new(),
        }
    }
}

impl World {
    /// The App may make repositories.
    pub fn grant(&self) {
        let granted =
            ["administration", "contents"].map(|name| (name.to_owned(), "write".to_owned()));
        self.making.lock().unwrap().permissions = BTreeMap::from(granted);
    }

    /// Notes what was asked for, and whether it is answered.
    fn answers(&self, path: &str) -> bool {
        self.asked.lock().unwrap().push(path.to_owned());
        let away = self.away.lock().unwrap();
        !away.as_ref().is_some_and(|text| path.contains(&**text))
    }
}

/// Its routes.
pub fn router() -> Router<Shared> {
    let git = "/api/v3/repos/{owner}/{name}/git";
    Router::new()
        .route("/api/v3/user/repos", post(own))
        .route("/api/v3/orgs/{owner}/repos", post(of_organization))
        .route(&format!("{git}/trees"), post(write_tree))
        .route(&format!("{git}/trees/{{sha}}"), get(read_tree))
        .route(&format!("{git}/commits"), post(write_commit))
        .route(&format!("{git}/refs/heads/{{branch}}"), patch(move_branch))
}

fn away() -> Response {
    StatusCode::BAD_GATEWAY.into_response()
}

async fn own(State(world): State<Shared>, Json(order): Json<Value>) -> Response {
    let login = world.login.lock().unwrap().clone();
    make(&world, "user/repos", &login, order)
}

async fn of_organization(
    State(world): State<Shared>,
    Path(login): Path<String>,
    Json(order): Json<Value>,
) -> Response {
    make(&world, &format!("orgs/{login}/repos"), &login, order)
}

fn make(world: &World, path: &str, login: &str, order: Value) -> Response {
    if !world.answers(path) {
        return away();
    }
    let full = format!("{login}/{}", order["name"].as_str().unwrap());
    world.making.lock().unwrap().orders.push(order);
    let taken = {
        let all = world.repositories.lock().unwrap();
        all.values().any(|it| it.0 == full)
    };
    if taken {
        let error = json!({ "resource": "Repository", "code": "custom", "field": "name",
            "message": "name already exists on this account" });
        let body = json!({ "message": "Repository creation failed.", "errors": [error] });
        return (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response();
    }
    world.add(MADE, &full, &sha('b'));
    (StatusCode::CREATED, Json(repository(MADE, &full))).into_response()
}

async fn write_tree(State(world): State<Shared>, Json(tree): Json<Value>) -> Response {
    if !world.answers("git/trees") {
        return away();
    }
    let mut making = world.making.lock().unwrap();
    for entry in tree["tree"].as_array().unwrap() {
        assert_eq!(
            (&entry["mode"], &entry["type"]),
            (&json!("100644"), &json!("blob"))
        );
        let text = |name: &str| entry[name].as_str().unwrap().to_owned();
        making.files.insert(text("path"), text("content"));
    }
    (StatusCode::CREATED, Json(json!({ "sha": sha('8') }))).into_response()
}

async fn read_tree(State(world): State<Shared>) -> Json<Value> {
    let making = world.making.lock().unwrap();
    let entries = making.entries.iter().map(|path| json!({ "path": path }));
    Json(json!({ "sha": making.tree, "tree": entries.collect::<Vec<_>>(), "truncated": false }))
}

async fn write_commit(Json(commit): Json<Value>) -> Response {
    assert_eq!(commit["parents"], json!([sha('b')]));
    assert_eq!(commit["tree"], sha('8'));
    (StatusCode::CREATED, Json(json!({ "sha": sha('c') }))).into_response()
}

async fn move_branch(
    State(world): State<Shared>,
    Path((_, _, branch)): Path<(String, String, String)>,
    Json(to): Json<Value>,
) -> Response {
    if !world.answers("git/refs") {
        return away();
    }
    assert_eq!(to["force"], false);
    world.push(MADE, &branch, to["sha"].as_str().unwrap());
    world.making.lock().unwrap().tree = sha('8');
    Json(json!({})).into_response()
}
