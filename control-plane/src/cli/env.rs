//! `berth env`: environment variables of a project.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, ClientArguments, path};
use super::exit::Failure;
use super::output::{Output, table, text};

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
    /// Set some. They are secret unless said otherwise, and apply from the next deployment.
    Set {
        /// As NAME=value.
        #[arg(required = true, value_name = "NAME=VALUE")]
        variables: Vec<String>,

        /// Keep the values readable.
        #[arg(long)]
        plain: bool,
    },
    /// Remove some.
    Unset {
        /// Their names.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Set what a file of NAME=value lines says.
    Import {
        /// The file; `-` is stdin.
        file: PathBuf,

        /// Keep the values readable.
        #[arg(long)]
        plain: bool,
    },
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::signed_in(&arguments.client)?;
    let which = if arguments.build {
        "build-variables"
    } else {
        "variables"
    };
    let address = path(&["projects", &arguments.project, which]);
    let (change, done) = match arguments.command {
        Command::List => {
            let answer = client.get(&address).await?;
            output.result(&answer["variables"], || list(&answer["variables"]));
            return Ok(ExitCode::SUCCESS);
        }
        Command::Set { variables, plain } => {
            let set = variables
                .iter()
                .map(|text| assignment(text))
                .collect::<Result<_, _>>()?;
            set_all(set, plain)
        }
        Command::Import { file, plain } => set_all(parse_file(&read(&file)?)?, plain),
        Command::Unset { names } => (
            json!({ "set": [], "unset": names }),
            format!("Removed {}", names.join(", ")),
        ),
    };
    let answer = client.send(Method::PATCH, &address, &change).await?;
    output.result(&answer["variables"], || {
        format!("{done}; it applies from the next deployment.")
    });
    Ok(ExitCode::SUCCESS)
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

fn list(variables: &Value) -> String {
    let variables = variables.as_array().map_or(&[][..], Vec::as_slice);
    if variables.is_empty() {
        return "No variables are set.".to_owned();
    }
    let rows: Vec<Vec<String>> = variables
        .iter()
        .map(|variable| {
            let value = variable["value"].as_str().unwrap_or("(secret)");
            vec![text(variable, "name").to_owned(), value.to_owned()]
        })
        .collect();
    table(&rows)
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
    fn a_bad_line_is_named_and_not_repeated() {
        let error = parse_file("A=1\nhunter2\n").unwrap_err().to_string();
        assert_eq!(error, "line 2 is not of the form NAME=value");
    }
}
