//! How MCP clients are told of a project: one snippet for each.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use url::Url;
use url::form_urlencoded::byte_serialize;

/// Ready to paste. The name is a host label, so it needs no quoting anywhere.
#[derive(Debug)]
pub struct Connect {
    pub json: String,
    pub claude_code: String,
    pub codex: String,
    pub python: String,
    /// Opens Cursor.
    pub cursor: String,
    /// Opens VS Code.
    pub vscode: String,
    /// Whether only this machine reaches it.
    pub local: bool,
}

impl Connect {
    /// For the project `name` at `url`.
    pub fn new(name: &str, url: &str) -> Self {
        let server = json!({ "url": url, "type": "http" });
        let config = json!({ "mcpServers": { name: server } });
        let vscode = json!({ "name": name, "type": "http", "url": url }).to_string();
        let cursor = STANDARD.encode(json!({ "url": url }).to_string());
        let escape = |text: &str| {
            byte_serialize(text.as_bytes())
                .collect::<String>()
                .replace('+', "%20")
        };
        Self {
            json: serde_json::to_string_pretty(&config).unwrap_or_else(|_| config.to_string()),
            claude_code: format!("claude mcp add --transport http {name} {url}"),
            codex: format!("[mcp_servers.{name}]\nurl = \"{url}\""),
            python: python(url),
            cursor: format!(
                "cursor://anysphere.cursor-deeplink/mcp/install?name={name}&config={}",
                escape(&cursor)
            ),
            vscode: format!("vscode:mcp/install?{}", escape(&vscode)),
            local: is_local(url),
        }
    }
}

fn python(url: &str) -> String {
    format!(
        "import asyncio\nfrom fastmcp import Client\n\n\
         async def main():\n    async with Client(\"{url}\", auth=\"oauth\") as client:\n        \
         print(await client.list_tools())\n\nasyncio.run(main())"
    )
}

fn is_local(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else {
        return false;
    };
    url.host_str()
        .is_some_and(|host| host == "localhost" || host.ends_with(".localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snippets_name_the_project_and_its_url() {
        let connect = Connect::new("hello", "http://hello.localhost:8080/mcp");
        let read: serde_json::Value = serde_json::from_str(&connect.json).unwrap();
        assert_eq!(
            read,
            json!({ "mcpServers": { "hello": { "url": "http://hello.localhost:8080/mcp", "type": "http" } } })
        );
        assert!(
            connect
                .vscode
                .starts_with("vscode:mcp/install?%7B%22name%22%3A%22hello%22"),
            "{}",
            connect.vscode
        );
        assert!(connect.local);
        assert!(!Connect::new("a", "https://a.apps-example.net/mcp").local);
    }
}
