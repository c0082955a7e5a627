//! Sentences of diagnoses, and the lines of a log that they quote.

use super::code::Code;
use crate::protocol::Diagnosis;

/// Longest cause or fix, in characters: what a page shows without folding. A tenant's exception
/// text ends up in causes, and it can be of any length.
pub const MAX_SENTENCE_CHARS: usize = 600;

/// How many of the last lines a diagnosis quotes.
const LAST_LINES: usize = 3;

/// What well-behaved servers print when they start, stop or lose a client. It never explains a
/// failure, so no diagnosis quotes it or is made from it.
pub const NOISE: &[&str] = &[
    "AuthlibDeprecationWarning",
    "Error in standalone SSE writer",
    "ClosedResourceError",
    "timeout graceful shutdown exceeded",
    "Update available",
    "Tool already exists",
    "Component already exists",
    "Authorization consent screen disabled",
    "DeprecationWarning",
    "@@berth ",
];

/// A diagnosis without a place in the source. Both sentences lose control characters and are cut
/// at [`MAX_SENTENCE_CHARS`], because they often quote what a stranger's code said.
pub fn diagnosis(code: Code, cause: impl AsRef<str>, fix: impl AsRef<str>) -> Diagnosis {
    Diagnosis {
        code: code.as_str().to_owned(),
        cause: sentence(cause.as_ref()),
        fix: sentence(fix.as_ref()),
        location: None,
        edits: Vec::new(),
    }
}

/// The lines that say something, the last one first.
pub fn telling_lines(tail: &[String]) -> impl Iterator<Item = &str> {
    tail.iter()
        .rev()
        .map(|line| line.trim())
        .filter(|line| !line.is_empty() && !is_noise(line))
}

/// The last lines that say something, joined.
pub fn last_lines(tail: &[String]) -> String {
    let mut lines: Vec<&str> = telling_lines(tail).take(LAST_LINES).collect();
    lines.reverse();
    lines.join(" | ")
}

/// Whether a line is one of [`NOISE`].
pub fn is_noise(line: &str) -> bool {
    NOISE.iter().any(|noise| line.contains(noise))
}

/// One line without control characters, at most [`MAX_SENTENCE_CHARS`] long.
pub fn sentence(text: &str) -> String {
    let mut clean = String::with_capacity(text.len().min(MAX_SENTENCE_CHARS));
    let mut space = false;
    let mut length = 0;
    for character in text.trim().chars() {
        if character.is_whitespace() || character.is_control() {
            space = true;
            continue;
        }
        if length >= MAX_SENTENCE_CHARS {
            clean.push('…');
            break;
        }
        if space {
            clean.push(' ');
            length += 1;
            space = false;
        }
        clean.push(character);
        length += 1;
    }
    clean
}

/// `a`, `a and b`, `a, b and c`; the first `most` of them, and how many more there are.
pub fn list(items: &[impl AsRef<str>], most: usize) -> String {
    let shown: Vec<&str> = items.iter().take(most).map(AsRef::as_ref).collect();
    let more = items.len() - shown.len();
    match (shown.as_slice(), more) {
        ([], _) => String::new(),
        ([one], 0) => (*one).to_owned(),
        ([init @ .., last], 0) => format!("{} and {last}", init.join(", ")),
        (all, more) => format!("{} and {more} more", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_lose_control_characters_and_excess() {
        assert_eq!(sentence(" a\n\t b\u{1b}[31m c "), "a b [31m c");
        let long = sentence(&"x".repeat(5_000));
        assert_eq!(long.chars().count(), MAX_SENTENCE_CHARS + 1);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn lists_read_well() {
        let none: [&str; 0] = [];
        assert_eq!(list(&none, 3), "");
        assert_eq!(list(&["a"], 3), "a");
        assert_eq!(list(&["a", "b", "c"], 3), "a, b and c");
        assert_eq!(list(&["a", "b", "c"], 2), "a, b and 1 more");
    }
}
