//! Streamable HTTP: one endpoint, which should be `/mcp`.

use std::net::SocketAddr;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HOST};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use tokio::time::timeout;

use super::ProbeFailure;
use super::answer::{chain, find_answer};
use super::probe::{MAX_ANSWER_BYTES, MODERN, REQUEST_TIMEOUT};

/// The way to one server.
pub struct Http<'a> {
    client: &'a Client,
    url: String,
    host: &'a str,
    session: Option<String>,
}

impl<'a> Http<'a> {
    /// The server at `address`, which is told `host` and asked at `path`.
    pub fn new(client: &'a Client, address: SocketAddr, path: &str, host: &'a str) -> Self {
        Self {
            client,
            url: format!("http://{address}{path}"),
            host,
            session: None,
        }
    }

    /// Servers of the official SDK 1 name a session even in refusing the first question; it is not
    /// one that can be initialized.
    pub fn forget_session(&mut self) {
        self.session = None;
    }

    /// Posts a message; gives the status and as much of the body as it takes to hold the answer.
    pub async fn send(
        &mut self,
        method: &str,
        version: &str,
        message: &Value,
    ) -> Result<(StatusCode, Vec<u8>), ProbeFailure> {
        let mut request = self
            .client
            .request(Method::POST, &self.url)
            .header(HOST, self.host)
            .header(ACCEPT, "application/json, text/event-stream")
            .header(CONTENT_TYPE, "application/json");
        // The header came with 2025-06-18; before the handshake there is nothing agreed to say.
        if method != "initialize" {
            request = request.header("mcp-protocol-version", version);
        }
        if version >= MODERN {
            request = request.header("mcp-method", method);
        }
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session);
        }
        let exchange = async {
            let mut response = request.body(message.to_string()).send().await?;
            let session = response.headers().get("mcp-session-id");
            if let Some(session) = session.and_then(|value| value.to_str().ok()) {
                self.session = Some(session.to_owned());
            }
            let status = response.status();
            let is_stream = response
                .headers()
                .get(CONTENT_TYPE)
                .and_then(|value| value.to_str().ok())
                .is_some_and(|kind| kind.starts_with("text/event-stream"));
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                body.extend_from_slice(&chunk);
                // A stream may stay open after the answer; nothing more of it is needed.
                let answered = is_stream && find_answer(&body, message["id"].as_u64()).is_some();
                if answered || body.len() > MAX_ANSWER_BYTES {
                    break;
                }
            }
            Ok::<_, reqwest::Error>((status, body))
        };
        match timeout(REQUEST_TIMEOUT, exchange).await {
            Err(_) => Err(ProbeFailure::Timeout {
                method: method.to_owned(),
            }),
            Ok(Err(error)) => Err(ProbeFailure::Connection {
                message: chain(&error),
            }),
            Ok(Ok(answer)) => Ok(answer),
        }
    }

    /// Ends a session the probe opened; a server that has none, or keeps it, is as good.
    pub async fn close(&mut self, version: &str) {
        let Some(session) = self.session.take() else {
            return;
        };
        let request = self
            .client
            .request(Method::DELETE, &self.url)
            .header(HOST, self.host)
            .header("mcp-protocol-version", version)
            .header("mcp-session-id", session)
            .send();
        if timeout(REQUEST_TIMEOUT, request).await.is_err() {
            tracing::debug!("an instance did not end the probe's session in time");
        }
    }
}
