//! What real releases say of the fixtures, and that the fix works with each of them. With
//! TEST_RECORD set the recordings are made anew instead of compared.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::python;

use super::fixture::{Files, Fixture, write};
use super::launch::Launch;

/// How many launchers run at once: a start is mostly one core's work.
const WORKERS: usize = 3;

/// Runs every fixture that was recorded, with every release it was recorded with.
pub fn as_recorded() -> Result<()> {
    let only = tests::setting("TEST_ONLY").map(|name| name.to_string_lossy().into_owned());
    let fixtures: Vec<Fixture> = Fixture::all()?
        .into_iter()
        .filter(|fixture| {
            only.as_ref()
                .is_none_or(|only| fixture.name.contains(only.as_str()))
        })
        .collect();
    let jobs: Vec<(&Fixture, String)> = fixtures
        .iter()
        .flat_map(|fixture| {
            fixture
                .releases()
                .into_iter()
                .map(move |release| (fixture, release))
        })
        .collect();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some((fixture, release)) = jobs.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    if let Err(error) = one(fixture, release) {
                        let text = format!("{} with {release}: {error:#}", fixture.name);
                        failures
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(text);
                    }
                }
            });
        }
    });
    let failures = failures
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// The broken source says what it said, and the fixed one serves.
fn one(fixture: &Fixture, release: &str) -> Result<()> {
    broken(fixture, release)?;
    if tests::setting("TEST_RECORD").is_some() {
        return Ok(());
    }
    fixed(fixture, release)
}

fn broken(fixture: &Fixture, release: &str) -> Result<()> {
    let files = fixture.broken()?;
    let python = environment(&files, release)?;
    let said = run(fixture, &files, &python, fixture.text("entrypoint"), &[])?;
    let path = fixture
        .path
        .join("recorded")
        .join(format!("{release}.json"));
    let text = serde_json::to_string_pretty(&said)? + "\n";
    if tests::setting("TEST_RECORD").is_some() {
        fs::create_dir_all(fixture.path.join("recorded"))?;
        fs::write(&path, text)?;
        return Ok(());
    }
    let recorded =
        fs::read_to_string(&path).with_context(|| format!("{} is missing", path.display()))?;
    let recorded: Value = serde_json::from_str(&recorded)?;
    // The log of a request holds times and addresses; the rest must be the same.
    for field in [
        "phase",
        "step",
        "exception",
        "file",
        "line",
        "code",
        "status",
        "error",
        "missing_variables",
    ] {
        ensure!(
            recorded[field] == said[field],
            "{field} is {}, recorded was {}",
            said[field],
            recorded[field]
        );
    }
    ensure!(
        sorted(&recorded["message"]) == sorted(&said["message"]),
        "the message is {}, recorded was {}",
        said["message"],
        recorded["message"]
    );
    Ok(())
}

/// A message's characters in order: sets are printed in any order.
fn sorted(message: &Value) -> Vec<char> {
    let mut characters: Vec<char> = message.as_str().unwrap_or_default().chars().collect();
    characters.sort_unstable();
    characters
}

/// What the launcher reports, or what the server answers and logs.
fn run(
    fixture: &Fixture,
    files: &Files,
    python: &std::path::Path,
    entrypoint: Option<&str>,
    variables: &[(String, String)],
) -> Result<Value> {
    let app = tempfile::TempDir::new()?;
    write(app.path(), files)?;
    let mut launch = Launch::start(
        python,
        app.path(),
        entrypoint.unwrap_or_default(),
        variables,
    )?;
    let said = launch.outcome()?.context("it ended without a word")?;
    if said["phase"] == "fail" || !fixture.is("probe") {
        return Ok(said);
    }
    let answer = launch.initialize()?;
    let log = launch.stop()?;
    Ok(json!({
        "phase": "serve", "status": answer.status, "error": answer.error, "message": answer.message, "log": log,
    }))
}

fn fixed(fixture: &Fixture, release: &str) -> Result<()> {
    let mut files = fixture.broken()?;
    files.extend(fixture.fixed()?);
    // Where the files stay as they are, the fix is a setting or another release.
    let python = environment(&files, release)?;
    let entrypoint = fixture
        .text("fixed_entrypoint")
        .or(fixture.text("entrypoint"));
    let said = run(
        fixture,
        &files,
        &python,
        entrypoint,
        &fixture.fixed_variables(),
    )?;
    ensure!(said["phase"] == "serve", "with the fix: {said:#}");
    if fixture.is("probe") {
        ensure!(
            said["status"] == 200 && said["error"].is_null(),
            "with the fix: {said:#}"
        );
    }
    Ok(())
}

/// An environment with what the source asks for, in this release.
fn environment(files: &Files, release: &str) -> Result<PathBuf> {
    let package = release.split('=').next().unwrap_or(release);
    let asked = files
        .get("requirements.txt")
        .map(String::as_str)
        .unwrap_or_default();
    let mut packages = Vec::new();
    for line in asked.lines() {
        let name = line.split(['=', '<', '>', '[']).next().unwrap_or(line);
        // `mcp<2` is a fix, and another release than the one that was broken.
        let is_release = name == package && !line.contains(['<', '>', '[']);
        packages.push(if is_release {
            release.to_owned()
        } else {
            line.to_owned()
        });
    }
    if packages.is_empty() {
        packages.push(release.to_owned());
    }
    packages.sort();
    let name = packages.join("+").replace(['<', '>', '[', ']'], "_");
    let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
    python::environment(&format!("launch-{name}"), &packages)
}
