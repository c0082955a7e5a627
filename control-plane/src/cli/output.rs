//! What commands print: sentences for people, or one JSON document.

use std::io::{self, Write as _};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::exit;

/// How to print.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    /// JSON as the last line, or text.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether a document is wanted.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Prints the result: `document`, or what `text` says.
    pub fn result(self, document: &Value, text: impl FnOnce() -> String) {
        if self.json {
            line(&document.to_string());
        } else {
            let text = text();
            if !text.is_empty() {
                line(&text);
            }
        }
    }

    /// Prints an error and says how to exit.
    pub fn failure(self, error: &anyhow::Error) -> ExitCode {
        let sentence = format!("{error:#}");
        if self.json {
            line(&json!({ "error": sentence }).to_string());
        }
        note(&format!("berth: {sentence}"));
        exit::code(error)
    }
}

/// One line on stdout. A reader that has gone away (`| head`) is no failure.
pub fn line(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{}", harmless(text));
}

/// One line on stderr, beside the result.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", harmless(text));
}

/// Without what would steer a terminal: much of what is shown was written by servers.
fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// Lines with their columns under each other.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let lines = rows.iter().map(|row| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A text member of a document, or `-`.
pub fn text<'a>(document: &'a Value, name: &str) -> &'a str {
    document[name].as_str().unwrap_or("-")
}

/// The first characters of a commit or content hash.
pub fn short(commit: &str) -> &str {
    commit.get(..8).unwrap_or(commit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(
            harmless("a\tb\n\x1b[31mc\u{9b}d"),
            "a\tb\n\u{fffd}[31mc\u{fffd}d"
        );
    }

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [
            vec!["NAME".into(), "URL".into()],
            vec!["a".into(), "http://a".into()],
        ];
        assert_eq!(table(&rows), "NAME  URL\na     http://a");
        assert_eq!(table(&[]), "");
    }
}
