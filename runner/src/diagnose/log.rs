//! Exceptions in a log, where the launcher told nothing: a request that failed, a process that
//! ended.

use super::evidence::{Event, Evidence, explain};
use super::text::telling_lines;
use crate::protocol::Diagnosis;

/// How many of the last lines are searched: the traceback of one request and what leads to it.
const SEARCHED_LINES: usize = 60;

/// What the SDK logs before the text of an exception that it answers with an error.
const SWALLOWED: &str = "Failed to validate request: ";

/// The newest line that names an exception which is known.
pub fn any_exception(tail: &[String], evidence: &Evidence<'_>) -> Option<Diagnosis> {
    telling_lines(tail)
        .take(SEARCHED_LINES)
        .find_map(|line| known(line, evidence))
}

/// The exception that the log ends with, where it is known: that is what ended the process.
pub fn last_exception(tail: &[String], evidence: &Evidence<'_>) -> Option<Diagnosis> {
    known(telling_lines(tail).next()?, evidence)
}

fn known(line: &str, evidence: &Evidence<'_>) -> Option<Diagnosis> {
    if let Some((_, message)) = line.split_once(SWALLOWED) {
        return explain(Event::Exception("", message), evidence);
    }
    let (class, message) = line.split_once(": ")?;
    let class = class.rsplit('.').next().unwrap_or(class);
    let looks_like_class = class.chars().next().is_some_and(char::is_uppercase)
        && class.chars().all(|c| c.is_alphanumeric() || c == '_');
    looks_like_class
        .then(|| explain(Event::Exception(class, message), evidence))
        .flatten()
}
