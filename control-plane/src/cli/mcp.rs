//! The least of an MCP client: Streamable HTTP, one request at a time (revision 2025-11-25,
//! basic/transports).

use anyhow::{Context as _, anyhow, bail};
use futures_util::StreamExt as _;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use super::client::root_cause;
use super::exit::Failure;
use super::follow::events;

/// The revision we ask for; the server answers with the one that is spoken.
const REVISION: &str = "2025-11-25";

/// Names the MCP session.
const SESSION: &str = "mcp-session-id";

/// An initialized MCP session.
#[derive(Debug)]
pub struct Session {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
    revision: String,
    id: Option<String>,
    next: u64,
}

impl Session {
    /// Greets the server at `url`, with a token where it wants one.
    pub async fn open(
        http: &reqwest::Client,
        url: &str,
        token: Option<&str>,
    ) -> anyhow::Result<Self> {
        let mut session = Self {
            http: http.clone(),
            url: url.to_owned(),
            token: token.map(str::to_owned),
            revision: String::new(),
            id: None,
            next: 0,
        };
        let greeting = json!({
            "protocolVersion": REVISION,
            "capabilities": {},
            "clientInfo": { "name": "berth", "version": env!("CARGO_PKG_VERSION") },
        });
        let answer = session.request("initialize", &greeting).await?;
        session.revision = answer["protocolVersion"]
            .as_str()
            .unwrap_or(REVISION)
            .to_owned();
        session
            .post(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))
            .await?;
        Ok(session)
    }

    /// Calls a tool; answers the result as the server gave it.
    pub async fn call(&mut self, tool: &str, arguments: &Value) -> anyhow::Result<Value> {
        self.request(
            "tools/call",
            &json!({ "name": tool, "arguments": arguments }),
        )
        .await
    }

    /// Ends the MCP session. A server may refuse; then it ends by itself.
    pub async fn close(self) {
        if self.id.is_some() {
            let _ = self.prepare(self.http.delete(&self.url)).send().await;
        }
    }

    async fn request(&mut self, method: &str, params: &Value) -> anyhow::Result<Value> {
        self.next += 1;
        let id = self.next;
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let response = self.post(&message).await?;
        let streamed = response
            .headers()
            .get("content-type")
            .and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| kind.starts_with("text/event-stream"));
        let mut answer = if streamed {
            from_stream(response, id).await?
        } else {
            response
                .json()
                .await
                .context("the server's answer is no JSON")?
        };
        if let Some(message) = answer["error"]["message"].as_str() {
            bail!("the server answered: {message}");
        }
        Ok(answer["result"].take())
    }

    async fn post(&mut self, message: &Value) -> anyhow::Result<Response> {
        let request = self
            .prepare(self.http.post(&self.url))
            .header("accept", "application/json, text/event-stream")
            .json(message);
        let response = request
            .send()
            .await
            .map_err(|error| anyhow!("{} does not answer: {}", self.url, root_cause(&error)))?;
        let status = response.status();
        if !status.is_success() {
            return Err(refusal(
                &self.url,
                status,
                &response.text().await.unwrap_or_default(),
            ));
        }
        if let Some(id) = response
            .headers()
            .get(SESSION)
            .and_then(|id| id.to_str().ok())
        {
            self.id = Some(id.to_owned());
        }
        Ok(response)
    }

    fn prepare(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let mut request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        if !self.revision.is_empty() {
            request = request.header("mcp-protocol-version", &self.revision);
        }
        if let Some(id) = &self.id {
            request = request.header(SESSION, id);
        }
        request
    }
}

/// The answer to `id`; requests and notifications of the server before it are let pass.
async fn from_stream(response: Response, id: u64) -> anyhow::Result<Value> {
    let mut events = Box::pin(events(response));
    while let Some(event) = events.next().await {
        let message: Value = match serde_json::from_str(&event?.data) {
            Ok(message) => message,
            // Event data may be empty, to prime a reconnection.
            Err(_) => continue,
        };
        if message["id"] == id && message.get("method").is_none() {
            return Ok(message);
        }
    }
    bail!("the server ended its answer early")
}

fn refusal(url: &str, status: StatusCode, body: &str) -> anyhow::Error {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let words = ["/error/message", "/error_description", "/detail", "/error"];
    let words = words
        .iter()
        .find_map(|pointer| body.pointer(pointer)?.as_str());
    let sentence = format!(
        "{url} answered {status}: {}",
        words.unwrap_or("no reason given")
    );
    if status == StatusCode::NOT_FOUND {
        return Failure::NotFound(sentence).into();
    }
    anyhow!(sentence)
}
