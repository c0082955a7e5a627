//! The MCP probe: what a server offers, asked the way a client would.
//!
//! First the revision without a handshake (2026-07-28, `server/discover`), else `initialize`
//! (2025-11-25 and what the server makes of it), then every list its capabilities name. The
//! `Host` header is the public host, so that a server that guards against unknown hosts shows it
//! here and not to the first user; it is then asked again as `localhost`. A server without an
//! endpoint at `/mcp` is asked over HTTP+SSE (2024-11-05), and then at the paths where endpoints
//! end up by mistake, to say where it is.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::answer::{read_answer, server_info, supported_versions};
use super::http::Http;
use super::sse::Sse;
use crate::client;
use crate::diagnose::refuses_host;
use crate::protocol::{HostHeader, Surface, Transport};

/// The revision without a handshake, MCP `2026-07-28` basic/versioning.
pub const MODERN: &str = "2026-07-28";
/// The newest revision with one.
const LEGACY: &str = "2025-11-25";
/// The revision of HTTP+SSE, MCP `2024-11-05` basic/transports.
const FIRST: &str = "2024-11-05";
/// How long one answer may take. The first request of a Python server still imports.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer read; a page of tools with long descriptions is far smaller.
pub const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;
/// Pages of one list, so that a server that gives a cursor for ever ends somewhere.
const MAX_PAGES: usize = 50;
/// Entries of one list that are kept.
const MAX_ENTRIES: usize = 5_000;
/// Bytes of one list that are kept: it goes to the control plane with every report.
const MAX_LIST_BYTES: usize = 512 * 1024;
/// What is said of a server that answers only those whom it knows.
const OWN_SIGN_IN: &str = "The server asks for its own sign-in, as access mode tenant lets it, so what it offers is not known here.";

/// Where endpoints end up that were mounted below a path and have one of their own.
const OTHER_PATHS: &[&str] = &["/mcp/mcp", "/mcp/", "/", "/api/mcp", "/v1/mcp"];

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
    /// There is no MCP endpoint at `/mcp`, and one at another path.
    Elsewhere {
        /// The status at `/mcp`.
        status: u16,
        /// The path.
        path: String,
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

/// What a healthy server answered, and how it has to be asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// What it offers; `None` where it shows that only to those who sign in with it.
    pub surface: Option<Surface>,
    /// Which host it has to be told.
    pub host_header: HostHeader,
    /// What its people should know of that: one sentence each.
    pub notices: Vec<String>,
}

impl ProbeFailure {
    /// Whether the server guards against the host that it was told.
    pub(super) fn refuses_host(&self) -> bool {
        matches!(self, Self::Status { status, excerpt, .. } if refuses_host(*status, excerpt))
    }

    /// Whether the server wants to know first who asks.
    pub(super) fn asks_to_sign_in(&self) -> bool {
        matches!(
            self,
            Self::Status {
                status: 401 | 403,
                ..
            }
        ) && !self.refuses_host()
    }

    /// Whether there is no MCP endpoint at `/mcp`.
    fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Status { status, .. } if matches!(status, 307 | 308 | 404 | 405))
    }
}

/// Whether a server answers at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// With whatever it is, or it cannot be reached, which is noticed elsewhere.
    Answers,
    /// Not within this time.
    Silent(Duration),
}

/// A server that is to be asked.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its public host, with its port if it has one.
    pub host: &'a str,
    /// Whether it decides itself who may call. That it asks to sign in is then the answer of a
    /// healthy server, and as much as can be learned from outside.
    pub own_sign_in: bool,
}

/// Asks instances what they offer.
#[derive(Clone)]
pub struct Prober {
    client: Client,
}

/// One conversation with one server.
struct Conversation<'a> {
    wire: Wire<'a>,
    version: String,
    next_id: u64,
}

/// How messages travel.
enum Wire<'a> {
    /// Streamable HTTP, from 2025-03-26.
    Http(Http<'a>),
    /// HTTP+SSE.
    Sse(Sse<'a>),
}

impl Wire<'_> {
    fn transport(&self) -> Transport {
        match self {
            Self::Http(_) => Transport::StreamableHttp,
            Self::Sse(_) => Transport::Sse,
        }
    }

    /// Sends a message; gives the status and as much of the body as it takes to hold the answer.
    async fn send(
        &mut self,
        method: &str,
        version: &str,
        message: &Value,
    ) -> Result<(StatusCode, Vec<u8>), ProbeFailure> {
        match self {
            Self::Http(http) => http.send(method, version, message).await,
            Self::Sse(sse) => sse.send(method, message).await,
        }
    }
}

impl Prober {
    /// A prober; one is enough for the whole runner.
    pub fn new() -> anyhow::Result<Self> {
        let client = client::direct(false)?;
        Ok(Self { client })
    }

    /// Asks a server under its public host, and if it refuses that host, as a client on its own
    /// machine would.
    pub async fn probe(&self, asked: Asked<'_>) -> Result<Found, ProbeFailure> {
        let Asked { address, host, .. } = asked;
        let refused = match self.ask(asked).await {
            Err(failure) if failure.refuses_host() => failure,
            other => {
                return other.map(|(surface, notices)| Found {
                    surface,
                    host_header: HostHeader::Public,
                    notices,
                });
            }
        };
        let local = format!("localhost:{}", address.port());
        let told = Asked {
            host: &local,
            ..asked
        };
        match self.ask(told).await {
            Ok((surface, mut notices)) => {
                notices.push(format!(
                    "The server refuses its public host name {host}, so it is told {local} instead and no Origin; the platform checks both."
                ));
                Ok(Found {
                    surface,
                    host_header: HostHeader::Localhost,
                    notices,
                })
            }
            Err(failure) if failure.refuses_host() => Err(refused),
            Err(failure) => Err(failure),
        }
    }

    /// Whether the server at `address` answers a plain request, with any status: that much every
    /// server does at once whose event loop is not blocked.
    pub async fn is_alive(&self, address: SocketAddr) -> Liveness {
        let request = self.client.head(format!("http://{address}/mcp")).send();
        match timeout(REQUEST_TIMEOUT, request).await {
            Ok(_) => Liveness::Answers,
            Err(_) => Liveness::Silent(REQUEST_TIMEOUT),
        }
    }

    /// Asks under one host.
    async fn ask(&self, asked: Asked<'_>) -> Result<(Option<Surface>, Vec<String>), ProbeFailure> {
        match self.ask_for_all(asked.address, asked.host).await {
            Err(failure) if asked.own_sign_in && failure.asks_to_sign_in() => {
                Ok((None, vec![OWN_SIGN_IN.to_owned()]))
            }
            other => other.map(|(surface, notices)| (Some(surface), notices)),
        }
    }

    /// Asks over whichever transport the server has.
    async fn ask_for_all(
        &self,
        address: SocketAddr,
        host: &str,
    ) -> Result<(Surface, Vec<String>), ProbeFailure> {
        let missing = match self.streamable(address, host).await {
            Err(failure) if failure.is_elsewhere() => failure,
            other => return other.map(|surface| (surface, Vec::new())),
        };
        let Some(sse) = Sse::open(&self.client, address, host).await? else {
            return Err(self.find_elsewhere(address, host, missing).await);
        };
        let notices = sse.notices();
        let mut talk = Conversation {
            wire: Wire::Sse(sse),
            version: FIRST.to_owned(),
            next_id: 1,
        };
        let opening = talk.initialize(FIRST).await?;
        Ok((talk.surface(&opening).await?, notices))
    }

    /// Says at which path the endpoint is, where it is at one of the usual ones.
    async fn find_elsewhere(
        &self,
        address: SocketAddr,
        host: &str,
        missing: ProbeFailure,
    ) -> ProbeFailure {
        let ProbeFailure::Status { status, .. } = missing else {
            return missing;
        };
        for path in OTHER_PATHS {
            let mut talk = self.talk(address, path, host);
            if talk.initialize(LEGACY).await.is_ok() {
                if let Wire::Http(http) = &mut talk.wire {
                    http.close(&talk.version).await;
                }
                let path = (*path).to_owned();
                return ProbeFailure::Elsewhere { status, path };
            }
        }
        missing
    }

    /// A conversation over Streamable HTTP that has not begun.
    fn talk<'a>(&'a self, address: SocketAddr, path: &str, host: &'a str) -> Conversation<'a> {
        Conversation {
            wire: Wire::Http(Http::new(&self.client, address, path, host)),
            version: MODERN.to_owned(),
            next_id: 1,
        }
    }

    async fn streamable(&self, address: SocketAddr, host: &str) -> Result<Surface, ProbeFailure> {
        let mut talk = self.talk(address, "/mcp", host);
        let opening = match talk.request("server/discover", Map::new()).await {
            Ok(found) => found,
            // Only silence and broken connections are not worth a second question: a server that
            // does not know the modern revision says so in a way of its own.
            Err(failure @ (ProbeFailure::Timeout { .. } | ProbeFailure::Connection { .. })) => {
                return Err(failure);
            }
            Err(_) => talk.initialize(LEGACY).await?,
        };
        let surface = talk.surface(&opening).await;
        if let Wire::Http(http) = &mut talk.wire {
            http.close(&talk.version).await;
        }
        surface
    }
}

impl Conversation<'_> {
    fn is_modern(&self) -> bool {
        self.version.as_str() >= MODERN
    }

    /// The handshake of revisions up to 2025-11-25, offering one of them.
    async fn initialize(&mut self, offered: &str) -> Result<Value, ProbeFailure> {
        offered.clone_into(&mut self.version);
        if let Wire::Http(http) = &mut self.wire {
            http.forget_session();
        }
        let params = json!({
            "protocolVersion": offered,
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
        let method = "notifications/initialized";
        let note = json!({"jsonrpc": "2.0", "method": method});
        self.wire.send(method, &self.version, &note).await?;
        Ok(result)
    }

    async fn surface(&mut self, opening: &Value) -> Result<Surface, ProbeFailure> {
        let capabilities = opening["capabilities"].clone();
        let mut surface = Surface {
            protocol_version: self.version.clone(),
            transport: self.wire.transport(),
            protocol_versions: supported_versions(opening),
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
        let (status, body) = self.wire.send(method, &self.version, &message).await?;
        read_answer(method, id, status, &body)
    }
}
