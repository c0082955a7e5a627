//! What is known of a failure, and the entry of the catalogue that it is.

use std::collections::BTreeMap;

use super::catalogue;
use super::code::Code;
use super::edit::{describe, edits};
use super::entry::{Entry, Exception, Match};
use super::pattern::{self, Values};
use super::{list, packages, requirement, text};
use crate::build::tree::FileTree;
use crate::protocol::Diagnosis;

/// Most names in a sentence.
const MOST_NAMES: usize = 8;

/// What happened, in the words of whoever noticed it.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// An exception's class, without module, and its text.
    Exception(&'a str, &'a str),
    /// The launcher's phase, and its message.
    Finding(&'a str, &'a str),
    /// The build program's code, and the installer's message.
    Build(&'a str, &'a str),
}

/// What is known of a failure besides.
#[derive(Clone, Copy, Default)]
pub struct Evidence<'a> {
    /// The project's files.
    pub source: Option<&'a FileTree>,
    /// Where the dependencies come from, as the plan says it.
    pub dependencies: Option<&'a str>,
    /// The failing line's file, relative to the source.
    pub file: Option<&'a str>,
    /// The failing line, from 1.
    pub line: Option<u64>,
    /// Its text.
    pub code: Option<&'a str>,
    /// Installed packages that matter, and their versions.
    pub packages: Option<&'a BTreeMap<String, String>>,
    /// More values of holes, for entries that need them.
    pub values: &'a [(&'a str, String)],
}

/// The first entry that matches, as its diagnosis. What a pattern's own holes matched goes before
/// what is known besides.
pub fn explain(event: Event<'_>, evidence: &Evidence<'_>) -> Option<Diagnosis> {
    catalogue::entries().find_map(|entry| {
        let values = matching(entry, event, evidence)?;
        Some(tell(entry, evidence, values))
    })
}

/// What the runner found itself, with the values of the entry's holes.
pub fn found(code: Code, values: &[(&str, String)]) -> Diagnosis {
    found_in(
        code,
        &Evidence {
            values,
            ..Evidence::default()
        },
    )
}

/// The same where more is known.
pub fn found_in(code: Code, evidence: &Evidence<'_>) -> Diagnosis {
    tell(catalogue::entry(code), evidence, Values::new())
}

fn matching(entry: &Entry, event: Event<'_>, evidence: &Evidence<'_>) -> Option<Values> {
    entry.matches.iter().find_map(|one| match (one, event) {
        (Match::Exception(wanted), Event::Exception(class, message)) => {
            exception(wanted, class, message, evidence)
        }
        (Match::Finding(step, text), Event::Finding(phase, message))
        | (Match::Build(step, text), Event::Build(phase, message)) => (*step == phase)
            .then(|| pattern::find(text, message))
            .flatten(),
        _ => None,
    })
}

fn exception(
    wanted: &Exception,
    class: &str,
    message: &str,
    evidence: &Evidence<'_>,
) -> Option<Values> {
    let is_class = wanted.classes.is_empty() || wanted.classes.contains(&class);
    let is_line = wanted.line.is_empty()
        || evidence.code.is_some_and(|code| {
            wanted
                .line
                .iter()
                .any(|start| code.trim_start().starts_with(start))
        });
    let is_there = wanted.with.is_none_or(|name| {
        evidence
            .packages
            .is_some_and(|packages| packages.contains_key(name))
    });
    if !is_class || !is_line || !is_there {
        return None;
    }
    let mut values = if wanted.texts.is_empty() {
        Values::new()
    } else {
        wanted
            .texts
            .iter()
            .find_map(|text| pattern::find(text, message))?
    };
    let first = first_line(message);
    // `invalid syntax (main.py, line 3)`: the place is given apart.
    let syntax = first
        .rsplit_once(" (")
        .map_or(first.as_str(), |(what, _)| what);
    values.insert("syntax".to_owned(), syntax.to_owned());
    values.insert("message".to_owned(), first);
    Some(values)
}

/// Fills an entry's texts. A hole that nothing is known of makes the texts' general form.
fn tell(entry: &Entry, evidence: &Evidence<'_>, mut values: Values) -> Diagnosis {
    add_known(&mut values, evidence);
    let fix = say(entry.fix, &values);
    let edits = edits(&entry.change, evidence, &values);
    let fix = format!("{fix}{}", describe(&edits, &fix));
    Diagnosis {
        edits,
        ..text::diagnosis(entry.code, say(entry.cause, &values), fix)
    }
}

/// A text with its holes filled; those without a value stay visible as a word.
fn say(text: &str, values: &Values) -> String {
    pattern::fill(text, values).unwrap_or_else(|| {
        let mut values = values.clone();
        for hole in pattern::holes(text) {
            values
                .entry(hole.to_owned())
                .or_insert_with(|| format!("({hole})"));
        }
        pattern::fill(text, &values).unwrap_or_else(|| text.to_owned())
    })
}

/// What follows from what was matched and what is known besides.
fn add_known(values: &mut Values, evidence: &Evidence<'_>) {
    let mut add = |name: &str, value: String| {
        values.entry(name.to_owned()).or_insert(value);
    };
    for (name, value) in evidence.values {
        add(name, value.clone());
    }
    add("file", requirement::named(evidence.dependencies).to_owned());
    add(
        "code",
        evidence
            .code
            .map(|code| format!(" in `{code}`"))
            .unwrap_or_default(),
    );
    for (name, version) in evidence.packages.into_iter().flatten() {
        add(
            &format!("{}_version", name.replace('-', "_")),
            version.clone(),
        );
    }
    if let Some(module) = values.get("module").cloned() {
        let top = module.split('.').next().unwrap_or(&module).to_owned();
        values
            .entry("package".to_owned())
            .or_insert_with(|| packages::package_of(&top));
        values.insert("top".to_owned(), top);
    }
    if let Some(names) = values.get("arguments").cloned() {
        // `'a'`, `'a' and 'b'`, `'a', 'b'`: as both CPython and FastMCP write them.
        let names: Vec<&str> = names.split('\'').skip(1).step_by(2).collect();
        if !names.is_empty() {
            values.insert("arguments".to_owned(), list(&names, MOST_NAMES));
            values.insert("argument".to_owned(), names[0].to_owned());
        }
    }
}

/// The first line that says something, without its final full stop.
pub fn first_line(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default().trim();
    line.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(class: &str, message: &str, evidence: &Evidence<'_>) -> Option<Diagnosis> {
        explain(Event::Exception(class, message), evidence)
    }

    #[test]
    fn places_that_cannot_be_written_lead_to_data() {
        let tree = FileTree::from_files([("main.py", "open('cache/notes.db', 'w')\n")]);
        let evidence = Evidence {
            source: Some(&tree),
            file: Some("main.py"),
            line: Some(1),
            ..Evidence::default()
        };
        for (class, text) in [
            (
                "PermissionError",
                "[Errno 13] Permission denied: 'cache/notes.db'",
            ),
            (
                "OSError",
                "[Errno 30] Read-only file system: 'cache/notes.db'",
            ),
        ] {
            let found = explained(class, text, &evidence).unwrap();
            assert_eq!(found.code, "path_not_writable");
            let new = found.edits[0].new.as_deref();
            assert_eq!(new, Some("open('/data/notes.db', 'w')"));
            assert!(found.fix.ends_with("In main.py line 1, write `open('/data/notes.db', 'w')` instead of `open('cache/notes.db', 'w')`."), "{}", found.fix);
        }
    }

    #[test]
    fn what_no_entry_matches_is_not_explained() {
        assert!(explained("ValueError", "x", &Evidence::default()).is_none());
    }

    #[test]
    fn packages_are_declared_where_the_project_declares_them() {
        let fix = |dependencies| {
            let evidence = Evidence {
                dependencies,
                ..Evidence::default()
            };
            explained("ModuleNotFoundError", "No module named 'yaml'", &evidence)
                .unwrap()
                .fix
        };
        assert!(fix(Some("requirements.txt")).starts_with("Add `pyyaml` to requirements.txt;"));
        assert!(
            fix(Some("uv.lock")).starts_with("Add `pyyaml` to pyproject.toml (and run `uv lock`);")
        );
        assert!(
            fix(Some("fastmcp (nothing declared)"))
                .starts_with("Add `pyyaml` to a requirements.txt;")
        );
    }
}
