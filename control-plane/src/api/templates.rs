//! The bundled examples that a project can begin with.

use axum::Json;
use serde_json::{Value, json};

use super::Caller;
use crate::starters::STARTERS;

/// `GET /templates`
pub async fn list(_caller: Caller) -> Json<Value> {
    let all: Vec<Value> = STARTERS
        .iter()
        .map(|it| {
            let files: Vec<&str> = it.files.iter().map(|(path, _)| *path).collect();
            json!({
                "name": it.slug,
                "title": it.title,
                "description": it.sentence,
                "language": it.language,
                "files": files,
            })
        })
        .collect();
    Json(Value::Array(all))
}
