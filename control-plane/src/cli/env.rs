//! `berth env`: environment variables of a project.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, ClientArguments, path};
use super::exit::Failure;
use super::follow::{follow, report};
use super::output::{Output, note, table, text};
use crate::variables::KEYS;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    client: ClientArguments,

    /// The project.
    project: String,

    /// Those of the project's builds, which its server does not get: for example UV_INDEX_URL or
    /// PIP_INDEX_URL with the credentials of a private package index.
    #[arg(long, global = true)]
    build: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List them; the values of secrets cannot be read back by anyone.
    List,
    /// Set some. They are secret unless said otherwise. The live server restarts with them: the
    /// same build, no call dropped.
    Set {
        /// As NAME=value.
        #[arg(required = true, value_name = "NAME=VALUE")]
        variables: Vec<String>,

        /// Keep the values readable.
        #[arg(long)]
        plain: bool,

        #[command(flatten)]
        target: Target,
    },
    /// Remove some.
    Unset {
        /// Their names.
        #[arg(required = true)]
        names: Vec<String>,

        #[command(flatten)]
        target: Target,
    },
    /// Set some to random keys, in the form that Fernet takes. They are sealed and shown to nobody.
    Generate {
        /// Their names [default: STORAGE_ENCRYPTION_KEY JWT_SIGNING_KEY].
        names: Vec<String>,

        /// Give those that are set already another value: what was encrypted or signed with the
        /// old one cannot be read any more.
        #[arg(long)]
        replace: bool,

        #[command(flatten)]
        target: Target,
    },
    /// Set what a file of NAME=value lines says.
    Import {
        /// The file; `-` is stdin.
        file: PathBuf,

        /// Keep the values readable.
        #[arg(long)]
        plain: bool,

        #[command(flatten)]
        target: Target,
    },
}

/// For which deployments, and whether to wait for them.
#[derive(Debug, clap::Args)]
struct Target {
    /// For which deployments: `production` or `preview` [default: production].
    #[arg(long, value_name = "SCOPE", conflicts_with = "branch")]
    scope: Option<String>,

    /// For previews: short for `--scope preview`.
    #[arg(long, conflicts_with_all = ["scope", "branch"])]
    preview: bool,

    /// For the previews of this branch only.
    #[arg(long, value_name = "BRANCH")]
    branch: Option<String>,

    /// Wait until the server that was restarted is live or has failed.
    #[arg(long)]
    wait: bool,
}

impl Target {
    /// The scope's name, if one was given.
    fn scope(&self) -> Option<&str> {
        if self.preview {
            return Some("preview");
        }
        self.scope.as_deref()
    }

    fn is_of_previews(&self) -> bool {
        self.branch.is_some() || self.scope() == Some("preview")
    }

    /// Builds have one set of variables, and changing it restarts nothing.
    fn refuse_for_builds(&self) -> anyhow::Result<()> {
        if self.scope().is_some() || self.branch.is_some() || self.wait {
            bail!(Failure::Usage(
                "--scope, --preview, --branch and --wait are for the variables of servers; leave them out with --build".into()
            ));
        }
        Ok(())
    }
}

fn address(arguments: &Arguments) -> String {
    let which = if arguments.build {
        "build-variables"
    } else {
        "variables"
    };
    path(&["projects", &arguments.project, which])
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::signed_in(&arguments.client)?;
    let (build, mut address) = (arguments.build, address(&arguments));
    let mut method = Method::PATCH;
    let ((mut change, done), target) = match arguments.command {
        Command::List => {
            let answer = client.get(&address).await?;
            output.result(&answer["variables"], || {
                if build {
                    list_of_builds(&answer)
                } else {
                    list(&answer)
                }
            });
            return Ok(ExitCode::SUCCESS);
        }
        Command::Set {
            variables,
            plain,
            target,
        } => {
            let set = variables
                .iter()
                .map(|text| assignment(text))
                .collect::<Result<_, _>>()?;
            (set_all(set, plain), target)
        }
        Command::Import {
            file,
            plain,
            target,
        } => (set_all(parse_file(&read(&file)?)?, plain), target),
        Command::Generate {
            names,
            replace,
            target,
        } => {
            if build {
                bail!(Failure::Usage(
                    "keys are generated for servers; leave --build out".into()
                ));
            }
            (method, address) = (Method::POST, format!("{address}/generate"));
            let done = generated(&names);
            (
                (json!({ "names": names, "replace": replace }), done),
                target,
            )
        }
        Command::Unset { names, target } => {
            let done = format!("Removed {}", names.join(", "));
            ((json!({ "set": [], "unset": names }), done), target)
        }
    };
    if build {
        target.refuse_for_builds()?;
        let answer = client.send(Method::PATCH, &address, &change).await?;
        output.result(&answer["variables"], || {
            format!("{done}; it applies from the next build.")
        });
        return Ok(ExitCode::SUCCESS);
    }
    change["scope"] = json!(target.scope());
    change["branch"] = json!(target.branch);
    let answer = client.send(method, &address, &change).await?;
    if target.wait && answer["restart"].is_i64() {
        note(&format!("{done}. {}", follows(&answer)));
        let number = answer["restart"].to_string();
        let deployment = follow(&client, &arguments.project, &number).await?;
        return Ok(report(&deployment, output));
    }
    output.result(&answer["variables"], || {
        let follows = if target.is_of_previews() {
            OF_PREVIEWS.to_owned()
        } else {
            follows(&answer)
        };
        format!("{done}. {follows}")
    });
    Ok(ExitCode::SUCCESS)
}

/// What a change of the variables of previews leads to; which of them there are, the answer does not say.
const OF_PREVIEWS: &str = "All live previews of the project restart with them, each with the same build; others start with them.";

/// What a change leads to.
fn follows(answer: &Value) -> String {
    let revision = &answer["revision"];
    if answer["restart"].is_i64() {
        return format!(
            "The server restarts with revision {revision} as deployment {}; the same build, no call dropped.",
            answer["restart"]
        );
    }
    standing(answer)
}

/// Which revision runs.
fn standing(answer: &Value) -> String {
    let (revision, live) = (&answer["revision"], &answer["live"]);
    if live.is_null() {
        return "Nothing is live; the next deployment starts with them.".to_owned();
    }
    let running = format!("Running with revision {}", live["revision"]);
    if live["revision"] == *revision {
        return format!("{running}.");
    }
    let next = &answer["next"];
    match text(next, "state") {
        "-" => format!("{running}; revision {revision} is about to follow."),
        "failed" | "canceled" => format!(
            "{running}; revision {revision} is not in use, because deployment {} is {}.",
            next["deployment"],
            text(next, "state")
        ),
        state => format!(
            "{running}; revision {revision} follows once deployment {} is live, which is {state}.",
            next["deployment"]
        ),
    }
}

/// What was generated; no name means the usual ones.
fn generated(names: &[String]) -> String {
    let names = if names.is_empty() {
        KEYS.join(", ")
    } else {
        names.join(", ")
    };
    format!("Generated {names}; only the server can read what is in there")
}

fn set_all(variables: Vec<(String, String)>, plain: bool) -> (Value, String) {
    let names: Vec<String> = variables.iter().map(|(name, _)| name.clone()).collect();
    let set: Vec<Value> = variables
        .into_iter()
        .map(|(name, value)| json!({ "name": name, "value": value, "secret": !plain }))
        .collect();
    (
        json!({ "set": set, "unset": [] }),
        format!("Set {}", names.join(", ")),
    )
}

fn list_of_builds(answer: &Value) -> String {
    let variables = answer["variables"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    if variables.is_empty() {
        return "No variables are set.".to_owned();
    }
    let rows: Vec<Vec<String>> = variables
        .iter()
        .map(|variable| {
            vec![
                text(variable, "name").to_owned(),
                shown(variable).to_owned(),
            ]
        })
        .collect();
    table(&rows)
}

/// The value, unless it is secret.
fn shown(variable: &Value) -> &str {
    variable["value"].as_str().unwrap_or("(secret)")
}

fn list(answer: &Value) -> String {
    let variables = answer["variables"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    if variables.is_empty() {
        return format!("No variables are set.{}", needs(answer));
    }
    let rows: Vec<Vec<String>> = variables
        .iter()
        .map(|variable| {
            let scope = match text(variable, "scope") {
                "branch" => format!("previews of {}", text(variable, "branch")),
                "preview" => "previews".to_owned(),
                _ => "production".to_owned(),
            };
            vec![
                text(variable, "name").to_owned(),
                scope,
                shown(variable).to_owned(),
            ]
        })
        .collect();
    format!("{}\n{}{}", table(&rows), standing(answer), needs(answer))
}

/// What the code reads and is not set.
fn needs(answer: &Value) -> String {
    let needed = answer["needed"].as_array().map_or(&[][..], Vec::as_slice);
    let rows: Vec<Vec<String>> = needed
        .iter()
        .filter(|needed| needed["set"] == false)
        .map(|needed| {
            let need = match text(needed, "need") {
                "required" => "required",
                "default" => "has a default",
                "optional" => "may be needed",
                _ => "in the example",
            };
            let place = needed["places"][0].as_str().unwrap_or_default();
            vec![
                text(needed, "name").to_owned(),
                need.to_owned(),
                place.to_owned(),
            ]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    format!("\nThe code also reads:\n{}", table(&rows))
}

fn read(file: &Path) -> anyhow::Result<String> {
    let from_stdin = file == Path::new("-");
    let text = if from_stdin {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    text.with_context(|| format!("cannot read {}", file.display()))
}

fn assignment(text: &str) -> anyhow::Result<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        // What was meant may be a secret without its name, so it is not repeated.
        _ => bail!(Failure::Usage("give each variable as NAME=value".into())),
    }
}

/// Reads lines of `NAME=value` as dotenv files have them: blank lines and `#` comments are left
/// out, `export` before a name and quotes around a value are dropped. Nothing is expanded.
fn parse_file(text: &str) -> anyhow::Result<Vec<(String, String)>> {
    let mut variables = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Ok((name, value)) = assignment(line) else {
            bail!("line {} is not of the form NAME=value", index + 1);
        };
        let value = value.trim();
        let quoted = ['"', '\''].iter().find_map(|quote| {
            value
                .strip_prefix(*quote)
                .and_then(|rest| rest.strip_suffix(*quote))
        });
        variables.push((name.trim().to_owned(), quoted.unwrap_or(value).to_owned()));
    }
    if variables.is_empty() {
        bail!("the file sets no variable");
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotenv_files_are_read() {
        let text = "# comment\n\nA=1\nexport B = \"two words\"\nC='x=y'\nD=\n";
        let parsed = parse_file(text).unwrap();
        let parsed: Vec<(&str, &str)> = parsed
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            parsed,
            [("A", "1"), ("B", "two words"), ("C", "x=y"), ("D", "")]
        );
    }

    #[test]
    fn what_is_read_and_not_set_is_listed() {
        let answer = json!({ "variables": [], "needed": [
            { "name": "API_KEY", "need": "required", "places": ["main.py:3"], "set": false },
            { "name": "REGION", "need": "default", "places": [], "set": false },
            { "name": "KNOWN", "need": "required", "places": [], "set": true },
        ] });
        insta::assert_snapshot!(list(&answer), @r"
        No variables are set.
        The code also reads:
        API_KEY  required       main.py:3
        REGION   has a default
        ");
    }

    #[test]
    fn what_runs_and_what_follows_is_said() {
        let mut answer = json!({
            "revision": 4, "live": { "deployment": 7, "revision": 3 },
            "next": { "deployment": 8, "state": "starting" }, "restart": 8,
        });
        assert!(
            follows(&answer).starts_with("The server restarts with revision 4 as deployment 8")
        );
        answer["restart"] = Value::Null;
        assert!(follows(&answer).contains("revision 4 follows once deployment 8 is live"));
        answer["next"]["state"] = json!("failed");
        assert!(follows(&answer).contains("revision 4 is not in use"));
        answer["live"]["revision"] = json!(4);
        assert_eq!(follows(&answer), "Running with revision 4.");
        answer["live"] = Value::Null;
        assert!(follows(&answer).starts_with("Nothing is live"));
    }

    #[test]
    fn a_bad_line_is_named_and_not_repeated() {
        let error = parse_file("A=1\nhunter2\n").unwrap_err().to_string();
        assert_eq!(error, "line 2 is not of the form NAME=value");
    }
}
