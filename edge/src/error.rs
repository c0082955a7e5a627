//! Answers that the edge makes itself because it cannot or may not pass a request on. Each says
//! what to do. On MCP paths they are JSON-RPC errors that carry the request's id.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, EXPECT, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, BodyStream};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::access::is_mcp_path;
use crate::body::{PEEK, ResponseBody};
use crate::caller::Caller;
use crate::protocol::EdgeStep;

/// JSON-RPC code of errors that the server, here the edge, defines (JSON-RPC 2.0 section 5.1).
const SERVER_ERROR: i32 = -32000;

/// JSON-RPC code for a session that does not exist, as the MCP SDKs use it.
const INVALID_REQUEST: i32 = -32600;

/// How long the edge waits for a request's id before it refuses without.
const ID_WAIT: Duration = Duration::from_secs(5);

/// Longest request id that is echoed, in bytes.
const MAX_ID: usize = 256;

/// Most of an oversize body that is read and thrown away, so that a client that writes all of it
/// before it reads hears why. In bytes.
const DISCARD: usize = 64 * 1024 * 1024;

/// A request that the edge answers with an error.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    code: i32,
    message: Cow<'static, str>,
    retry_after: Option<HeaderValue>,
    challenge: Option<HeaderValue>,
    form: Form,
    /// The step of a client's connection that ends here.
    pub(crate) step: Option<EdgeStep>,
    /// Whose token came with the request, where one was verified.
    pub(crate) caller: Option<Arc<Caller>>,
}

/// How an error is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As a JSON-RPC error.
    JsonRpc,
    /// As a plain JSON object that web pages of any origin may read.
    Plain,
}

impl Refusal {
    /// An error with `message`, a sentence that says what to do.
    pub(crate) fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code: SERVER_ERROR,
            message: message.into(),
            retry_after: None,
            challenge: None,
            form: Form::JsonRpc,
            step: None,
            caller: None,
        }
    }

    /// Nothing is served at a path. Plain JSON without a challenge: clients of MCP 2025-03-26 look
    /// for an authorization server there, and read anything else as an error.
    pub(crate) fn not_served(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            form: Form::Plain,
            step: Some(EdgeStep::PathDenied),
            ..Self::new(StatusCode::NOT_FOUND, message)
        }
    }

    /// The MCP session does not exist: the client must start a new one.
    pub(crate) fn session_not_found() -> Self {
        Self {
            code: INVALID_REQUEST,
            step: Some(EdgeStep::SessionUnknown),
            ..Self::new(
                StatusCode::NOT_FOUND,
                "Session not found: the instance that held it is gone. Start a new MCP session with initialize.",
            )
        }
    }

    /// The request body is larger than the edge takes.
    pub(crate) fn too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "The request body is larger than 10 MiB. Send less at once.",
        )
    }

    /// Asks the client to come again after `seconds`.
    pub(crate) fn retry_after(mut self, seconds: u16) -> Self {
        self.retry_after = Some(HeaderValue::from(seconds));
        self
    }

    /// Adds the `WWW-Authenticate` header.
    pub(crate) fn challenge(mut self, challenge: &HeaderValue) -> Self {
        self.challenge = Some(challenge.clone());
        self
    }

    /// Names the step of a client's connection that ends here.
    pub(crate) fn step(mut self, step: EdgeStep) -> Self {
        self.step = Some(step);
        self
    }

    /// Names whose token came with the request.
    pub(crate) fn caller(mut self, caller: Option<Arc<Caller>>) -> Self {
        self.caller = caller;
        self
    }

    /// The status it will have.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// As a JSON-RPC error response to the request `id`, null where it is not known.
    pub(crate) fn json_rpc(self, id: Option<&Value>) -> Response<ResponseBody> {
        let body = json!({
            "jsonrpc": "2.0",
            "id": id,
            "error": { "code": self.code, "message": self.message },
        });
        self.respond(&body)
    }

    /// As a plain JSON object, for paths that do not speak JSON-RPC.
    pub(crate) fn json(self) -> Response<ResponseBody> {
        let body = json!({
            "error": self.status.canonical_reason().unwrap_or("Error").to_ascii_lowercase().replace(' ', "_"),
            "error_description": self.message,
        });
        self.respond(&body)
    }

    /// As a small page, for browsers.
    pub(crate) fn page(self) -> Response<ResponseBody> {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let text = self.message.replace('&', "&amp;").replace('<', "&lt;");
        let page = format!(
            "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>\
             <body style=\"font:16px system-ui;max-width:36em;margin:4em auto;padding:0 1em\">\
             <h1>{title}</h1><p>{text}</p>"
        );
        let mut response = self.respond(&Value::Null);
        *response.body_mut() = ResponseBody::own(page);
        response.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        );
        response
    }

    fn respond(self, body: &Value) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::own(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds);
        }
        if let Some(challenge) = self.challenge {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// An error in answer to a request whose body was not passed on.
pub(crate) async fn refuse(
    refusal: Refusal,
    headers: &HeaderMap,
    body: Incoming,
) -> Response<ResponseBody> {
    if refusal.form == Form::Plain {
        let mut response = refusal.json();
        response
            .headers_mut()
            .insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        return response;
    }
    if body.size_hint().lower() > PEEK as u64 {
        discard(headers, body).await;
        return refusal.json_rpc(None);
    }
    let id = if body.is_end_stream() {
        None
    } else {
        read_id(headers, body).await
    };
    refusal.json_rpc(id.as_ref())
}

/// An error in answer to a request whose host has no project: as [`refuse`] writes it where an MCP
/// client asks, else as plain JSON.
pub(crate) async fn answer(
    refusal: Refusal,
    parts: &Parts,
    body: Incoming,
) -> Response<ResponseBody> {
    if is_mcp_path(parts.uri.path()) {
        refuse(refusal, &parts.headers, body).await
    } else {
        refusal.json()
    }
}

/// Reads the JSON-RPC id from a body that was not passed on; the body is used up.
async fn read_id(headers: &HeaderMap, body: Incoming) -> Option<Value> {
    // A client that waits for 100 Continue has not sent the body, and need not.
    if headers.contains_key(EXPECT) {
        return None;
    }
    let limited = http_body_util::Limited::new(body, PEEK);
    let body = tokio::time::timeout(ID_WAIT, limited.collect())
        .await
        .ok()?
        .ok()?;
    find_id(&body.to_bytes())
}

/// The id in a JSON-RPC request; none where it is a batch, a notification, or cut off.
pub(crate) fn find_id(body: &[u8]) -> Option<Value> {
    #[derive(Deserialize)]
    struct Message {
        id: Value,
    }
    let id = serde_json::from_slice::<Message>(body).ok()?.id;
    let short = match &id {
        Value::Number(_) => true,
        Value::String(text) => text.len() <= MAX_ID,
        _ => false,
    };
    short.then_some(id)
}

/// Reads an oversize body to its end, within bounds, so that the answer is heard.
pub(crate) async fn discard(headers: &HeaderMap, body: Incoming) {
    if headers.contains_key(EXPECT) {
        return;
    }
    let read = async {
        let mut frames = BodyStream::new(body);
        let mut left = DISCARD;
        while let Some(Ok(frame)) = frames.next().await {
            let chunk = frame.into_data().map_or(0, |chunk: Bytes| chunk.len());
            let Some(rest) = left.checked_sub(chunk) else {
                return;
            };
            left = rest;
        }
    };
    // Too slow is as good as too long: the answer goes out now.
    let _ = tokio::time::timeout(ID_WAIT, read).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_found_where_it_can_be_echoed() {
        assert_eq!(
            find_id(br#"{"jsonrpc":"2.0","method":"x","id":7}"#),
            Some(json!(7))
        );
        assert_eq!(
            find_id(br#"{"id":"a","params":{"id":1}}"#),
            Some(json!("a"))
        );
        assert_eq!(find_id(br#"[{"id":1}]"#), None);
        assert_eq!(find_id(br#"{"method":"n"}"#), None);
        assert_eq!(find_id(br#"{"id":{"a":1}}"#), None);
        assert_eq!(find_id(b"{\"id\":1, \"par"), None);
    }
}
