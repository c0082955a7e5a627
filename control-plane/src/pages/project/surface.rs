//! What a deployment's server offers and what it changes for callers, on its page.

use runner::protocol::Surface;
use serde_json::Value;

use super::tools::{self, Tool};
use crate::deployments::Deployment;
use crate::surface::{self, Change, Class};

/// What a server offers.
#[derive(Debug)]
pub struct Offer {
    pub server: Option<String>,
    /// The revisions of MCP that it speaks.
    pub protocol: String,
    /// Names of capabilities.
    pub capabilities: Vec<String>,
    pub instructions: Option<String>,
    pub tools: Vec<Tool>,
    pub lists: Vec<List>,
}

/// A list of what is no tool.
#[derive(Debug)]
pub struct List {
    pub title: &'static str,
    pub entries: Vec<Entry>,
}

/// One of its entries.
#[derive(Debug)]
pub struct Entry {
    pub name: String,
    pub about: Option<String>,
}

impl Offer {
    /// What the probe found, if it came that far.
    pub fn of(project: &str, surface: &Surface) -> Self {
        let lists = [
            ("Prompts", "name", &surface.prompts),
            ("Resources", "uri", &surface.resources),
            (
                "Resource templates",
                "uriTemplate",
                &surface.resource_templates,
            ),
        ];
        Self {
            server: tools::server(surface),
            protocol: if surface.protocol_versions.is_empty() {
                surface.protocol_version.clone()
            } else {
                surface.protocol_versions.join(", ")
            },
            capabilities: surface
                .capabilities
                .as_object()
                .map(|all| all.keys().cloned().collect())
                .unwrap_or_default(),
            instructions: surface
                .instructions
                .clone()
                .filter(|text| !text.trim().is_empty()),
            tools: tools::tools(project, surface),
            lists: lists
                .into_iter()
                .filter(|(_, _, entries)| !entries.is_empty())
                .map(|(title, field, entries)| List {
                    title,
                    entries: entries
                        .iter()
                        .filter_map(|entry| read(entry, field))
                        .collect(),
                })
                .collect(),
        }
    }
}

fn read(entry: &Value, field: &str) -> Option<Entry> {
    let about = ["description", "title", "name"]
        .into_iter()
        .filter(|other| *other != field)
        .find_map(|other| entry[other].as_str());
    Some(Entry {
        name: entry[field].as_str()?.to_owned(),
        about: about.map(str::to_owned),
    })
}

/// What a deployment changes.
#[derive(Debug)]
pub struct Comparison {
    /// The deployment that it is compared with.
    pub with: i32,
    /// In a few words.
    pub summary: String,
    pub groups: Vec<Group>,
}

/// The changes of one class.
#[derive(Debug)]
pub struct Group {
    pub class: &'static str,
    pub title: &'static str,
    pub changes: Vec<Change>,
}

impl Comparison {
    /// Between two that answered.
    pub fn of(before: &Deployment, it: &Deployment) -> Option<Self> {
        let changes = surface::diff(&before.offers()?, &it.offers()?);
        let [breaking, risky, safe] = surface::counts(&changes);
        let summary = if changes.is_empty() {
            format!("It offers exactly what #{} did.", before.number)
        } else {
            let counted = [(breaking, "breaking"), (risky, "risky"), (safe, "safe")];
            let words = counted.into_iter().filter(|(count, _)| *count > 0);
            words
                .map(|(count, word)| format!("{count} {word}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let titles = [
            (Class::Breaking, "Breaks callers"),
            (Class::Risky, "May mean something else"),
            (Class::Safe, "Nobody notices"),
        ];
        let groups = titles.into_iter().map(|(class, title)| Group {
            class: class.name(),
            title,
            changes: changes
                .iter()
                .filter(|change| change.class == class)
                .cloned()
                .collect(),
        });
        Some(Self {
            with: before.number,
            summary,
            groups: groups.filter(|group| !group.changes.is_empty()).collect(),
        })
    }
}
