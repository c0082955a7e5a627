//! `berth tools`

use std::process::ExitCode;

use serde_json::Value;

use super::client::{Client, ClientArguments, path};
use super::output::{Output, table, text};

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
        .get(&path(&["projects", &arguments.project, "tools"]))
        .await?;
    output.result(&answer["tools"], || list(&answer["tools"]));
    Ok(ExitCode::SUCCESS)
}

fn list(tools: &Value) -> String {
    let tools = tools.as_array().map_or(&[][..], Vec::as_slice);
    if tools.is_empty() {
        return "The server offers no tools.".to_owned();
    }
    let rows: Vec<Vec<String>> = tools
        .iter()
        .map(|tool| {
            let about = text(tool, "description")
                .trim()
                .lines()
                .next()
                .unwrap_or_default();
            vec![text(tool, "name").to_owned(), about.to_owned()]
        })
        .collect();
    table(&rows)
}
