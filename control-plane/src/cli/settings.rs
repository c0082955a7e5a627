//! `berth settings`: how a project is built and started.

use std::process::ExitCode;

use anyhow::bail;
use clap::ValueEnum;
use reqwest::Method;
use serde_json::{Map, Value};

use super::client::{Client, ClientArguments, path};
use super::exit::Failure;
use super::output::{Output, table};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    client: ClientArguments,

    /// The project.
    project: String,

    #[command(flatten)]
    build: BuildArguments,

    /// Clear a setting, so that it is worked out from the source again.
    #[arg(long, value_name = "SETTING")]
    clear: Vec<Setting>,
}

/// The settings by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Setting {
    RootDirectory,
    DependencyFile,
    Dockerfile,
    SystemPackages,
    BuildCommand,
    StartCommand,
}

impl Setting {
    fn member(self) -> &'static str {
        match self {
            Self::RootDirectory => "root_directory",
            Self::DependencyFile => "dependency_file",
            Self::Dockerfile => "dockerfile",
            Self::SystemPackages => "system_packages",
            Self::BuildCommand => "build_command",
            Self::StartCommand => "start_command",
        }
    }
}

/// What can be said of a build, for every command that takes it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct BuildArguments {
    /// The directory of the source that holds the server [default: the whole].
    #[arg(long, value_name = "DIR")]
    root_directory: Option<String>,

    /// The file that declares the dependencies, from the root directory [default: looked for].
    #[arg(long, value_name = "FILE")]
    dependency_file: Option<String>,

    /// The Dockerfile that the server is built by, from the root directory [default: one in the root
    /// directory, where nothing else is found to start].
    #[arg(long, value_name = "FILE")]
    dockerfile: Option<String>,

    /// Debian packages that the server needs, as name or name=version [default: those of apt.txt].
    #[arg(long, value_name = "PACKAGE", value_delimiter = ',')]
    system_packages: Vec<String>,

    /// What is run once the dependencies are installed: quoted as for a shell, but run without one.
    #[arg(long, value_name = "COMMAND")]
    build_command: Option<String>,

    /// What is run as the server instead of an entrypoint; it listens on $PORT. Quoted as for a
    /// shell, but run without one: only $PORT and $HOST are replaced.
    #[arg(long, value_name = "COMMAND")]
    start_command: Option<String>,
}

impl BuildArguments {
    /// The members of `PATCH /projects/{project}/build` that were given.
    pub fn change(&self) -> anyhow::Result<Map<String, Value>> {
        let mut change = Map::new();
        let mut give = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                change.insert(name.to_owned(), value);
            }
        };
        give(
            "root_directory",
            self.root_directory.clone().map(Value::from),
        );
        give(
            "dependency_file",
            self.dependency_file.clone().map(Value::from),
        );
        give("dockerfile", self.dockerfile.clone().map(Value::from));
        let packages = self.system_packages.as_slice();
        give(
            "system_packages",
            (!packages.is_empty()).then(|| packages.into()),
        );
        for (name, command) in [
            ("build_command", &self.build_command),
            ("start_command", &self.start_command),
        ] {
            let words = command
                .as_deref()
                .map(|text| words(name, text))
                .transpose()?;
            give(name, words.map(Value::from));
        }
        Ok(change)
    }
}

/// The words of a command that is quoted as for a shell.
fn words(name: &str, text: &str) -> anyhow::Result<Vec<String>> {
    match shell_words::split(text) {
        Ok(words) if !words.is_empty() => Ok(words),
        Ok(_) => bail!(Failure::Usage(format!(
            "--{} is empty; clear it with `berth settings PROJECT --clear`",
            name.replace('_', "-")
        ))),
        Err(_) => bail!(Failure::Usage(format!(
            "--{} has a quote that is not closed",
            name.replace('_', "-")
        ))),
    }
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::signed_in(&arguments.client)?;
    let address = path(&["projects", &arguments.project, "build"]);
    let mut change = arguments.build.change()?;
    for setting in &arguments.clear {
        change.insert(setting.member().to_owned(), Value::Null);
    }
    let settings = if change.is_empty() {
        client.get(&address).await?
    } else {
        client
            .send(Method::PATCH, &address, &change.clone().into())
            .await?
    };
    output.result(&settings, || {
        let shown = show(&settings);
        if change.is_empty() {
            shown
        } else {
            format!("{shown}\nThis applies from the next deployment.")
        }
    });
    Ok(ExitCode::SUCCESS)
}

fn show(settings: &Value) -> String {
    let list = |name: &str| -> Vec<&str> {
        let items = settings[name].as_array().map_or(&[][..], Vec::as_slice);
        items.iter().filter_map(Value::as_str).collect()
    };
    let one = |name: &str| settings[name].as_str().unwrap_or_default().to_owned();
    let or = |value: String, otherwise: &str| {
        if value.is_empty() {
            otherwise.to_owned()
        } else {
            value
        }
    };
    let row =
        |name: &str, value: String, otherwise: &str| vec![name.to_owned(), or(value, otherwise)];
    table(&[
        row(
            "Root directory",
            one("root_directory"),
            "(the whole source)",
        ),
        row("Dependency file", one("dependency_file"), "(looked for)"),
        row(
            "Dockerfile",
            one("dockerfile"),
            "(only where nothing else is found to start)",
        ),
        row(
            "System packages",
            list("system_packages").join(", "),
            "(those of apt.txt)",
        ),
        row(
            "Build command",
            shell_words::join(list("build_command")),
            "(none)",
        ),
        row(
            "Start command",
            shell_words::join(list("start_command")),
            "(the entrypoint is served)",
        ),
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn commands_are_split_as_a_shell_would_and_run_by_none() {
        let arguments = BuildArguments {
            build_command: Some("make 'a b' \"c $(id)\" ;".into()),
            system_packages: vec!["jq".into()],
            ..BuildArguments::default()
        };
        assert_eq!(
            Value::from(arguments.change().unwrap()),
            json!({"build_command": ["make", "a b", "c $(id)", ";"], "system_packages": ["jq"]})
        );
        for bad in ["", "  ", "'open"] {
            assert!(words("start_command", bad).is_err(), "{bad:?}");
        }
        assert!(BuildArguments::default().change().unwrap().is_empty());
    }

    #[test]
    fn what_is_not_set_says_what_happens_instead() {
        let shown = show(&json!({"root_directory": "srv", "build_command": ["make", "a b"]}));
        assert!(shown.contains("Root directory   srv"), "{shown}");
        assert!(shown.contains("make 'a b'"), "{shown}");
        assert!(shown.contains("(looked for)"), "{shown}");
    }
}
