//! The Rust SDK's client with its own OAuth through every step; the counterpart of
//! `python/flow.py`.
//!
//! usage: client-rmcp URL
#![expect(
    deprecated,
    reason = "log messages are deprecated by the protocol and have to arrive all the same"
)]

use std::io::{BufRead as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use rmcp::model::{
    CallToolRequestParams, ClientCapabilities, ClientConfig, ElicitRequestParams, ElicitResult,
    ElicitationAction, ElicitationCapability, ErrorData, Implementation, LoggingLevel,
    LoggingMessageNotificationParam, ProgressNotificationParam, ProtocolVersion, RequestMetaObject,
};
use rmcp::service::{NotificationContext, RequestContext, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::auth::{
    AuthClient, AuthorizationManager, AuthorizationRequest, AuthorizationSession, CredentialStore,
    InMemoryCredentialStore,
};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt, RoleClient};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

/// What the server said between answers.
#[derive(Clone, Default)]
struct Handler {
    progress: Arc<Mutex<Vec<Value>>>,
    logs: Arc<Mutex<Vec<Value>>>,
}

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        let mut capabilities = ClientCapabilities::default();
        capabilities.elicitation = Some(ElicitationCapability::default());
        ClientConfig::new(capabilities, Implementation::new("test", "1"))
    }

    async fn create_elicitation(
        &self,
        _request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(json!({ "name": "Ada" })))
    }

    async fn on_progress(
        &self,
        step: ProgressNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        push(&self.progress, json!([step.progress, step.total]));
    }

    async fn on_logging_message(
        &self,
        message: LoggingMessageNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        push(&self.logs, message.data["msg"].clone());
    }
}

fn push(list: &Mutex<Vec<Value>>, value: Value) {
    list.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(value);
}

fn all(list: &Mutex<Vec<Value>>) -> Value {
    Value::Array(list.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// One step is done; the test decides whether what was seen is right.
fn say(step: &str, saw: &Value) {
    println!("{}", json!({ "step": step, "saw": saw }));
}

/// Hands a URL to the test, which has the browser; whole or not at all.
fn open_in_browser(url: &str) -> Result<()> {
    let target = tests::setting("TEST_URL_FILE").context("TEST_URL_FILE is not set")?;
    let mut part = target.clone();
    part.push(".part");
    std::fs::File::create(&part)?.write_all(url.as_bytes())?;
    Ok(std::fs::rename(part, target)?)
}

/// Signs in with a listener of its own for the browser's way back.
async fn authorize(url: &str, store: &InMemoryCredentialStore) -> Result<AuthorizationManager> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let redirect_uri = format!("http://{}/callback", listener.local_addr()?);
    let mut manager = AuthorizationManager::new(url).await?;
    manager.set_credential_store(store.clone());
    let resolution = manager.resolve_metadata().await?;
    manager.set_metadata(resolution.metadata);
    let request = AuthorizationRequest::new(&redirect_uri)
        .with_client_name("Rust SDK")
        .with_initial_scope_selection();
    let session = AuthorizationSession::new(manager, request)
        .await
        .map_err(|(_, error)| error)?;
    open_in_browser(session.get_authorization_url())?;
    let came_back = loop {
        let (mut stream, _) = listener.accept().await?;
        let mut line = String::new();
        BufReader::new(&mut stream).read_line(&mut line).await?;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\ndone")
            .await?;
        let target = line.split(' ').nth(1).context("no request line")?;
        if target.starts_with("/callback?") {
            break redirect_uri.replace("/callback", target);
        }
    };
    session.handle_callback_url(&came_back).await?;
    Ok(session.auth_manager)
}

type Client = RunningService<RoleClient, Handler>;

async fn call(client: &Client, tool: &'static str, arguments: &Value) -> Result<String> {
    let mut request = CallToolRequestParams::new(tool)
        .with_arguments(arguments.as_object().cloned().unwrap_or_default());
    // From 2026-07-28 on, each request asks for log messages by itself.
    let mut meta = RequestMetaObject::default();
    meta.set_log_level(LoggingLevel::Info);
    request.meta = Some(meta);
    let answer = client.call_tool(request).await?;
    let text = answer.content.first().and_then(|block| block.as_text());
    Ok(text.context("no text")?.text.clone())
}

/// An hour passes for the store, and the next call must renew the token.
async fn refresh(client: &Client, store: &InMemoryCredentialStore) -> Result<Value> {
    let mut kept = store.load().await?.context("no credentials")?;
    let before = json!(kept.token_response)["access_token"].clone();
    kept.token_received_at = Some(1);
    store.save(kept).await?;
    let text = call(client, "add", &json!({ "a": 1, "b": 1 })).await?;
    let kept = store.load().await?.context("no credentials")?;
    let tokens = json!(kept.token_response);
    let renewed = tokens["refresh_token"].is_string() && tokens["access_token"] != before;
    Ok(json!({ "text": text, "renewed": renewed }))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let url = std::env::args().nth(1).context("usage: client-rmcp URL")?;
    let store = InMemoryCredentialStore::new();
    let manager = authorize(&url, &store).await?;
    let http = AuthClient::new(reqwest::Client::default(), manager);
    let config = StreamableHttpClientTransportConfig::with_uri(url);
    let handler = Handler::default();
    let lifecycle = ClientLifecycleMode::Auto {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        legacy_version: None,
    };
    let client = handler
        .clone()
        .serve_with_lifecycle(
            StreamableHttpClientTransport::with_client(http, config),
            lifecycle,
        )
        .await?;
    say("connect", &json!({ "client": "rmcp 3.11.0" }));
    let mut tools: Vec<String> = client
        .list_all_tools()
        .await?
        .iter()
        .map(|tool| tool.name.to_string())
        .collect();
    tools.sort();
    say("list", &json!({ "tools": tools }));
    let text = call(&client, "add", &json!({ "a": 40, "b": 2 })).await?;
    say("call", &json!({ "text": text }));
    let text = call(&client, "work", &json!({ "steps": 3 })).await?;
    let (progress, logs) = (all(&handler.progress), all(&handler.logs));
    say(
        "notifications",
        &json!({ "text": text, "progress": progress, "logs": logs }),
    );
    let text = call(&client, "ask", &json!({})).await?;
    say("input", &json!({ "text": text }));
    say("refresh", &refresh(&client, &store).await?);
    let before = call(&client, "commit", &json!({})).await?;
    say("waiting", &json!({}));
    std::io::stdin().lock().read_line(&mut String::new())?;
    let after = call(&client, "commit", &json!({})).await?;
    say("redeploy", &json!({ "before": before, "after": after }));
    client.cancel().await?;
    Ok(())
}
