//! `berth call`: the whole way a client goes, through the public URL.

use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, ClientArguments, path};
use super::exit::Failure;
use super::mcp::Session;
use super::output::Output;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    client: ClientArguments,

    /// The project.
    project: String,

    /// The tool.
    tool: String,

    /// Its arguments, a JSON object.
    #[arg(default_value = "{}", value_name = "JSON")]
    input: String,
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::signed_in(&arguments.client)?;
    let given: Value = serde_json::from_str(&arguments.input)
        .ok()
        .filter(Value::is_object)
        .ok_or_else(|| {
            anyhow!(Failure::Usage(
                "give the tool's arguments as a JSON object, such as '{\"name\":\"you\"}'".into()
            ))
        })?;
    let address = path(&["projects", &arguments.project, "access-tokens"]);
    let access = client.send(Method::POST, &address, &json!({})).await?;
    let url = access["resource"]
        .as_str()
        .context("the server gave no address of the project")?;
    // None for a public project.
    let token = access["access_token"].as_str();
    let mut session = Session::open(client.http(), url, token).await?;
    let result = session.call(&arguments.tool, &given).await;
    session.close().await;
    let result = result?;
    output.result(&result, || text(&result));
    let failed = result["isError"].as_bool().unwrap_or(false);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// The text of a tool's result; what is not text is named.
fn text(result: &Value) -> String {
    let content = result["content"].as_array().map_or(&[][..], Vec::as_slice);
    let parts: Vec<String> = content
        .iter()
        .map(|part| match part["text"].as_str() {
            Some(text) => text.to_owned(),
            None => format!("[{}]", part["type"].as_str().unwrap_or("content")),
        })
        .collect();
    if parts.is_empty() && !result["structuredContent"].is_null() {
        return result["structuredContent"].to_string();
    }
    parts.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_shown_as_text() {
        let result = json!({ "content": [{ "type": "text", "text": "hi" }, { "type": "image" }] });
        assert_eq!(text(&result), "hi\n[image]");
        let result = json!({ "content": [], "structuredContent": { "n": 1 } });
        assert_eq!(text(&result), r#"{"n":1}"#);
    }
}
