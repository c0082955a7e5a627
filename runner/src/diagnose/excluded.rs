//! An entrypoint that is missing because an ignore file leaves it out.

use ignore::gitignore::GitignoreBuilder;

use super::evidence::found;
use super::{Code, edit};
use crate::build::tree::{FileTree, MAX_IGNORE_BYTES, MAX_IGNORE_RULES, join, upwards};
use crate::protocol::Diagnosis;

/// What packing reads at every level, all with the rules of `.gitignore`.
const IGNORE_FILES: &[&str] = &[".gitignore", ".dockerignore"];

/// Directories above the entrypoint whose ignore files are looked at; nobody's lies deeper.
const MAX_LEVELS: usize = 32;

/// What is started when no entrypoint is set.
const USUAL_FILES: &[&str] = &["main.py", "server.py"];

/// Says so where an ignore file of the source leaves the entrypoint's file out. `entrypoint` is
/// what the user wrote.
pub fn excluded(tree: &FileTree, entrypoint: Option<&str>) -> Option<Diagnosis> {
    let written = entrypoint.map(str::trim).filter(|text| !text.is_empty());
    let wanted: Vec<&str> = match written {
        Some(text) => vec![text.split(':').next().unwrap_or(text)],
        None => USUAL_FILES.to_vec(),
    };
    wanted
        .into_iter()
        .filter_map(|path| join("", path))
        .filter(|path| !path.is_empty() && !tree.has(path))
        .find_map(|path| left_out(tree, &path))
}

fn left_out(tree: &FileTree, path: &str) -> Option<Diagnosis> {
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    upwards(directory).take(MAX_LEVELS).find_map(|directory| {
        IGNORE_FILES.iter().find_map(|name| {
            let file = join(directory, name)?;
            if tree.size(&file)? > MAX_IGNORE_BYTES {
                return None;
            }
            let (index, line) = matching_line(&tree.text(&file)?, directory, path)?;
            Some(diagnose(&file, index, &line, path))
        })
    })
}

/// The line that leaves a path out: its index and text. `directory` holds the ignore file.
fn matching_line(text: &str, directory: &str, path: &str) -> Option<(usize, String)> {
    let root = format!("/{directory}");
    let mut rules = GitignoreBuilder::new(&root);
    for line in text.lines().take(MAX_IGNORE_RULES) {
        // A line that is no pattern leaves nothing out.
        let _ = rules.add_line(None, line);
    }
    let rules = rules.build().ok()?;
    let path = format!("/{path}");
    match rules.matched_path_or_any_parents(&path, false) {
        ignore::Match::Ignore(glob) => text
            .lines()
            .enumerate()
            .find(|(_, line)| line.trim_end() == glob.original())
            .map(|(index, line)| (index, line.to_owned())),
        _ => None,
    }
}

fn diagnose(file: &str, index: usize, line: &str, path: &str) -> Diagnosis {
    let ignore = format!("line {} of {file} (`{}`)", index + 1, line.trim());
    let mut found = found(
        Code::EntrypointExcluded,
        &[("path", path.to_owned()), ("ignore", ignore)],
    );
    let names_it_alone = line.trim().trim_start_matches('/') == path;
    let new = (!names_it_alone).then(|| format!("{line}\n!{path}"));
    found.edits = edit::at(file, index, line, new).into_iter().collect();
    found.location = Some(format!("{file}:{}", index + 1));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_leaves_it_out_is_named() {
        let tree = FileTree::from_files([(".dockerignore", "# nothing\ndata\n/server.py\n")]);
        let found = excluded(&tree, Some("server.py:mcp")).unwrap();
        assert_eq!(found.code, "entrypoint_excluded");
        assert_eq!(found.location.as_deref(), Some(".dockerignore:3"));
        assert_eq!(found.edits[0].new, None);
        let tree = FileTree::from_files([(".gitignore", "*.py\n")]);
        let found = excluded(&tree, None).unwrap();
        assert!(found.cause.contains("main.py"), "{}", found.cause);
        assert_eq!(found.edits[0].new.as_deref(), Some("*.py\n!main.py"));
    }

    #[test]
    fn a_file_that_is_simply_not_there_is_not_left_out() {
        let tree = FileTree::from_files([(".gitignore", "*.log\n!server.py\n"), ("a.py", "")]);
        assert!(excluded(&tree, Some("server.py")).is_none());
        assert!(excluded(&FileTree::from_files([]), Some("../server.py")).is_none());
    }

    #[test]
    fn an_ignore_file_that_nobody_wrote_is_not_gone_through() {
        let rules = |many: usize| format!("{}server.py\n", "x\n".repeat(many));
        for (text, is_found) in [
            (rules(MAX_IGNORE_RULES - 1), true),
            (rules(MAX_IGNORE_RULES), false),
            (format!("server.py\n#{}", "x".repeat(64 * 1024)), false),
        ] {
            let tree = FileTree::from_files([(".gitignore", text.as_str())]);
            assert_eq!(excluded(&tree, Some("server.py")).is_some(), is_found);
        }
    }
}
