//! What a server offers, as its project's page lists it. Everything here was written by the
//! server's author and is shown as text.

use runner::protocol::Surface;
use serde_json::{Map, Value};

/// Longest summary line, in characters.
const MAX_LINE: usize = 140;

/// A tool.
#[derive(Debug, PartialEq, Eq)]
pub struct Tool {
    pub name: String,
    /// The description's first line.
    pub line: Option<String>,
    /// The rest of the description, or all of it when its first line was cut.
    pub description: Option<String>,
    pub parameters: Vec<Parameter>,
    /// What its annotations say, in words.
    pub hints: Vec<&'static str>,
    /// A command that calls it.
    pub call: String,
}

/// One parameter of a tool.
#[derive(Debug, PartialEq, Eq)]
pub struct Parameter {
    pub name: String,
    /// Its JSON Schema type, in words.
    pub kind: String,
    pub required: bool,
    pub description: Option<String>,
}

/// The tools of a project's live server.
pub fn tools(project: &str, surface: &Surface) -> Vec<Tool> {
    surface
        .tools
        .iter()
        .filter_map(|tool| read(project, tool))
        .collect()
}

/// What else it offers, in a few words.
pub fn extras(surface: &Surface) -> Option<String> {
    let counted = [
        (surface.prompts.len(), "prompt"),
        (surface.resources.len(), "resource"),
        (surface.resource_templates.len(), "resource template"),
    ];
    let words: Vec<String> = counted
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}{}", if count == 1 { "" } else { "s" }))
        .collect();
    (!words.is_empty()).then(|| format!("and {}", words.join(", ")))
}

/// The server's own name and version.
pub fn server(surface: &Surface) -> Option<String> {
    let name = surface.server_info["name"].as_str()?;
    Some(match surface.server_info["version"].as_str() {
        Some(version) => format!("{name} {version}"),
        None => name.to_owned(),
    })
}

fn read(project: &str, tool: &Value) -> Option<Tool> {
    let name = tool["name"].as_str()?;
    let text = tool["description"]
        .as_str()
        .or_else(|| tool["title"].as_str())
        .unwrap_or_default()
        .trim();
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let line = shortened(first.trim_end());
    // What the line says already is not said again.
    let rest = if line == first.trim_end() {
        rest.trim()
    } else {
        text
    };
    let parameters = parameters(&tool["inputSchema"]);
    Some(Tool {
        name: name.to_owned(),
        description: some(rest),
        line: some(&line),
        hints: hints(&tool["annotations"]),
        call: call(project, name, &parameters),
        parameters,
    })
}

/// Only what is said; the defaults of MCP would be a claim of ours.
fn hints(annotations: &Value) -> Vec<&'static str> {
    let words = [
        ("readOnlyHint", true, "read-only"),
        ("destructiveHint", true, "destructive"),
        ("idempotentHint", true, "idempotent"),
        ("openWorldHint", false, "closed world"),
    ];
    words
        .into_iter()
        .filter(|(name, value, _)| annotations[*name].as_bool() == Some(*value))
        .map(|(_, _, word)| word)
        .collect()
}

fn shortened(line: &str) -> String {
    match line.char_indices().nth(MAX_LINE) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line.to_owned(),
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn parameters(schema: &Value) -> Vec<Parameter> {
    let Some(properties) = schema["properties"].as_object() else {
        return Vec::new();
    };
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    properties
        .iter()
        .map(|(name, schema)| Parameter {
            name: name.clone(),
            kind: kind(schema),
            required: required.contains(&name.as_str()),
            description: schema["description"].as_str().map(str::to_owned),
        })
        .collect()
}

fn kind(schema: &Value) -> String {
    if schema["enum"].is_array() {
        return "choice".into();
    }
    match &schema["type"] {
        Value::String(name) => name.clone(),
        Value::Array(names) => names
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(" or "),
        _ => match schema["anyOf"]
            .as_array()
            .or_else(|| schema["oneOf"].as_array())
        {
            Some(choices) => choices.iter().map(kind).collect::<Vec<_>>().join(" or "),
            None if schema["$ref"].is_string() => "object".into(),
            None => "anything".into(),
        },
    }
}

fn call(project: &str, tool: &str, parameters: &[Parameter]) -> String {
    let example = |parameter: &Parameter| match parameter.kind.split(' ').next() {
        Some("integer" | "number") => Value::from(1),
        Some("boolean") => Value::from(true),
        Some("array") => Value::Array(Vec::new()),
        Some("object") => Value::Object(Map::new()),
        _ => Value::from("…"),
    };
    let arguments: Map<String, Value> = parameters
        .iter()
        .filter(|parameter| parameter.required)
        .map(|parameter| (parameter.name.clone(), example(parameter)))
        .collect();
    format!(
        "berth call {project} {} {}",
        quoted(tool),
        quoted(&Value::Object(arguments).to_string())
    )
}

/// For a POSIX shell: people paste this, and the name is whatever the server's author chose.
fn quoted(text: &str) -> String {
    if !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        && !text.starts_with('-')
    {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tool_is_read_with_its_parameters() {
        let tool = read(
            "hello",
            &json!({
                "name": "greet",
                "description": "Greet someone.\n\nKindly.",
                "inputSchema": {
                    "properties": {
                        "name": { "type": "string", "description": "Whom" },
                        "times": { "anyOf": [{ "type": "integer" }, { "type": "null" }] },
                    },
                    "required": ["name"],
                },
            }),
        )
        .unwrap();
        assert_eq!(tool.line.as_deref(), Some("Greet someone."));
        assert_eq!(tool.description.as_deref(), Some("Kindly."));
        assert_eq!(shortened(&"ä".repeat(MAX_LINE)), "ä".repeat(MAX_LINE));
        assert!(shortened(&"ä".repeat(MAX_LINE + 1)).ends_with(" …"));
        assert_eq!(tool.call, r#"berth call hello greet '{"name":"…"}'"#);
        assert_eq!(tool.parameters[1].kind, "integer or null");
        assert!(tool.parameters[0].required && !tool.parameters[1].required);
    }

    #[test]
    fn a_tools_name_cannot_run_a_command() {
        let tool = read("p", &json!({ "name": "x; rm -rf ~ '$(id)'" })).unwrap();
        assert_eq!(tool.call, r"berth call p 'x; rm -rf ~ '\''$(id)'\''' '{}'");
        assert!(read("p", &json!({ "name": 1 })).is_none());
    }
}
