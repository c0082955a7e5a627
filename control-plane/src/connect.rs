//! How MCP clients are told of a project: what to open, run or write down in each of them.
//!
//! [`guides`] knows every client; the project's page, the API and `berth connect` only show what it
//! says. Every address in it is the project's own, exactly as its protected resource metadata
//! spells it: clients compare the two as strings (RFC 9728 section 3.3).

mod apps;
mod programs;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, Ipv6Addr};

use runner::protocol::Transport;
use serde::Serialize;
use sqlx::PgConnection;
use url::{Host, Url};

use crate::access::{self, Mode};
use crate::config::ServeConfig;
use crate::deployments;
use crate::error::Result;
use crate::projects::Project;

/// Stands for an API token where a client takes nothing but the token itself.
pub const TOKEN_PLACEHOLDER: &str = "brt_…";

/// The variable from which snippets read an API token where a client can. Not `BERTH_…`: those are
/// this program's own settings.
pub const TOKEN_VARIABLE: &str = "MCP_TOKEN";

const OLD_TRANSPORT: &str =
    "The server speaks HTTP+SSE only, which clients are giving up; let it serve Streamable HTTP.";

const EXPORT_TOKEN: &str = "Put an API token into the variable MCP_TOKEN first.";

/// What a client shows to be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Credential {
    /// It sends its person to sign in, once (OAuth).
    SignIn,
    /// An API token of Berth.
    ApiToken,
    /// Nothing.
    None,
}

impl Credential {
    /// What the clients of a project can show; the usual one first.
    pub fn of(mode: Mode) -> &'static [Self] {
        match mode {
            Mode::Platform => &[Self::SignIn, Self::ApiToken],
            Mode::Public => &[Self::None],
            // The server's own sign-in is found by the same steps.
            Mode::Tenant => &[Self::SignIn],
        }
    }

    /// As it stands in addresses and documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::SignIn => "sign-in",
            Self::ApiToken => "api-token",
            Self::None => "none",
        }
    }

    /// As people read it.
    pub fn title(self) -> &'static str {
        match self {
            Self::SignIn => "Sign in",
            Self::ApiToken => "API token",
            Self::None => "Without signing in",
        }
    }
}

/// The project that clients are told of.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its name: a host label, so no shell, TOML, JSON or URL needs it quoted.
    name: String,
    /// Its MCP URL; of a server that has nothing there, the address of its stream.
    url: String,
    /// The URL that takes API tokens only, and therefore never starts a sign-in.
    key_url: String,
    mode: Mode,
    transport: Transport,
}

/// What is done in one client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Guide {
    /// Names the client: `cursor`.
    pub id: &'static str,
    /// The client's name: `Cursor`.
    pub title: &'static str,
    /// What this client shows, which may be another thing than was asked for: curl cannot sign in.
    pub credential: Credential,
    /// Ways to do it, the usual one first; no two of one kind.
    pub snippets: Vec<Snippet>,
    /// What to know besides: one sentence each.
    pub notes: Vec<String>,
}

/// One way to tell a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snippet {
    /// What it is.
    pub kind: Kind,
    /// The file it belongs into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<&'static str>,
    /// The snippet.
    pub text: String,
}

/// What a snippet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A link that opens the client.
    Link,
    /// A command for a POSIX shell.
    Command,
    /// A JSON file, or what is added to one.
    Json,
    /// A part of a TOML file.
    Toml,
    /// A program.
    Program,
    /// Numbered steps for a person, one a line.
    Steps,
}

impl Kind {
    /// As it stands in documents and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Command => "command",
            Self::Json => "json",
            Self::Toml => "toml",
            Self::Program => "program",
            Self::Steps => "steps",
        }
    }
}

/// A client: its id, its name and what it is told.
type Client = (&'static str, &'static str, fn(&Target, Credential) -> Told);

/// Every client that is known, in the order in which they are offered.
const CLIENTS: [Client; 14] = [
    ("claude", "Claude", apps::claude),
    ("claude-desktop", "Claude Desktop", apps::claude_desktop),
    ("claude-code", "Claude Code", apps::claude_code),
    ("chatgpt", "ChatGPT", apps::chatgpt),
    ("cursor", "Cursor", apps::cursor),
    ("vscode", "VS Code", apps::vscode),
    ("codex", "Codex", apps::codex),
    ("gemini-cli", "Gemini CLI", apps::gemini),
    ("inspector", "MCP Inspector", programs::inspector),
    ("inspector-cli", "Inspector CLI", programs::inspector_cli),
    ("fastmcp", "FastMCP", programs::fastmcp),
    ("python", "Python SDK", programs::python),
    ("typescript", "TypeScript SDK", programs::typescript),
    ("curl", "curl", programs::curl),
];

/// What the writers in [`apps`] and [`programs`] answer.
struct Told {
    credential: Credential,
    snippets: Vec<Snippet>,
    notes: Vec<String>,
}

/// What to do in each client that calls `target` with `credential`.
pub fn guides(target: &Target, credential: Credential) -> Vec<Guide> {
    CLIENTS
        .iter()
        .map(|&(id, title, tell)| {
            let told = tell(target, credential).note_if(target.is_sse(), OLD_TRANSPORT);
            Guide {
                id,
                title,
                credential: told.credential,
                snippets: told.snippets,
                notes: told.notes,
            }
        })
        .collect()
}

impl Target {
    /// The project as clients find it at the moment.
    pub async fn of(
        db: &mut PgConnection,
        config: &ServeConfig,
        project: &Project,
    ) -> Result<Self> {
        let mode = access::mode_of(db, project.id).await?;
        let transport = deployments::live_transport(db, project.id).await?;
        let at = |url: String| match (transport, url.strip_suffix("/mcp")) {
            (Transport::Sse, Some(origin)) => format!("{origin}/sse"),
            _ => url,
        };
        Ok(Self {
            name: project.name.clone(),
            url: at(config.project_url(&project.name)),
            key_url: at(config.project_key_url(&project.name)),
            mode,
            transport,
        })
    }

    /// Its mode of access.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Where clients connect.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The address for a client that looks for a sign-in wherever it hears of one.
    fn url_for(&self, credential: Credential) -> &str {
        match credential {
            Credential::ApiToken => &self.key_url,
            Credential::SignIn | Credential::None => &self.url,
        }
    }

    /// Whether only this machine, or the network it stands in, finds the address.
    pub fn is_local(&self) -> bool {
        let private = |ip: Ipv4Addr| ip.is_loopback() || ip.is_private() || ip.is_link_local();
        let Ok(url) = Url::parse(&self.url) else {
            return false;
        };
        match url.host() {
            Some(Host::Domain(host)) => host == "localhost" || host.ends_with(".localhost"),
            Some(Host::Ipv4(ip)) => private(ip),
            Some(Host::Ipv6(ip)) => ip == Ipv6Addr::LOCALHOST,
            None => false,
        }
    }

    fn is_sse(&self) -> bool {
        self.transport == Transport::Sse
    }

    /// The transport as clients call it.
    fn transport(&self) -> &'static str {
        match self.transport {
            Transport::StreamableHttp => "http",
            Transport::Sse => "sse",
        }
    }

    fn is_https(&self) -> bool {
        self.url.starts_with("https://")
    }
}

impl Told {
    fn new(credential: Credential, snippets: Vec<Snippet>) -> Self {
        Self {
            credential,
            snippets,
            notes: Vec::new(),
        }
    }

    fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds a note where a condition holds.
    fn note_if(self, holds: bool, note: impl Into<String>) -> Self {
        if holds { self.note(note) } else { self }
    }
}

impl Snippet {
    fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self {
            kind,
            path: None,
            text: text.into(),
        }
    }

    fn json(path: &'static str, document: &serde_json::Value) -> Self {
        let text = serde_json::to_string_pretty(document).expect("its keys are strings");
        Self {
            kind: Kind::Json,
            path: Some(path),
            text,
        }
    }

    fn steps(steps: &[String]) -> Self {
        let lines: Vec<String> = (1..)
            .zip(steps)
            .map(|(number, step)| format!("{number}. {step}"))
            .collect();
        Self::new(Kind::Steps, lines.join("\n"))
    }
}
