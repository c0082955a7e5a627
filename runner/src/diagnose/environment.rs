//! Diagnoses of installing dependencies.

use serde::Deserialize;

use super::evidence::{Event, Evidence, explain, found};
use super::{Code, requirement, unknown_failure};
use crate::protocol::Diagnosis;

/// Most characters of the resolver's explanation in a cause; the whole of it is in the log.
const MAX_EXPLANATION_CHARS: usize = 320;

/// The build program's `{"phase":"fail",…}` line.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct EnvironmentFailure {
    /// `resolve`, `install`, `compile`.
    pub step: String,
    /// `no_solution`, `not_found`, `build_failed`, …
    pub code: String,
    /// The installer's own words, often several lines.
    pub message: String,
    /// The package it is about.
    pub package: Option<String>,
}

/// From the build program's report to what the owner reads.
pub fn from_environment_failure(fail: &EnvironmentFailure, evidence: &Evidence<'_>) -> Diagnosis {
    let words = words(&fail.message);
    explain(
        Event::Build(&fail.code, &words),
        &Evidence {
            values: &[
                ("why", cut(&words)),
                (
                    "package",
                    fail.package
                        .clone()
                        .unwrap_or_else(|| "a package".to_owned()),
                ),
                ("file", requirement::named(evidence.dependencies).to_owned()),
                ("limit", in_mib(crate::limits::BUILD_MEMORY_BYTES)),
            ],
            ..*evidence
        },
    )
    .unwrap_or_else(|| {
        let tail: Vec<String> = fail.message.lines().map(str::to_owned).collect();
        unknown_failure("Installing the dependencies", &tail)
    })
}

/// The build took longer than it may.
pub fn build_timeout(seconds: u64) -> Diagnosis {
    found(Code::BuildTimeout, &[("seconds", seconds.to_string())])
}

/// The kernel ended the build because it used more than its memory, in bytes.
pub fn build_out_of_memory(limit: i64) -> Diagnosis {
    found(Code::BuildOutOfMemory, &[("limit", in_mib(limit))])
}

/// A build wrote more than it may, in bytes.
pub fn build_too_large(limit: u64) -> Diagnosis {
    super::diagnosis(
        Code::BuildDiskFull,
        format!(
            "The build wrote more than {} MiB and was ended.",
            limit >> 20
        ),
        "Install fewer or smaller packages and have commands write less; in a Dockerfile, remove what a step only needs itself within that step.",
    )
}

/// A build made too many files, or left too little of the disk.
pub fn build_used_up_disk() -> Diagnosis {
    super::diagnosis(
        Code::BuildDiskFull,
        "The build was ended since it made millions of files or left too little room on the disk.",
        "Install fewer or smaller packages and have commands write less; if that is not it, ask the operator to make room.",
    )
}

fn in_mib(bytes: i64) -> String {
    format!("{} MiB", bytes / crate::limits::MIB)
}

/// An installer's explanation in one line: without its ornaments, cut at a word.
pub(super) fn explanation(message: &str) -> String {
    cut(&words(message))
}

/// An installer's explanation in one line, without its ornaments.
fn words(message: &str) -> String {
    message
        .split_whitespace()
        .filter(|word| !matches!(*word, "×" | "╰─▶" | "├─▶" | "│" | "error:"))
        .collect::<Vec<&str>>()
        .join(" ")
}

/// Its beginning, cut at a word.
fn cut(words: &str) -> String {
    let mut text = String::new();
    for word in words.split(' ') {
        if text.chars().count() + word.chars().count() > MAX_EXPLANATION_CHARS {
            text.push('…');
            break;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
    text.trim_end_matches(['.', ':']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnose(line: &str) -> Diagnosis {
        let fail: EnvironmentFailure =
            serde_json::from_str(line).expect("the build program's line");
        let evidence = Evidence {
            dependencies: Some("requirements.txt"),
            ..Evidence::default()
        };
        from_environment_failure(&fail, &evidence)
    }

    #[test]
    fn contradictions_are_quoted_without_ornaments() {
        let found = diagnose(
            r#"{"step":"resolve","code":"no_solution","message":"  × No solution found when resolving dependencies:\n  ╰─▶ Because you require mcp==1.30.0 and mcp==2.3.0, we can conclude that your requirements are unsatisfiable.","package":null}"#,
        );
        assert_eq!(found.code, "dependencies_unresolvable");
        assert_eq!(
            found.cause,
            "The dependencies cannot be installed together: No solution found when resolving dependencies: Because you require mcp==1.30.0 and mcp==2.3.0, we can conclude that your requirements are unsatisfiable."
        );
        assert!(found.fix.contains("requirements.txt"));
    }

    #[test]
    fn every_code_of_the_build_program_has_its_diagnosis() {
        for (code, expected) in [
            ("not_found", "dependency_not_found"),
            ("build_failed", "dependency_build_failed"),
            ("network", "registry_unreachable"),
            ("disk", "build_disk_full"),
            ("out_of_memory", "build_out_of_memory"),
            ("python_version", "dependency_python_conflict"),
            ("lock_outdated", "lock_outdated"),
            ("hash_mismatch", "dependency_hash_mismatch"),
            ("git_missing", "dependency_from_git"),
            ("missing_file", "dependency_file_not_found"),
            ("invalid_requirement", "requirement_invalid"),
            ("unknown", "unknown_failure"),
            ("from the future", "unknown_failure"),
        ] {
            let found = diagnose(&format!(
                r#"{{"code":"{code}","message":"why","package":"pkg"}}"#
            ));
            assert_eq!(found.code, expected, "{code}");
        }
        assert_eq!(
            diagnose(r#"{"code":"not_found","package":"fastmpc"}"#).cause,
            "The package index has no fastmpc."
        );
    }

    #[test]
    fn builds_that_fail_are_told_apart() {
        let of = |text: &str| {
            let message = serde_json::to_string(text).unwrap();
            diagnose(&format!(
                r#"{{"code":"build_failed","message":{message},"package":"pkg"}}"#
            ))
        };
        assert_eq!(
            of("error: command 'gcc' failed: No such file or directory").code,
            "compiler_missing"
        );
        let found = of("Error: pg_config executable not found.");
        assert_eq!(found.code, "build_library_missing");
        assert!(found.cause.contains("pg_config"), "{}", found.cause);
    }
}
