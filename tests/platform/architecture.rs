//! The import rules of docs/architecture.md.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::Test;

pub const TESTS: &[Test] = &[
    (
        "architecture::crates_hold_what_they_may",
        crates_hold_what_they_may,
    ),
    (
        "architecture::only_the_command_line_starts_roles",
        only_the_command_line_starts_roles,
    ),
    (
        "architecture::sql_stands_in_nouns_only",
        sql_stands_in_nouns_only,
    ),
];

/// For each crate what it must never reach, directly.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "edge",
        &[
            "sqlx",
            "bollard",
            "askama",
            "runner",
            "control-plane",
            "git2",
            "outbound",
        ],
    ),
    (
        "runner",
        &["sqlx", "axum", "askama", "edge", "control-plane"],
    ),
    ("control-plane", &["bollard", "git2"]),
    (
        "bridge",
        &[
            "sqlx",
            "axum",
            "askama",
            "bollard",
            "control-plane",
            "edge",
            "runner",
            "outbound",
            "git2",
        ],
    ),
    (
        "outbound",
        &[
            "sqlx",
            "axum",
            "askama",
            "bollard",
            "control-plane",
            "edge",
            "runner",
        ],
    ),
];

fn crates_hold_what_they_may() -> Result<()> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(tests::root())
        .output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    for (name, forbidden) in FORBIDDEN {
        let package = metadata["packages"]
            .as_array()
            .context("packages")?
            .iter()
            .find(|package| package["name"] == *name)
            .with_context(|| format!("no crate {name}"))?;
        let used: BTreeSet<&str> = package["dependencies"]
            .as_array()
            .context("dependencies")?
            .iter()
            .filter_map(|dependency| dependency["name"].as_str())
            .collect();
        for dependency in *forbidden {
            ensure!(
                !used.contains(dependency),
                "{name} must not depend on {dependency}"
            );
        }
    }
    Ok(())
}

fn lines_of(directory: &Path, visit: &mut impl FnMut(&str, usize, &str)) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            lines_of(&path, visit)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path
                .strip_prefix(tests::root())?
                .to_string_lossy()
                .into_owned();
            for (number, line) in std::fs::read_to_string(&path)?.lines().enumerate() {
                visit(&name, number + 1, line);
            }
        }
    }
    Ok(())
}

/// Outside `cli/`, the control plane knows the wire types of the other roles and nothing else.
fn only_the_command_line_starts_roles() -> Result<()> {
    let mut wrong = Vec::new();
    lines_of(
        &tests::root().join("control-plane/src"),
        &mut |file, number, line| {
            if file.starts_with("control-plane/src/cli/") || line.trim_start().starts_with("//") {
                return;
            }
            for role in ["edge::", "runner::"] {
                for (at, _) in line.match_indices(role) {
                    let before = line[..at].chars().next_back();
                    let own = before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
                    let after = &line[at + role.len()..];
                    // `internal/` has files of these names; its own functions are theirs to call.
                    let ours = file.starts_with("control-plane/src/internal/")
                        || file == "control-plane/src/deployments.rs"
                            && after.starts_with("protocol");
                    if !own && !ours && !after.starts_with("protocol") {
                        wrong.push(format!("{file}:{number}: {line}"));
                    }
                }
            }
        },
    )?;
    ensure!(
        wrong.is_empty(),
        "only cli/ may start roles:\n{}",
        wrong.join("\n")
    );
    Ok(())
}

/// SQL stands in nouns, the database module and the session store.
fn sql_stands_in_nouns_only() -> Result<()> {
    let ways_in = ["pages", "api", "oauth", "cli", "internal", "jobs"];
    let mut wrong = Vec::new();
    for way in ways_in {
        lines_of(
            &tests::root().join("control-plane/src").join(way),
            &mut |file, number, line| {
                // Tests look behind the scenes.
                let is_test = file.contains("/tests");
                if line.contains("sqlx::query") && !is_test {
                    wrong.push(format!("{file}:{number}: {line}"));
                }
            },
        )?;
    }
    ensure!(
        wrong.is_empty(),
        "SQL belongs in nouns:\n{}",
        wrong.join("\n")
    );
    Ok(())
}
