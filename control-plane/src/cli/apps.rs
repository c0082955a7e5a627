//! `berth apps`: connected apps.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, ClientArguments, path};
use super::output::{Output, table, text};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    client: ClientArguments,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the apps that you have allowed to use MCP servers in your name.
    List,
    /// End an app's access to a project, at once.
    Revoke {
        /// Its id, as the list shows it.
        id: String,
    },
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::signed_in(&arguments.client)?;
    match arguments.command {
        Command::List => {
            let answer = client.get(&path(&["apps"])).await?;
            output.result(&answer["apps"], || list(&answer["apps"]));
        }
        Command::Revoke { id } => {
            client
                .send(Method::DELETE, &path(&["apps", &id]), &Value::Null)
                .await?;
            output.result(&json!({ "revoked": id }), || format!("Disconnected {id}."));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(apps: &Value) -> String {
    let apps = apps.as_array().map_or(&[][..], Vec::as_slice);
    if apps.is_empty() {
        return "No app is connected; add a project's URL to an MCP client to connect one."
            .to_owned();
    }
    let day = |app: &Value, name: &str| text(app, name).chars().take(10).collect::<String>();
    let head = [
        "ID",
        "APP",
        "FROM",
        "PROJECT",
        "CALLS AS",
        "SCOPES",
        "SINCE",
        "LAST USED",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(apps.iter().map(|app| {
        let scopes = app["scopes"].as_array().map_or(&[][..], Vec::as_slice);
        let scopes: Vec<&str> = scopes.iter().filter_map(Value::as_str).collect();
        let account = app["service_account"].as_str().unwrap_or("you");
        vec![
            text(app, "id").to_owned(),
            text(app, "client").to_owned(),
            text(app, "host").to_owned(),
            text(app, "project").to_owned(),
            account.to_owned(),
            scopes.join(" "),
            day(app, "created_at"),
            day(app, "last_used_at"),
        ]
    }));
    table(&rows)
}
