//! `pyproject.toml`, as far as planning reads it: whether it declares a project, where that is
//! locked, and which Python it asks for.

use std::collections::BTreeMap;

use super::dependencies::{Dependencies, Found, Kind};
use super::poetry;
use super::requirements::{bytes, readable};
use super::tree::{FileTree, directory_of, join, upwards};
use crate::diagnose::{Code, diagnosis};
use crate::protocol::Diagnosis;

/// Locks of other tools. uv resolves what the project declares, and does not read them.
const OTHER_LOCKS: &[&str] = &["poetry.lock", "pdm.lock"];

/// A `pyproject.toml` that declares a project; `None` for one that only configures tools.
pub fn find(tree: &FileTree, path: &str) -> Result<Option<Found>, Diagnosis> {
    let table = parse(tree, path)?;
    if !table.contains_key("project") && tool(&table, "poetry").is_none() {
        return Ok(None);
    }
    let directory = directory_of(path);
    let at = |name: &str| join(directory, name).filter(|name| tree.has(name));
    let mut inputs = BTreeMap::new();
    let mut take = |name: String| -> Result<(), Diagnosis> {
        let contents = bytes(tree, &name)?;
        inputs.insert(name, contents);
        Ok(())
    };
    take(path.to_owned())?;
    let requires_python = requires_python(&table).map(|text| (text, path.to_owned()));
    if !table.contains_key("project") {
        return Ok(Some(Found {
            dependencies: Dependencies {
                kind: Kind::Poetry,
                path: Some(path.to_owned()),
                packages: poetry::requirements(&table, path)?,
                lock: None,
                inputs,
            },
            reasons: reasons(path, None, at),
            requires_python,
        }));
    }
    let workspace = workspace_of(tree, directory);
    let lock = at("uv.lock").or_else(|| join(workspace.as_deref()?, "uv.lock"));
    let beside = ["uv.toml", "setup.py", "setup.cfg"]
        .iter()
        .filter_map(|n| at(n));
    let dynamic = dynamic_files(&table).into_iter().filter_map(|n| at(&n));
    let above = workspace.iter().filter_map(|w| join(w, "pyproject.toml"));
    for name in beside.chain(dynamic).chain(above).chain(lock.clone()) {
        take(name)?;
    }
    Ok(Some(Found {
        dependencies: Dependencies {
            kind: if lock.is_some() {
                Kind::UvLock
            } else {
                Kind::Pyproject
            },
            path: Some(path.to_owned()),
            packages: Vec::new(),
            lock: lock.clone(),
            inputs,
        },
        reasons: reasons(path, lock.as_deref(), at),
        requires_python,
    }))
}

fn reasons(path: &str, lock: Option<&str>, at: impl Fn(&str) -> Option<String>) -> Vec<String> {
    if let Some(lock) = lock {
        return vec![format!("Dependencies from {lock}: they are locked.")];
    }
    let mut reasons = vec![format!(
        "Dependencies from {path}; there is no uv.lock beside it."
    )];
    let unread = OTHER_LOCKS.iter().filter_map(|name| at(name));
    reasons.extend(
        unread.map(|lock| {
            format!("{lock} is not read; run `uv lock` for a lock that builds follow.")
        }),
    );
    reasons
}

fn parse(tree: &FileTree, path: &str) -> Result<toml::Table, Diagnosis> {
    let text = readable(tree, path)?;
    text.parse().map_err(|error: toml::de::Error| {
        let line = error
            .span()
            .map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let mut found = diagnosis(
            Code::ConfigurationInvalid,
            format!(
                "{path} is not valid TOML: {}.",
                error.message().trim_end_matches('.')
            ),
            "Correct the file and deploy again.",
        );
        found.location = line.map(|line| format!("{path}:{line}"));
        found
    })
}

fn tool<'a>(table: &'a toml::Table, name: &str) -> Option<&'a toml::Value> {
    table.get("tool")?.get(name)
}

/// The Python that a project asks for, in PEP 621's field or Poetry's.
pub fn requires_python(table: &toml::Table) -> Option<String> {
    let standard = table
        .get("project")
        .and_then(|project| project.get("requires-python"));
    let poetry = || tool(table, "poetry")?.get("dependencies")?.get("python");
    standard.or_else(poetry)?.as_str().map(str::to_owned)
}

/// Files that setuptools reads dependencies from (`tool.setuptools.dynamic`).
fn dynamic_files(table: &toml::Table) -> Vec<String> {
    let dynamic = || {
        tool(table, "setuptools")?
            .get("dynamic")?
            .get("dependencies")?
            .get("file")
    };
    match dynamic() {
        Some(toml::Value::String(name)) => vec![name.clone()],
        Some(toml::Value::Array(names)) => names
            .iter()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect(),
        _ => Vec::new(),
    }
}

/// The directory above whose uv workspace `directory` is a member of, where that is locked.
fn workspace_of(tree: &FileTree, directory: &str) -> Option<String> {
    upwards(directory).skip(1).find_map(|above| {
        let at = |name: &str| join(above, name).filter(|name| tree.has(name));
        at("uv.lock")?;
        let table: toml::Table = tree.text(&at("pyproject.toml")?)?.parse().ok()?;
        let workspace = tool(&table, "uv")?.get("workspace")?;
        let member = directory
            .strip_prefix(above)
            .unwrap_or(directory)
            .trim_start_matches('/');
        let lists = |key: &str| {
            let patterns = workspace.get(key).and_then(toml::Value::as_array);
            patterns
                .into_iter()
                .flatten()
                .filter_map(toml::Value::as_str)
                .any(|pattern| matches(pattern, member))
        };
        (lists("members") && !lists("exclude")).then(|| above.to_owned())
    })
}

/// Whether a path fits a pattern of uv's member lists: `packages/*`, `services/weather`.
fn matches(pattern: &str, path: &str) -> bool {
    let pattern = pattern.trim_start_matches("./").trim_end_matches('/');
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) | (Some("**"), _) => return true,
            (Some(pattern), Some(part)) => {
                let fits = match pattern.split_once('*') {
                    Some((before, after)) => {
                        part.len() >= before.len() + after.len()
                            && part.starts_with(before)
                            && part.ends_with(after)
                    }
                    None => pattern == part,
                };
                if !fits {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_matched_as_uv_does() {
        for (pattern, path, fits) in [
            ("packages/*", "packages/a", true),
            ("packages/*", "packages/a/b", false),
            ("./services/weather/", "services/weather", true),
            ("serv*/w", "services/w", true),
            ("a-*-b", "a-b", false),
            ("**", "x/y", true),
            ("x", "y", false),
        ] {
            assert_eq!(matches(pattern, path), fits, "{pattern} {path}");
        }
    }

    #[test]
    fn r46_a_member_of_a_workspace_is_locked_by_it() {
        let root = "[project]\nname='all'\nversion='1'\n[tool.uv.workspace]\nmembers=['services/*']\nexclude=['services/old']\n";
        let member = "[project]\nname='m'\nversion='1'\n";
        let tree = FileTree::from_files([
            ("pyproject.toml", root),
            ("uv.lock", "version = 1"),
            ("services/new/pyproject.toml", member),
            ("services/old/pyproject.toml", member),
        ]);
        let lock = |path: &str| find(&tree, path).unwrap().unwrap().dependencies.lock;
        assert_eq!(
            lock("services/new/pyproject.toml").as_deref(),
            Some("uv.lock")
        );
        assert_eq!(lock("services/old/pyproject.toml"), None);
        let found = find(&tree, "services/new/pyproject.toml").unwrap().unwrap();
        let names: Vec<&String> = found.dependencies.inputs.keys().collect();
        assert_eq!(
            names,
            ["pyproject.toml", "services/new/pyproject.toml", "uv.lock"]
        );
        assert_eq!(found.dependencies.describe(), "uv.lock");
    }
}
