//! Diagnoses of what the launcher reports: import, factory, object, serve.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::evidence::{Event, Evidence, explain, first_line, found_in};
use super::{Code, at, list, source_path};
use crate::build::tree::FileTree;
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
    /// The exception's class; `None` when the launcher itself found the mistake.
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
    /// The environment variables whose absence caused it.
    pub missing_variables: Vec<String>,
    /// The exit code of `sys.exit`.
    pub exit: Option<i64>,
    /// Versions of the packages that matter.
    pub packages: BTreeMap<String, String>,
}

/// From the launcher's report to what the owner reads. `known` is the source and where its
/// dependencies come from.
pub fn from_launcher_failure(fail: &LauncherFailure, known: &Evidence<'_>) -> Diagnosis {
    let evidence = Evidence {
        file: fail.file.as_deref().map(source_path),
        line: fail.line,
        code: fail.code.as_deref(),
        packages: Some(&fail.packages),
        ..*known
    };
    let found = match &fail.exception {
        None => own_finding(fail, &evidence),
        Some(class) => from_exception(fail, class, &evidence),
    };
    at(found, fail.file.as_deref(), fail.line)
}

/// What the launcher found by itself.
fn own_finding(fail: &LauncherFailure, evidence: &Evidence<'_>) -> Diagnosis {
    let names = if fail.candidates.is_empty() {
        "it has none, so create one at module level, for example mcp = FastMCP(\"name\")".to_owned()
    } else {
        list(&fail.candidates, MOST_NAMES)
    };
    let values = [("names", names)];
    let evidence = Evidence {
        values: &values,
        ..*evidence
    };
    explain(Event::Finding(&fail.step, &fail.message), &evidence)
        .unwrap_or_else(|| unlisted_finding(fail))
}

/// One that the planner finds first in all usual cases: its message ends with the next step.
fn unlisted_finding(fail: &LauncherFailure) -> Diagnosis {
    let message = fail.message.as_str();
    let code = match fail.step.as_str() {
        "entrypoint" if message.contains("No entrypoint is set") => Code::NoEntrypoint,
        "entrypoint" if message.contains("does not exist") => Code::EntrypointNotFound,
        "entrypoint" => Code::EntrypointInvalid,
        "factory" => Code::FactoryFailed,
        "serve" => Code::ServeFailed,
        "object" => Code::NoServerObject,
        _ => Code::ImportFailed,
    };
    let (cause, fix) = split_last_sentence(message);
    super::diagnosis(
        code,
        cause,
        fix.unwrap_or("Correct what it names and deploy again."),
    )
}

fn from_exception(fail: &LauncherFailure, class: &str, evidence: &Evidence<'_>) -> Diagnosis {
    if let Some(found) = missing_variables(fail) {
        return found;
    }
    if class == "SystemExit" {
        return exited_on_import(fail, evidence);
    }
    if let Some(found) = module_elsewhere(fail, class, evidence) {
        return found;
    }
    if let Some(found) = explain(Event::Exception(class, &fail.message), evidence) {
        return found;
    }
    let first = first_line(&fail.message);
    let what = if first.is_empty() {
        class.to_owned()
    } else {
        format!("{class}: {first}")
    };
    let place = match (&evidence.file, fail.line) {
        (Some(file), Some(line)) => format!("{file} at line {line}"),
        _ => "what the traceback names".to_owned(),
    };
    let code = match fail.step.as_str() {
        "factory" => Code::FactoryFailed,
        "serve" => Code::ServeFailed,
        _ => Code::ImportFailed,
    };
    let values = [("what", what), ("place", place)];
    found_in(
        code,
        &Evidence {
            values: &values,
            ..*evidence
        },
    )
}

fn missing_variables(fail: &LauncherFailure) -> Option<Diagnosis> {
    // What a stranger's code raises can name anything; only names that can be set are advice.
    let names: Vec<&str> = fail
        .missing_variables
        .iter()
        .map(String::as_str)
        .filter(|name| is_variable_name(name))
        .collect();
    if names.is_empty() {
        return None;
    }
    Some(variables_not_set(&names))
}

/// The diagnosis for variables that the code needs.
pub fn variables_not_set(names: &[&str]) -> Diagnosis {
    let (variables, are) = if names.len() == 1 {
        ("variable", "is")
    } else {
        ("variables", "are")
    };
    let settings: Vec<String> = names
        .iter()
        .take(MOST_NAMES)
        .map(|name| format!("{name}=…"))
        .collect();
    super::found(
        Code::MissingVariable,
        &[
            ("variables", variables.to_owned()),
            ("are", are.to_owned()),
            ("names", list(names, MOST_NAMES)),
            ("settings", settings.join(" ")),
        ],
    )
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

fn exited_on_import(fail: &LauncherFailure, evidence: &Evidence<'_>) -> Diagnosis {
    let first = first_line(&fail.message);
    let said = match fail.exit {
        Some(exit) if first.starts_with("The code ended the process") => {
            format!("with exit code {exit}")
        }
        _ => format!("and said: {first}"),
    };
    found_in(
        Code::ImportExited,
        &Evidence {
            values: &[("said", said)],
            ..*evidence
        },
    )
}

/// A module that the source has, in a directory that is not searched.
fn module_elsewhere(
    fail: &LauncherFailure,
    class: &str,
    evidence: &Evidence<'_>,
) -> Option<Diagnosis> {
    if class != "ModuleNotFoundError" {
        return None;
    }
    let top = fail.message.split('\'').nth(1)?.split('.').next()?;
    let place = find_module(evidence.source?, top)?;
    let dotted = place.trim_end_matches(".py").replace('/', ".");
    let values = [
        ("top", top.to_owned()),
        ("place", place),
        ("dotted", dotted),
    ];
    Some(found_in(
        Code::ModuleElsewhere,
        &Evidence {
            values: &values,
            ..*evidence
        },
    ))
}

/// `backend/tools.py` or `backend/tools` for `tools`, the only one of its name that is not at the
/// root; one at the root would have been imported.
fn find_module(tree: &FileTree, top: &str) -> Option<String> {
    let (file, package) = (format!("/{top}.py"), format!("/{top}/__init__.py"));
    let mut found = tree.names().filter_map(|name| {
        let is_file = name.ends_with(&file);
        let is_package = name.ends_with(&package);
        let directory = name.strip_suffix("/__init__.py").filter(|_| is_package);
        directory.or(is_file.then_some(name))
    });
    let (Some(only), None) = (found.next(), found.next()) else {
        return None;
    };
    Some(only.to_owned())
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
        let fail = serde_json::from_str(line).expect("the launcher's line");
        from_launcher_failure(&fail, &Evidence::default())
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
            r#"{"step":"import","exception":"KeyError","message":"'$(id)'","missing_variables":["$(id)"]}"#,
        );
        assert_eq!(found.code, "import_failed");
    }

    #[test]
    fn the_launchers_own_findings_have_their_entries() {
        let found = diagnose(
            r#"{"step":"object","exception":null,"message":"main.py has no object named 'sever'. It has mcp, other.","candidates":["mcp","other"]}"#,
        );
        assert_eq!(found.code, "object_not_found");
        assert_eq!(found.cause, "main.py has no object named sever.");
        assert_eq!(
            found.fix,
            "Set the entrypoint to an object that is there: mcp, other."
        );
        let found = diagnose(
            r#"{"step":"object","exception":null,"message":"No server was found in main.py. create_server() looks as if it made one: set the entrypoint to main.py:create_server.","candidates":["create_server"]}"#,
        );
        assert_eq!(found.code, "server_in_function");
        assert_eq!(found.fix, "Set the entrypoint to main.py:create_server.");
        let found = diagnose(
            r#"{"step":"object","exception":null,"message":"main.py:x is a dict, not an MCP server. Name a FastMCP or MCPServer object, or a function that returns one."}"#,
        );
        assert_eq!(
            (found.code.as_str(), found.cause.as_str()),
            ("not_a_server", "main.py:x is a dict, not an MCP server.")
        );
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

    #[test]
    fn a_module_of_the_source_that_is_not_searched_is_found() {
        let tree = FileTree::from_files([("app/main.py", ""), ("lib/tools/__init__.py", "")]);
        let fail: LauncherFailure = serde_json::from_str(
            r#"{"step":"import","exception":"ModuleNotFoundError","message":"No module named 'tools'"}"#,
        )
        .unwrap();
        let found = from_launcher_failure(
            &fail,
            &Evidence {
                source: Some(&tree),
                ..Evidence::default()
            },
        );
        assert_eq!(found.code, "module_elsewhere");
        assert!(found.fix.contains("lib.tools"), "{}", found.fix);
    }
}
