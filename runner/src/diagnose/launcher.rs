//! Diagnoses of what the launcher reports: import, factory, object, serve.

use serde::Deserialize;

use super::python::{Exception, explain};
use super::{Code, at, diagnosis, list};
use crate::protocol::Diagnosis;

/// Most names in a sentence.
const MOST_NAMES: usize = 5;

/// The launcher's `{"phase":"fail",…}` line. A tenant can print such lines as well, so nothing
/// in it is more than text for its owner.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct LauncherFailure {
    /// `entrypoint`, `import`, `factory`, `object`, `serve`.
    pub step: String,
    /// The exception's class; `None` when the launcher itself found the mistake and `message`
    /// already says the next step.
    pub exception: Option<String>,
    /// The exception's text.
    pub message: String,
    /// The innermost frame in the source: its file.
    pub file: Option<String>,
    /// Its line.
    pub line: Option<u64>,
    /// That line's text.
    pub code: Option<String>,
    /// Entrypoints that would work, or objects that are there.
    pub candidates: Vec<String>,
    /// The environment variable whose absence caused it.
    pub missing_variable: Option<String>,
    /// All of them, where a settings class names several.
    pub missing_variables: Vec<String>,
    /// The exit code of `sys.exit`.
    pub exit: Option<i64>,
    /// Where the dependencies come from (`Plan::dependencies`), set by the runner: a missing
    /// package is to be added there.
    #[serde(skip)]
    pub dependencies: Option<String>,
}

/// From the launcher's report to what the owner reads.
pub fn from_launcher_failure(fail: &LauncherFailure) -> Diagnosis {
    let found = match &fail.exception {
        None => own_finding(fail),
        Some(class) => from_exception(fail, class),
    };
    if found.location.is_some() {
        return found;
    }
    at(found, fail.file.as_deref(), fail.line)
}

/// What the launcher found by itself. Its message ends with the next step.
fn own_finding(fail: &LauncherFailure) -> Diagnosis {
    let message = fail.message.as_str();
    let code = match fail.step.as_str() {
        "entrypoint" if message.contains("No entrypoint is set") => Code::NoEntrypoint,
        "entrypoint" if message.contains("does not exist") => Code::EntrypointNotFound,
        "entrypoint" => Code::EntrypointInvalid,
        "object" if message.contains("has no object named") => Code::ObjectNotFound,
        "object" if message.contains("not an MCP server") => Code::NotAServer,
        "object" => Code::NoServerObject,
        "factory" => Code::FactoryFailed,
        "serve" if message.contains("stdio") => Code::StdioTransport,
        "serve" => Code::ServeFailed,
        _ => Code::ImportFailed,
    };
    let (cause, fix) = split_last_sentence(message);
    let fix = match (fix, code) {
        (_, Code::ObjectNotFound) if !fail.candidates.is_empty() => {
            format!("Set the entrypoint to one of those it has: {}.", list(&fail.candidates, MOST_NAMES))
        }
        (_, Code::ObjectNotFound) => {
            "Create the server at module level, for example mcp = FastMCP(\"name\"), or set the entrypoint to the file that makes it.".to_owned()
        }
        (Some(fix), _) => fix.to_owned(),
        (None, _) if !fail.candidates.is_empty() => {
            format!("Set the entrypoint to one of: {}.", list(&fail.candidates, MOST_NAMES))
        }
        (None, _) => "Correct what it names and deploy again.".to_owned(),
    };
    diagnosis(code, cause, fix)
}

fn from_exception(fail: &LauncherFailure, class: &str) -> Diagnosis {
    if let Some(found) = missing_variables(fail) {
        return found;
    }
    if class == "SystemExit" {
        return exited_on_import(fail);
    }
    let exception = Exception {
        class,
        message: &fail.message,
        code: fail.code.as_deref(),
        dependencies: fail.dependencies.as_deref(),
    };
    if let Some(found) = explain(&exception) {
        return found;
    }
    let first = first_line(&fail.message);
    let what = if first.is_empty() {
        class.to_owned()
    } else {
        format!("{class}: {first}")
    };
    let (code, doing) = match fail.step.as_str() {
        "factory" => (
            Code::FactoryFailed,
            "The function that makes the server raised",
        ),
        "serve" => (Code::ServeFailed, "Starting the server raised"),
        _ => (Code::ImportFailed, "Importing the code raised"),
    };
    let fix = match (&fail.file, fail.line) {
        (Some(file), Some(line)) => {
            format!("Correct {file} at line {line}; the whole traceback is in the log.")
        }
        _ => "Read the traceback in the log, correct what it names, and deploy again.".to_owned(),
    };
    diagnosis(
        code,
        format!("{doing} {}.", what.trim_end_matches('.')),
        fix,
    )
}

fn missing_variables(fail: &LauncherFailure) -> Option<Diagnosis> {
    let mut names = fail.missing_variables.clone();
    if let Some(name) = &fail.missing_variable
        && !names.contains(name)
    {
        names.insert(0, name.clone());
    }
    // What a stranger's code raises can name anything; only names that can be set are advice.
    names.retain(|name| is_variable_name(name));
    let (variables, are) = match names.len() {
        0 => return None,
        1 => ("variable", "is"),
        _ => ("variables", "are"),
    };
    let settings: Vec<String> = names
        .iter()
        .take(MOST_NAMES)
        .map(|name| format!("{name}=…"))
        .collect();
    let all = list(&names, MOST_NAMES);
    Some(diagnosis(
        Code::MissingVariable,
        format!("The code needs the {variables} {all}, which {are} not set."),
        format!(
            "Set {all} on the project's page or with `berth env PROJECT set {}`, and deploy again.",
            settings.join(" ")
        ),
    ))
}

/// `[A-Za-z_][A-Za-z0-9_]*`, as variables of a project are named.
fn is_variable_name(name: &str) -> bool {
    name.len() <= 128
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn exited_on_import(fail: &LauncherFailure) -> Diagnosis {
    let first = first_line(&fail.message);
    let said = match fail.exit {
        Some(exit) if first.starts_with("The code ended the process") => {
            format!("with exit code {exit}")
        }
        _ => format!("and said: {}", first.trim_end_matches('.')),
    };
    diagnosis(
        Code::ImportExited,
        format!("The code ended the process while it was imported, {said}."),
        "Move what runs or exits into `if __name__ == \"__main__\":`, or correct what made it exit.",
    )
}

fn first_line(text: &str) -> &str {
    text.trim().lines().next().unwrap_or_default().trim()
}

/// The text before its last sentence, and that sentence. A full stop within a name (`main.py`)
/// has no space behind it.
fn split_last_sentence(text: &str) -> (&str, Option<&str>) {
    let text = text.trim();
    match text.rfind(". ") {
        Some(stop) => (&text[..=stop], Some(text[stop + 2..].trim())),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnose(line: &str) -> Diagnosis {
        from_launcher_failure(&serde_json::from_str(line).expect("the launcher's line"))
    }

    #[test]
    fn a_missing_variable_is_named_with_the_command() {
        let found = diagnose(
            r#"{"phase":"fail","step":"import","exception":"KeyError","message":"'API_KEY'","file":"main.py","line":4,"code":"os.environ['API_KEY']","candidates":[],"missing_variable":"API_KEY","missing_variables":["API_KEY"]}"#,
        );
        assert_eq!(found.code, "missing_variable");
        assert_eq!(
            found.cause,
            "The code needs the variable API_KEY, which is not set."
        );
        assert_eq!(
            found.fix,
            "Set API_KEY on the project's page or with `berth env PROJECT set API_KEY=…`, and deploy again."
        );
        assert_eq!(found.location.as_deref(), Some("main.py:4"));
    }

    #[test]
    fn several_missing_variables_and_hostile_names() {
        let found = diagnose(
            r#"{"step":"import","exception":"ValidationError","message":"x","missing_variables":["A","B; rm -rf /","C"]}"#,
        );
        assert_eq!(
            found.cause,
            "The code needs the variables A and C, which are not set."
        );
        let found = diagnose(
            r#"{"step":"import","exception":"KeyError","message":"'$(id)'","missing_variable":"$(id)"}"#,
        );
        assert_eq!(found.code, "import_failed");
    }

    #[test]
    fn the_launchers_own_findings_keep_their_words() {
        let found = diagnose(
            r#"{"step":"object","exception":null,"message":"main.py has no object named 'sever'. It has mcp, other.","candidates":["mcp","other"]}"#,
        );
        assert_eq!(found.code, "object_not_found");
        assert_eq!(found.cause, "main.py has no object named 'sever'.");
        assert_eq!(
            found.fix,
            "Set the entrypoint to one of those it has: mcp and other."
        );
        let found = diagnose(
            r#"{"step":"object","exception":null,"message":"No server was found in main.py. create_server() looks as if it made one: set the entrypoint to main.py:create_server.","candidates":["create_server"]}"#,
        );
        assert_eq!(
            (found.code.as_str(), found.cause.as_str()),
            ("no_server_object", "No server was found in main.py.")
        );
        assert!(
            found.fix.starts_with("create_server() looks"),
            "{}",
            found.fix
        );
        let found = diagnose(
            r#"{"step":"object","exception":null,"message":"main.py:x is a dict, not an MCP server. Name a FastMCP or MCPServer object, or a function that returns one."}"#,
        );
        assert_eq!(found.code, "not_a_server");
        let found = diagnose(
            r#"{"step":"entrypoint","exception":null,"message":"The entrypoint's file 'x.py' does not exist in the project. It has main.py.","candidates":["main.py"]}"#,
        );
        assert_eq!(found.code, "entrypoint_not_found");
    }

    #[test]
    fn exits_while_importing() {
        let found = diagnose(
            r#"{"step":"import","exception":"SystemExit","message":"The code ended the process with exit code 3.","exit":3}"#,
        );
        assert_eq!(found.code, "import_exited");
        assert_eq!(
            found.cause,
            "The code ended the process while it was imported, with exit code 3."
        );
        let found = diagnose(
            r#"{"step":"import","exception":"SystemExit","message":"No database.","exit":1}"#,
        );
        assert_eq!(
            found.cause,
            "The code ended the process while it was imported, and said: No database."
        );
    }

    #[test]
    fn unknown_exceptions_are_quoted_with_their_place() {
        let found = diagnose(
            r#"{"step":"factory","exception":"ValueError","message":"bad\nmore","file":"/app/main.py","line":9}"#,
        );
        assert_eq!(found.code, "factory_failed");
        assert_eq!(
            found.cause,
            "The function that makes the server raised ValueError: bad."
        );
        assert_eq!(found.location.as_deref(), Some("main.py:9"));
        assert_eq!(diagnose("{}").code, "import_failed");
    }
}
