//! `berth access`: who may call a project.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, ClientArguments, path};
use super::exit::Failure;
use super::output::{Output, note, table, text};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    client: ClientArguments,

    /// The project.
    project: String,

    #[command(subcommand)]
    command: Option<Command>,
}

/// Who looks at callers' credentials.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Mode {
    /// Berth: callers sign in or show an API token.
    Platform,
    /// Nobody: everyone who knows the address may call.
    Public,
    /// The server itself: every request is passed on as it came.
    Tenant,
}

/// Whom Berth lets in.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Callers {
    /// The organization's owners.
    Owner,
    /// Those named with --allow.
    Chosen,
    /// All members and service accounts of the organization.
    Organization,
    /// Everyone who can sign in to the platform.
    Anyone,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show it (what happens without a word).
    Show,
    /// Change it; what is not named stays. It applies at once.
    Set(Change),
}

#[derive(Debug, clap::Args)]
struct Change {
    /// Who looks at callers' credentials.
    #[arg(long, value_enum)]
    mode: Option<Mode>,

    /// With the mode platform: who may call.
    #[arg(long, value_enum)]
    callers: Option<Callers>,

    /// With the callers chosen: those who may, all of them; e-mail addresses of members and names
    /// of service accounts.
    #[arg(long, value_name = "EMAIL", num_args = 1..)]
    allow: Option<Vec<String>>,

    /// Paths that need no token, all of them, as /health or /hooks/*; an empty word for none.
    #[arg(long = "public-path", value_name = "PATH", num_args = 1..)]
    public_paths: Option<Vec<String>>,

    /// Further origins whose web pages may call, all of them, as https://app.example.com; an empty
    /// word for none.
    #[arg(long = "origin", value_name = "ORIGIN", num_args = 1..)]
    origins: Option<Vec<String>>,
}

impl Change {
    fn body(&self) -> Value {
        let mut body = json!({});
        if let Some(mode) = self.mode {
            body["mode"] = match mode {
                Mode::Platform => "platform",
                Mode::Public => "public",
                Mode::Tenant => "tenant",
            }
            .into();
        }
        if let Some(callers) = self.callers {
            body["callers"] = match callers {
                Callers::Owner => "owner",
                Callers::Chosen => "chosen",
                Callers::Organization => "organization",
                Callers::Anyone => "anyone",
            }
            .into();
        }
        for (name, list) in [
            ("chosen", &self.allow),
            ("public_paths", &self.public_paths),
            ("allowed_origins", &self.origins),
        ] {
            if let Some(list) = list {
                body[name] = json!(list);
            }
        }
        body
    }
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::signed_in(&arguments.client)?;
    let address = path(&["projects", &arguments.project, "access"]);
    let answer = match arguments.command.unwrap_or(Command::Show) {
        Command::Show => client.get(&address).await?,
        Command::Set(change) => {
            let body = change.body();
            if body == json!({}) {
                let sentence =
                    "say what to change: --mode, --callers, --allow, --public-path or --origin";
                return Err(Failure::Usage(sentence.into()).into());
            }
            let answer = client.send(Method::PATCH, &address, &body).await?;
            if change.mode.is_some() && !output.is_json() {
                note(text(&answer, "meaning"));
            }
            answer
        }
    };
    output.result(&answer, || show(&answer));
    Ok(ExitCode::SUCCESS)
}

fn show(access: &Value) -> String {
    let row = |name: &str, value: &str| vec![name.to_owned(), value.to_owned()];
    let list = |name: &str| {
        let lines = access[name].as_array().map_or(&[][..], Vec::as_slice);
        let lines: Vec<&str> = lines.iter().filter_map(Value::as_str).collect();
        if lines.is_empty() {
            "-".to_owned()
        } else {
            lines.join(" ")
        }
    };
    let mut rows = vec![row("Mode", text(access, "mode"))];
    if access["mode"] == "platform" {
        rows.push(row("Callers", text(access, "callers")));
        if access["callers"] == "chosen" {
            rows.push(row("Chosen", &chosen(access)));
        }
        rows.push(row("Public paths", &list("public_paths")));
        rows.push(row("For tokens", text(access, "key_url")));
    }
    rows.push(row("Origins", &list("allowed_origins")));
    rows.push(row("URL", text(access, "url")));
    table(&rows)
}

fn chosen(access: &Value) -> String {
    let chosen = access["chosen"].as_array().map_or(&[][..], Vec::as_slice);
    let names: Vec<&str> = chosen
        .iter()
        .filter_map(|it| it["email"].as_str().or_else(|| it["name"].as_str()))
        .collect();
    if names.is_empty() {
        "nobody".to_owned()
    } else {
        names.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_is_sent() {
        let change = Change {
            mode: Some(Mode::Platform),
            callers: None,
            allow: Some(vec!["ada@example.com".into()]),
            public_paths: Some(vec![String::new()]),
            origins: None,
        };
        assert_eq!(
            change.body(),
            json!({ "mode": "platform", "chosen": ["ada@example.com"], "public_paths": [""] })
        );
    }

    #[test]
    fn what_the_mode_has_no_use_for_is_not_shown() {
        let access =
            json!({ "mode": "public", "callers": "chosen", "allowed_origins": [], "url": "u" });
        assert_eq!(show(&access), "Mode     public\nOrigins  -\nURL      u");
        let access = json!({ "mode": "platform", "callers": "chosen", "chosen": [{ "email": "a@b" }, { "name": "job" }],
            "public_paths": ["/health"], "allowed_origins": [], "url": "u", "key_url": "k" });
        let text = show(&access);
        assert!(
            text.contains("a@b job") && text.contains("/health"),
            "{text}"
        );
    }
}
