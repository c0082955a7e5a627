//! Exit codes, the same for every command.

use std::process::ExitCode;

/// Shown at the end of `berth --help`.
pub const CODES: &str = "Exit codes: 0 done, 1 failed, 2 usage, 3 not signed in, 4 not found.";

/// A failure with a code of its own. Every other error is a 1.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command cannot be meant like this.
    #[error("{0}")]
    Usage(String),
    /// Nobody is signed in, or no longer.
    #[error("{0}")]
    NotSignedIn(String),
    /// What was named is not there.
    #[error("{0}")]
    NotFound(String),
}

/// The code of an error.
pub fn code(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(match error.downcast_ref() {
        None => 1,
        Some(Failure::Usage(_)) => 2,
        Some(Failure::NotSignedIn(_)) => 3,
        Some(Failure::NotFound(_)) => 4,
    })
}
