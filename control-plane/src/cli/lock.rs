//! `berth lock`

use std::process::ExitCode;

use anyhow::bail;
use serde_json::json;

use super::client::{Client, ClientArguments, path};
use super::exit::Failure;
use super::output::{Output, text};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    client: ClientArguments,

    /// The project.
    project: String,

    /// The deployment, by its number or id [default: the live one].
    deployment: Option<String>,
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::signed_in(&arguments.client)?;
    let project = &arguments.project;
    let deployment = if let Some(deployment) = arguments.deployment {
        deployment
    } else {
        let found = client.get(&path(&["projects", project])).await?;
        match found["live"]["number"].as_i64() {
            Some(number) => number.to_string(),
            None => bail!(Failure::NotFound(format!(
                "nothing of {project} is live; name a deployment (see `berth deployments {project}`)"
            ))),
        }
    };
    let address = path(&["projects", project, "deployments", &deployment, "lock"]);
    let lock = client.text(&address).await?;
    let document = json!({ "project": project, "deployment": deployment, "lock": lock });
    output.result(&document, || text(&document, "lock").trim_end().to_owned());
    Ok(ExitCode::SUCCESS)
}
