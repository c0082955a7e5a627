//! A start command that was set: whether it is one of Node, and what is started.

use super::super::plan::START_COMMAND;
use super::super::tree::FileTree;
use super::entry::Entry;
use super::{Language, MANIFEST, is_node_file};
use crate::protocol::BuildSettings;
use crate::variables::PORT;

/// Programs that a Node project is started with.
const PROGRAMS: &[&str] = &["node", "npm", "npx", "pnpm", "yarn", "tsx", "ts-node"];
/// Files that declare a Python project.
const OF_PYTHON: &[&str] = &[
    "requirements.txt",
    "pyproject.toml",
    "uv.lock",
    "fastmcp.json",
];

/// The language of a source with a start command: by its words, or else by what is declared.
pub fn language(tree: &FileTree, settings: &BuildSettings) -> Language {
    let command = &settings.start_command;
    let program = command.first().map_or("", String::as_str);
    let name = program.rsplit('/').next().unwrap_or(program);
    if PROGRAMS.contains(&name) || command.iter().any(|word| is_node_file(word)) {
        let why = format!("Node: the start command's program is {name}.");
        return Language::Node(String::new(), why);
    }
    let is_python = settings.dependency_file.is_some()
        || name.starts_with("python")
        || OF_PYTHON.iter().any(|file| tree.has(file));
    if is_python || !tree.has(MANIFEST) {
        return Language::Python(None);
    }
    let why = "Node: there is a package.json, and nothing declares Python packages.";
    Language::Node(String::new(), why.to_owned())
}

/// What is started. `npx` in front of a program of the packages is left out: it is found without.
pub fn entry(command: &[String]) -> Entry {
    let mut words = command;
    if let [first, rest @ ..] = words
        && first == "npx"
        && rest.first().is_some_and(|word| !word.starts_with('-'))
    {
        words = rest;
    }
    Entry {
        command: expanded_words(words, PORT),
        variables: std::collections::BTreeMap::new(),
        text: String::new(),
        reason: START_COMMAND.to_owned(),
        needs_shell: false,
    }
}

/// A command with `$PORT` and `$HOST` replaced.
pub fn expanded_words(words: &[String], port: u16) -> Vec<String> {
    words.iter().map(|word| expanded(word, port)).collect()
}

/// A word with `$PORT`, `${PORT}`, `$HOST` and `${HOST}` replaced: there is no shell that would.
fn expanded(word: &str, port: u16) -> String {
    let mut text = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('$') {
        text.push_str(before);
        let (value, left) = value(after, port).unwrap_or_else(|| ("$".to_owned(), after));
        text.push_str(&value);
        rest = left;
    }
    text.push_str(rest);
    text
}

/// The value of the name that stands behind a dollar sign, and what follows it.
fn value(text: &str, port: u16) -> Option<(String, &str)> {
    let values = [("PORT", port.to_string()), ("HOST", "0.0.0.0".to_owned())];
    values.into_iter().find_map(|(name, value)| {
        let braced = text
            .strip_prefix('{')
            .and_then(|text| text.strip_prefix(name)?.strip_prefix('}'));
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let plain = || {
            text.strip_prefix(name)
                .filter(|rest| !rest.starts_with(is_name))
        };
        Some((value, braced.or_else(plain)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(command: &str) -> BuildSettings {
        BuildSettings {
            start_command: command.split(' ').map(str::to_owned).collect(),
            ..BuildSettings::default()
        }
    }

    #[test]
    fn a_start_command_tells_its_language() {
        let node = FileTree::from_files([("package.json", "{}"), ("main.py", "")]);
        let python = FileTree::from_files([("package.json", "{}"), ("requirements.txt", "")]);
        let is_node = |tree: &FileTree, command: &str| {
            matches!(language(tree, &settings(command)), Language::Node(..))
        };
        assert!(is_node(&node, "node server.js"));
        assert!(is_node(&node, "./bin/serve --port $PORT"));
        assert!(is_node(&python, "/usr/local/bin/node server.js"));
        assert!(is_node(&python, "tool dist/index.mjs"));
        assert!(!is_node(&python, "uvicorn main:app"));
        assert!(!is_node(&node, "python3 main.py"));
        assert!(!is_node(&FileTree::from_files([("main.py", "")]), "serve"));
    }

    #[test]
    fn port_and_host_are_filled_in_and_nothing_else() {
        assert_eq!(expanded("--port=$PORT", 8080), "--port=8080");
        assert_eq!(expanded("${HOST}:${PORT}/x", 8080), "0.0.0.0:8080/x");
        assert_eq!(
            expanded("$PORTAL $ {PORT} $HOME $", 8080),
            "$PORTAL $ {PORT} $HOME $"
        );
    }
}
