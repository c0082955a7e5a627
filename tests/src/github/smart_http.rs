//! Git over HTTP, by the real `git http-backend` (its manual; CGI is RFC 3875).

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri, header};
use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::Shared;
use super::state::{self, State};

/// What a request may read, or the refusal.
enum Access {
    Repository(u64),
    Moved(String),
    Refused(StatusCode, &'static str),
}

/// `owner`, `name` and the rest of an address that Git asks for.
pub fn parts(path: &str) -> Option<(&str, &str, &str)> {
    let mut parts = path.strip_prefix('/')?.splitn(3, '/');
    let (owner, name, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let service = ["info/refs", "git-upload-pack", "git-receive-pack"];
    if !service.contains(&rest) {
        return None;
    }
    // GitHub takes addresses without the ending, too.
    Some((owner, name.strip_suffix(".git").unwrap_or(name), rest))
}

/// One request of a Git client.
pub fn answer(
    shared: &Arc<Shared>,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response<Body>> {
    let (owner, name, rest) = parts(uri.path()).context("an address of Git's")?;
    let access = access(&shared.state(), owner, name, headers);
    let query = uri.query().unwrap_or_default();
    match access {
        Access::Refused(status, message) => {
            let mut answer = Response::builder()
                .status(status)
                .header(header::CONTENT_TYPE, "text/plain");
            if status == StatusCode::UNAUTHORIZED {
                answer = answer.header(header::WWW_AUTHENTICATE, "Basic realm=\"GitHub\"");
            }
            Ok(answer.body(message.into())?)
        }
        Access::Moved(full_name) => Ok(Response::builder()
            .status(StatusCode::MOVED_PERMANENTLY)
            .header(
                header::LOCATION,
                format!("{}/{full_name}.git/{rest}?{query}", shared.url),
            )
            .body(Body::empty())?),
        Access::Repository(id) => backend(shared, id, rest, method, query, headers, body),
    }
}

/// Public repositories are for everybody; others for a token of an installation that reaches them
/// and may read contents (GitHub's documentation, "Authenticating as a GitHub App installation").
fn access(state: &State, owner: &str, name: &str, headers: &HeaderMap) -> Access {
    const UNKNOWN: Access = Access::Refused(StatusCode::NOT_FOUND, "Repository not found.");
    let moved = state
        .moved
        .get(&format!("{owner}/{name}").to_lowercase())
        .and_then(|id| state.repositories.get(id));
    let current = state.repository(owner, name);
    let found = current.or(moved);
    let credentials = headers.get(header::AUTHORIZATION);
    let Some(credentials) = credentials else {
        return match found {
            Some(one) if !one.private && current.is_none() => Access::Moved(state.full_name(one)),
            Some(one) if !one.private => Access::Repository(one.id),
            _ => Access::Refused(StatusCode::UNAUTHORIZED, "No anonymous read access."),
        };
    };
    let token = credentials
        .to_str()
        .ok()
        .and_then(|value| value.strip_prefix("Basic "))
        .and_then(|value| BASE64_STANDARD.decode(value).ok())
        .and_then(|value| String::from_utf8(value).ok())
        .and_then(|value| Some(value.strip_prefix("x-access-token:")?.to_owned()));
    let token = token.and_then(|token| state.tokens.get(&token));
    let Some(token) = token.filter(|token| token.expires_at > state::now()) else {
        return Access::Refused(StatusCode::UNAUTHORIZED, "Invalid username or token.");
    };
    let Some(found) = found else {
        return UNKNOWN;
    };
    let installation = state.installations.get(&token.installation);
    let reached = installation.is_some_and(|one| {
        one.suspended.is_none()
            && State::reaches(one, found)
            && token
                .repositories
                .as_ref()
                .is_none_or(|some| some.contains(&found.id))
    });
    if found.private && !reached {
        return UNKNOWN;
    }
    if found.private && !token.permissions.contains_key("contents") {
        return Access::Refused(
            StatusCode::FORBIDDEN,
            "Read access to repository not granted.",
        );
    }
    if current.is_none() {
        return Access::Moved(state.full_name(found));
    }
    Access::Repository(found.id)
}

fn backend(
    shared: &Shared,
    id: u64,
    rest: &str,
    method: &Method,
    query: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response<Body>> {
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let mut backend = Command::new("git")
        .arg("http-backend")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", shared.directory.path())
        .env("GIT_PROJECT_ROOT", shared.directory.path())
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", format!("/{id}.git/{rest}"))
        .env("REQUEST_METHOD", method.as_str())
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("git is missing; run ./tests/run, or apt-get install git")?;
    let mut stdin = backend.stdin.take().context("standard input is a pipe")?;
    let mut stdout = backend.stdout.take().context("standard output is a pipe")?;
    let mut said = Vec::new();
    std::thread::scope(|scope| -> Result<()> {
        // It may answer before it has read everything, and then reads no more.
        scope.spawn(move || drop(stdin.write_all(body)));
        stdout.read_to_end(&mut said)?;
        Ok(())
    })?;
    backend.wait()?;
    let end = said
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .context("git http-backend answered without headers")?;
    let mut answer = Response::builder();
    for line in std::str::from_utf8(&said[..end])?.lines() {
        let (name, value) = line.split_once(": ").context("a header")?;
        if name.eq_ignore_ascii_case("status") {
            let code = value.split(' ').next().unwrap_or_default();
            answer = answer.status(code.parse::<u16>()?);
        } else {
            answer = answer.header(name, value);
        }
    }
    Ok(answer.body(said.split_off(end + 4).into())?)
}
