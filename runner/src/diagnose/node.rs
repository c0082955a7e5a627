//! Diagnoses of installing and building Node projects.

use super::environment::explanation;
use super::{Code, EnvironmentFailure, diagnosis, unknown_failure};
use crate::protocol::Diagnosis;

/// From the build program's report to what the owner reads. `lock` is the lock file's name.
pub fn from_node_failure(fail: &EnvironmentFailure, lock: &str) -> Diagnosis {
    let why = explanation(&fail.message);
    let package = fail.package.as_deref().unwrap_or("a package");
    match fail.code.as_str() {
        "script_failed" => diagnosis(
            Code::BuildScriptFailed,
            format!(
                "The script {} failed: {why}.",
                fail.package.as_deref().unwrap_or("build")
            ),
            "Run it where you develop after a clean install, correct what it names, and deploy again.",
        ),
        "lock_outdated" => diagnosis(
            Code::LockOutdated,
            format!("{lock} does not match package.json."),
            format!("Install once where you develop, commit {lock}, and deploy again."),
        ),
        "not_found" => diagnosis(
            Code::DependencyNotFound,
            format!(
                "The package registry has no {}.",
                fail.package.as_deref().unwrap_or("package of that name")
            ),
            "Correct the package's name; a private package needs a registry that this platform's builds can read.",
        ),
        "no_version" => diagnosis(
            Code::DependencyVersionNotFound,
            format!("The package registry has no such version: {why}."),
            "Ask for a version that was published.",
        ),
        "no_solution" => diagnosis(
            Code::DependenciesUnresolvable,
            format!("The packages contradict each other: {why}."),
            "Change the versions that contradict each other, or commit a lock file that was made with --legacy-peer-deps.",
        ),
        "hash_mismatch" => diagnosis(
            Code::DependencyHashMismatch,
            format!("The file of a package is not the one that {lock} expects: {why}."),
            "Lock again if the package was published anew on purpose; otherwise find out who changed it.",
        ),
        "build_failed" => diagnosis(
            Code::DependencyBuildFailed,
            format!(
                "{package} has no ready-made binary for this platform and could not be built: {why}."
            ),
            "Choose a release of it that has one; there is no compiler here.",
        ),
        "git_failed" => diagnosis(
            Code::DependencyBuildFailed,
            format!("A package from a Git repository could not be fetched: {why}."),
            "Depend on a released version, or make sure that the repository is public.",
        ),
        "engine" => diagnosis(
            Code::NodeVersionUnavailable,
            format!("A package needs another Node: {why}."),
            "Choose another release of it, or ask for a Node that it supports in engines.node.",
        ),
        "network" => diagnosis(
            Code::RegistryUnreachable,
            format!("The package registry could not be reached: {why}."),
            "Deploy again in a few minutes; if it stays, ask the operator whether builds can reach the registry.",
        ),
        "disk" => diagnosis(
            Code::BuildDiskFull,
            "The disk for builds is full.",
            "Ask the operator to make room, or depend on fewer large packages.",
        ),
        "invalid_manifest" => diagnosis(
            Code::ConfigurationInvalid,
            format!("package.json cannot be understood: {why}."),
            "Correct what it names and deploy again.",
        ),
        _ if why.is_empty() => unknown_failure("Installing the packages", &[]),
        _ => diagnosis(
            Code::UnknownFailure,
            format!("Installing the packages failed: {why}."),
            "Read the build's log, correct what it names, and deploy again.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_diagnosis() {
        for (code, expected) in [
            ("script_failed", "build_script_failed"),
            ("lock_outdated", "lock_outdated"),
            ("not_found", "dependency_not_found"),
            ("no_version", "dependency_version_not_found"),
            ("no_solution", "dependencies_unresolvable"),
            ("hash_mismatch", "dependency_hash_mismatch"),
            ("build_failed", "dependency_build_failed"),
            ("git_failed", "dependency_build_failed"),
            ("engine", "node_version_unavailable"),
            ("network", "registry_unreachable"),
            ("disk", "build_disk_full"),
            ("invalid_manifest", "configuration_invalid"),
            ("from the future", "unknown_failure"),
        ] {
            let fail = EnvironmentFailure {
                code: code.to_owned(),
                message: "why".to_owned(),
                package: Some("left-pad".to_owned()),
                ..EnvironmentFailure::default()
            };
            let found = from_node_failure(&fail, "package-lock.json");
            assert_eq!(found.code, expected, "{code}");
        }
    }
}
