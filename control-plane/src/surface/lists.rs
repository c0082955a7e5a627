//! Changes of tools, prompts, resources and templates.

use std::collections::BTreeMap;

use serde_json::Value;

use super::schema::{self, Way};
use super::{Change, Class};

/// What is compared of each pair of entries.
struct Entry<'a> {
    subject: String,
    old: &'a Value,
    new: &'a Value,
}

impl Entry<'_> {
    fn change(&self, class: Class, code: &'static str, text: impl Into<String>) -> Change {
        Change {
            class,
            code,
            subject: self.subject.clone(),
            text: text.into(),
        }
    }

    fn differs(&self, field: &str) -> bool {
        self.old[field] != self.new[field]
    }
}

/// The entries of a list by the field that names them; the last of a name counts.
fn by_name<'a>(list: &'a [Value], field: &str) -> BTreeMap<&'a str, &'a Value> {
    list.iter()
        .filter_map(|entry| Some((entry[field].as_str()?, entry)))
        .collect()
}

/// Changes of tools.
pub fn tools(old: &[Value], new: &[Value], changes: &mut Vec<Change>) {
    let (old, new) = (by_name(old, "name"), by_name(new, "name"));
    let subject = |name: &str| format!("tool {name}");
    let mut added: BTreeMap<&str, &Value> = new
        .iter()
        .filter(|(name, _)| !old.contains_key(*name))
        .map(|(name, tool)| (*name, *tool))
        .collect();
    for (name, tool) in &old {
        let Some(now) = new.get(name) else {
            let renamed = added
                .iter()
                .find(|(_, other)| is_same_tool(tool, other))
                .map(|(name, _)| *name);
            changes.push(gone(subject(name), renamed));
            if let Some(renamed) = renamed {
                added.remove(renamed);
            }
            continue;
        };
        tool_changes(
            &Entry {
                subject: subject(name),
                old: tool,
                new: now,
            },
            changes,
        );
    }
    for name in added.keys() {
        changes.push(Change {
            class: Class::Safe,
            code: "tool_added",
            subject: subject(name),
            text: "It is new.".into(),
        });
    }
}

/// Whether two tools differ in their names only. One that takes nothing and says nothing could be
/// any other.
fn is_same_tool(one: &Value, other: &Value) -> bool {
    one["inputSchema"] == other["inputSchema"]
        && one["description"] == other["description"]
        && one["description"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
}

fn gone(subject: String, renamed: Option<&str>) -> Change {
    let (code, text) = match renamed {
        Some(name) => ("tool_renamed", format!("It is called “{name}” now.")),
        None => ("tool_removed", "It is gone.".to_owned()),
    };
    Change {
        class: Class::Breaking,
        code,
        subject,
        text,
    }
}

fn tool_changes(tool: &Entry<'_>, changes: &mut Vec<Change>) {
    described(tool, changes);
    for (name, unless) in [
        ("readOnlyHint", false),
        ("destructiveHint", true),
        ("idempotentHint", false),
        ("openWorldHint", true),
    ] {
        // Defaults as MCP 2025-11-25 `ToolAnnotations` gives them.
        let hint = |tool: &Value| tool["annotations"][name].as_bool().unwrap_or(unless);
        let (was, is) = (hint(tool.old), hint(tool.new));
        if was != is {
            let text = format!("Its annotation {name} is {is} instead of {was}.");
            changes.push(tool.change(Class::Risky, "annotation_changed", text));
        }
    }
    let task = |tool: &Value| {
        let support = tool["execution"]["taskSupport"].as_str();
        support.unwrap_or("forbidden").to_owned()
    };
    let (was, is) = (task(tool.old), task(tool.new));
    if was != is {
        let breaks = is == "required" || was == "required" && is == "forbidden";
        let class = if breaks {
            Class::Breaking
        } else {
            Class::Risky
        };
        let text = format!("Running it as a task is {is} instead of {was}.");
        changes.push(tool.change(class, "task_support_changed", text));
    }
    for finding in schema::compare(&tool.old["inputSchema"], &tool.new["inputSchema"], Way::In) {
        changes.push(tool.change(finding.class, finding.code, finding.text));
    }
    output(tool, changes);
}

fn output(tool: &Entry<'_>, changes: &mut Vec<Change>) {
    let (old, new) = (&tool.old["outputSchema"], &tool.new["outputSchema"]);
    match (old.is_null(), new.is_null()) {
        (true, true) => {}
        (true, false) => changes.push(tool.change(
            Class::Safe,
            "output_declared",
            "It declares the form of its result.",
        )),
        (false, true) => changes.push(tool.change(
            Class::Breaking,
            "output_undeclared",
            "It no longer declares the form of its result.",
        )),
        (false, false) => {
            for finding in schema::compare(old, new, Way::Out) {
                changes.push(tool.change(finding.class, finding.code, finding.text));
            }
        }
    }
}

/// Title, description and icons, which all kinds of entries have.
fn described(entry: &Entry<'_>, changes: &mut Vec<Change>) {
    if entry.differs("description") {
        changes.push(entry.change(
            Class::Risky,
            "description_changed",
            "Its description changed, which models read.",
        ));
    }
    let title = |entry: &Value| {
        let title = entry["title"].as_str();
        title
            .or_else(|| entry["annotations"]["title"].as_str())
            .map(str::to_owned)
    };
    if title(entry.old) != title(entry.new) {
        changes.push(entry.change(Class::Safe, "title_changed", "Its title changed."));
    }
    if entry.differs("icons") {
        changes.push(entry.change(Class::Safe, "icons_changed", "Its icons changed."));
    }
}

/// Changes of prompts.
pub fn prompts(old: &[Value], new: &[Value], changes: &mut Vec<Change>) {
    each(
        old,
        new,
        "prompt",
        "name",
        Class::Breaking,
        changes,
        |prompt, changes| {
            let arguments = |prompt: &Value| -> BTreeMap<String, bool> {
                let list = prompt["arguments"].as_array().into_iter().flatten();
                list.filter_map(|argument| {
                    let required = argument["required"].as_bool().unwrap_or(false);
                    Some((argument["name"].as_str()?.to_owned(), required))
                })
                .collect()
            };
            let (was, is) = (arguments(prompt.old), arguments(prompt.new));
            for (name, required) in &is {
                let (class, code, text) = match (was.get(name), required) {
                    (None, true) => (Class::Breaking, "argument_added", "is new and required"),
                    (None, false) => (Class::Safe, "argument_added", "is new and optional"),
                    (Some(false), true) => {
                        (Class::Breaking, "argument_required", "is required now")
                    }
                    (Some(true), false) => (Class::Safe, "argument_optional", "is optional now"),
                    _ => continue,
                };
                changes.push(prompt.change(class, code, format!("Argument “{name}” {text}.")));
            }
            for name in was.keys().filter(|name| !is.contains_key(*name)) {
                let text = format!("Argument “{name}” is gone.");
                changes.push(prompt.change(Class::Risky, "argument_removed", text));
            }
        },
    );
}

/// Changes of resources. Lists of resources often follow the data that the server has, so that one
/// that is gone need not be a fault.
pub fn resources(old: &[Value], new: &[Value], changes: &mut Vec<Change>) {
    each(
        old,
        new,
        "resource",
        "uri",
        Class::Risky,
        changes,
        media_type,
    );
}

/// Changes of resource templates.
pub fn templates(old: &[Value], new: &[Value], changes: &mut Vec<Change>) {
    let name = "uriTemplate";
    each(
        old,
        new,
        "template",
        name,
        Class::Breaking,
        changes,
        media_type,
    );
}

fn media_type(entry: &Entry<'_>, changes: &mut Vec<Change>) {
    if entry.differs("mimeType") {
        changes.push(entry.change(
            Class::Risky,
            "media_type_changed",
            "Its media type changed.",
        ));
    }
}

/// Removed, added and changed entries of a list; `removed` is what a removal means.
fn each(
    old: &[Value],
    new: &[Value],
    kind: &str,
    field: &str,
    removed: Class,
    changes: &mut Vec<Change>,
    more: impl Fn(&Entry<'_>, &mut Vec<Change>),
) {
    let (old, new) = (by_name(old, field), by_name(new, field));
    let (removed_code, added_code) = match kind {
        "prompt" => ("prompt_removed", "prompt_added"),
        "resource" => ("resource_removed", "resource_added"),
        _ => ("template_removed", "template_added"),
    };
    for (name, was) in &old {
        let entry = Entry {
            subject: format!("{kind} {name}"),
            old: was,
            new: new.get(name).copied().unwrap_or(&Value::Null),
        };
        if entry.new.is_null() {
            changes.push(entry.change(removed, removed_code, "It is gone."));
        } else {
            described(&entry, changes);
            more(&entry, changes);
        }
    }
    for name in new.keys().filter(|name| !old.contains_key(*name)) {
        changes.push(Change {
            class: Class::Safe,
            code: added_code,
            subject: format!("{kind} {name}"),
            text: "It is new.".into(),
        });
    }
}
