//! Reads of the environment in JavaScript and TypeScript: `process.env`.

use super::Found;
use super::tokens::{Kind, Language, Token, begins, mark_at, name_at, text_at, tokens};
use crate::protocol::Need;

/// Every read in a file.
pub fn reads(text: &str) -> Vec<Found> {
    if !text.contains("process") && !text.contains("Deno.env") {
        return Vec::new();
    }
    let tokens = tokens(text, Language::JavaScript);
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        if !begins(&tokens[at..], &["process", ".", "env"]) {
            continue;
        }
        let line = tokens[at].line;
        if let Some((name, next)) = member(&tokens, at + 3) {
            if !sets(&tokens, next) {
                found.push(Found {
                    name: name.to_owned(),
                    need: need(&tokens, next),
                    line,
                });
            }
        } else {
            found.extend(taken_apart(&tokens, at));
        }
    }
    found
}

/// `.X`, `?.X` or `["X"]`, and where it ends.
fn member(tokens: &[Token], at: usize) -> Option<(&str, usize)> {
    match mark_at(tokens, at)? {
        '.' => Some((name_at(tokens, at + 1)?, at + 2)),
        '?' if mark_at(tokens, at + 1) == Some('.') => Some((name_at(tokens, at + 2)?, at + 3)),
        '[' if mark_at(tokens, at + 2) == Some(']') => Some((text_at(tokens, at + 1)?, at + 3)),
        _ => None,
    }
}

/// `process.env.X = …`, and not `==`.
fn sets(tokens: &[Token], at: usize) -> bool {
    mark_at(tokens, at) == Some('=') && mark_at(tokens, at + 1) != Some('=')
}

/// `??` and `||` say what to take instead; `!` says that it is there (TypeScript). A plain read may
/// be checked anywhere.
fn need(tokens: &[Token], at: usize) -> Need {
    let two = (mark_at(tokens, at), mark_at(tokens, at + 1));
    match two {
        (Some('?'), Some('?')) | (Some('|'), Some('|')) => Need::Default,
        (Some('!'), Some('=')) => Need::Optional,
        (Some('!'), _) => Need::Required,
        _ => Need::Optional,
    }
}

/// `const { A, B: b, C = "c" } = process.env`
fn taken_apart(tokens: &[Token], at: usize) -> Vec<Found> {
    let before = |back: usize| at.checked_sub(back).and_then(|at| mark_at(tokens, at));
    if before(1) != Some('=') || before(2) != Some('}') {
        return Vec::new();
    }
    let close = at - 2;
    let Some(open) = (0..close)
        .rev()
        .find(|at| mark_at(tokens, *at) == Some('{'))
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for part in tokens[open + 1..close].split(|token| token.kind == Kind::Mark(',')) {
        if let Some(name) = name_at(part, 0) {
            let default = part.iter().any(|token| token.kind == Kind::Mark('='));
            found.push(Found {
                name: name.to_owned(),
                need: if default {
                    Need::Default
                } else {
                    Need::Optional
                },
                line: part[0].line,
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(String, Need)> {
        reads(text)
            .into_iter()
            .map(|read| (read.name, read.need))
            .collect()
    }

    #[test]
    fn every_way_to_read_is_known() {
        use Need::{Default, Optional, Required};
        for (text, need) in [
            ("process.env.A", Optional),
            ("const a = process.env['A'];", Optional),
            ("process.env?.A", Optional),
            ("if (process.env.A !== 'b') {}", Optional),
            ("if (process.env.A == null) {}", Optional),
            ("const a = process.env.A!;", Required),
            ("process.env.A!.length", Required),
            ("process.env.A ?? 'b'", Default),
            ("process.env.A || 'b'", Default),
            ("const { A } = process.env;", Optional),
            ("const { A: a } = process.env;", Optional),
            ("const { A = 'b' } = process.env;", Default),
        ] {
            assert_eq!(found(text), [("A".to_owned(), need)], "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_a_read_is_none() {
        for text in [
            "process.env.A = 'b'",
            "// process.env.A",
            "'process.env.A'",
            "`process.env.A`",
            "process.env[name]",
            "const env = process.env",
            "{ ...process.env }",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
    }
}
