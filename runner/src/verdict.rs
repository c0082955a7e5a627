//! From what the runner saw to an entry of the catalogue.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::diagnose::{
    self, EnvironmentFailure, LauncherFailure, ProbeAnswer, from_environment_failure,
    from_launcher_failure,
};
use crate::health::ProbeFailure;
use crate::protocol::{Diagnosis, Limits};
use crate::runtime::Exit;
use crate::variables::PORT;

/// 128 + SIGKILL.
const KILLED: i64 = 137;

/// The build program said why. `dependencies` is where they are declared.
pub fn environment_said(account: Value, dependencies: Option<String>) -> Diagnosis {
    match read::<EnvironmentFailure>(account) {
        Ok(failure) => from_environment_failure(&EnvironmentFailure {
            dependencies,
            ..failure
        }),
        Err(text) => diagnose::unknown_failure("Installing the dependencies", &[text]),
    }
}

/// The build program ended without saying why.
pub fn environment_ended(exit: Exit, tail: &[String]) -> Diagnosis {
    if was_memory(exit) {
        return diagnose::out_of_memory(Some(crate::limits::BUILD_MEMORY_BYTES));
    }
    diagnose::unknown_failure("Installing the dependencies", tail)
}

/// The launcher said why. `dependencies` is where they are declared.
pub fn launcher_said(account: Value, dependencies: Option<String>) -> Diagnosis {
    match read::<LauncherFailure>(account) {
        Ok(failure) => from_launcher_failure(&LauncherFailure {
            dependencies,
            ..failure
        }),
        Err(text) => diagnose::unknown_failure("Starting the server", &[text]),
    }
}

/// The instance ended without saying why.
pub fn instance_ended(exit: Exit, tail: &[String], limits: &Limits) -> Diagnosis {
    if was_memory(exit) {
        return diagnose::out_of_memory(Some(limits.memory_bytes));
    }
    diagnose::exited(Some(exit.code), false, tail)
}

/// The probe was not answered as an MCP server does.
pub fn probe_said(failure: &ProbeFailure, host: &str, tail: &[String]) -> Diagnosis {
    let answer = match failure {
        ProbeFailure::Status {
            status, excerpt, ..
        } => ProbeAnswer::Status(*status, excerpt),
        ProbeFailure::Refused { code, message, .. } => ProbeAnswer::Refused(*code, message),
        ProbeFailure::NotMcp { excerpt, .. } => ProbeAnswer::NotMcp(excerpt),
        ProbeFailure::Timeout { .. } => ProbeAnswer::Silent,
        ProbeFailure::Connection { message } => ProbeAnswer::Broken(message),
    };
    diagnose::probe_failed(&answer, host, tail)
}

/// The instance did not answer in time. `imported` says that its code was loaded.
pub fn too_late(seconds: u64, imported: bool, tail: &[String]) -> Diagnosis {
    if imported {
        diagnose::port_never_opened(PORT, seconds, tail)
    } else {
        diagnose::start_timeout(seconds, tail)
    }
}

/// Whether its memory was the reason. Not every kernel tells the engine, and nobody else kills
/// what the runner does not: a kill that is not told is taken for that.
fn was_memory(exit: Exit) -> bool {
    exit.out_of_memory || exit.code == KILLED
}

/// A tenant can print such lines too, so one that cannot be read is only text.
fn read<T: DeserializeOwned>(account: Value) -> Result<T, String> {
    let text = account["message"].as_str().unwrap_or_default().to_owned();
    serde_json::from_value(account).map_err(|_| text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn accounts_are_read_and_nonsense_is_only_text() {
        let account = json!({"phase": "fail", "step": "import", "exception": "ModuleNotFoundError",
            "message": "No module named 'x'", "file": "main.py", "line": 3, "candidates": []});
        let found = launcher_said(account, Some("requirements.txt".into()));
        assert_eq!(found.code, "import_error");
        assert_eq!(found.location.as_deref(), Some("main.py:3"));
        let nonsense = launcher_said(json!({"step": 7, "message": "hm"}), None);
        assert_eq!(nonsense.code, "unknown_failure");
        assert!(nonsense.cause.contains("hm"));
        let found = environment_said(json!({"step": "resolve", "code": "no_solution"}), None);
        assert_eq!(found.code, "dependencies_unresolvable");
    }

    #[test]
    fn memory_comes_before_exit_codes() {
        let exit = Exit {
            code: 137,
            out_of_memory: true,
        };
        assert_eq!(environment_ended(exit, &[]).code, "out_of_memory");
    }
}
