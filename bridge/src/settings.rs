//! What the runner tells the bridge, and the variables of the project.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;

/// Only defaults: a project's own variable of the same name wins. Lines of a log, not a terminal.
const DEFAULTS: &[(&str, &str)] = &[("NO_COLOR", "1"), ("TERM", "dumb")];
/// Set by the platform; a project's variable cannot change where its server listens or who it is.
const RESERVED: &[&str] = &["PORT", "HOST"];
/// How the names of the platform's own variables begin.
const RESERVED_PREFIX: &str = "BERTH_";
/// Tells where the project's variables are; the server is not told.
const VARIABLES_FILE: &str = "BERTH_VARIABLES_FILE";

/// `berth bridge -- PROGRAM [ARGUMENT…]`, as the runner starts it in an instance.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// The port to serve on.
    #[arg(long, env = "PORT", default_value_t = 8080)]
    port: u16,

    /// A file with the project's variables, a JSON object.
    #[arg(long = "variables", env = VARIABLES_FILE, value_name = "FILE")]
    variables: Option<PathBuf>,

    /// The server's program and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// How to start the server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// TCP port to serve on.
    pub port: u16,
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// What it finds in its environment beside the instance's own.
    pub variables: BTreeMap<String, String>,
    /// What it does not find there.
    pub hidden: &'static [&'static str],
}

/// Reads the variables.
pub fn load(arguments: Arguments) -> anyhow::Result<Settings> {
    let mut variables: BTreeMap<String, String> = DEFAULTS
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    if let Some(path) = &arguments.variables {
        let text = std::fs::read(path).context(
            "The project's variables cannot be read; this is the platform's fault. Deploy again",
        )?;
        // The file's content is secret: what is wrong with it is not quoted.
        let Ok(own) = serde_json::from_slice::<BTreeMap<String, String>>(&text) else {
            bail!("The project's variables are not what the runner writes; deploy again");
        };
        variables.extend(own.into_iter().filter(|(name, _)| !is_reserved(name)));
    }
    Ok(Settings {
        port: arguments.port,
        command: arguments.command,
        variables,
        hidden: &[VARIABLES_FILE],
    })
}

fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name) || name.starts_with(RESERVED_PREFIX)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn arguments(variables: &str) -> (Arguments, tempfile::NamedTempFile) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(variables.as_bytes()).unwrap();
        let arguments = Arguments {
            port: 8080,
            variables: Some(file.path().to_owned()),
            command: vec!["server".into()],
        };
        (arguments, file)
    }

    #[test]
    fn a_project_cannot_move_its_server() {
        let (given, _file) = arguments(r#"{"KEY":"k","PORT":"1","BERTH_X":"x","NO_COLOR":"0"}"#);
        let settings = load(given).unwrap();
        let expected = [("KEY", "k"), ("NO_COLOR", "0"), ("TERM", "dumb")];
        let found: Vec<(&str, &str)> = settings
            .variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_secret_is_not_quoted() {
        let (given, _file) = arguments(r#"{"KEY": hunter2}"#);
        let error = format!("{:#}", load(given).unwrap_err());
        assert!(!error.contains("hunter2"), "{error}");
    }
}
