//! Every bundled template, written by `berth init`, deploys from a Git repository as it is.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use tests::platform::{self, Platform};
use tests::repository::Repository;

use crate::Test;
use crate::servers::list_and_call;

pub const TESTS: &[Test] = &[
    ("starters::all_are_tried_here", all_are_tried_here),
    ("starters::fastmcp_hello", || deploys(&CASES[0]).map(drop)),
    ("starters::fastmcp_notes", notes_stay),
    ("starters::fastapi", || deploys(&CASES[2]).map(drop)),
    ("starters::python_sdk", || deploys(&CASES[3]).map(drop)),
    ("starters::typescript_http", || deploys(&CASES[4]).map(drop)),
    ("starters::typescript_stdio", || {
        deploys(&CASES[5]).map(drop)
    }),
];

/// A template, and one call of it.
struct Case {
    name: &'static str,
    tool: &'static str,
    arguments: &'static str,
    answer: &'static str,
}

const CASES: [Case; 6] = [
    Case {
        name: "fastmcp-hello",
        tool: "greet",
        arguments: r#"{"name":"Ada"}"#,
        answer: "Hello, Ada!",
    },
    Case {
        name: "fastmcp-notes",
        tool: "write_note",
        arguments: r#"{"name":"first","text":"It stays."}"#,
        answer: "Wrote first.",
    },
    Case {
        name: "fastapi",
        tool: "country_of",
        arguments: r#"{"city":"Vienna"}"#,
        answer: "Austria",
    },
    Case {
        name: "python-sdk",
        tool: "count_words",
        arguments: r#"{"text":"one two three"}"#,
        answer: "3",
    },
    Case {
        name: "typescript-http",
        tool: "roll",
        arguments: r#"{"dice":7,"sides":1}"#,
        answer: "7",
    },
    Case {
        name: "typescript-stdio",
        tool: "slug",
        arguments: r#"{"title":"Crème brûlée, twice"}"#,
        answer: "creme-brulee-twice",
    },
];

fn all_are_tried_here() -> Result<()> {
    let platform = platform::shared()?;
    let listed = platform.berth(&["init", "--json"])?.success()?.json()?;
    let names: Vec<&str> = listed
        .as_array()
        .context("a list")?
        .iter()
        .filter_map(|it| it["name"].as_str())
        .collect();
    ensure!(names == CASES.map(|case| case.name), "{listed}");
    Ok(())
}

/// A repository with the files that `berth init` writes, which refuses to write them twice.
fn repository(platform: &Platform, name: &str) -> Result<Repository> {
    let root = TempDir::new()?;
    let directory = root.path().join(name);
    let path = directory.to_string_lossy().into_owned();
    let written = platform
        .berth(&["init", name, &path, "--json"])?
        .success()?;
    let written = written.json()?;
    let again = platform.berth(&["init", name, &path])?;
    ensure!(again.success().is_err(), "it overwrites");
    let mut files = Vec::new();
    for file in written["files"].as_array().context("files")? {
        let file = file.as_str().context("a path")?;
        files.push((file, std::fs::read_to_string(directory.join(file))?));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(file, text)| (*file, &**text)).collect();
    Repository::new(&files)
}

fn deploys(case: &Case) -> Result<Repository> {
    let platform = platform::shared()?;
    let project = format!("starter-{}", case.name);
    let repository = repository(&platform, case.name)?;
    platform.deploy_live(&project, &repository.url(), &[])?;
    let answer = list_and_call(&platform, &project, case.tool, case.arguments)?;
    ensure!(answer["text"] == json!([case.answer]), "{answer}");
    Ok(repository)
}

/// What one deployment wrote, the next one reads.
fn notes_stay() -> Result<()> {
    let repository = deploys(&CASES[1])?;
    let platform = platform::shared()?;
    repository.commit(&[("CHANGES.md", "Nothing.\n")])?;
    let project = "starter-fastmcp-notes";
    platform.deploy_live(project, &repository.url(), &[])?;
    let answer = list_and_call(&platform, project, "read_note", r#"{"name":"first"}"#)?;
    ensure!(answer["text"] == json!(["It stays."]), "{answer}");
    Ok(())
}
