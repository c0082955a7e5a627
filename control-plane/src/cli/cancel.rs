//! `berth cancel`

use std::process::ExitCode;

use reqwest::Method;
use serde_json::Value;

use super::client::{Client, ClientArguments, path};
use super::output::Output;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    client: ClientArguments,

    /// The project.
    project: String,

    /// The deployment: its number or id.
    deployment: String,
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::signed_in(&arguments.client)?;
    let Arguments {
        project,
        deployment,
        ..
    } = arguments;
    let address = path(&["projects", &project, "deployments", &deployment, "cancel"]);
    let canceled = client.send(Method::POST, &address, &Value::Null).await?;
    output.result(&canceled, || {
        format!("Canceled deployment {} of {project}.", canceled["number"])
    });
    Ok(ExitCode::SUCCESS)
}
