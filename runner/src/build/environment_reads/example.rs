//! `.env.example`: what a repository says that it needs, with values that only show the form.

use super::super::tree::{FileTree, join, upwards};
use crate::protocol::ExampleVariable;

/// Names under which such files go, in order of preference.
const NAMES: &[&str] = &[
    ".env.example",
    ".env.sample",
    ".env.template",
    ".env.dist",
    "env.example",
    "example.env",
];

/// Longest example and longest remark that are shown.
const MAX_TEXT: usize = 200;

/// Reads the file nearest to the entrypoint's directory.
pub fn read(tree: &FileTree, directory: &str) -> Vec<ExampleVariable> {
    let nearest = upwards(directory).find_map(|directory| {
        NAMES.iter().find_map(|name| {
            let path = join(directory, name)?;
            tree.has(&path).then_some(path)
        })
    });
    nearest
        .and_then(|path| tree.text(&path))
        .map(|text| parse(&text))
        .unwrap_or_default()
}

fn parse(text: &str) -> Vec<ExampleVariable> {
    let mut variables: Vec<ExampleVariable> = Vec::new();
    let mut remark = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() {
            remark.clear();
            continue;
        }
        let assignment = line.trim_start_matches('#').trim_start();
        let assignment = assignment.strip_prefix("export ").unwrap_or(assignment);
        let pair = assignment
            .split_once('=')
            .filter(|(name, _)| is_name(name.trim_end()));
        match pair {
            Some((name, value)) => {
                let name = name.trim_end();
                if !variables.iter().any(|known| known.name == name) {
                    variables.push(ExampleVariable {
                        name: name.to_owned(),
                        example: shown(unquoted(value.trim())),
                        about: some(&shown(&remark.join(" "))),
                        // `# NAME=value` shows what could be set.
                        optional: line.starts_with('#'),
                    });
                }
                remark.clear();
            }
            None if line.starts_with('#') => remark.push(assignment.to_owned()),
            None => {}
        }
    }
    variables
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote) {
            return rest.split(quote).next().unwrap_or_default();
        }
    }
    // A remark behind the value.
    value.split(" #").next().unwrap_or_default().trim_end()
}

fn shown(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(MAX_TEXT)
        .collect()
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_examples_and_remarks_are_read() {
        let text = "# Get it from the\n# settings page.\nAPI_KEY=your-key-here\n\n# A heading\n\nexport REGION = \"north # 1\" # or south\n# LEVEL=debug\nnonsense\n1X=2\nAPI_KEY=again\nEMPTY=\n";
        let found: Vec<(String, String, Option<String>, bool)> = parse(text)
            .into_iter()
            .map(|v| (v.name, v.example, v.about, v.optional))
            .collect();
        let own = str::to_owned;
        assert_eq!(
            found,
            [
                (
                    own("API_KEY"),
                    own("your-key-here"),
                    Some(own("Get it from the settings page.")),
                    false
                ),
                (own("REGION"), own("north # 1"), None, false),
                (own("LEVEL"), own("debug"), None, true),
                (own("EMPTY"), String::new(), None, false),
            ]
        );
    }

    #[test]
    fn the_nearest_file_counts() {
        let tree = FileTree::from_files([
            (".env.example", "ROOT=1\n"),
            ("servers/a/.env.sample", "NEAR=1\n"),
        ]);
        assert_eq!(read(&tree, "servers/a")[0].name, "NEAR");
        assert_eq!(read(&tree, "servers/b")[0].name, "ROOT");
        assert!(read(&FileTree::from_files([("a.py", "")]), "").is_empty());
    }
}
