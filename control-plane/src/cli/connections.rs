//! `berth connections`

use std::process::ExitCode;

use serde_json::Value;

use super::client::{Client, ClientArguments, path};
use super::output::{Output, text};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    client: ClientArguments,

    /// The project.
    project: String,
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::signed_in(&arguments.client)?;
    let answer = client
        .get(&path(&["projects", &arguments.project, "connections"]))
        .await?;
    let connections = &answer["connections"];
    output.result(connections, || list(connections, &arguments.project));
    Ok(ExitCode::SUCCESS)
}

fn list(connections: &Value, project: &str) -> String {
    let connections = connections.as_array().map_or(&[][..], Vec::as_slice);
    if connections.is_empty() {
        return format!(
            "No client has tried to connect to {project} in the last 7 days; `berth connect {project}` shows how to."
        );
    }
    connections
        .iter()
        .map(attempt)
        .collect::<Vec<_>>()
        .join("\n\n")
}

fn attempt(it: &Value) -> String {
    let state = match text(it, "state") {
        "connected" => "connected",
        "failed" => "not connected",
        _ => "under way",
    };
    let mut lines = vec![format!(
        "{}: {state} ({}, since {})",
        text(it, "client"),
        text(it, "user"),
        second(text(it, "since"))
    )];
    for step in it["steps"].as_array().map_or(&[][..], Vec::as_slice) {
        let title = step["failure"]["title"]
            .as_str()
            .unwrap_or_else(|| text(step, "title"));
        let code = match step["failure"]["code"].as_str() {
            Some(code) => format!(" [{code}]"),
            None => String::new(),
        };
        let times = match step["count"].as_i64() {
            Some(count) if count > 1 => format!(", {count} times"),
            _ => String::new(),
        };
        let detail = match step["detail"].as_str() {
            Some(detail) => format!(": {detail}"),
            None => String::new(),
        };
        let at = second(text(step, "first_at"));
        lines.push(format!("  {at}  {title}{code}{times}{detail}"));
    }
    for (label, member) in [("Cause", "cause"), ("Fix", "fix"), ("More", "page")] {
        if let Some(sentence) = it["failure"][member].as_str() {
            lines.push(format!("  {label}: {sentence}"));
        }
    }
    lines.join("\n")
}

/// A time to the second.
fn second(time: &str) -> &str {
    time.get(..19).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_attempt_is_told_with_its_cause_and_fix() {
        let connections = json!([{
            "client": "Cursor", "user": "ada@example.com", "state": "failed", "since": "2026-11-22T12:00:00Z",
            "failure": { "code": "no_access", "cause": "Not a member.", "fix": "Add them.", "page": "http://x/#no_access" },
            "steps": [
                { "title": "Called", "first_at": "2026-11-22T12:00:00Z", "count": 3, "failure": null, "detail": null },
                { "title": "Asked", "first_at": "2026-11-22T12:00:05Z", "count": 1, "detail": "for mcp",
                  "failure": { "code": "no_access", "title": "May not" } },
            ],
        }]);
        insta::assert_snapshot!(list(&connections, "hello"), @"
        Cursor: not connected (ada@example.com, since 2026-11-22T12:00:00)
          2026-11-22T12:00:00  Called, 3 times
          2026-11-22T12:00:05  May not [no_access]: for mcp
          Cause: Not a member.
          Fix: Add them.
          More: http://x/#no_access
        ");
        assert!(list(&json!([]), "hello").contains("No client has tried"));
    }
}
