//! From what the runner saw to an entry of the catalogue.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::diagnose::{
    self, EnvironmentFailure, Evidence, LauncherFailure, ProbeAnswer, from_environment_failure,
    from_launcher_failure,
};
use crate::health::ProbeFailure;
use crate::protocol::{Diagnosis, Limits};
use crate::runtime::Exit;

/// 128 + SIGKILL.
const KILLED: i64 = 137;

/// The build program said why.
pub fn environment_said(account: Value, known: &Evidence<'_>) -> Diagnosis {
    match read::<EnvironmentFailure>(account) {
        Ok(failure) => from_environment_failure(&failure, known),
        Err(text) => diagnose::unknown_failure("Installing the dependencies", &[text]),
    }
}

/// The build program ended without saying why. Not every kernel tells the engine about memory,
/// and nobody else kills what the runner does not: a kill that is not told is taken for that.
pub fn environment_ended(exit: Exit, tail: &[String]) -> Diagnosis {
    if exit.out_of_memory || exit.code == KILLED {
        return diagnose::build_out_of_memory(crate::limits::BUILD_MEMORY_BYTES);
    }
    diagnose::unknown_failure("Installing the dependencies", tail)
}

/// The launcher said why.
pub fn launcher_said(account: Value, known: &Evidence<'_>) -> Diagnosis {
    match read::<LauncherFailure>(account) {
        Ok(failure) => from_launcher_failure(&failure, known),
        Err(text) => diagnose::unknown_failure("Starting the server", &[text]),
    }
}

/// The instance ended without saying why.
pub fn instance_ended(
    exit: Exit,
    tail: &[String],
    limits: &Limits,
    known: &Evidence<'_>,
) -> Diagnosis {
    diagnose::exited(
        exit.code,
        exit.out_of_memory,
        limits.memory_bytes,
        tail,
        known,
    )
}

/// The instance ended while it was live, for the `times`th time in a row.
pub fn live_ended(exit: Exit, tail: &[String], limits: &Limits, times: u32) -> Diagnosis {
    diagnose::crashed(
        exit.code,
        exit.out_of_memory,
        limits.memory_bytes,
        times,
        tail,
    )
}

/// The probe was not answered as an MCP server does.
pub fn probe_said(
    failure: &ProbeFailure,
    host: &str,
    tail: &[String],
    known: &Evidence<'_>,
) -> Diagnosis {
    let answer = match failure {
        ProbeFailure::Status {
            status, excerpt, ..
        } => ProbeAnswer::Status(*status, excerpt, None),
        ProbeFailure::Elsewhere { status, path } => ProbeAnswer::Status(*status, "", Some(path)),
        ProbeFailure::Refused {
            method,
            code,
            message,
        } => ProbeAnswer::Refused(method, *code, message),
        ProbeFailure::NotMcp { excerpt, .. } => ProbeAnswer::NotMcp(excerpt),
        ProbeFailure::Timeout { .. } => ProbeAnswer::Silent,
        ProbeFailure::Connection { message } => ProbeAnswer::Broken(message),
    };
    diagnose::probe_failed(&answer, host, tail, known)
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
        let found = launcher_said(account, &Evidence::default());
        assert_eq!(found.code, "package_missing");
        assert_eq!(found.location.as_deref(), Some("main.py:3"));
        let nonsense = launcher_said(json!({"step": 7, "message": "hm"}), &Evidence::default());
        assert_eq!(nonsense.code, "unknown_failure");
        assert!(nonsense.cause.contains("hm"));
        let found = environment_said(
            json!({"step": "resolve", "code": "no_solution"}),
            &Evidence::default(),
        );
        assert_eq!(found.code, "dependencies_unresolvable");
    }

    #[test]
    fn memory_comes_before_exit_codes() {
        let exit = Exit {
            code: 137,
            out_of_memory: true,
        };
        assert_eq!(environment_ended(exit, &[]).code, "build_out_of_memory");
    }
}
