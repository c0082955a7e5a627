//! The REST API (GitHub's documentation, "REST API", version 2022-11-28).

mod apps;
mod checks;
mod comments;
mod contents;
mod feedback;
mod pulls;
mod repositories;
mod users;
mod writing;

use std::sync::Arc;

use aws_lc_rs::digest;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Response};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::auth;
use super::call::{Call, Handler, Reply, Stop, Who, refused};
use super::faults::Fault;
use super::openapi::Asked;
use super::{Request, Shared, hex, state};

pub(super) use checks::show as show_check;
pub(super) use comments::show as show_comment;
pub(super) use pulls::review;

/// Requests in an hour for one token, and for one address without (GitHub's documentation, "Rate limits
/// for the REST API").
const LIMITS: (u64, u64) = (5000, 60);

/// Versions that a request may name (GitHub's documentation, "API versions").
const VERSIONS: &[&str] = &["2022-11-28", "2026-03-10"];

/// How long requests are counted together, in seconds.
const WINDOW: i64 = 3600;

/// The placeholders that hold slashes.
const GREEDY: &[&str] = &["{ref}", "{branch}", "{path}", "{basehead}", "{tree_sha}"];

/// Every route.
pub(super) fn routes() -> impl Iterator<Item = &'static (&'static str, &'static str, Handler)> {
    [
        apps::ROUTES,
        users::ROUTES,
        checks::ROUTES,
        comments::ROUTES,
        contents::ROUTES,
        feedback::ROUTES,
        pulls::ROUTES,
        repositories::ROUTES,
        writing::ROUTES,
    ]
    .into_iter()
    .flatten()
}

/// The parameters of a path, if it fits.
fn fit(template: &str, path: &str) -> Option<Vec<(String, String)>> {
    let wanted: Vec<&str> = template.split('/').collect();
    let given: Vec<&str> = path.split('/').collect();
    let spare = given.len().checked_sub(wanted.len())?;
    let greedy = wanted.iter().position(|part| GREEDY.contains(part));
    if spare > 0 && greedy.is_none() {
        return None;
    }
    let decode = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
    let mut found = Vec::new();
    let mut at = 0;
    for (number, part) in wanted.iter().enumerate() {
        let taken = 1 + if greedy == Some(number) { spare } else { 0 };
        let value = given[at..at + taken].join("/");
        at += taken;
        match part
            .strip_prefix('{')
            .and_then(|part| part.strip_suffix('}'))
        {
            Some(_) if value.is_empty() && *part != "{path}" => return None,
            Some(name) => found.push((name.to_owned(), decode(&value))),
            None if *part == value => {}
            None => return None,
        }
    }
    Some(found)
}

/// `/repositories/{id}/…`, where redirects lead, as the same below `/repos/`.
fn by_number(shared: &Shared, path: &str) -> Option<String> {
    let rest = path.strip_prefix("/repositories/")?;
    let (id, rest) = rest.split_once('/')?;
    let state = shared.state();
    let repository = state.repositories.get(&id.parse().ok()?)?;
    Some(format!("/repos/{}/{rest}", state.full_name(repository)))
}

/// One request, from its bytes to those of the answer.
pub async fn answer(
    shared: Arc<Shared>,
    method: String,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    shared.keep(&body);
    let path = by_number(&shared, &path).unwrap_or(path);
    let found = routes().find_map(|(known, template, handler)| {
        (*known == method).then_some(())?;
        Some((*template, *handler, fit(template, &path)?))
    });
    let route = found.as_ref().map_or(&*path, |found| found.0).to_owned();
    let struck = shared.strike(&method, &route).await;
    let reply = if let Some(reply) = struck {
        reply
    } else {
        let shared = shared.clone();
        let (method, route) = (method.clone(), route.clone());
        let work = move || {
            let Some((_, handler, params)) = found else {
                shared.mismatch(format!("{method} {path}: the emulator has no such route"));
                return Reply::error(404, "Not Found");
            };
            let target = Target {
                method: &method,
                route: &route,
                handler,
                address: &path,
                path: params,
                query: parse(query.as_bytes()),
            };
            checked(&shared, target, &headers, &body)
        };
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|error| Reply::error(500, &error.to_string()))
    };
    shared.log(Request {
        method,
        route,
        status: reply.status,
    });
    respond(reply)
}

/// What a request asks for.
struct Target<'a> {
    method: &'a str,
    route: &'a str,
    handler: Handler,
    address: &'a str,
    path: Vec<(String, String)>,
    query: Vec<(String, String)>,
}

fn parse(query: &[u8]) -> Vec<(String, String)> {
    url::form_urlencoded::parse(query).into_owned().collect()
}

/// Answers, and compares both sides with the description.
fn checked(shared: &Shared, target: Target<'_>, headers: &HeaderMap, body: &[u8]) -> Reply {
    let (method, route) = (target.method, target.route);
    let parsed: Result<Option<Value>, _> = match body {
        [] => Ok(None),
        body => serde_json::from_slice(body).map(Some),
    };
    let Ok(body) = parsed else {
        shared.mismatch(format!("{method} {route}: the body is no JSON"));
        return Reply::error(400, "Problems parsing JSON");
    };
    let asked = Asked {
        method,
        route,
        path: &target.path,
        query: &target.query,
        body: body.as_ref(),
    };
    let mut wrong = shared.description.check_request(&asked);
    if headers.get("user-agent").is_none() {
        // GitHub's documentation, "Getting started with the REST API": such requests are refused.
        wrong.push("the request has no User-Agent".to_owned());
    }
    let version = headers.get("x-github-api-version");
    let version = version.and_then(|value| value.to_str().ok());
    if let Some(version) = version.filter(|version| !VERSIONS.contains(version)) {
        shared.mismatch(format!(
            "{method} {route}: there is no version {version} of the API"
        ));
        return Reply::error(400, "This version of the API is not supported.");
    }
    let mut reply = handle(shared, target, headers, body);
    if reply.raw.is_none() {
        let body = reply.body.as_ref();
        wrong.extend(
            shared
                .description
                .check_answer(method, route, reply.status, body),
        );
    }
    for one in wrong {
        shared.mismatch(format!("{method} {route}: {one}"));
    }
    conditional(method, headers, &mut reply);
    reply
}

fn handle(shared: &Shared, target: Target<'_>, headers: &HeaderMap, body: Option<Value>) -> Reply {
    let (method, address) = (target.method, target.address);
    let who = auth::authenticate(&shared.state(), headers);
    let (limit, count) = shared.count(who.as_ref().unwrap_or(&Who::Nobody));
    let answered = limit.and(who).and_then(|who| {
        (target.handler)(&Call {
            shared,
            method,
            address,
            path: target.path,
            query: target.query,
            headers,
            body,
            who,
        })
    });
    let mut reply = match answered {
        Ok(reply) => reply,
        Err(Stop::Refused(reply)) => *reply,
        Err(Stop::Broken(error)) => {
            shared.mismatch(format!("{method} {address}: {error:#}"));
            Reply::error(500, "Server Error")
        }
    };
    reply.headers.extend(count);
    reply
}

/// An unchanged answer is not sent again (GitHub's documentation, "Use conditional requests if
/// appropriate").
fn conditional(method: &str, headers: &HeaderMap, reply: &mut Reply) {
    if method != "GET" || reply.status != 200 {
        return;
    }
    let Some(body) = &reply.body else { return };
    let digest = digest::digest(&digest::SHA256, body.to_string().as_bytes());
    let tag = format!("\"{}\"", hex(digest.as_ref()));
    let known = headers
        .get("if-none-match")
        .and_then(|value| value.to_str().ok());
    if known.is_some_and(|known| known.trim_start_matches("W/") == tag) {
        reply.status = 304;
        reply.body = None;
    }
    reply.headers.push(("etag", tag));
}

impl Shared {
    /// Counts a request and says what is left; more than the limit is refused.
    fn count(&self, who: &Who) -> (Result<(), Stop>, Vec<(&'static str, String)>) {
        let (key, limit) = match who {
            Who::Nobody => ("nobody".to_owned(), LIMITS.1),
            Who::App(id) | Who::Client(id) => (format!("app {id}"), LIMITS.0),
            Who::Installation { id, .. } => (format!("installation {id}"), LIMITS.0),
            Who::User { user, .. } => (format!("user {user}"), LIMITS.0),
        };
        let mut state = self.state();
        let now = state::now().unix_timestamp();
        let (reset, used) = state.used.entry(key.clone()).or_insert((now + WINDOW, 0));
        if *reset <= now {
            (*reset, *used) = (now + WINDOW, 0);
        }
        *used += 1;
        let within = if *used <= limit {
            Ok(())
        } else {
            Err(refused(403, &format!("API rate limit exceeded for {key}.")))
        };
        (within, limits(limit, *used, *reset))
    }

    /// The answer of a fault, if there is one for this request.
    pub(super) async fn strike(&self, method: &str, route: &str) -> Option<Reply> {
        let fault = self.faults().strike(method, route)?;
        let now = state::now().unix_timestamp();
        let after = |seconds: u64| now + i64::try_from(seconds).unwrap_or(i64::MAX / 2);
        let limited = |status: u16, message: &str, headers: Vec<(&'static str, String)>| Reply {
            headers,
            ..Reply::error(status, message)
        };
        let used_up = "API rate limit exceeded for installation.";
        let secondary = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
        let retry = |seconds: u64| vec![("retry-after", seconds.to_string())];
        Some(match fault {
            Fault::RateLimit(seconds) => {
                limited(403, used_up, limits(LIMITS.0, LIMITS.0, after(seconds)))
            }
            Fault::SecondaryLimit(seconds) => limited(403, secondary, retry(seconds)),
            Fault::TooMany(seconds) => limited(429, secondary, retry(seconds)),
            Fault::BadGateway => Reply {
                status: 502,
                raw: Some(b"<html><body><h1>502 Bad Gateway</h1></body></html>".to_vec()),
                headers: vec![("content-type", "text/html".to_owned())],
                body: None,
            },
            Fault::Slow(time) => {
                tokio::time::sleep(time).await;
                return None;
            }
            // The server's task ends with its connection, and says nothing.
            Fault::Drop => std::panic::resume_unwind(Box::new("dropped")),
        })
    }
}

fn limits(limit: u64, used: u64, reset: i64) -> Vec<(&'static str, String)> {
    vec![
        ("x-ratelimit-limit", limit.to_string()),
        (
            "x-ratelimit-remaining",
            limit.saturating_sub(used).to_string(),
        ),
        ("x-ratelimit-used", used.to_string()),
        ("x-ratelimit-reset", reset.to_string()),
        ("x-ratelimit-resource", "core".to_owned()),
    ]
}

/// An answer with what GitHub sends along.
pub fn respond(reply: Reply) -> Response<Body> {
    let request: String = state::random("").to_uppercase().chars().take(20).collect();
    let mut answer = Response::builder()
        .status(reply.status)
        .header(
            "x-github-request-id",
            format!("{}:{}", &request[..4], &request[4..]),
        )
        .header("x-github-media-type", "github.v3; format=json")
        .header("server", "github.com");
    for (name, value) in &reply.headers {
        answer = answer.header(*name, value);
    }
    let body = match (reply.raw, reply.body) {
        (Some(raw), _) => Body::from(raw),
        (None, Some(json)) => {
            answer = answer.header("content-type", "application/json; charset=utf-8");
            Body::from(json.to_string())
        }
        (None, None) => Body::empty(),
    };
    answer.body(body).expect("headers of plain text")
}

/// What a token's owner may do with a repository, as lists show it.
fn rights(pushes: bool, administers: bool) -> Value {
    json!({
        "admin": administers, "maintain": administers, "push": pushes, "triage": pushes,
        "pull": true,
    })
}
