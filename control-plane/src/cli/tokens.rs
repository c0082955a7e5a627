//! `berth tokens`: API tokens, one's own and those of service accounts.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, ClientArguments, path};
use super::output::{Output, note, table, text};

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

        /// Good for calls of MCP servers alone, not for the API and this command line.
        #[arg(long)]
        calls: bool,

        /// Good for calls of this project alone; can be given several times.
        #[arg(long = "project", value_name = "PROJECT")]
        projects: Vec<String>,

        /// Let it end after so many days. Without this it works until it is revoked, or until the
        /// token that creates it ends.
        #[arg(long = "expires", alias = "expires-in-days", value_name = "DAYS")]
        days: Option<u32>,

        #[command(flatten)]
        whose: Whose,
    },
    /// List them.
    List {
        #[command(flatten)]
        whose: Whose,
    },
    /// Revoke one, at once.
    Revoke {
        /// Its id, as the list shows it.
        id: String,

        #[command(flatten)]
        whose: Whose,
    },
}

#[derive(Debug, clap::Args)]
struct Whose {
    /// Of this service account instead of yours; its tokens are good for calls alone.
    #[arg(long, value_name = "NAME")]
    service_account: Option<String>,
}

impl Whose {
    /// The address of the tokens, or of one.
    fn path(&self, id: Option<&str>) -> String {
        let mut segments = match &self.service_account {
            Some(account) => vec!["service-accounts", account, "tokens"],
            None => vec!["tokens"],
        };
        segments.extend(id);
        path(&segments)
    }
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::signed_in(&arguments.client)?;
    match arguments.command {
        Command::Create {
            name,
            calls,
            projects,
            days,
            whose,
        } => {
            let body = wanted(&name, calls, &projects, days);
            let answer = client.send(Method::POST, &whose.path(None), &body).await?;
            if let Some(end) = answer["expires_at"].as_str().filter(|_| !output.is_json()) {
                note(&format!("It ends on {}.", &end[..end.len().min(10)]));
            }
            output.result(&answer, || text(&answer, "token").to_owned());
        }
        Command::List { whose } => {
            let answer = client.get(&whose.path(None)).await?;
            output.result(&answer["tokens"], || list(&answer["tokens"]));
        }
        Command::Revoke { id, whose } => {
            client
                .send(Method::DELETE, &whose.path(Some(&id)), &Value::Null)
                .await?;
            output.result(&json!({ "revoked": id }), || format!("Revoked {id}."));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The body that asks for a token.
fn wanted(name: &str, calls: bool, projects: &[String], days: Option<u32>) -> Value {
    let mut body = json!({ "name": name });
    if calls || !projects.is_empty() {
        body["good_for"] = "calls".into();
    }
    if !projects.is_empty() {
        body["projects"] = json!(projects);
    }
    if let Some(days) = days {
        body["expires_in_days"] = days.into();
    }
    body
}

fn list(tokens: &Value) -> String {
    let tokens = tokens.as_array().map_or(&[][..], Vec::as_slice);
    if tokens.is_empty() {
        return "There are no API tokens.".to_owned();
    }
    let day = |token: &Value, name: &str| text(token, name).chars().take(10).collect::<String>();
    let head = ["ID", "NAME", "GOOD FOR", "CREATED", "LAST USED", "EXPIRES"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(tokens.iter().map(|token| {
        vec![
            text(token, "id").to_owned(),
            text(token, "name").to_owned(),
            purpose(token),
            day(token, "created_at"),
            day(token, "last_used_at"),
            day(token, "expires_at"),
        ]
    }));
    table(&rows)
}

/// `everything`, `calls`, or `calls of a, b`.
fn purpose(token: &Value) -> String {
    let good_for = text(token, "good_for");
    match token["projects"].as_array() {
        None => good_for.to_owned(),
        Some(names) => {
            let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
            format!("{good_for} of {}", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_makes_it_a_token_for_calls() {
        assert_eq!(wanted("ci", false, &[], None), json!({ "name": "ci" }));
        assert_eq!(
            wanted("ci", false, &["a".into()], Some(7)),
            json!({ "name": "ci", "good_for": "calls", "projects": ["a"], "expires_in_days": 7 })
        );
        assert_eq!(
            wanted("ci", true, &[], None),
            json!({ "name": "ci", "good_for": "calls" })
        );
    }

    #[test]
    fn the_list_says_what_a_token_is_good_for() {
        let token = json!({ "good_for": "calls", "projects": ["a", "b"] });
        assert_eq!(purpose(&token), "calls of a, b");
        let token = json!({ "good_for": "everything", "projects": null });
        assert_eq!(purpose(&token), "everything");
    }
}
