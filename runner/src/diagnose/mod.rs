//! Error → cause → fix, deterministic: one catalogue for everything that can go wrong between a
//! source and a healthy instance, and while it is live.
//!
//! Every [`Diagnosis`] is made here, from an entry of the [`catalogue`], so the catalogue is
//! complete by construction. A cause is one sentence that names the thing; a fix says the next
//! step, and where they can be known the lines to change. What nothing recognises becomes
//! [`Code::UnknownFailure`] with what was last written, and no guess.

pub mod catalogue;
mod code;
mod edit;
pub mod entry;
mod environment;
mod evidence;
mod excluded;
mod instance;
mod launcher;
mod log;
mod node;
mod packages;
#[cfg(test)]
mod pages;
mod pattern;
#[cfg(test)]
mod recorded_tests;
mod requirement;
mod source;
mod text;

pub use code::Code;
pub use environment::{
    EnvironmentFailure, build_out_of_memory, build_timeout, build_too_large, build_used_up_disk,
    from_environment_failure,
};
pub use evidence::Evidence;
pub use excluded::excluded;
pub use instance::{
    ProbeAnswer, Started, crashed, exited, not_listening, probe_failed, refuses_host,
    stopped_answering,
};
pub use launcher::{LauncherFailure, from_launcher_failure};
pub use node::from_node_failure;
pub(crate) use source::{from_archive_refusal, from_fetch_fault};
pub(crate) use text::list;
pub use text::{diagnosis, sentence};

use crate::protocol::Diagnosis;
use evidence::found;
pub(crate) use text::last_lines;

/// The platform's own fault: a full disk, an engine that does not answer. `what` is for people.
pub fn platform_failure(what: impl AsRef<str>) -> Diagnosis {
    found(Code::PlatformFailure, &[("what", what.as_ref().to_owned())])
}

/// What nothing recognises: the last lines as they were, and no guess.
pub fn unknown_failure(doing: &str, tail: &[String]) -> Diagnosis {
    found(
        Code::UnknownFailure,
        &[("doing", doing.to_owned()), ("said", said(tail))],
    )
}

/// The end of a log as the end of a sentence.
fn said(tail: &[String]) -> String {
    match last_lines(tail) {
        last if last.is_empty() => "; it wrote nothing".to_owned(),
        last => format!("; the last lines were: {}", last.trim_end_matches('.')),
    }
}

/// Adds `file:line` of the tenant's source.
fn at(mut diagnosis: Diagnosis, file: Option<&str>, line: Option<u64>) -> Diagnosis {
    diagnosis.location = file.map(|file| {
        let file = sentence(source_path(file));
        line.map_or(file.clone(), |line| format!("{file}:{line}"))
    });
    diagnosis
}

/// A path as the user knows it: the source is mounted at `/app` in instances and builds.
fn source_path(path: &str) -> &str {
    path.strip_prefix("/app/").unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_entry() {
        let mut codes: Vec<&str> = catalogue::entries()
            .map(|entry| entry.code.as_str())
            .collect();
        codes.sort_unstable();
        let mut all: Vec<&str> = code::ALL.iter().map(|code| code.as_str()).collect();
        all.sort_unstable();
        assert_eq!(codes, all);
        codes.dedup();
        assert_eq!(codes.len(), all.len(), "a code twice");
        assert!(
            all.iter()
                .all(|code| code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        );
    }

    #[test]
    fn every_entry_says_how_it_is_recognised_what_it_is_and_what_to_do() {
        for entry in catalogue::entries() {
            let code = entry.code.as_str();
            assert!(!entry.matches.is_empty(), "{code}");
            assert!(
                !entry.title.is_empty() && !entry.title.ends_with('.'),
                "{code}"
            );
            for text in [entry.cause, entry.fix] {
                assert!(text.ends_with('.') || text == "{what}", "{code}: {text}");
            }
        }
    }

    #[test]
    fn unknown_failures_quote_and_do_not_guess() {
        let tail = [
            "first",
            "boom: 7",
            "Cancel 0 running task(s), timeout graceful shutdown exceeded",
            "",
        ]
        .map(str::to_owned);
        let found = unknown_failure("Starting the server", &tail);
        assert_eq!(found.code, "unknown_failure");
        assert_eq!(
            found.cause,
            "Starting the server failed in a way that is not recognised; the last lines were: first | boom: 7."
        );
        assert!(
            unknown_failure("It", &[])
                .cause
                .contains("it wrote nothing")
        );
    }
}
