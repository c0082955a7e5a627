//! `berth members`: who belongs to the organization, and as what.

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

/// What a member may do.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Role {
    /// Everything, and owners.
    Owner,
    /// Everything but owners.
    Admin,
    /// Deploy, variables, settings.
    Editor,
    /// Look and call.
    Viewer,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Editor => "editor",
            Self::Viewer => "viewer",
        }
    }
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List them (what happens without a word).
    List,
    /// Add someone; prints the one-time link for who is new here.
    Add {
        /// Their e-mail address.
        email: String,

        /// What they may do.
        #[arg(long, value_enum, default_value = "editor")]
        role: Role,
    },
    /// Print another one-time link for someone who has not chosen a password yet.
    Link {
        /// Their e-mail address.
        email: String,
    },
    /// Change what someone may do.
    Role {
        /// Their e-mail address.
        email: String,

        /// What they may do from now on.
        #[arg(value_enum)]
        role: Role,
    },
    /// Remove someone; what they allowed apps on the organization's projects ends at once.
    Remove {
        /// Their e-mail address.
        email: String,
    },
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::signed_in(&arguments.client)?;
    match arguments.command.unwrap_or(Command::List) {
        Command::List => {
            let answer = client.get(&path(&["members"])).await?;
            output.result(&answer["organizations"], || list(&answer["organizations"]));
        }
        Command::Add { email, role } => {
            let body = json!({ "email": email, "role": role.name() });
            let answer = client
                .send(Method::POST, &path(&["members"]), &body)
                .await?;
            output.result(&answer, || added(&answer));
        }
        Command::Link { email } => {
            let address = path(&["members", &email, "setup-link"]);
            let answer = client.send(Method::POST, &address, &json!({})).await?;
            output.result(&answer, || text(&answer, "setup_url").to_owned());
        }
        Command::Role { email, role } => {
            let body = json!({ "role": role.name() });
            let address = path(&["members", &email]);
            let answer = client.send(Method::PATCH, &address, &body).await?;
            output.result(&answer, || format!("{email} is {} now.", role.name()));
        }
        Command::Remove { email } => {
            let address = path(&["members", &email]);
            client.send(Method::DELETE, &address, &Value::Null).await?;
            output.result(&json!({ "removed": email }), || format!("Removed {email}."));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn added(member: &Value) -> String {
    let email = text(member, "email");
    match member["setup_url"].as_str() {
        Some(url) => format!(
            "Added {email}. Send them this link, by which they choose a password; it works once, for 24 hours:\n{url}"
        ),
        None => format!("Added {email}; they sign in as they did before."),
    }
}

fn list(organizations: &Value) -> String {
    let organizations = organizations.as_array().map_or(&[][..], Vec::as_slice);
    if organizations.is_empty() {
        return "You belong to no organization; ask an owner or admin of one to add you."
            .to_owned();
    }
    let head = ["E-MAIL", "ROLE", "ORGANIZATION", ""];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for organization in organizations {
        let members = organization["members"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        rows.extend(members.iter().map(|member| {
            let invited = member["invited"].as_bool().unwrap_or(false);
            vec![
                text(member, "email").to_owned(),
                text(member, "role").to_owned(),
                text(organization, "name").to_owned(),
                if invited {
                    "has not chosen a password yet"
                } else {
                    ""
                }
                .to_owned(),
            ]
        }));
    }
    table(&rows)
}
