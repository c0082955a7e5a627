//! The part of the stand-in that keeps checks, deployments and comments, and lets only tokens with the
//! permission write them.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// What Apps wrote, and how it goes.
#[derive(Debug, Default)]
pub struct Kept {
    /// Check runs, in order.
    pub checks: Vec<Value>,
    /// Deployments with their `statuses`, in order.
    pub deployments: Vec<Value>,
    /// Comments, in order; their `number` is the pull request's.
    pub comments: Vec<Value>,
    /// Every body that was sent, with method and path.
    pub sent: Vec<(String, Value)>,
    /// Permissions of tokens.
    pub tokens: BTreeMap<String, Value>,
    /// What installations grant; everything if it is `None`.
    pub granted: Option<Vec<&'static str>>,
    /// The next request whose path holds one of these is done, and its answer is lost.
    pub lose: Vec<&'static str>,
    /// Nobody may comment.
    pub locked: bool,
    /// No commit is known.
    pub no_commit: bool,
}

impl Kept {
    /// Whether an installation's token may be made with these permissions.
    pub fn grants(&self, asked: &Value) -> bool {
        let asked = asked.as_object().into_iter().flatten();
        self.granted.as_ref().is_none_or(|granted| {
            asked
                .filter(|(name, _)| *name != "metadata" && *name != "contents")
                .all(|(name, _)| granted.contains(&name.as_str()))
        })
    }

    /// What an installation grants, as GitHub shows it.
    pub fn permissions(&self) -> Value {
        let mut all = json!({ "contents": "read", "metadata": "read" });
        let usual = vec!["checks", "deployments", "pull_requests"];
        for name in self.granted.as_ref().unwrap_or(&usual) {
            all[name] = json!("write");
        }
        all
    }

    fn writes(&self, headers: &HeaderMap, permission: &str) -> bool {
        let token = headers["authorization"].to_str().unwrap();
        let token = token.strip_prefix("Bearer ").unwrap();
        let may = self.tokens.get(token);
        may.is_some_and(|may| may[permission] == "write" && may["contents"].is_null())
    }

    fn number(&self) -> usize {
        100 + self.checks.len() + self.deployments.len() + self.comments.len()
    }

    /// Answers what is about these; `None` for everything else.
    pub fn answer(
        &mut self,
        method: &Method,
        path: &[&str],
        headers: &HeaderMap,
        body: &Value,
    ) -> Option<Response> {
        let ["repos", _, _, rest @ ..] = path else {
            return None;
        };
        let permission = match rest {
            ["check-runs", ..] | ["commits", _, "check-runs"] => "checks",
            ["deployments", ..] => "deployments",
            ["issues", ..] => "pull_requests",
            _ => return None,
        };
        if !self.writes(headers, permission) {
            let refusal = json!({ "message": "Resource not accessible by integration" });
            return Some((StatusCode::FORBIDDEN, Json(refusal)).into_response());
        }
        if !body.is_null() {
            let what = format!("{method} {}", rest.join("/"));
            self.sent.push((what, body.clone()));
        }
        let answer = match permission {
            "checks" => self.check(method, rest, body),
            "deployments" => self.deployment(method, rest, body),
            _ => self.comment(method, rest, body),
        };
        let path = path.join("/");
        if let Some(at) = self.lose.iter().position(|text| path.contains(text)) {
            self.lose.remove(at);
            return Some(StatusCode::BAD_GATEWAY.into_response());
        }
        Some(answer)
    }

    fn check(&mut self, method: &Method, rest: &[&str], body: &Value) -> Response {
        if self.no_commit {
            let refusal = json!({ "message": "No commit found for SHA: x" });
            return (StatusCode::UNPROCESSABLE_ENTITY, Json(refusal)).into_response();
        }
        let changed = match (method, rest) {
            (&Method::POST, ["check-runs"]) => {
                let mut made = json!({ "id": self.number(), "annotations": [] });
                merge(&mut made, body);
                self.checks.push(made);
                self.checks.last_mut()
            }
            (_, ["check-runs", id]) => find(&mut self.checks, id),
            (_, ["commits", sha, _]) => {
                let of_commit = self.checks.iter().filter(|it| it["head_sha"] == *sha);
                let all: Vec<Value> = of_commit.map(shown).collect();
                return Json(json!({ "check_runs": all })).into_response();
            }
            _ => None,
        };
        let Some(changed) = changed else {
            return StatusCode::NOT_FOUND.into_response();
        };
        merge(changed, body);
        if let Some(more) = body["output"]["annotations"].as_array() {
            let all = changed["annotations"].as_array_mut().unwrap();
            all.extend(more.iter().cloned());
        }
        Json(shown(changed)).into_response()
    }

    fn deployment(&mut self, method: &Method, rest: &[&str], body: &Value) -> Response {
        match (method, rest) {
            (&Method::POST, ["deployments"]) => {
                let mut made = json!({ "id": self.number(), "statuses": [] });
                merge(&mut made, body);
                self.deployments.push(made.clone());
                Json(made).into_response()
            }
            (&Method::GET, ["deployments"]) => Json(self.deployments.clone()).into_response(),
            (&Method::POST, ["deployments", id, "statuses"]) => {
                let Some(one) = find(&mut self.deployments, id) else {
                    return StatusCode::NOT_FOUND.into_response();
                };
                one["statuses"].as_array_mut().unwrap().push(body.clone());
                Json(body).into_response()
            }
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }

    fn comment(&mut self, method: &Method, rest: &[&str], body: &Value) -> Response {
        if self.locked && method != Method::GET {
            let refusal = json!({ "message": "Unable to create comment because issue is locked." });
            return (StatusCode::FORBIDDEN, Json(refusal)).into_response();
        }
        match (method, rest) {
            (&Method::POST, ["issues", number, "comments"]) => {
                let made = json!({ "id": self.number(), "number": number, "body": body["body"],
                    "performed_via_github_app": { "id": 7 } });
                self.comments.push(made.clone());
                Json(made).into_response()
            }
            (&Method::GET, ["issues", number, "comments"]) => {
                let all = self.comments.iter().filter(|it| it["number"] == *number);
                Json(all.cloned().collect::<Vec<_>>()).into_response()
            }
            (_, ["issues", "comments", id]) => match find(&mut self.comments, id) {
                Some(one) => {
                    merge(one, body);
                    Json(one.clone()).into_response()
                }
                None => StatusCode::NOT_FOUND.into_response(),
            },
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

fn shown(check: &Value) -> Value {
    let mut shown = check.clone();
    let count = check["annotations"].as_array().map_or(0, Vec::len);
    shown["output"]["annotations_count"] = count.into();
    shown
}

fn find<'a>(all: &'a mut [Value], id: &str) -> Option<&'a mut Value> {
    let id: u64 = id.parse().ok()?;
    all.iter_mut().find(|one| one["id"] == id)
}

fn merge(one: &mut Value, body: &Value) {
    for (name, value) in body.as_object().into_iter().flatten() {
        one[name] = value.clone();
    }
}
