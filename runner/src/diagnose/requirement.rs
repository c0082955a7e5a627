//! Changes to the file that declares the dependencies.

use super::edit::at;
use crate::build::tree::FileTree;
use crate::protocol::Edit;

/// The file to edit. A lock file is made anew from the project's file beside it.
pub fn file(dependencies: Option<&str>) -> &str {
    match dependencies {
        Some("uv.lock") => "pyproject.toml",
        Some(file) if !file.contains(' ') => file,
        _ => "requirements.txt",
    }
}

/// The same for a sentence.
pub fn named(dependencies: Option<&str>) -> &str {
    match dependencies {
        Some("uv.lock") => "pyproject.toml (and run `uv lock`)",
        Some(file) if !file.contains(' ') => file,
        _ => "a requirements.txt",
    }
}

/// Asks for a requirement: in the place of the one of the same package, or as a new one.
pub fn require(tree: &FileTree, dependencies: Option<&str>, wanted: &str) -> Option<Vec<Edit>> {
    let file = file(dependencies);
    let Some(text) = tree.text(file) else {
        // Nothing is declared, and what was installed by itself has to be declared now too.
        return (file == "requirements.txt")
            .then(|| vec![append(file, &format!("fastmcp\n{wanted}"))]);
    };
    match find(file, &text, package(wanted)) {
        Some((index, line, old)) => Some(vec![at(
            file,
            index,
            line,
            Some(line.replacen(old, wanted, 1)),
        )?]),
        None if is_a(file, "txt") => Some(vec![append(file, wanted)]),
        None => {
            let list = if is_a(file, "json") {
                "\"dependencies\": ["
            } else {
                "dependencies = ["
            };
            let (index, line) = text
                .lines()
                .enumerate()
                .find(|(_, line)| line.trim_start().starts_with(list))?;
            let new = line.replacen(list, &format!("{list}\"{wanted}\", "), 1);
            Some(vec![at(
                file,
                index,
                line,
                Some(new.replacen(", ]", "]", 1).trim_end().to_owned()),
            )?])
        }
    }
}

/// Adds an extra to the requirement of a package, or asks for the package with it.
pub fn extra(
    tree: &FileTree,
    dependencies: Option<&str>,
    package: &str,
    extra: &str,
) -> Option<Vec<Edit>> {
    let found = tree.text(file(dependencies)).and_then(|text| {
        let (_, _, old) = find(file(dependencies), &text, package)?;
        Some(old[name_of(old).len()..].to_owned())
    });
    let version = found.unwrap_or_default();
    require(tree, dependencies, &format!("{package}[{extra}]{version}"))
}

/// Takes the version away from the requirement of a package.
pub fn unpin(tree: &FileTree, dependencies: Option<&str>, package: &str) -> Option<Vec<Edit>> {
    let file = file(dependencies);
    let text = tree.text(file)?;
    let (index, line, old) = find(file, &text, package)?;
    Some(vec![at(
        file,
        index,
        line,
        Some(line.replacen(old, name_of(old), 1)),
    )?])
}

/// Asks for another package in the place of one.
pub fn swap(
    tree: &FileTree,
    dependencies: Option<&str>,
    package: &str,
    other: &str,
) -> Option<Vec<Edit>> {
    let file = file(dependencies);
    let text = tree.text(file)?;
    let (index, line, old) = find(file, &text, package)?;
    let new = line.replacen(old, other, 1);
    Some(vec![at(file, index, line, Some(new))?])
}

/// Takes the requirement of a package away.
pub fn forgo(tree: &FileTree, dependencies: Option<&str>, package: &str) -> Option<Vec<Edit>> {
    let file = file(dependencies);
    let text = tree.text(file)?;
    let (index, line, _) = find(file, &text, package)?;
    is_a(file, "txt")
        .then(|| at(file, index, line, None))
        .flatten()
        .map(|edit| vec![edit])
}

/// Whether a file's name has this ending.
fn is_a(file: &str, ending: &str) -> bool {
    file.rsplit_once('.')
        .is_some_and(|(_, found)| found == ending)
}

fn append(file: &str, line: &str) -> Edit {
    Edit {
        file: file.to_owned(),
        line: None,
        old: None,
        new: Some(line.to_owned()),
    }
}

/// The line that asks for a package: its index, the line, and the requirement on it.
fn find<'a>(file: &str, text: &'a str, package: &str) -> Option<(usize, &'a str, &'a str)> {
    text.lines().enumerate().find_map(|(index, line)| {
        let old = if is_a(file, "txt") {
            line.split(['#', ';']).next().unwrap_or_default().trim()
        } else {
            // One per line or the first of a list; a second one on the same line stays unfound.
            line.split('"')
                .skip(1)
                .step_by(2)
                .find(|quoted| normal(name_of(quoted)) == normal(package))?
        };
        (!old.is_empty() && normal(name_of(old)) == normal(package)).then_some((index, line, old))
    })
}

fn package(requirement: &str) -> &str {
    name_of(requirement)
}

/// The name at the beginning of a requirement.
fn name_of(requirement: &str) -> &str {
    let end = requirement
        .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.'))
        .unwrap_or(requirement.len());
    &requirement[..end]
}

/// A name as the index compares it (PEP 503).
fn normal(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str, text: &str, edits: Option<Vec<Edit>>) -> String {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for edit in edits.expect("an edit") {
            assert_eq!(edit.file, name);
            match (edit.line, edit.new) {
                (Some(line), Some(new)) => lines[usize::try_from(line).unwrap() - 1] = new,
                (Some(line), None) => drop(lines.remove(usize::try_from(line).unwrap() - 1)),
                (None, new) => lines.extend(new),
            }
        }
        lines.join("\n")
    }

    #[test]
    fn requirements_are_replaced_or_added() {
        for (name, text, wanted, expected) in [
            ("requirements.txt", "mcp\nhttpx", "mcp<2", "mcp<2\nhttpx"),
            (
                "requirements.txt",
                "httpx  # web",
                "pyyaml",
                "httpx  # web\npyyaml",
            ),
            (
                "pyproject.toml",
                "dependencies = [\"mcp>=1\"]",
                "mcp<2",
                "dependencies = [\"mcp<2\"]",
            ),
            (
                "pyproject.toml",
                "dependencies = []",
                "mcp<2",
                "dependencies = [\"mcp<2\"]",
            ),
            (
                "pyproject.toml",
                "dependencies = [\n  \"httpx\",\n]",
                "mcp<2",
                "dependencies = [\"mcp<2\",\n  \"httpx\",\n]",
            ),
        ] {
            let tree = FileTree::from_files([(name, text)]);
            assert_eq!(
                change(name, text, require(&tree, Some(name), wanted)),
                expected
            );
        }
        let nothing = FileTree::from_files([]);
        let made = require(&nothing, Some("fastmcp (nothing declared)"), "pyyaml");
        assert_eq!(change("requirements.txt", "", made), "fastmcp\npyyaml");
    }

    #[test]
    fn versions_stay_with_an_extra_and_go_with_an_unpin() {
        let text = "fastmcp==3.4.10\nUJson == 1.35";
        let tree = FileTree::from_files([("requirements.txt", text)]);
        let file = Some("requirements.txt");
        assert_eq!(
            change(
                "requirements.txt",
                text,
                extra(&tree, file, "fastmcp", "tasks")
            ),
            "fastmcp[tasks]==3.4.10\nUJson == 1.35"
        );
        assert_eq!(
            change("requirements.txt", text, unpin(&tree, file, "ujson")),
            "fastmcp==3.4.10\nUJson"
        );
        assert_eq!(
            change("requirements.txt", text, forgo(&tree, file, "ujson")),
            "fastmcp==3.4.10"
        );
    }
}
