//! `POST /webhooks/github`: what GitHub tells. Nothing of a body is read before its signature is
//! proven over the bytes as they came; a delivery that is answered is in the database.
//! <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>

use std::time::Duration;

use aws_lc_rs::hmac;
use axum::Json;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::deliveries::{self, Arrival};
use super::registration::{self, Registration};
use crate::app::App;
use crate::error::{Error, Result};

/// Largest body: "GitHub caps webhook payloads at 25 MB".
pub const MAX_BODY: usize = 25 * 1024 * 1024;

/// Large bodies, or such that do not say how large they are, that are held in memory at once, so that
/// strangers cannot fill it (200 MiB).
const LARGE_AT_ONCE: usize = 8;

/// Bodies up to this length are small, as nearly all of GitHub's are.
const SMALL: usize = 256 * 1024;

/// Small bodies that are held in memory at once (64 MiB): whoever sends some slowly does not keep
/// GitHub out.
const SMALL_AT_ONCE: usize = 256;

/// Longest wait for a turn and the body together. GitHub gives up after ten seconds.
const PATIENCE: Duration = Duration::from_secs(8);

/// Longest name of an event or id of a delivery.
const MAX_NAME: usize = 64;

/// Longest action or reference that is noted; Git's own limit on references is lower.
const MAX_TEXT: usize = 1_000;

static LARGE_TURN: Semaphore = Semaphore::const_new(LARGE_AT_ONCE);

static SMALL_TURN: Semaphore = Semaphore::const_new(SMALL_AT_ONCE);

/// Of every delivery.
#[derive(Debug, Default, Deserialize)]
struct Envelope {
    action: Option<String>,
    #[serde(rename = "ref")]
    reference: Option<String>,
    number: Option<i64>,
    installation: Option<Numbered>,
    repository: Option<Numbered>,
}

#[derive(Debug, Deserialize)]
struct Numbered {
    id: i64,
}

/// `POST /webhooks/github`
pub async fn receive(State(app): State<App>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let declared = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<usize>().ok());
    if declared.is_some_and(|length| length > MAX_BODY) {
        return too_large();
    }
    // Who shows no signature takes nobody's turn.
    if let Err(why) = shown_tag(&parts.headers) {
        return refuse(StatusCode::UNAUTHORIZED, "bad_signature", why);
    }
    let (turns, most) = match declared {
        Some(length) if length <= SMALL => (&SMALL_TURN, length),
        _ => (&LARGE_TURN, MAX_BODY),
    };
    let deadline = Instant::now() + PATIENCE;
    let Ok(Ok(_turn)) = tokio::time::timeout_at(deadline, turns.acquire()).await else {
        return face(&Error::Unavailable(
            "Too many deliveries at once; send this one again in a moment.".into(),
        ));
    };
    let body = match tokio::time::timeout_at(deadline, to_bytes(body, most)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return too_large(),
        Err(_) => {
            return refuse(
                StatusCode::REQUEST_TIMEOUT,
                "timeout",
                "The body did not arrive in time; send the delivery again.",
            );
        }
    };
    match take(&app, &parts.headers, &body).await {
        Ok(response) => response,
        Err(error) => {
            if let Error::Internal(cause) = &error {
                tracing::error!(error = format!("{cause:#}"), "a webhook could not be taken");
            }
            face(&error)
        }
    }
}

async fn take(app: &App, headers: &HeaderMap, body: &Bytes) -> Result<Response> {
    let mut db = app.db.acquire().await?;
    let Some(registration) = registration::find(&mut db, &app.kek).await? else {
        return Ok(refuse(
            StatusCode::NOT_FOUND,
            "no_app",
            "No GitHub App is set up on this platform.",
        ));
    };
    if let Err(why) = verify(app, &registration, headers, body) {
        return Ok(refuse(StatusCode::UNAUTHORIZED, "bad_signature", why));
    }
    let (Some(event), Some(id)) = (
        name(headers, "x-github-event"),
        name(headers, "x-github-delivery"),
    ) else {
        return Ok(refuse(
            StatusCode::BAD_REQUEST,
            "bad_headers",
            "X-GitHub-Event and X-GitHub-Delivery are needed.",
        ));
    };
    let payload = payload_of(headers, body);
    // The parser gives up on what is nested more than 128 deep.
    let parsed: std::result::Result<Envelope, _> = serde_json::from_slice(&payload);
    let ignored = parsed
        .is_err()
        .then_some("The body is no JSON that can be read.");
    let envelope = parsed.unwrap_or_default();
    let reference = match envelope.number {
        Some(number) if event == "pull_request" => Some(format!("refs/pull/{number}/head")),
        _ => envelope.reference,
    };
    let (action, reference) = (plain(envelope.action), plain(reference));
    let arrival = Arrival {
        id,
        event,
        action: action.as_deref(),
        installation: envelope.installation.map(|it| it.id),
        repository: envelope.repository.map(|it| it.id),
        reference: reference.as_deref(),
        payload: &payload,
        ignored,
    };
    let added = deliveries::add(&mut db, &arrival, app.clock.now()).await?;
    let (status, state) = if added {
        (StatusCode::ACCEPTED, "accepted")
    } else {
        (StatusCode::OK, "known")
    };
    Ok((status, Json(json!({ "delivery": id, "state": state }))).into_response())
}

/// The signature that a delivery shows.
fn shown_tag(headers: &HeaderMap) -> Result<[u8; 32], &'static str> {
    let Some(shown) = headers.get("x-hub-signature-256") else {
        return Err(if headers.contains_key("x-hub-signature") {
            "The delivery is signed with SHA-1 only; X-Hub-Signature-256 is needed."
        } else {
            "The delivery is not signed; X-Hub-Signature-256 is needed."
        });
    };
    shown
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix("sha256="))
        .and_then(unhex)
        .ok_or("X-Hub-Signature-256 is not of the form sha256= and 64 hexadecimal digits.")
}

/// HMAC-SHA256 over the body as it came, in constant time, under one of the secrets of now.
fn verify(
    app: &App,
    registration: &Registration,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(), &'static str> {
    let tag = shown_tag(headers)?;
    let mut genuine = false;
    for secret in registration.webhook_secrets(app.clock.now()) {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        genuine |= hmac::verify(&key, body, &tag).is_ok();
    }
    if genuine {
        Ok(())
    } else {
        Err(
            "The signature does not fit the body; compare the webhook secret at GitHub with the one of this platform.",
        )
    }
}

/// The 32 bytes of 64 hexadecimal digits.
fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0_u8; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(bytes)
}

/// A hook may be set to send forms, with the JSON in one field.
fn payload_of(headers: &HeaderMap, body: &Bytes) -> Bytes {
    let form = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    if !form {
        return body.clone();
    }
    url::form_urlencoded::parse(body)
        .find(|(name, _)| name == "payload")
        .map(|(_, value)| Bytes::from(value.into_owned()))
        .unwrap_or_default()
}

/// A header that names something, if it is a plain word.
fn name<'a>(headers: &'a HeaderMap, header: &str) -> Option<&'a str> {
    let text = headers.get(header)?.to_str().ok()?;
    let plain = !text.is_empty()
        && text.len() <= MAX_NAME
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    plain.then_some(text)
}

/// Without what Postgres or a log could not bear.
fn plain(text: Option<String>) -> Option<String> {
    text.filter(|text| text.len() <= MAX_TEXT && !text.chars().any(char::is_control))
}

fn too_large() -> Response {
    refuse(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too_large",
        "A delivery has at most 25 MiB.",
    )
}

fn face(error: &Error) -> Response {
    refuse(error.status(), "failed", &error.to_string())
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "error": code, "message": message }))).into_response()
}
