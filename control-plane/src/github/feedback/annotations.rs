//! Annotations of a check: a diagnosis and missing variables, at the lines that they are about.

use runner::protocol::{Diagnosis, Edit};
use serde_json::{Value, json};

use super::facts::Deployed;
use super::markdown::quiet;
use super::summary::without_log;

/// The most in one request (GitHub's documentation, "Create a check run").
const MOST: usize = 50;

/// Longest title, characters; GitHub takes 255.
const MAX_TITLE: usize = 100;

/// Longest message and detail, characters; GitHub takes 64 KiB.
const MAX_MESSAGE: usize = 1_500;

/// Longest path.
const MAX_PATH: usize = 500;

/// Codes of diagnoses whose places begin at the root directory although the plan was made: those that
/// name the Dockerfile.
const AT_ROOT: [&str; 4] = [
    "dockerfile_invalid",
    "base_image_unavailable",
    "copy_source_missing",
    "dockerfile_step_failed",
];

/// What is said at lines of the source.
pub fn annotations(deployed: &Deployed) -> Vec<Value> {
    let mut all = Vec::new();
    if let Some(diagnosis) = &deployed.diagnosis {
        all.extend(of_diagnosis(deployed, diagnosis));
    }
    let level = if deployed.has_failed() {
        "failure"
    } else {
        "warning"
    };
    for (name, places) in &deployed.missing {
        let message = format!(
            "The code reads {} here and does not go on without, and it is not set.",
            quiet(name, MAX_TITLE)
        );
        let title = format!("{} is not set", quiet(name, MAX_TITLE));
        all.extend(places.iter().filter_map(|place| {
            let (path, line) = located(deployed, "", place)?;
            Some(annotation(&path, line, level, &title, &message))
        }));
    }
    all.truncate(MOST);
    all
}

fn of_diagnosis(deployed: &Deployed, diagnosis: &Diagnosis) -> Vec<Value> {
    let title = words(&diagnosis.code);
    let message = format!("{} {}", without_log(&diagnosis.cause), diagnosis.fix);
    let message = quiet(&message, MAX_MESSAGE);
    let mut all = Vec::new();
    if let Some((path, line)) = diagnosis
        .location
        .as_deref()
        .and_then(|place| located(deployed, &diagnosis.code, place))
    {
        all.push(annotation(&path, line, "failure", &title, &message));
    }
    for edit in &diagnosis.edits {
        let Some(path) = in_repository(deployed, &diagnosis.code, &edit.file) else {
            continue;
        };
        let line = edit.line.unwrap_or(1).max(1);
        let at_same = |one: &Value| one["path"] == *path && one["start_line"] == line;
        if let Some(there) = all.iter_mut().find(|one| at_same(one)) {
            there["raw_details"] = json!(details(edit));
            continue;
        }
        let mut more = annotation(&path, line, "failure", &title, &message);
        more["raw_details"] = json!(details(edit));
        all.push(more);
    }
    all
}

fn annotation(path: &str, line: u64, level: &str, title: &str, message: &str) -> Value {
    json!({
        "path": path, "start_line": line, "end_line": line, "annotation_level": level,
        "title": title, "message": message,
    })
}

/// The change, as GitHub shows it below the message: word for word.
fn details(edit: &Edit) -> String {
    let cut = |text: &str| -> String { text.chars().take(MAX_MESSAGE).collect() };
    let old = edit.old.iter().map(|line| format!("- {}", cut(line)));
    let new = edit
        .new
        .iter()
        .flat_map(|text| text.lines().take(20))
        .map(|line| format!("+ {}", cut(line)));
    old.chain(new).collect::<Vec<_>>().join("\n")
}

/// A code as words: `syntax_error`.
pub fn words(code: &str) -> String {
    let plain = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_';
    code.chars()
        .filter(plain)
        .take(MAX_TITLE)
        .map(|c| if c == '_' { ' ' } else { c })
        .collect()
}

/// A `file:line`, or a file, as path in the repository and line.
fn located(deployed: &Deployed, code: &str, place: &str) -> Option<(String, u64)> {
    let (file, line) = match place.rsplit_once(':') {
        Some((file, line)) if line.bytes().all(|b| b.is_ascii_digit()) => {
            (file, line.parse().unwrap_or(1))
        }
        _ => (place, 1),
    };
    // GitHub's lines are 32 bits wide.
    let line = u64::clamp(line, 1, i32::MAX as u64);
    Some((in_repository(deployed, code, file)?, line))
}

/// A path from the top of the repository. What is found while a plan is made begins at the project's
/// root directory, what is found later at the top; see `runner/src/diagnose/`.
fn in_repository(deployed: &Deployed, code: &str, file: &str) -> Option<String> {
    let from_top = deployed.it.plan.is_some() && !AT_ROOT.contains(&code);
    path(&deployed.root, from_top, file)
}

fn path(root: &str, from_top: bool, file: &str) -> Option<String> {
    let file = file.trim().trim_start_matches("./");
    let is_name = |part: &str| !matches!(part, "" | "." | "..");
    let sane = file.len() <= MAX_PATH
        && !file.starts_with(['<', '~'])
        && !file.contains(|c: char| c == '\\' || c.is_control())
        && file.split('/').all(is_name);
    if !sane {
        return None;
    }
    let root = root.trim_start_matches("./").trim_matches('/');
    if root.is_empty() || from_top || file.starts_with(&format!("{root}/")) {
        return Some(file.to_owned());
    }
    Some(format!("{root}/{file}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_at_the_top_of_the_repository() {
        for (root, from_top, file, expected) in [
            ("", false, "main.py", Some("main.py")),
            ("services/a", false, "main.py", Some("services/a/main.py")),
            (
                "./services/a/",
                false,
                "./main.py",
                Some("services/a/main.py"),
            ),
            (
                "services/a",
                false,
                "services/a/main.py",
                Some("services/a/main.py"),
            ),
            ("services/a", true, "shared/x.py", Some("shared/x.py")),
            ("", true, "/usr/lib/python3/x.py", None),
            ("", true, "../x.py", None),
            ("", true, "a//b.py", None),
            ("", true, "<string>", None),
            ("", true, "a\u{0}b", None),
            ("", true, "", None),
        ] {
            let found = path(root, from_top, file);
            assert_eq!(found.as_deref(), expected, "{root} {file}");
        }
        assert_eq!(path("", true, &"x".repeat(MAX_PATH + 1)), None);
    }
}
