//! The catalogue against what real releases said: the launcher's reports and logs that
//! `tests/fixtures/errors` keeps, each recorded with the release it is named after.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::catalogue::{self, NO_ERRORS};
use super::instance::ProbeAnswer;
use super::launcher::LauncherFailure;
use super::{Evidence, from_launcher_failure, probe_failed};
use crate::build::tree::FileTree;
use crate::protocol::{Diagnosis, Edit};

fn fixtures(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures")
        .join(of)
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// The code of a fixture's directory: `NAME` or `NAME.VARIANT`.
fn code_of(fixture: &Path) -> String {
    name(fixture).split('.').next().unwrap().to_owned()
}

/// Release and report of each recording of a fixture.
fn recordings(fixture: &Path) -> Vec<(String, Value)> {
    let directory = fixture.join("recorded");
    if !directory.is_dir() {
        return Vec::new();
    }
    directories(&directory)
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let release = name(&path).trim_end_matches(".json").to_owned();
            (release, serde_json::from_str(&text).unwrap())
        })
        .collect()
}

fn diagnose(fixture: &Path, recorded: &Value) -> Diagnosis {
    let tree = FileTree::open(&fixture.join("broken")).unwrap();
    let evidence = Evidence {
        source: Some(&tree),
        dependencies: Some("requirements.txt"),
        ..Evidence::default()
    };
    if recorded["phase"] == "fail" {
        let fail: LauncherFailure = serde_json::from_value(recorded.clone()).unwrap();
        return from_launcher_failure(&fail, &evidence);
    }
    let log: Vec<String> = serde_json::from_value(recorded["log"].clone()).unwrap();
    let message = recorded["message"].as_str().unwrap_or_default();
    let answer = match (recorded["status"].as_u64(), recorded["error"].as_i64()) {
        (_, Some(error)) => ProbeAnswer::Refused("initialize", error, message),
        (Some(status), None) => ProbeAnswer::Status(u16::try_from(status).unwrap(), message, None),
        (None, None) => panic!("{recorded}"),
    };
    probe_failed(&answer, "notes.example.com", &log, &evidence)
}

#[test]
fn r50_every_recorded_failure_has_its_own_diagnosis() {
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for fixture in directories(&fixtures("errors")) {
        for (release, recorded) in recordings(&fixture) {
            let found = diagnose(&fixture, &recorded);
            let code = code_of(&fixture);
            assert_eq!(
                found.code,
                code,
                "{} with {release}: {found:#?}",
                name(&fixture)
            );
            seen.entry(code).or_default().insert(release);
        }
    }
    for entry in catalogue::entries() {
        let code = entry.code.as_str();
        let claimed: BTreeSet<String> = entry.verified.iter().map(|v| (*v).to_owned()).collect();
        let recorded = seen.remove(code).unwrap_or_default();
        assert_eq!(
            recorded, claimed,
            "{code}: what is recorded, and what the catalogue claims"
        );
    }
}

#[test]
fn r49_a_failure_names_the_phase_the_class_the_message_and_the_line() {
    let mut failures = 0;
    for fixture in directories(&fixtures("errors")) {
        for (release, recorded) in recordings(&fixture) {
            if recorded["phase"] != "fail" || recorded["exception"].is_null() {
                continue;
            }
            failures += 1;
            let step = recorded["step"].as_str().unwrap();
            assert!(
                ["import", "factory", "serve"].contains(&step),
                "{}: {step}",
                name(&fixture)
            );
            assert!(
                !recorded["message"].as_str().unwrap().is_empty(),
                "{} {release}",
                name(&fixture)
            );
            let found = diagnose(&fixture, &recorded);
            if let Some(file) = recorded["file"].as_str() {
                let place = format!("{file}:{}", recorded["line"]);
                assert_eq!(
                    found.location.as_deref(),
                    Some(place.as_str()),
                    "{}",
                    name(&fixture)
                );
            } else {
                assert_eq!(
                    step,
                    "serve",
                    "{}: only a start has no line of its own",
                    name(&fixture)
                );
            }
        }
    }
    assert!(failures > 50, "{failures}");
}

#[test]
fn r50_the_printed_edits_are_the_fix() {
    let mut edited = 0;
    for fixture in directories(&fixtures("errors")) {
        for (release, recorded) in recordings(&fixture) {
            let found = diagnose(&fixture, &recorded);
            if found.edits.is_empty() {
                continue;
            }
            edited += 1;
            for (file, text) in apply(&fixture.join("broken"), &found.edits) {
                let fixed = std::fs::read_to_string(fixture.join("fixed").join(&file));
                let fixed =
                    fixed.unwrap_or_else(|error| panic!("{} {file}: {error}", name(&fixture)));
                assert_eq!(text, fixed, "{} with {release}", name(&fixture));
            }
        }
    }
    assert!(edited > 30, "{edited}");
}

/// The files that edits change, as they are then.
fn apply(broken: &Path, edits: &[Edit]) -> BTreeMap<String, String> {
    let mut files: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
    for edit in edits {
        let lines = files.entry(edit.file.clone()).or_insert_with(|| {
            let text = std::fs::read_to_string(broken.join(&edit.file)).unwrap_or_default();
            text.lines().map(|line| Some(line.to_owned())).collect()
        });
        match edit.line {
            None => lines.push(edit.new.clone()),
            Some(line) => {
                let line = &mut lines[usize::try_from(line).unwrap() - 1];
                assert_eq!(*line, edit.old);
                line.clone_from(&edit.new);
            }
        }
    }
    files
        .into_iter()
        .map(|(file, lines)| {
            let text: String = lines
                .into_iter()
                .flatten()
                .map(|line| line + "\n")
                .collect();
            (file, text)
        })
        .collect()
}

/// The list of well-known errors that the catalogue follows.
#[test]
fn r50_every_row_has_an_entry_or_a_reason() {
    let known: Vec<&str> = catalogue::entries()
        .flat_map(|entry| entry.rows)
        .copied()
        .chain(NO_ERRORS.iter().map(|(row, ..)| *row))
        .collect();
    let rows = (1..=30).map(|n| format!("E{n}"));
    let more = [1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14].map(|n| format!("X{n}"));
    for row in rows.chain(more) {
        assert!(
            known.contains(&row.as_str()),
            "{row} has neither an entry nor a reason"
        );
    }
}

/// Logs of servers that are well, recorded from real releases.
#[test]
fn r52_noise_never_triggers_a_diagnosis() {
    let mut logs = 0;
    for server in directories(&fixtures("healthy")) {
        let recorded = server.join("recorded.log");
        let text = std::fs::read_to_string(&recorded)
            .unwrap_or_else(|error| panic!("{}: {error}", recorded.display()));
        let log: Vec<String> = text.lines().map(str::to_owned).collect();
        assert!(!log.is_empty(), "{}", server.display());
        logs += 1;
        let evidence = Evidence::default();
        for exit in [0, 3] {
            let found = super::exited(exit, false, 0, &log, &evidence);
            assert_eq!(found.code, "exited", "{}: {found:?}", server.display());
        }
        // What a failed request is explained with: only what was logged since it serves.
        let serving = log.iter().position(|line| line == "(serving)");
        let log = &log[serving.expect("the line is recorded") + 1..];
        let answer = ProbeAnswer::Status(503, "", None);
        let found = probe_failed(&answer, "p", log, &evidence);
        assert_eq!(
            found.code,
            "server_error",
            "{}: {found:?}",
            server.display()
        );
    }
    assert_eq!(logs, 20);
}
