//! `berth previews`

use std::process::ExitCode;

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, ClientArguments, path};
use super::deploy::settle;
use super::follow::report;
use super::output::{Output, short, table, text};

#[derive(Debug, clap::Args)]
#[command(subcommand_negates_reqs = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    client: ClientArguments,

    /// The project.
    #[arg(required = true)]
    project: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Let a commit of a fork's pull request be built and run. A later one waits again.
    Approve {
        /// The project.
        project: String,

        /// The preview, such as pr-12.
        preview: String,

        /// The commit that you looked at, in full: it alone is approved, and it must be the newest.
        #[arg(long, value_name = "COMMIT")]
        commit: String,

        /// Give its code the secret variables of previews, and those of builds. Whoever wrote it can
        /// read them.
        #[arg(long)]
        with_secrets: bool,
    },
    /// Deploy the commit of a preview again.
    Deploy {
        /// The project.
        project: String,

        /// The preview, such as pr-12.
        preview: String,

        /// Wait until it is live or has failed.
        #[arg(long)]
        wait: bool,
    },
    /// Close a preview. It stays so until its pull request gets another commit or is reopened.
    Close {
        /// The project.
        project: String,

        /// The preview, such as pr-12.
        preview: String,
    },
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::signed_in(&arguments.client)?;
    match arguments.command {
        None => {
            let project = arguments
                .project
                .context("clap asks for it without a subcommand")?;
            let answer = client
                .get(&path(&["projects", &project, "previews"]))
                .await?;
            output.result(&answer["previews"], || list(&answer["previews"]));
        }
        Some(Command::Approve {
            project,
            preview,
            commit,
            with_secrets,
        }) => {
            let address = path(&["projects", &project, "previews", &preview, "approve"]);
            let body = json!({ "commit": commit, "with_secrets": with_secrets });
            let answer = client.send(Method::POST, &address, &body).await?;
            output.result(&answer, || approved(&answer));
        }
        Some(Command::Deploy {
            project,
            preview,
            wait,
        }) => {
            let address = path(&["projects", &project, "previews", &preview, "deploy"]);
            let deployment = client.send(Method::POST, &address, &Value::Null).await?;
            return Ok(report(&settle(&client, deployment, wait).await?, output));
        }
        Some(Command::Close { project, preview }) => {
            let address = path(&["projects", &project, "previews", &preview, "close"]);
            let answer = client.send(Method::POST, &address, &Value::Null).await?;
            output.result(&answer, || closed(&answer));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn approved(preview: &Value) -> String {
    format!(
        "Approved {} of {}. {}",
        short(text(preview, "commit")),
        text(preview, "slug"),
        text(preview, "about")
    )
}

fn closed(preview: &Value) -> String {
    format!("{}: {}", text(preview, "slug"), text(preview, "about"))
}

fn list(previews: &Value) -> String {
    let previews = previews.as_array().map_or(&[][..], Vec::as_slice);
    if previews.is_empty() {
        return "There are no previews; open a pull request of the project's repository."
            .to_owned();
    }
    let head = [
        "PREVIEW", "STATE", "COMMIT", "BRANCH", "AUTHOR", "TITLE", "URL", "WHAT",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(previews.iter().map(|preview| {
        vec![
            text(preview, "slug").to_owned(),
            text(preview, "state").to_owned(),
            short(text(preview, "commit")).to_owned(),
            text(preview, "branch").to_owned(),
            text(preview, "author").to_owned(),
            text(preview, "title").to_owned(),
            text(preview, "url").to_owned(),
            text(preview, "about").to_owned(),
        ]
    }));
    table(&rows)
}
