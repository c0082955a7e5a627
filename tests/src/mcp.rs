//! Plain MCP calls, for counting and timing; the real clients are in [`crate::python`].

use anyhow::{Context as _, Result};
use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};

use crate::platform::Platform;

/// The commit that an answer came from.
pub fn served_commit(answer: &Response) -> Result<String> {
    let commit = answer.headers().get("berth-commit");
    Ok(commit.context("no Berth-Commit")?.to_str()?.to_owned())
}

/// A caller of one project's URL with a token of the owner's.
pub struct Caller {
    http: Client,
    url: String,
    token: String,
}

impl Caller {
    /// Gets an access token through the API.
    pub fn new(platform: &Platform, project: &str) -> Result<Self> {
        let answer: Value = Client::new()
            .post(format!(
                "{}/api/v1/projects/{project}/access-tokens",
                platform.url()
            ))
            .bearer_auth(platform.token()?)
            .send()?
            .json()?;
        let token = answer["access_token"]
            .as_str()
            .with_context(|| format!("no access token: {answer}"))?;
        Self::with_token(platform, project, token)
    }

    /// With a token from elsewhere.
    pub fn with_token(platform: &Platform, project: &str, token: &str) -> Result<Self> {
        Ok(Self {
            http: platform.client_of(project).build()?,
            url: platform.mcp_url(project),
            token: token.to_owned(),
        })
    }

    /// The same token through another edge of this machine.
    pub fn through(&self, project: &str, port: u16) -> Result<Self> {
        let host = format!("{project}.localhost");
        let http = Client::builder()
            .resolve(&host, ([127, 0, 0, 1], port).into())
            .build()?;
        Ok(Self {
            http,
            url: format!("http://{host}:{port}/mcp"),
            token: self.token.clone(),
        })
    }

    /// The access token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// One `tools/call` of revision 2026-07-28, which needs no session. The server must speak it.
    pub fn call(&self, tool: &str, arguments: &Value) -> Result<Response> {
        let params = json!({ "name": tool, "arguments": arguments });
        self.ask("tools/call", tool, params, &json!({}))
    }

    /// One request of that revision about something that has a name, with what the client can do.
    pub fn ask(
        &self,
        method: &str,
        name: &str,
        mut params: Value,
        capabilities: &Value,
    ) -> Result<Response> {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": capabilities,
            "io.modelcontextprotocol/clientInfo": { "name": "berth-tests", "version": "1" },
        });
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        Ok(self
            .http
            .post(&self.url)
            .bearer_auth(&self.token)
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", method)
            .header("mcp-name", name)
            .json(&body)
            .send()?)
    }
}
