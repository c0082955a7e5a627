//! Which environment variables a source reads, found without running it: so that what is missing is
//! known before a server fails for it. Pure, and a guess: code can read its environment in ways
//! that nobody sees from outside, and what is found is shown, never acted upon.

use std::collections::BTreeMap;

use super::tree::FileTree;
use crate::protocol::{EnvironmentRead, ExampleVariable, Need};

mod example;
mod javascript;
mod python;
mod tokens;

/// Files looked at. Whoever has more has put somebody else's code into the repository.
const MAX_FILES: usize = 2_000;

/// Largest file looked at; longer ones are made by programs.
const MAX_FILE_BYTES: u64 = 512 * 1024;

/// Bytes looked at in all, so that a plan stays a matter of moments.
const MAX_TOTAL_BYTES: u64 = 16 * 1024 * 1024;

/// Variables listed; the plan travels with every sync.
pub const MAX_VARIABLES: usize = 200;

/// Places listed for each.
const MAX_PLACES: usize = 5;

/// Longest name of a variable, and longest path that is shown.
const MAX_TEXT: usize = 128;

/// Directories whose code does not run in the server.
const PASSED_OVER: &[&str] = &[
    "node_modules",
    "site-packages",
    "venv",
    "env",
    "__pycache__",
    "__tests__",
    "test",
    "tests",
    "docs",
    "dist",
    "build",
    "vendor",
];

/// What every instance has, or every Linux program may look for.
const PROVIDED: &[&str] = &[
    "PORT",
    "HOST",
    "HOME",
    "PATH",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "PWD",
    "SHELL",
    "TERM",
    "HOSTNAME",
    "NO_COLOR",
    "CI",
    "NODE_ENV",
    "PYTHONPATH",
    "PYTHONUNBUFFERED",
    "FASTMCP_HOME",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
];

/// Prefixes of what the platform sets.
const PROVIDED_PREFIXES: &[&str] = &["BERTH_", "FASTMCP_CLOUD_"];

/// One read, as a language's scanner finds it.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    name: String,
    need: Need,
    line: usize,
}

/// The variables that a source reads, by name, and where.
pub fn scan(tree: &FileTree) -> Vec<EnvironmentRead> {
    let mut reads: BTreeMap<String, EnvironmentRead> = BTreeMap::new();
    let mut left = MAX_TOTAL_BYTES;
    let files = tree.names().filter(|name| is_looked_at(name));
    for file in files.take(MAX_FILES) {
        let size = tree.size(file).unwrap_or(u64::MAX);
        if size > MAX_FILE_BYTES.min(left) {
            continue;
        }
        left -= size;
        let Some(text) = tree.text(file) else {
            continue;
        };
        let found = match file.rsplit_once('.') {
            Some((_, "py")) => python::reads(&text),
            _ => javascript::reads(&text),
        };
        for read in found.into_iter().filter(|read| is_wanted(&read.name)) {
            add(&mut reads, file, read);
        }
    }
    reads.into_values().take(MAX_VARIABLES).collect()
}

/// The variables of the repository's `.env.example`, if it has one.
pub fn example(tree: &FileTree, directory: &str) -> Vec<ExampleVariable> {
    let mut variables = example::read(tree, directory);
    variables.retain(|variable| is_wanted(&variable.name));
    variables.truncate(MAX_VARIABLES);
    variables
}

fn add(reads: &mut BTreeMap<String, EnvironmentRead>, file: &str, found: Found) {
    let read = reads
        .entry(found.name)
        .or_insert_with_key(|name| EnvironmentRead {
            name: name.clone(),
            need: found.need,
            places: Vec::new(),
        });
    read.need = read.need.max(found.need);
    let place = format!("{file}:{}", found.line);
    if read.places.len() < MAX_PLACES && place.len() <= MAX_TEXT && !read.places.contains(&place) {
        read.places.push(place);
    }
}

fn is_looked_at(path: &str) -> bool {
    let (directories, file) = path.rsplit_once('/').unwrap_or(("", path));
    let is_code = [
        ".py", ".js", ".mjs", ".cjs", ".ts", ".mts", ".cts", ".jsx", ".tsx",
    ]
    .iter()
    .any(|ending| file.ends_with(ending));
    let is_test = file.starts_with("test_")
        || file == "conftest.py"
        || [".test.", ".spec.", ".d.", ".min."]
            .iter()
            .any(|part| file.contains(part))
        || file.ends_with("_test.py");
    is_code
        && !is_test
        && directories
            .split('/')
            .all(|name| !name.starts_with('.') && !PASSED_OVER.contains(&name))
}

/// A name that a project can set, and that nobody else does.
pub fn is_wanted(name: &str) -> bool {
    let mut bytes = name.bytes();
    let is_name = bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_');
    is_name
        && name.len() <= MAX_TEXT
        && !PROVIDED.contains(&name)
        && !PROVIDED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_of_all_files_are_put_together() {
        let tree = FileTree::from_files([
            (
                "main.py",
                "import os\nA = os.environ['A']\nB = os.getenv('B', '1')\n",
            ),
            (
                "lib/b.py",
                "import os\nB = os.environ.get('B')\nP = os.environ['PORT']\n",
            ),
            ("src/index.ts", "const a = process.env.A ?? 'x';\n"),
            ("tests/conftest.py", "import os\nos.environ['TEST_ONLY']\n"),
            ("test_main.py", "import os\nos.environ['TEST_ONLY']\n"),
            (".venv/x.py", "import os\nos.environ['NOT_OURS']\n"),
            ("node_modules/x/i.js", "process.env.NOT_OURS\n"),
        ]);
        let found: Vec<(String, Need, Vec<String>)> = scan(&tree)
            .into_iter()
            .map(|read| (read.name, read.need, read.places))
            .collect();
        let place = |text: &str| text.to_owned();
        assert_eq!(
            found,
            [
                (
                    place("A"),
                    Need::Required,
                    vec![place("main.py:2"), place("src/index.ts:1")]
                ),
                (
                    place("B"),
                    Need::Optional,
                    vec![place("lib/b.py:2"), place("main.py:3")]
                ),
            ]
        );
    }

    #[test]
    fn what_is_found_is_bounded() {
        let reads: Vec<_> = (0..500).map(|n| format!("os.environ['V{n}']")).collect();
        let text = reads.join("\n");
        let again = "os.environ['A']\n".repeat(50);
        let tree = FileTree::from_files([("a.py", text.as_str()), ("b.py", again.as_str())]);
        let found = scan(&tree);
        assert_eq!(found.len(), MAX_VARIABLES);
        assert_eq!(found[0].places.len(), MAX_PLACES);
        let long = format!("os.environ['{}']", "A".repeat(200));
        assert!(scan(&FileTree::from_files([("a.py", long.as_str())])).is_empty());
    }
}
