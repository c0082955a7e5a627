//! `berth tokens`: API tokens.

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
    /// Create one and print it, this once.
    Create {
        /// What it is for.
        name: String,

        /// Let it end after so many days; without this it works until it is revoked.
        #[arg(long, value_name = "DAYS")]
        expires_in_days: Option<u32>,
    },
    /// List them.
    List,
    /// Revoke one, at once.
    Revoke {
        /// Its id, as the list shows it.
        id: String,
    },
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::signed_in(&arguments.client)?;
    match arguments.command {
        Command::Create {
            name,
            expires_in_days,
        } => {
            let mut body = json!({ "name": name });
            if let Some(days) = expires_in_days {
                body["expires_in_days"] = days.into();
            }
            let answer = client.send(Method::POST, &path(&["tokens"]), &body).await?;
            output.result(&answer, || text(&answer, "token").to_owned());
        }
        Command::List => {
            let answer = client.get(&path(&["tokens"])).await?;
            output.result(&answer["tokens"], || list(&answer["tokens"]));
        }
        Command::Revoke { id } => {
            client
                .send(Method::DELETE, &path(&["tokens", &id]), &Value::Null)
                .await?;
            output.result(&json!({ "revoked": id }), || format!("Revoked {id}."));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(tokens: &Value) -> String {
    let tokens = tokens.as_array().map_or(&[][..], Vec::as_slice);
    if tokens.is_empty() {
        return "There are no API tokens.".to_owned();
    }
    let day = |token: &Value, name: &str| text(token, name).chars().take(10).collect::<String>();
    let head = ["ID", "NAME", "CREATED", "LAST USED", "EXPIRES"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(tokens.iter().map(|token| {
        vec![
            text(token, "id").to_owned(),
            text(token, "name").to_owned(),
            day(token, "created_at"),
            day(token, "last_used_at"),
            day(token, "expires_at"),
        ]
    }));
    table(&rows)
}
