//! `berth deployments`

use std::process::ExitCode;

use serde_json::Value;

use super::client::{Client, ClientArguments, path};
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

/// The newest of production, of a list; null where there is none.
pub fn of_production(deployments: &Value) -> &Value {
    let all = deployments.as_array().map_or(&[][..], Vec::as_slice);
    all.iter()
        .find(|it| it["preview"].is_null())
        .unwrap_or(&Value::Null)
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
