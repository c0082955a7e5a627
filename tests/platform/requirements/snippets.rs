//! R57: what clients are told names exactly the address of the project.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tests::repository::Repository;
use tests::{node, platform, python};

use super::{Echo, echo};
use crate::Test;

pub const TESTS: &[Test] = &[
    ("r57_every_client_is_told_the_canonical_url", r57),
    ("r57_of_http_and_sse_clients_are_told_the_stream", r57_sse),
];

/// A server of the deprecated transport.
const OLD_TRANSPORT: &str = r#"
from fastmcp import FastMCP

server = FastMCP("old transport")

@server.tool
def add(a: int, b: int) -> int:
    return a + b

app = server.http_app(transport="sse")
"#;

/// A project whose server speaks HTTP+SSE alone; tests share it.
pub(super) fn old_transport() -> Result<Arc<Echo>> {
    static SHARED: Mutex<Option<Arc<Echo>>> = Mutex::new(None);
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(echo) = shared.as_ref() {
        return Ok(echo.clone());
    }
    let repository = Repository::new(&[
        ("main.py", OLD_TRANSPORT),
        ("requirements.txt", "fastmcp==3.4.10\n"),
    ])?;
    let echo = Arc::new(Echo::deploy(
        platform::shared()?,
        "old-transport",
        &repository,
    )?);
    *shared = Some(echo.clone());
    Ok(echo)
}

/// What clients of a project are told, and the addresses that may stand in it.
struct Told<'a> {
    echo: &'a Echo,
    /// The path of its endpoint.
    path: &'static str,
    credential: &'static str,
}

impl Told<'_> {
    /// The address, and the one that takes API tokens only where one may be shown.
    fn addresses(&self) -> Vec<String> {
        let key_origin = self.echo.origin().replacen('.', "--key.", 1);
        let mut all = vec![format!("{}{}", self.echo.origin(), self.path)];
        if self.credential == "api-token" {
            all.push(format!("{key_origin}{}", self.path));
        }
        all
    }

    /// Every address of the project in `text` is one of these, to the letter, and there is one.
    fn check(&self, what: &str, text: &str) -> Result<()> {
        let addresses = self.addresses();
        let mut named = 0;
        for (at, _) in text.match_indices(&format!("http://{}", self.echo.project)) {
            let rest = &text[at..];
            let is_one = addresses.iter().any(|address| {
                let after = rest.strip_prefix(address.as_str());
                after.is_some_and(|after| {
                    // `&` begins the entity of a quotation mark on a page.
                    let end = |next: char| next.is_whitespace() || "\"'<&,".contains(next);
                    after.chars().next().is_none_or(end)
                })
            });
            ensure!(is_one, "{what}: {rest}");
            named += 1;
        }
        ensure!(named > 0, "{what} names no address: {text}");
        Ok(())
    }

    fn api(&self) -> Result<Value> {
        let path = format!("/api/v1/projects/{}/connect", self.echo.project);
        let answer = reqwest::blocking::Client::new()
            .get(format!("{}{path}", self.echo.platform.url()))
            .query(&[("credential", self.credential)])
            .bearer_auth(self.echo.platform.token()?)
            .send()?;
        Ok(answer.error_for_status()?.json()?)
    }

    /// API, page and command line name the address, and each client is told the same by them.
    fn check_everywhere(&self) -> Result<Vec<Value>> {
        let api = self.api()?;
        ensure!(api["url"] == self.addresses()[0].as_str(), "{api}");
        let clients = api["clients"].as_array().context("a list")?;
        ensure!(clients.len() >= 14, "{} clients", clients.len());
        for client in clients {
            let id = client["id"].as_str().context("a client has an id")?;
            let mut texts = Vec::new();
            for snippet in client["snippets"].as_array().context("a list")? {
                let text = snippet["text"].as_str().context("a snippet has a text")?;
                self.check(&format!("{id} in the API"), &readable(text)?)?;
                texts.push(text);
            }
            self.check_page(id, &texts)?;
            self.check_command(id, client)?;
        }
        Ok(clients.clone())
    }

    fn check_page(&self, id: &str, texts: &[&str]) -> Result<()> {
        let project = &self.echo.project;
        let query = format!("client={id}&credential={}", self.credential);
        for path in [
            format!("/projects/{project}?{query}"),
            format!("/projects/{project}/connect?{query}"),
        ] {
            let page = self.echo.platform.page(&path)?;
            let (_, guide) = page
                .split_once("id=\"connect-guide\"")
                .with_context(|| format!("no guide on {path}"))?;
            let guide = guide.split("</section>").next().unwrap_or_default();
            self.check(&format!("{id} on {path}"), guide)?;
            for text in texts {
                // A link's data have no character that a page escapes; the longest word of another
                // snippet is enough to know it by.
                let mark = text
                    .split(['&', '"', '\'', '<', '>', '\n'])
                    .max_by_key(|it| it.len());
                let mark = mark.context("a snippet has words")?;
                let mark = mark.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
                ensure!(guide.contains(mark.trim()), "{path} shows not {mark:?}");
            }
        }
        Ok(())
    }

    fn check_command(&self, id: &str, client: &Value) -> Result<()> {
        let mut kinds = BTreeSet::new();
        for snippet in client["snippets"].as_array().into_iter().flatten() {
            let kind = snippet["kind"].as_str().context("a snippet has a kind")?;
            let mut arguments = vec!["connect", &*self.echo.project, "--client", id];
            arguments.extend(["--kind", kind]);
            if self.credential == "api-token" {
                arguments.push("--api-token");
            }
            let said = self.echo.platform.berth(&arguments)?.success()?.stdout;
            ensure!(said.trim_end() == snippet["text"], "{id}: {said}");
            kinds.insert(kind);
        }
        ensure!(!kinds.is_empty(), "{id} is told nothing");
        Ok(())
    }
}

/// A snippet with what a link carries decoded.
fn readable(text: &str) -> Result<String> {
    let decoded = |text: &str| -> String {
        url::form_urlencoded::parse(text.as_bytes())
            .next()
            .map(|(name, _)| name.into_owned())
            .unwrap_or_default()
    };
    if let Some((_, config)) = text.split_once("&config=") {
        return Ok(String::from_utf8(STANDARD.decode(decoded(config))?)?);
    }
    Ok(match text.strip_prefix("vscode:mcp/install?") {
        Some(config) => decoded(config),
        None => text.to_owned(),
    })
}

fn r57() -> Result<()> {
    let echo = echo()?;
    for credential in ["sign-in", "api-token"] {
        let told = Told {
            echo: &echo,
            path: "/mcp",
            credential,
        };
        told.check_everywhere()?;
    }
    Ok(())
}

/// And with what they are told, real clients list its tools.
fn r57_sse() -> Result<()> {
    let echo = old_transport()?;
    let told = |credential| Told {
        echo: &echo,
        path: "/sse",
        credential,
    };
    told("sign-in").check_everywhere()?;
    let clients = told("api-token").check_everywhere()?;
    let program = |id: &str| -> Result<String> {
        let client = clients.iter().find(|client| client["id"] == id);
        let text = client.and_then(|client| client["snippets"][0]["text"].as_str());
        Ok(text.with_context(|| format!("no {id}"))?.to_owned())
    };
    let directory = tempfile::TempDir::new()?;
    let write = |name: &str, text: &str| -> Result<std::path::PathBuf> {
        let path = directory.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    };
    for (id, name, package) in [
        ("python", "client-mcp-2", "mcp==2.3.0"),
        ("fastmcp", "client-fastmcp-4", "fastmcp==4.1.2"),
    ] {
        let mut command = Command::new(python::environment(name, &[package])?);
        command.arg(write(&format!("with_{id}.py"), &program(id)?)?);
        lists_tools(id, &mut command, &echo)?;
    }
    std::os::unix::fs::symlink(
        node::packages().join("node_modules"),
        directory.path().join("node_modules"),
    )?;
    write("package.json", r#"{ "type": "module" }"#)?;
    let mut command = Command::new(node::program());
    command.arg(write("client.ts", &program("typescript")?)?);
    lists_tools("typescript", &mut command, &echo)
}

/// Runs a program that is told of the token by the variable that the snippets name.
fn lists_tools(id: &str, command: &mut Command, echo: &Echo) -> Result<()> {
    let made = echo
        .platform
        .berth(&["tokens", "create", id, "--calls", "--json"])?
        .success()?
        .json()?;
    let token = made["token"].as_str().context("no token")?;
    let output = command.env("MCP_TOKEN", token).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && said.contains("add"),
        "{id}: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
