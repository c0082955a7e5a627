//! The MCP probe: what a server offers, asked the way a client would.
//!
//! First the revision without a handshake (2026-07-28, `server/discover`), else `initialize`
//! (2025-11-25 and what the server makes of it), then every list its capabilities name. The
//! `Host` header is the public host, so that a server that guards against unknown hosts shows it
//! here and not to the first user.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HOST};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use crate::client;
use crate::protocol::Surface;

/// The revision without a handshake, MCP `2026-07-28` basic/versioning.
const MODERN: &str = "2026-07-28";
/// The newest revision with one.
const LEGACY: &str = "2025-11-25";
/// How long one answer may take. The first request of a Python server still imports.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer read; a page of tools with long descriptions is far smaller.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;
/// Pages of one list, so that a server that gives a cursor for ever ends somewhere.
const MAX_PAGES: usize = 50;
/// Entries of one list that are kept.
const MAX_ENTRIES: usize = 5_000;
/// Bytes of one list that are kept: it goes to the control plane with every report.
const MAX_LIST_BYTES: usize = 512 * 1024;
/// What is kept of an answer that is not MCP, to say what was seen.
const EXCERPT_CHARS: usize = 300;

/// Why the probe did not get an answer it understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeFailure {
    /// An HTTP status that means no.
    Status {
        /// The MCP method asked.
        method: String,
        /// The status.
        status: u16,
        /// The beginning of the body.
        excerpt: String,
    },
    /// A JSON-RPC error.
    Refused {
        /// The MCP method asked.
        method: String,
        /// JSON-RPC error code.
        code: i64,
        /// Its message.
        message: String,
    },
    /// It answered, but not as an MCP server does.
    NotMcp {
        /// The MCP method asked.
        method: String,
        /// The beginning of the body.
        excerpt: String,
    },
    /// No answer in time.
    Timeout {
        /// The MCP method asked.
        method: String,
    },
    /// The connection could not be made or broke.
    Connection {
        /// What happened.
        message: String,
    },
}

/// Asks instances what they offer.
#[derive(Clone)]
pub struct Prober {
    client: Client,
}

/// One conversation with one server.
struct Conversation<'a> {
    client: &'a Client,
    url: String,
    host: &'a str,
    version: String,
    session: Option<String>,
    next_id: u64,
}

impl Prober {
    /// A prober; one is enough for the whole runner.
    pub fn new() -> anyhow::Result<Self> {
        let client = client::direct(false)?;
        Ok(Self { client })
    }

    /// Asks the server at `address` under the public `host` (with its port, if it has one).
    pub async fn probe(&self, address: SocketAddr, host: &str) -> Result<Surface, ProbeFailure> {
        let mut talk = Conversation {
            client: &self.client,
            url: format!("http://{address}/mcp"),
            host,
            version: MODERN.to_owned(),
            session: None,
            next_id: 1,
        };
        let opening = match talk.request("server/discover", Map::new()).await {
            Ok(found) => found,
            // Only silence and broken connections are not worth a second question: a server that
            // does not know the modern revision says so in a way of its own.
            Err(failure @ (ProbeFailure::Timeout { .. } | ProbeFailure::Connection { .. })) => {
                return Err(failure);
            }
            Err(_) => talk.initialize().await?,
        };
        let surface = talk.surface(&opening).await;
        talk.close().await;
        surface
    }
}

impl Conversation<'_> {
    fn is_modern(&self) -> bool {
        self.version.as_str() >= MODERN
    }

    /// The handshake of revisions up to 2025-11-25.
    async fn initialize(&mut self) -> Result<Value, ProbeFailure> {
        LEGACY.clone_into(&mut self.version);
        // Servers of the official SDK 1 name a session even in refusing the first question; it
        // is not one that can be initialized.
        self.session = None;
        let params = json!({
            "protocolVersion": LEGACY,
            "capabilities": {},
            "clientInfo": {"name": "berth", "version": env!("CARGO_PKG_VERSION")},
        });
        let Value::Object(params) = params else {
            unreachable!("the literal above is an object");
        };
        let result = self.request("initialize", params).await?;
        if let Some(version) = result["protocolVersion"].as_str() {
            version.clone_into(&mut self.version);
        }
        let note = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        self.send("notifications/initialized", &note).await?;
        Ok(result)
    }

    async fn surface(&mut self, opening: &Value) -> Result<Surface, ProbeFailure> {
        let capabilities = opening["capabilities"].clone();
        let mut surface = Surface {
            protocol_version: self.version.clone(),
            server_info: server_info(opening),
            instructions: opening["instructions"].as_str().map(str::to_owned),
            ..Surface::default()
        };
        if !capabilities["tools"].is_null() {
            surface.tools = self.list("tools/list", "tools").await?;
        }
        if !capabilities["prompts"].is_null() {
            surface.prompts = self.list("prompts/list", "prompts").await?;
        }
        if !capabilities["resources"].is_null() {
            surface.resources = self.list("resources/list", "resources").await?;
            surface.resource_templates = self
                .list("resources/templates/list", "resourceTemplates")
                .await?;
        }
        surface.capabilities = capabilities;
        super::fit::fit(&mut surface);
        Ok(surface)
    }

    /// All pages of a list. A method the server does not have after all is an empty list.
    async fn list(&mut self, method: &str, field: &str) -> Result<Vec<Value>, ProbeFailure> {
        const METHOD_NOT_FOUND: i64 = -32601;
        let mut entries: Vec<Value> = Vec::new();
        let mut bytes = 0;
        let mut cursor = None;
        for _ in 0..MAX_PAGES {
            let mut params = Map::new();
            if let Some(cursor) = cursor.take() {
                params.insert("cursor".to_owned(), cursor);
            }
            let mut page = match self.request(method, params).await {
                Err(ProbeFailure::Refused {
                    code: METHOD_NOT_FOUND,
                    ..
                }) => break,
                other => other?,
            };
            let Value::Array(found) = page[field].take() else {
                break;
            };
            for entry in found {
                bytes += entry.to_string().len();
                if entries.len() >= MAX_ENTRIES || bytes > MAX_LIST_BYTES {
                    return Ok(entries);
                }
                entries.push(entry);
            }
            let next = page["nextCursor"].take();
            if next.is_null() {
                break;
            }
            cursor = Some(next);
        }
        Ok(entries)
    }

    async fn request(
        &mut self,
        method: &str,
        mut params: Map<String, Value>,
    ) -> Result<Value, ProbeFailure> {
        let id = self.next_id;
        self.next_id += 1;
        if self.is_modern() {
            params.insert(
                "_meta".to_owned(),
                json!({
                    "io.modelcontextprotocol/protocolVersion": self.version,
                    "io.modelcontextprotocol/clientCapabilities": {},
                    "io.modelcontextprotocol/clientInfo":
                        {"name": "berth", "version": env!("CARGO_PKG_VERSION")},
                }),
            );
        }
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let (status, body) = self.send(method, &message).await?;
        read_answer(method, id, status, &body)
    }

    /// Posts a message; gives the status and as much of the body as it takes to hold the answer.
    async fn send(
        &mut self,
        method: &str,
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
            request = request.header("mcp-protocol-version", &self.version);
        }
        if self.is_modern() {
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
    async fn close(&mut self) {
        let Some(session) = self.session.take() else {
            return;
        };
        let request = self
            .client
            .request(Method::DELETE, &self.url)
            .header(HOST, self.host)
            .header("mcp-protocol-version", &self.version)
            .header("mcp-session-id", session)
            .send();
        if timeout(REQUEST_TIMEOUT, request).await.is_err() {
            tracing::debug!("an instance did not end the probe's session in time");
        }
    }
}

/// Where a server says who it is: in the handshake's result, or in the metadata of a modern one.
fn server_info(opening: &Value) -> Value {
    let legacy = &opening["serverInfo"];
    if legacy.is_null() {
        opening["_meta"]["io.modelcontextprotocol/serverInfo"].clone()
    } else {
        legacy.clone()
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// The JSON-RPC answer to `id` in a body that is JSON or a stream of events.
fn find_answer(body: &[u8], id: Option<u64>) -> Option<Value> {
    let is_answer = |message: &Value| {
        let answers = message.get("result").is_some() || message.get("error").is_some();
        // An error about a message that could not be read has no id.
        answers && (message["id"].as_u64() == id || message["id"].is_null())
    };
    if let Ok(message) = serde_json::from_slice::<Value>(body) {
        return is_answer(&message).then_some(message);
    }
    let text = String::from_utf8_lossy(body);
    // Only whole events: the last one may still be on its way.
    let whole = text.rfind("\n\n").or_else(|| text.rfind("\r\n\r\n"))?;
    text[..whole]
        .replace("\r\n", "\n")
        .split("\n\n")
        .filter_map(|event| {
            let data: Vec<&str> = event
                .lines()
                .filter_map(|line| line.strip_prefix("data:"))
                .map(|data| data.strip_prefix(' ').unwrap_or(data))
                .collect();
            serde_json::from_str::<Value>(&data.join("\n")).ok()
        })
        .find(is_answer)
}

fn read_answer(
    method: &str,
    id: u64,
    status: StatusCode,
    body: &[u8],
) -> Result<Value, ProbeFailure> {
    let method = method.to_owned();
    let excerpt = || {
        String::from_utf8_lossy(body)
            .chars()
            .take(EXCERPT_CHARS)
            .collect::<String>()
    };
    let Some(mut answer) = find_answer(body, Some(id)) else {
        return Err(if status.is_success() {
            ProbeFailure::NotMcp {
                method,
                excerpt: excerpt(),
            }
        } else {
            ProbeFailure::Status {
                method,
                status: status.as_u16(),
                excerpt: excerpt(),
            }
        });
    };
    if let Some(result) = answer.get_mut("result") {
        return Ok(result.take());
    }
    // Host guards answer with a JSON-RPC error and a status of their own: the status says more.
    if matches!(status.as_u16(), 401 | 403 | 421) {
        return Err(ProbeFailure::Status {
            method,
            status: status.as_u16(),
            excerpt: excerpt(),
        });
    }
    let error = &answer["error"];
    Err(ProbeFailure::Refused {
        method,
        code: error["code"].as_i64().unwrap_or_default(),
        message: error["message"].as_str().unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> Result<Value, ProbeFailure> {
        read_answer(
            "tools/list",
            2,
            StatusCode::from_u16(status).unwrap(),
            body.as_bytes(),
        )
    }

    #[test]
    fn json_and_events_are_read() {
        let json = r#"{"jsonrpc":"2.0","id":2,"result":{"tools":[]}}"#;
        assert_eq!(read(200, json).unwrap(), json!({"tools": []}));
        let events =
            format!(": ping\n\nevent: message\ndata: {{\"method\":\"x\"}}\n\ndata: {json}\n\n");
        assert_eq!(read(200, &events).unwrap(), json!({"tools": []}));
        let crlf = format!("event: message\r\ndata: {json}\r\n\r\n");
        assert_eq!(read(200, &crlf).unwrap(), json!({"tools": []}));
    }

    #[test]
    fn an_event_over_several_lines_is_joined_and_half_an_event_waits() {
        let body = b"data: {\"id\":2,\ndata: \"result\":{}}\n\n";
        assert!(find_answer(body, Some(2)).is_some());
        assert!(find_answer(&body[..body.len() - 1], Some(2)).is_none());
    }

    #[test]
    fn answers_to_other_questions_are_not_ours() {
        assert!(matches!(
            read(200, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#),
            Err(ProbeFailure::NotMcp { .. })
        ));
    }

    #[test]
    fn errors_are_told_apart() {
        assert_eq!(
            read(200, r#"{"id":2,"error":{"code":-32601,"message":"no"}}"#),
            Err(ProbeFailure::Refused {
                method: "tools/list".into(),
                code: -32601,
                message: "no".into()
            })
        );
        assert_eq!(
            read(421, "Invalid Host header"),
            Err(ProbeFailure::Status {
                method: "tools/list".into(),
                status: 421,
                excerpt: "Invalid Host header".into()
            })
        );
        assert!(matches!(
            read(
                403,
                r#"{"id":null,"error":{"code":-32000,"message":"Invalid Host"}}"#
            ),
            Err(ProbeFailure::Status { status: 403, .. })
        ));
        assert!(matches!(
            read(200, "<html>"),
            Err(ProbeFailure::NotMcp { .. })
        ));
        assert!(matches!(
            read(404, "Not Found"),
            Err(ProbeFailure::Status { status: 404, .. })
        ));
    }

    #[test]
    fn who_a_server_is_stands_in_one_of_two_places() {
        assert_eq!(
            server_info(&json!({"serverInfo": {"name": "a"}}))["name"],
            "a"
        );
        let modern = json!({"_meta": {"io.modelcontextprotocol/serverInfo": {"name": "b"}}});
        assert_eq!(server_info(&modern)["name"], "b");
    }
}
