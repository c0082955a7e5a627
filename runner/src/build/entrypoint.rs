//! Which file starts the server: what the user wrote, or what the source shows.

use super::configuration::{self, Configuration};
use super::tree::{FileTree, join};
use crate::diagnose::{Code, diagnosis, list};
use crate::protocol::Diagnosis;

/// Where a server usually is, in the order of preference; the launcher's order.
const USUAL_FILES: &[&str] = &[
    "main.py",
    "server.py",
    "app.py",
    "src/main.py",
    "src/server.py",
    "src/app.py",
];
/// Directories that hold no entrypoint, wherever they are.
const IGNORED_DIRECTORIES: &[&str] = &[
    "tests",
    "test",
    "venv",
    ".venv",
    "env",
    "node_modules",
    "site-packages",
    "__pycache__",
    "examples",
    "docs",
    "scripts",
    "build",
    "dist",
];
/// Largest Python file that is looked into.
const MAX_SCANNED_BYTES: u64 = 256 * 1024;
/// Most Python files that are looked into.
const MAX_SCANNED_FILES: usize = 500;
/// Deepest directory that is looked into: `src/package/sub`.
const MAX_SCANNED_DEPTH: usize = 3;
/// Most names in a sentence.
const MOST_NAMES: usize = 5;

/// The file or module to start, and why that one.
#[derive(Debug)]
pub struct Entrypoint {
    /// As the launcher reads it: `main.py`, `main.py:mcp`, `package.module:mcp`.
    pub text: String,
    /// The file, where it is one of the source; dependencies are looked for from its directory.
    pub file: Option<String>,
    /// One sentence.
    pub reason: String,
    /// The `fastmcp.json` in effect.
    pub configuration: Option<Configuration>,
}

/// Finds it. `written` is what the user wrote, `None` or blank for nothing.
pub fn find(tree: &FileTree, written: Option<&str>) -> Result<Entrypoint, Diagnosis> {
    let written = written.map(str::trim).filter(|text| !text.is_empty());
    match written {
        Some(text) if is_configuration(text) => {
            let path = inside(text)?;
            if !tree.has(&path) {
                return Err(not_found(tree, &path));
            }
            configured(tree, &path, "it is the entrypoint that was set")
        }
        Some(text) => {
            let mut found = named(tree, text)?;
            if tree.has(configuration::FILE) {
                found.configuration = Some(configuration::read(tree, configuration::FILE)?);
            }
            Ok(found)
        }
        None if tree.has(configuration::FILE) => {
            configured(tree, configuration::FILE, "fastmcp.json is there")
        }
        None => detect(tree),
    }
}

/// Whether the entrypoint is a project file rather than code.
fn is_configuration(text: &str) -> bool {
    text.rsplit_once('.')
        .is_some_and(|(_, ending)| ending.eq_ignore_ascii_case("json"))
}

fn configured(tree: &FileTree, path: &str, why: &str) -> Result<Entrypoint, Diagnosis> {
    let configuration = configuration::read(tree, path)?;
    if !tree.has(&configuration.source) {
        let mut found = not_found(tree, &configuration.source);
        found.location = Some(path.to_owned());
        return Err(found);
    }
    let object = match &configuration.object {
        None => String::new(),
        // `module:object`, of which the path already gives the module.
        Some(object) => format!(
            ":{}",
            checked_object(object.rsplit(':').next().unwrap_or_default(), object)?
        ),
    };
    Ok(Entrypoint {
        text: format!("{}{object}", configuration.source),
        file: Some(configuration.source.clone()),
        reason: format!(
            "Entrypoint {}{object}: {path} names it, and {why}.",
            configuration.source
        ),
        configuration: Some(configuration),
    })
}

/// An entrypoint as written: `file.py`, `file.py:object`, `package.module:object`.
fn named(tree: &FileTree, text: &str) -> Result<Entrypoint, Diagnosis> {
    let (place, object) = match text.split_once(':') {
        Some((place, object)) => (place, Some(checked_object(object, text)?)),
        None => (text, None),
    };
    let suffix = object
        .map(|object| format!(":{object}"))
        .unwrap_or_default();
    let reason = |text: &str| format!("Entrypoint {text}: it was set.");
    if is_python(place) || place.contains('/') || place.contains('\\') {
        let path = inside(place)?;
        if !tree.has(&path) {
            return Err(not_found(tree, &path));
        }
        let text = format!("{path}{suffix}");
        return Ok(Entrypoint {
            reason: reason(&text),
            text,
            file: Some(path),
            configuration: None,
        });
    }
    if !place.split('.').all(is_identifier) {
        return Err(invalid(text));
    }
    let module = place.replace('.', "/");
    let file = ["", "src/"]
        .iter()
        .flat_map(|root| {
            [
                format!("{root}{module}.py"),
                format!("{root}{module}/__init__.py"),
            ]
        })
        .find(|candidate| tree.has(candidate));
    let text = format!("{place}{suffix}");
    Ok(Entrypoint {
        reason: reason(&text),
        text,
        file,
        configuration: None,
    })
}

fn checked_object<'a>(object: &'a str, whole: &str) -> Result<&'a str, Diagnosis> {
    // `create_server()` is what people write for a factory; the name alone says the same.
    let name = object.strip_suffix("()").unwrap_or(object);
    if !name.is_empty() && name.split('.').all(is_identifier) {
        return Ok(name);
    }
    Err(invalid(whole))
}

fn invalid(text: &str) -> Diagnosis {
    diagnosis(
        Code::EntrypointInvalid,
        format!("The entrypoint {text:?} is neither a file nor a module."),
        "Write file.py, file.py:object or package.module:object, for example main.py:mcp.",
    )
}

/// A path of the source; absolute paths and those that lead out are refused.
fn inside(path: &str) -> Result<String, Diagnosis> {
    let refuse = |cause: String| {
        Err(diagnosis(
            Code::EntrypointInvalid,
            cause,
            "Write a path from the top of the source, for example src/server.py:mcp.",
        ))
    };
    if path.len() > super::names::MAX_PATH_BYTES || path.chars().any(char::is_control) {
        return refuse("The entrypoint is too long or holds control characters.".to_owned());
    }
    if path.starts_with('/') || path.starts_with('~') {
        return refuse(format!("The entrypoint {path} is an absolute path."));
    }
    if path.contains('\\') {
        return refuse(format!(
            "The entrypoint {path} holds a backslash; directories are parted by a slash."
        ));
    }
    if path.split('/').any(|part| part == "..") {
        return refuse(format!(
            "The entrypoint {path} leads out of the source with `..`."
        ));
    }
    join("", path)
        .filter(|path| !path.is_empty())
        .ok_or_else(|| invalid(path))
}

/// Says which files could have been meant.
fn not_found(tree: &FileTree, path: &str) -> Diagnosis {
    let cause = format!("The entrypoint's file {path} does not exist in the source.");
    let name = path.rsplit('/').next().unwrap_or(path);
    let close: Vec<&str> = tree
        .names()
        .filter(|other| {
            let theirs = other.rsplit('/').next().unwrap_or(other);
            theirs.eq_ignore_ascii_case(name) || **other == format!("{path}.py")
        })
        .collect();
    let servers = servers(tree);
    let fix = match (close.as_slice(), servers.as_slice()) {
        ([], []) => {
            "Set the entrypoint to the file that makes the server, or push it if it is missing."
                .to_owned()
        }
        ([], found) => format!(
            "Set the entrypoint to a file that makes a server, here {}.",
            list(found, MOST_NAMES)
        ),
        (close, _) => format!("Set the entrypoint to {}.", list(close, MOST_NAMES)),
    };
    diagnosis(Code::EntrypointNotFound, cause, fix)
}

/// Chooses without any word of the user.
fn detect(tree: &FileTree) -> Result<Entrypoint, Diagnosis> {
    let usual: Vec<&str> = USUAL_FILES
        .iter()
        .copied()
        .filter(|file| tree.has(file))
        .collect();
    let chosen = |file: &str, why: String| {
        Ok(Entrypoint {
            text: file.to_owned(),
            file: Some(file.to_owned()),
            reason: format!("Entrypoint {file}: {why}."),
            configuration: None,
        })
    };
    if let Some(file) = usual
        .iter()
        .find(|file| tree.text(file).is_some_and(|text| offers_server(&text)))
    {
        return chosen(file, "the usual file, and it holds a server".to_owned());
    }
    let servers = servers(tree);
    if let [only] = servers.as_slice() {
        return chosen(only, "the only file that makes a server".to_owned());
    }
    if let Some(file) = usual.first() {
        return chosen(file, "the usual file".to_owned());
    }
    Err(nothing(tree, &servers))
}

fn nothing(tree: &FileTree, servers: &[String]) -> Diagnosis {
    if let Some(first) = servers.first() {
        return diagnosis(
            Code::NoEntrypoint,
            format!(
                "Several files could be the server: {}.",
                list(servers, MOST_NAMES)
            ),
            format!("Set the entrypoint to one of them, for example {first}."),
        );
    }
    let python: Vec<&str> = tree.names().filter(|name| is_python(name)).collect();
    if python.is_empty() && tree.has("package.json") {
        return diagnosis(
            Code::NoEntrypoint,
            "The source has a package.json and no Python file; only Python servers are run for now.",
            "Deploy a Python server, for example one made with FastMCP.",
        );
    }
    let cause = match python.as_slice() {
        [] => "The source has no Python file.".to_owned(),
        found => format!(
            "The source has no main.py or server.py, and none of its Python files makes an MCP server ({}).",
            list(found, MOST_NAMES)
        ),
    };
    diagnosis(
        Code::NoEntrypoint,
        cause,
        "Add a main.py with mcp = FastMCP(\"name\"), or set the entrypoint to the file that makes the server.",
    )
}

/// Files that make a server, by their text.
fn servers(tree: &FileTree) -> Vec<String> {
    tree.names()
        .filter(|name| is_python(name) && !ignored(name))
        .filter(|name| {
            tree.size(name)
                .is_some_and(|size| size <= MAX_SCANNED_BYTES)
        })
        .take(MAX_SCANNED_FILES)
        .filter(|name| tree.text(name).is_some_and(|text| makes_server(&text)))
        .map(str::to_owned)
        .collect()
}

/// Whether a file is Python source by its name.
pub(super) fn is_python(name: &str) -> bool {
    name.strip_suffix(".py")
        .is_some_and(|stem| !stem.is_empty())
}

fn ignored(path: &str) -> bool {
    let mut parts: Vec<&str> = path.split('/').collect();
    let file = parts.pop().unwrap_or_default();
    parts.len() > MAX_SCANNED_DEPTH
        || parts
            .iter()
            .any(|part| IGNORED_DIRECTORIES.contains(part) || part.starts_with('.'))
        || file.starts_with("test_")
        || matches!(file, "conftest.py" | "setup.py" | "noxfile.py")
}

/// Whether a line makes a server object.
fn makes_server(text: &str) -> bool {
    code_lines(text).any(|line| {
        [
            "FastMCP(",
            "MCPServer(",
            "FastMCP[",
            "MCPServer[",
            "FastMCP.from_",
            "FastMCP.as_proxy(",
        ]
        .iter()
        .any(|call| line.contains(call) && !line.starts_with("class "))
    }) || (text.contains("from mcp.server")
        && code_lines(text).any(|line| line.contains("= Server(")))
}

/// Whether a usual file holds a server: it makes one, or has one of the usual names.
fn offers_server(text: &str) -> bool {
    makes_server(text)
        || code_lines(text).any(|line| {
            ["mcp", "server", "app"].iter().any(|name| {
                line.strip_prefix(name).is_some_and(|rest| {
                    rest.trim_start().starts_with('=') || rest.trim_start().starts_with(':')
                }) || (line.starts_with("from ") && imports(line, name))
            })
        })
}

/// Whether `from x import a, b as c` brings in `name`.
fn imports(line: &str, name: &str) -> bool {
    let Some((_, names)) = line.split_once(" import ") else {
        return false;
    };
    names
        .split(',')
        .filter_map(|item| item.trim_matches(['(', ')', ' ']).rsplit(" as ").next())
        .any(|item| item.trim() == name)
}

fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
}

fn is_identifier(text: &str) -> bool {
    let mut characters = text.chars();
    characters
        .next()
        .is_some_and(|first| first.is_alphabetic() || first == '_')
        && characters.all(|character| character.is_alphanumeric() || character == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "from fastmcp import FastMCP\nmcp = FastMCP('x')\n";

    fn text(files: &[(&str, &str)], written: Option<&str>) -> String {
        find(&FileTree::from_files(files.iter().copied()), written)
            .expect("an entrypoint")
            .text
    }

    fn refused(files: &[(&str, &str)], written: Option<&str>) -> Diagnosis {
        find(&FileTree::from_files(files.iter().copied()), written).expect_err("a diagnosis")
    }

    #[test]
    fn usual_files_in_order() {
        assert_eq!(
            text(&[("main.py", SERVER), ("server.py", SERVER)], None),
            "main.py"
        );
        assert_eq!(
            text(&[("server.py", SERVER), ("app.py", SERVER)], Some("  ")),
            "server.py"
        );
        assert_eq!(text(&[("src/server.py", SERVER)], None), "src/server.py");
        assert_eq!(
            text(
                &[
                    ("main.py", "from pkg.core import server as mcp\n"),
                    ("pkg/core.py", SERVER)
                ],
                None
            ),
            "main.py"
        );
    }

    #[test]
    fn a_main_without_server_gives_way_to_the_one_file_with_it() {
        let hello = "def main():\n    print('hello')\n";
        assert_eq!(
            text(&[("main.py", hello), ("server.py", SERVER)], None),
            "server.py"
        );
        assert_eq!(
            text(&[("main.py", hello), ("weather.py", SERVER)], None),
            "weather.py"
        );
        assert_eq!(text(&[("main.py", hello)], None), "main.py");
    }

    #[test]
    fn the_only_server_is_accepted_with_a_reason() {
        let tree = FileTree::from_files([
            ("src/pkg/weather.py", SERVER),
            ("tests/fake.py", SERVER),
            ("src/pkg/util.py", "x = 1\n"),
        ]);
        let found = find(&tree, None).expect("found");
        assert_eq!(found.text, "src/pkg/weather.py");
        assert!(found.reason.contains("only file"), "{}", found.reason);
    }

    #[test]
    fn several_servers_are_named() {
        let found = refused(&[("a.py", SERVER), ("b.py", SERVER)], None);
        assert_eq!(found.code, "no_entrypoint");
        assert_eq!(
            found.cause,
            "Several files could be the server: a.py and b.py."
        );
        assert_eq!(
            found.fix,
            "Set the entrypoint to one of them, for example a.py."
        );
    }

    #[test]
    fn nothing_to_start() {
        assert_eq!(
            refused(&[("README.md", "")], None).cause,
            "The source has no Python file."
        );
        assert!(
            refused(&[("package.json", "{}")], None)
                .cause
                .contains("package.json")
        );
        assert!(
            refused(&[("tool.py", "x = 1")], None)
                .cause
                .contains("(tool.py)")
        );
    }

    #[test]
    fn written_entrypoints() {
        let files = [
            ("main.py", SERVER),
            ("pkg/__init__.py", ""),
            ("pkg/mod.py", SERVER),
            ("src/other/serve.py", SERVER),
        ];
        for (written, expected) in [
            ("main.py", "main.py"),
            ("./main.py:mcp", "main.py:mcp"),
            ("main.py:create_server()", "main.py:create_server"),
            ("pkg/mod.py:a.b", "pkg/mod.py:a.b"),
            ("pkg.mod:mcp", "pkg.mod:mcp"),
            ("other.serve", "other.serve"),
        ] {
            assert_eq!(text(&files, Some(written)), expected);
        }
        let tree = FileTree::from_files(files);
        assert_eq!(
            find(&tree, Some("other.serve"))
                .expect("found")
                .file
                .as_deref(),
            Some("src/other/serve.py")
        );
    }

    #[test]
    fn paths_that_leave_the_source_are_refused() {
        let files = [("main.py", SERVER)];
        for written in [
            "/etc/passwd",
            "../main.py",
            "a/../../main.py",
            "/proc/self/root/main.py",
            "~/main.py",
            "a\\b.py",
            "main.py:",
            "main.py:1x",
            "main.py:mcp;touch x",
            "main.py\u{0}.py",
            "$(id)",
            "a b",
            "main.py:mcp:x",
            "-m x",
        ] {
            assert_eq!(
                refused(&files, Some(written)).code,
                "entrypoint_invalid",
                "{written}"
            );
        }
    }

    #[test]
    fn a_missing_file_names_what_is_there() {
        let found = refused(&[("weather.py", SERVER), ("util.py", "")], Some("main.py"));
        assert_eq!(found.code, "entrypoint_not_found");
        assert_eq!(
            found.cause,
            "The entrypoint's file main.py does not exist in the source."
        );
        assert_eq!(
            found.fix,
            "Set the entrypoint to a file that makes a server, here weather.py."
        );
        assert_eq!(
            refused(&[("Main.py", SERVER)], Some("main.py")).fix,
            "Set the entrypoint to Main.py."
        );
    }

    #[test]
    fn fastmcp_json_decides() {
        let json = r#"{"source": {"path": "src/weather.py", "entrypoint": "build"}, "deployment": {"env": {"A": "b"}}}"#;
        let files = [
            ("fastmcp.json", json),
            ("main.py", SERVER),
            ("src/weather.py", SERVER),
        ];
        let found = find(&FileTree::from_files(files), None).expect("found");
        assert_eq!(found.text, "src/weather.py:build");
        assert!(found.configuration.is_some());
        assert_eq!(text(&files, Some("main.py")), "main.py");
        assert_eq!(
            text(
                &[
                    (
                        "conf/dev.fastmcp.json",
                        r#"{"source": {"path": "../x.py:mcp"}}"#
                    ),
                    ("x.py", SERVER)
                ],
                Some("conf/dev.fastmcp.json")
            ),
            "x.py:mcp"
        );
    }

    #[test]
    fn broken_fastmcp_json_says_where() {
        let found = refused(
            &[("fastmcp.json", "{\n  \"source\": }"), ("main.py", SERVER)],
            None,
        );
        assert_eq!(found.code, "configuration_invalid");
        assert_eq!(found.location.as_deref(), Some("fastmcp.json:2"));
        let found = refused(
            &[("fastmcp.json", r#"{"source": {"path": "../../x.py"}}"#)],
            None,
        );
        assert_eq!(found.code, "configuration_invalid");
        let found = refused(
            &[("fastmcp.json", r#"{"source": {"path": "gone.py"}}"#)],
            None,
        );
        assert_eq!(
            (found.code.as_str(), found.location.as_deref()),
            ("entrypoint_not_found", Some("fastmcp.json"))
        );
    }
}
