//! How clients are told of a project, one client at a time. The choice is part of the address, so it
//! works without script; with script only this part of the page is exchanged.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use crate::access::Mode;
use crate::app::App;
use crate::connect::{Credential, Guide, Kind, Snippet, Target, guides};
use crate::pages::error::{PageResult, page};
use crate::projects;
use crate::signin::SignedIn;

/// `?client=` and `?credential=`; what is not known counts as not said.
#[derive(Debug, Default, Deserialize)]
pub struct Choice {
    client: Option<String>,
    credential: Option<String>,
}

/// The part of the page that depends on the choice.
#[derive(Debug, Template)]
#[template(path = "project/connect.html")]
pub struct Connect {
    project: String,
    url: String,
    /// What the client does first, in one sentence.
    first: &'static str,
    credentials: Vec<Tab>,
    clients: Vec<Tab>,
    title: &'static str,
    /// Whether an API token has to be made.
    wants_token: bool,
    ways: Vec<Way>,
    notes: Vec<String>,
}

/// One choice.
#[derive(Debug)]
struct Tab {
    id: &'static str,
    title: &'static str,
    /// The query that chooses it.
    query: String,
    current: bool,
}

/// One way to tell the client.
#[derive(Debug)]
enum Way {
    Link { text: String },
    Steps { steps: Vec<String> },
    Snippet { label: String, text: String },
}

impl Connect {
    /// The part for `target`, as chosen.
    pub fn new(target: &Target, project: &str, choice: &Choice) -> Self {
        let mode = target.mode();
        let offered = Credential::of(mode);
        let chosen = |it: &&Credential| Some(it.name()) == choice.credential.as_deref();
        let credential = offered.iter().find(chosen).copied().unwrap_or(offered[0]);
        let mut guides = guides(target, credential);
        let find = |id: &str| guides.iter().position(|guide| guide.id == id);
        let at = choice
            .client
            .as_deref()
            .and_then(find)
            .or_else(|| find(usual(target)))
            .unwrap_or(0);
        let query = |client: &str, credential: Credential| {
            format!("client={client}&credential={}", credential.name())
        };
        let clients = guides.iter().enumerate().map(|(index, guide)| Tab {
            id: guide.id,
            title: guide.title,
            query: query(guide.id, credential),
            current: index == at,
        });
        let clients = clients.collect();
        let guide = guides.swap_remove(at);
        let credentials = offered.iter().map(|it| Tab {
            id: it.name(),
            title: it.title(),
            query: query(guide.id, *it),
            current: *it == credential,
        });
        Self {
            project: project.to_owned(),
            url: target.url().to_owned(),
            first: first(mode),
            credentials: credentials.collect(),
            clients,
            title: guide.title,
            wants_token: guide.credential == Credential::ApiToken,
            ways: ways(&guide),
            notes: guide.notes,
        }
    }
}

/// The client that is shown unasked: one that can reach the project.
fn usual(target: &Target) -> &'static str {
    if target.is_local() {
        "claude-code"
    } else {
        "claude"
    }
}

fn first(mode: Mode) -> &'static str {
    match mode {
        Mode::Platform => "Paste it into any MCP client. It asks you to sign in here, once.",
        Mode::Public => "Paste it into any MCP client. Nobody has to sign in.",
        Mode::Tenant => {
            "Paste it into any MCP client. The server itself decides who signs in, and how."
        }
    }
}

fn ways(guide: &Guide) -> Vec<Way> {
    guide
        .snippets
        .iter()
        .map(|snippet| match snippet.kind {
            Kind::Link => Way::Link {
                text: snippet.text.clone(),
            },
            Kind::Steps => Way::Steps {
                steps: snippet.text.lines().map(without_number).collect(),
            },
            _ => Way::Snippet {
                label: label(snippet),
                text: snippet.text.clone(),
            },
        })
        .collect()
}

/// The list numbers its items itself.
fn without_number(line: &str) -> String {
    line.split_once(". ")
        .map_or(line, |(_, step)| step)
        .to_owned()
}

fn label(snippet: &Snippet) -> String {
    match (snippet.path, snippet.kind) {
        (Some(path), _) => path.to_owned(),
        (None, Kind::Command) => "Command".to_owned(),
        (None, _) => "Program".to_owned(),
    }
}

/// `GET /projects/{project}/connect?client=&credential=`: that part alone.
pub async fn show(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
    Query(choice): Query<Choice>,
) -> PageResult {
    let mut db = app.db.acquire().await?;
    let project = projects::get_for(&mut db, person.user.id, &name)
        .await?
        .project;
    let target = Target::of(&mut db, &app.config, &project).await?;
    page(
        StatusCode::OK,
        &Connect::new(&target, &project.name, &choice),
    )
}
