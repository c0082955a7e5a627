//! Diagnoses of installing dependencies.

use serde::Deserialize;

use super::{Code, diagnosis, unknown_failure};
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
    /// Where the dependencies come from (`Plan::dependencies`), set by the runner.
    #[serde(skip)]
    pub dependencies: Option<String>,
}

impl EnvironmentFailure {
    fn file(&self) -> &str {
        match self.dependencies.as_deref() {
            Some(file) if !file.contains(' ') => file,
            _ => "the dependency file",
        }
    }
}

/// From the build program's report to what the owner reads.
pub fn from_environment_failure(fail: &EnvironmentFailure) -> Diagnosis {
    let why = explanation(&fail.message);
    let package = fail.package.as_deref().unwrap_or("a package");
    let file = fail.file();
    match fail.code.as_str() {
        "no_solution" => diagnosis(
            Code::DependenciesUnresolvable,
            format!("The dependencies cannot be installed together: {why}."),
            format!("Loosen the versions in {file} that contradict each other and deploy again."),
        ),
        "not_found" => diagnosis(
            Code::DependencyNotFound,
            format!(
                "The package index has no {}.",
                fail.package.as_deref().unwrap_or("package of that name")
            ),
            format!(
                "Correct the name in {file}; the name to install can differ from the name to import."
            ),
        ),
        "build_failed" => diagnosis(
            Code::DependencyBuildFailed,
            format!(
                "{package} has no ready-made wheel for this Python and could not be built: {why}."
            ),
            "Choose a release of it that has a wheel, or a package ending in -binary; there is no compiler here.",
        ),
        "network" => diagnosis(
            Code::RegistryUnreachable,
            format!("The package index could not be reached: {why}."),
            "Deploy again in a few minutes; if it stays, ask the operator whether builds can reach the index.",
        ),
        "disk" => diagnosis(
            Code::PlatformFailure,
            "The disk for builds is full.",
            "Ask the operator to make room, or depend on fewer large packages.",
        ),
        "python_version" => diagnosis(
            Code::PythonVersionUnavailable,
            format!("The dependencies need another Python: {why}."),
            "Ask for a Python that they support in .python-version or requires-python, or choose other releases.",
        ),
        "lock_outdated" => diagnosis(
            Code::LockOutdated,
            "uv.lock does not match pyproject.toml.",
            "Run `uv lock`, commit uv.lock, and deploy again.",
        ),
        "hash_mismatch" => diagnosis(
            Code::DependenciesUnresolvable,
            format!(
                "The file of {package} that the index gives is not the one that {file} expects."
            ),
            "Lock again if the package was published anew on purpose; otherwise find out who changed it.",
        ),
        "git_missing" => diagnosis(
            Code::DependencyBuildFailed,
            format!(
                "{file} asks for a package straight from a Git repository, and builds have no Git."
            ),
            "Depend on a released version, or on the repository's archive address (…/archive/COMMIT.zip).",
        ),
        "missing_file" => diagnosis(
            Code::DependencyFileNotFound,
            format!("A file that the dependencies name is missing: {why}."),
            "Add the file to the source, or remove its mention.",
        ),
        "invalid_requirement" => diagnosis(
            Code::ConfigurationInvalid,
            format!("{file} cannot be understood: {why}."),
            "Correct the line it names and deploy again.",
        ),
        _ if why.is_empty() => unknown_failure("Installing the dependencies", &[]),
        _ => diagnosis(
            Code::UnknownFailure,
            format!("Installing the dependencies failed: {why}."),
            "Read the build's log, correct what it names, and deploy again.",
        ),
    }
}

/// The build took longer than it may.
pub fn build_timeout(seconds: u64) -> Diagnosis {
    diagnosis(
        Code::BuildTimeout,
        format!("The build took longer than {seconds} seconds."),
        "Deploy again, since what was downloaded is kept; if it stays, depend on fewer or smaller packages.",
    )
}

/// An installer's explanation in one line: without its ornaments, cut at a word.
pub(super) fn explanation(message: &str) -> String {
    let words = message
        .split_whitespace()
        .filter(|word| !matches!(*word, "×" | "╰─▶" | "├─▶" | "│" | "error:"));
    let mut text = String::new();
    for word in words {
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
        let mut fail: EnvironmentFailure =
            serde_json::from_str(line).expect("the build program's line");
        fail.dependencies = Some("requirements.txt".to_owned());
        from_environment_failure(&fail)
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
    fn every_code_has_its_diagnosis() {
        for (code, expected) in [
            ("not_found", "dependency_not_found"),
            ("build_failed", "dependency_build_failed"),
            ("network", "registry_unreachable"),
            ("disk", "platform_failure"),
            ("python_version", "python_version_unavailable"),
            ("lock_outdated", "lock_outdated"),
            ("hash_mismatch", "dependencies_unresolvable"),
            ("git_missing", "dependency_build_failed"),
            ("missing_file", "dependency_file_not_found"),
            ("invalid_requirement", "configuration_invalid"),
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
}
