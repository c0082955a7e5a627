//! `berth promote`

use std::process::ExitCode;

use reqwest::Method;
use serde_json::Value;

use super::client::{Client, ClientArguments, path};
use super::deploy::settle;
use super::follow::report;
use super::output::{Output, note};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    client: ClientArguments,

    /// The project.
    project: String,

    /// The deployment: its number or id.
    deployment: String,

    /// Wait until it is live or has failed.
    #[arg(long)]
    wait: bool,
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::signed_in(&arguments.client)?;
    let Arguments {
        project,
        deployment,
        wait,
        ..
    } = arguments;
    let address = path(&["projects", &project, "deployments", &deployment, "promote"]);
    let live = live(&client, &project).await?;
    let deployment = client.send(Method::POST, &address, &Value::Null).await?;
    if let Some(sentence) = live.as_ref().and_then(stay) {
        note(&sentence);
    }
    Ok(report(&settle(&client, deployment, wait).await?, output))
}

/// The deployment that would be replaced.
pub async fn live(client: &Client, project: &str) -> anyhow::Result<Option<Value>> {
    let address = path(&["projects", project, "deployments"]);
    let mut answer = client.get(&address).await?;
    let deployments = answer["deployments"].as_array_mut();
    Ok(deployments.and_then(|all| {
        let at = all
            .iter()
            .position(|it| it["state"] == "live" && it["preview"].is_null())?;
        Some(all.swap_remove(at))
    }))
}

/// What becomes of its MCP sessions.
pub fn stay(live: &Value) -> Option<String> {
    let sessions = live["sessions"].as_i64().filter(|count| *count > 0)?;
    let noun = if sessions == 1 {
        "MCP session stays"
    } else {
        "MCP sessions stay"
    };
    Some(format!(
        "{sessions} {noun} with deployment {} until closed, at the longest for BERTH_DRAIN_SECONDS of the server.",
        live["number"]
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn open_sessions_are_named() {
        assert_eq!(stay(&json!({ "number": 4, "sessions": 0 })), None);
        let sentence = stay(&json!({ "number": 4, "sessions": 1 })).unwrap();
        assert!(
            sentence.starts_with("1 MCP session stays with deployment 4 until"),
            "{sentence}"
        );
    }
}
