//! `berth deployments`

use std::process::ExitCode;

use serde_json::Value;

use super::client::{Client, ClientArguments, path};
use super::exit::Failure;
use super::output::{Output, short, table, text};

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
        .get(&path(&["projects", &arguments.project, "deployments"]))
        .await?;
    output.result(&answer["deployments"], || list(&answer["deployments"]));
    Ok(ExitCode::SUCCESS)
}

/// The id of the newest of production.
pub async fn find_newest(client: &Client, project: &str) -> anyhow::Result<String> {
    let address = path(&["projects", project, "deployments"]);
    let answer = client
        .get(&format!("{address}?preview=none&limit=1"))
        .await?;
    let newest = answer["deployments"][0]["id"].as_str().map(str::to_owned);
    newest.ok_or_else(|| {
        Failure::NotFound(format!("nothing of {project} has been deployed yet")).into()
    })
}

fn list(deployments: &Value) -> String {
    let deployments = deployments.as_array().map_or(&[][..], Vec::as_slice);
    if deployments.is_empty() {
        return "Nothing has been deployed yet.".to_owned();
    }
    let head = [
        "NUMBER", "STATE", "COMMIT", "BRANCH", "PREVIEW", "CREATED", "WHAT",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(deployments.iter().map(|deployment| {
        let what = deployment["diagnosis"]["cause"]
            .as_str()
            .unwrap_or_else(|| text(deployment, "commit_subject"));
        vec![
            deployment["number"].to_string(),
            text(deployment, "state").to_owned(),
            short(text(deployment, "commit")).to_owned(),
            text(deployment, "branch").to_owned(),
            text(deployment, "preview").to_owned(),
            text(deployment, "created_at").chars().take(19).collect(),
            what.to_owned(),
        ]
    }));
    table(&rows)
}
