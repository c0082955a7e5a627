//! `berth rollback`

use std::process::ExitCode;

use reqwest::Method;
use serde_json::Value;

use super::client::{Client, ClientArguments, path};
use super::deploy::settle;
use super::follow::report;
use super::output::{Output, note};
use super::promote::{live, stay};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    client: ClientArguments,

    /// The project.
    project: String,

    /// Wait until it is live or has failed.
    #[arg(long)]
    wait: bool,
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::signed_in(&arguments.client)?;
    let address = path(&["projects", &arguments.project, "rollback"]);
    let live = live(&client, &arguments.project).await?;
    let deployment = client.send(Method::POST, &address, &Value::Null).await?;
    if let Some(sentence) = live.as_ref().and_then(stay) {
        note(&sentence);
    }
    Ok(report(
        &settle(&client, deployment, arguments.wait).await?,
        output,
    ))
}
