//! What a server offers, compared with what it offered before, and what each change means for those
//! who call it. Pure: two surfaces in, a list of changes out.

use std::collections::BTreeSet;

use runner::protocol::Surface;
use serde::Serialize;
use serde_json::Value;

mod lists;
mod schema;
#[cfg(test)]
mod tests;

/// Most changes that are listed; whoever made more has made another server.
const MAX_CHANGES: usize = 500;

/// What a change means for callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Calls that worked do not work any more.
    Breaking,
    /// Calls go through, but what they mean, or what a model makes of them, may differ.
    Risky,
    /// Whoever called before notices nothing.
    Safe,
}

impl Class {
    /// As it stands in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Breaking => "breaking",
            Self::Risky => "risky",
            Self::Safe => "safe",
        }
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What it means for callers.
    pub class: Class,
    /// Stable: `tool_removed`, `argument_required` …
    pub code: &'static str,
    /// What changed: `tool add`, `prompt review`, `server` …
    pub subject: String,
    /// One sentence.
    pub text: String,
}

/// The changes from one surface to the next: breaking ones first, then by what changed.
pub fn diff(old: &Surface, new: &Surface) -> Vec<Change> {
    let mut changes = Vec::new();
    server(old, new, &mut changes);
    lists::tools(&old.tools, &new.tools, &mut changes);
    lists::prompts(&old.prompts, &new.prompts, &mut changes);
    lists::resources(&old.resources, &new.resources, &mut changes);
    lists::templates(
        &old.resource_templates,
        &new.resource_templates,
        &mut changes,
    );
    changes.sort_by(|a, b| (a.class, &a.subject).cmp(&(b.class, &b.subject)));
    changes.truncate(MAX_CHANGES);
    changes
}

/// Whether any of them breaks callers.
pub fn breaks(changes: &[Change]) -> bool {
    changes.iter().any(|change| change.class == Class::Breaking)
}

/// How many there are of each class: breaking, risky, safe.
pub fn counts(changes: &[Change]) -> [usize; 3] {
    [Class::Breaking, Class::Risky, Class::Safe].map(|class| {
        changes
            .iter()
            .filter(|change| change.class == class)
            .count()
    })
}

fn server(old: &Surface, new: &Surface, changes: &mut Vec<Change>) {
    let mut add = |class, code, text: String| {
        changes.push(Change {
            class,
            code,
            subject: "server".into(),
            text,
        });
    };
    if old.protocol_version != new.protocol_version {
        add(
            Class::Risky,
            "protocol_changed",
            format!(
                "It answers MCP {} instead of {}.",
                new.protocol_version, old.protocol_version
            ),
        );
    }
    if old.transport != new.transport {
        add(
            Class::Breaking,
            "transport_changed",
            "Clients reach it at another path: it changed from Streamable HTTP to HTTP+SSE, or back."
                .into(),
        );
    }
    for version in &old.protocol_versions {
        // One that it did not list may be spoken all the same.
        if !new.protocol_versions.is_empty() && !new.protocol_versions.contains(version) {
            add(
                Class::Breaking,
                "protocol_dropped",
                format!("It no longer speaks MCP {version}."),
            );
        }
    }
    if old.instructions != new.instructions {
        add(
            Class::Risky,
            "instructions_changed",
            "Its instructions to models changed.".into(),
        );
    }
    if old.server_info["name"] != new.server_info["name"] {
        add(Class::Risky, "name_changed", "Its name changed.".into());
    }
    if old.server_info["version"] != new.server_info["version"] {
        add(
            Class::Safe,
            "version_changed",
            "Its version changed.".into(),
        );
    }
    if old.server_info["icons"] != new.server_info["icons"] {
        add(Class::Safe, "icons_changed", "Its icons changed.".into());
    }
    let (before, after) = (
        flags(&old.capabilities, "", 0),
        flags(&new.capabilities, "", 0),
    );
    for name in before.difference(&after) {
        add(
            Class::Breaking,
            "capability_removed",
            format!("It no longer offers the capability “{name}”."),
        );
    }
    for name in after.difference(&before) {
        add(
            Class::Safe,
            "capability_added",
            format!("It offers the capability “{name}”."),
        );
    }
}

/// The capabilities that are there, by their path: an object or `true`.
fn flags(capabilities: &Value, prefix: &str, depth: usize) -> BTreeSet<String> {
    /// Capabilities are two levels deep: `resources.subscribe`.
    const DEPTH: usize = 3;
    let mut found = BTreeSet::new();
    for (name, value) in capabilities.as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        if value.is_object() && depth < DEPTH {
            found.extend(flags(value, &format!("{path}."), depth + 1));
        }
        if value.is_object() || *value == Value::Bool(true) {
            found.insert(path);
        }
    }
    found
}
