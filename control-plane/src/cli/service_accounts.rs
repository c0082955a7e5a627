//! `berth service-accounts`: callers that are no person.

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
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List them (what happens without a word).
    List,
    /// Create one; `berth tokens create NAME --service-account …` gives it a token.
    Create {
        /// Its name: lower-case letters, digits and hyphens.
        name: String,
    },
    /// Delete one; its tokens and everything it was granted end at once.
    Delete {
        /// Its name or id.
        name: String,
    },
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::signed_in(&arguments.client)?;
    let address = path(&["service-accounts"]);
    match arguments.command.unwrap_or(Command::List) {
        Command::List => {
            let answer = client.get(&address).await?;
            let accounts = &answer["service_accounts"];
            output.result(accounts, || list(accounts));
        }
        Command::Create { name } => {
            let body = json!({ "name": name });
            let answer = client.send(Method::POST, &address, &body).await?;
            output.result(&answer, || {
                format!(
                    "Created {0}. Give it a token: berth tokens create NAME --service-account {0}",
                    text(&answer, "name")
                )
            });
        }
        Command::Delete { name } => {
            let address = path(&["service-accounts", &name]);
            client.send(Method::DELETE, &address, &Value::Null).await?;
            output.result(&json!({ "deleted": name }), || format!("Deleted {name}."));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(accounts: &Value) -> String {
    let accounts = accounts.as_array().map_or(&[][..], Vec::as_slice);
    if accounts.is_empty() {
        return "There are no service accounts; create one with `berth service-accounts create`."
            .to_owned();
    }
    let head = ["NAME", "ID", "CREATED"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(accounts.iter().map(|account| {
        vec![
            text(account, "name").to_owned(),
            text(account, "id").to_owned(),
            text(account, "created_at").chars().take(10).collect(),
        ]
    }));
    table(&rows)
}
