//! `berth logs`

use std::process::ExitCode;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::client::{Client, ClientArguments, path};
use super::deployments::find_newest;
use super::follow::events;
use super::output::{Output, line, text};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    client: ClientArguments,

    /// The project.
    project: String,

    /// The deployment: its number or id [default: the live one; with --build the newest].
    #[arg(long, value_name = "DEPLOYMENT")]
    deployment: Option<String>,

    /// Show the build instead of the server's own output.
    #[arg(long)]
    build: bool,

    /// Only lines that hold this text, in any case.
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,

    /// Go on showing lines as they come.
    #[arg(long, short)]
    follow: bool,
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::signed_in(&arguments.client)?;
    let deployment = match &arguments.deployment {
        Some(deployment) => deployment.clone(),
        None => find(&client, &arguments).await?,
    };
    let stream = if arguments.build { "build" } else { "instance" };
    let address = path(&[
        "projects",
        &arguments.project,
        "deployments",
        &deployment,
        "logs",
    ]);
    let address = format!(
        "{address}?stream={stream}{}",
        search(arguments.grep.as_deref())
    );
    let mut lines = Vec::new();
    if arguments.follow {
        show_as_they_come(&client, &address, output, &mut lines).await?;
    } else {
        lines = all(&client, &address).await?;
        if !output.is_json() {
            for entry in &lines {
                line(text(entry, "text"));
            }
        }
    }
    output.result(
        &json!({ "deployment": deployment, "lines": lines }),
        String::new,
    );
    Ok(ExitCode::SUCCESS)
}

fn search(text: Option<&str>) -> String {
    text.map_or_else(String::new, |text| {
        let text: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
        format!("&q={text}")
    })
}

/// The deployment that is meant when none is named.
async fn find(client: &Client, arguments: &Arguments) -> anyhow::Result<String> {
    let project = client.get(&path(&["projects", &arguments.project])).await?;
    if let Some(live) = project["live"]["id"].as_str().filter(|_| !arguments.build) {
        return Ok(live.to_owned());
    }
    find_newest(client, &arguments.project).await
}

/// Every line, page by page.
async fn all(client: &Client, address: &str) -> anyhow::Result<Vec<Value>> {
    let mut lines: Vec<Value> = Vec::new();
    loop {
        let after = lines
            .last()
            .and_then(|line| line["sequence"].as_i64())
            .unwrap_or(0);
        let mut page = client.get(&format!("{address}&after={after}")).await?;
        match page["lines"].as_array_mut() {
            Some(more) if !more.is_empty() => lines.append(more),
            _ => return Ok(lines),
        }
    }
}

async fn show_as_they_come(
    client: &Client,
    address: &str,
    output: Output,
    lines: &mut Vec<Value>,
) -> anyhow::Result<()> {
    let mut events = Box::pin(events(client.follow(&format!("{address}&follow=1")).await?));
    while let Some(event) = events.next().await {
        let event = event?;
        match event.name.as_str() {
            "line" => {
                let entry: Value =
                    serde_json::from_str(&event.data).context("a line of the log is no JSON")?;
                if output.is_json() {
                    lines.push(entry);
                } else {
                    line(text(&entry, "text"));
                }
            }
            "end" => break,
            _ => {}
        }
    }
    Ok(())
}
