//! `berth projects`

use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, ClientArguments, path};
use super::output::{Output, short, table, text};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    client: ClientArguments,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List them (what happens without a word).
    List,
    /// Show one.
    Show {
        /// Its name.
        project: String,
    },
    /// Change a project's settings.
    Set {
        /// Its name.
        project: String,

        /// Hold deployments that would break callers until someone promotes them.
        #[arg(long, value_name = "on|off", value_parser = ["on", "off"])]
        hold_breaking: String,
    },
    /// Delete one, with its deployments, variables and persistent files.
    Delete {
        /// Its name.
        project: String,
    },
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::signed_in(&arguments.client)?;
    match arguments.command.unwrap_or(Command::List) {
        Command::List => {
            let answer = client.get(&path(&["projects"])).await?;
            output.result(&answer["projects"], || list(&answer));
        }
        Command::Show { project } => {
            let answer = client.get(&path(&["projects", &project])).await?;
            output.result(&answer, || show(&answer));
        }
        Command::Set {
            project,
            hold_breaking,
        } => {
            let change = json!({ "hold_breaking": hold_breaking == "on" });
            let answer = client
                .send(Method::PATCH, &path(&["projects", &project]), &change)
                .await?;
            output.result(&answer, || show(&answer));
        }
        Command::Delete { project } => {
            client
                .send(Method::DELETE, &path(&["projects", &project]), &Value::Null)
                .await?;
            output.result(&json!({ "deleted": project }), || {
                format!("Deleted {project}.")
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn live(project: &Value) -> String {
    match project["live"]["number"].as_i64() {
        Some(number) => format!("{number} ({})", short(text(&project["live"], "commit"))),
        None => "-".to_owned(),
    }
}

fn revision(variables: &Value) -> String {
    let (newest, live) = (&variables["revision"], &variables["live"]["revision"]);
    if live.is_null() || live == newest {
        format!("revision {newest}")
    } else {
        format!("revision {live}, the newest is {newest}")
    }
}

fn list(answer: &Value) -> String {
    let projects = answer["projects"].as_array().map_or(&[][..], Vec::as_slice);
    if projects.is_empty() {
        return "No projects yet; deploy one with `berth deploy`.".to_owned();
    }
    let mut rows = vec![vec![
        "PROJECT".to_owned(),
        "LIVE".to_owned(),
        "URL".to_owned(),
    ]];
    rows.extend(projects.iter().map(|project| {
        vec![
            text(project, "name").to_owned(),
            live(project),
            text(project, "url").to_owned(),
        ]
    }));
    table(&rows)
}

fn show(project: &Value) -> String {
    let row = |name: &str, value: &str| vec![name.to_owned(), value.to_owned()];
    table(&[
        row("Project", text(project, "name")),
        row("URL", text(project, "url")),
        row("Access", text(project, "access")),
        row("Dashboard", text(project, "dashboard_url")),
        row("Live", &live(project)),
        row("Source", text(project, "source_url")),
        row("Branch", text(project, "source_branch")),
        row("Entrypoint", text(project, "entrypoint")),
        row(
            "Breaking changes",
            if project["hold_breaking"] == true {
                "held until promoted"
            } else {
                "go live"
            },
        ),
        row("Variables", &revision(&project["variables"])),
    ])
}
