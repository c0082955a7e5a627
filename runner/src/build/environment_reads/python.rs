//! Reads of the environment in Python: `os.environ`, `os.getenv`, and the fields of
//! pydantic-settings where they are simple.

use std::collections::BTreeSet;

use super::Found;
use super::tokens::{Kind, Language, Token, begins, mark_at, name_at, text_at, tokens};
use crate::protocol::Need;

mod settings;

/// Every read in a file.
pub fn reads(text: &str) -> Vec<Found> {
    // Most files read nothing, and need not be taken apart.
    if !text.contains("environ") && !text.contains("getenv") && !text.contains("BaseSettings") {
        return Vec::new();
    }
    let tokens = tokens(text, Language::Python);
    let mut found = Vec::new();
    let mut guarded = BTreeSet::new();
    for at in 0..tokens.len() {
        if let Some(name) = tested(&tokens[at..]) {
            guarded.insert(name.to_owned());
        }
        if !is_part_of_a_name(&tokens, at)
            && let Some(read) = read(&tokens[at..])
        {
            found.push(read);
        }
    }
    for read in &mut found {
        // `if "X" in os.environ` is how code says that it can do without.
        if read.need == Need::Required && guarded.contains(&read.name) {
            read.need = Need::Optional;
        }
    }
    found.extend(settings::fields(&tokens));
    found
}

/// Whether what stands here belongs to a longer name: `self.environ`.
fn is_part_of_a_name(tokens: &[Token], at: usize) -> bool {
    at > 0 && mark_at(tokens, at - 1) == Some('.')
}

/// `"X" in os.environ`
fn tested(tokens: &[Token]) -> Option<&str> {
    let name = text_at(tokens, 0)?;
    let rest = match name_at(tokens, 1)? {
        "in" => &tokens[2..],
        "not" if name_at(tokens, 2) == Some("in") => &tokens[3..],
        _ => return None,
    };
    environ(rest).map(|_| name)
}

/// How many tokens name the environment here.
fn environ(tokens: &[Token]) -> Option<usize> {
    if begins(tokens, &["os", ".", "environ"]) {
        Some(3)
    } else {
        begins(tokens, &["environ"]).then_some(1)
    }
}

fn read(tokens: &[Token]) -> Option<Found> {
    let line = tokens.first()?.line;
    let found = |name: &str, need| Found {
        name: name.to_owned(),
        need,
        line,
    };
    if begins(tokens, &["os", ".", "getenv", "("]) {
        return call(tokens, 4).map(|(name, need)| found(name, need));
    }
    if begins(tokens, &["getenv", "("]) {
        return call(tokens, 2).map(|(name, need)| found(name, need));
    }
    let next = environ(tokens)?;
    if mark_at(tokens, next) == Some('[') {
        let name = text_at(tokens, next + 1)?;
        let closed = mark_at(tokens, next + 2) == Some(']');
        // `os.environ["X"] = …` sets it; `==` compares.
        let sets = mark_at(tokens, next + 3) == Some('=') && mark_at(tokens, next + 4) != Some('=');
        return (closed && !sets).then(|| found(name, Need::Required));
    }
    let method = name_at(tokens, next + 1).filter(|_| mark_at(tokens, next) == Some('.'))?;
    let opened = mark_at(tokens, next + 2) == Some('(');
    let (name, need) = call(tokens, next + 3).filter(|_| opened)?;
    match method {
        "get" => Some(found(name, need)),
        "pop" if need == Need::Optional => Some(found(name, Need::Required)),
        "pop" | "setdefault" => Some(found(name, Need::Default)),
        _ => None,
    }
}

/// The first argument of a call, and whether a second one says what to take instead.
fn call(tokens: &[Token], at: usize) -> Option<(&str, Need)> {
    let name = text_at(tokens, at)?;
    match mark_at(tokens, at + 1)? {
        ')' => {
            // `os.getenv("X") or …`
            let or = name_at(tokens, at + 2) == Some("or");
            Some((name, if or { Need::Default } else { Need::Optional }))
        }
        ',' => {
            let value = match name_at(tokens, at + 2) {
                Some("default") if mark_at(tokens, at + 3) == Some('=') => at + 4,
                _ => at + 2,
            };
            let none = name_at(tokens, value) == Some("None");
            let empty = matches!(&tokens.get(value)?.kind, Kind::Mark(')'));
            Some((
                name,
                if none || empty {
                    Need::Optional
                } else {
                    Need::Default
                },
            ))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(String, Need, usize)> {
        reads(text)
            .into_iter()
            .map(|read| (read.name, read.need, read.line))
            .collect()
    }

    #[test]
    fn every_way_to_read_is_known() {
        use Need::{Default, Optional, Required};
        for (text, need) in [
            ("os.environ['A']", Required),
            ("os.environ[\"A\"].strip()", Required),
            ("x = environ['A'] == 'b'", Required),
            ("os.environ.pop('A')", Required),
            ("os.environ.get('A')", Optional),
            ("os.environ.get('A', None)", Optional),
            ("os.getenv('A')", Optional),
            ("getenv('A')", Optional),
            ("os.getenv('A', 'b')", Default),
            ("os.getenv(\n    'A',\n    default='b',\n)", Default),
            ("os.environ.get('A', default=f'{x}')", Default),
            ("os.getenv('A') or 'b'", Default),
            ("os.environ.setdefault('A', 'b')", Default),
        ] {
            assert_eq!(found(text), [("A".to_owned(), need, 1)], "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_a_read_is_none() {
        for text in [
            "os.environ['A'] = 'b'",
            "# os.environ['A']",
            "'''os.environ['A']'''",
            "text = \"os.getenv('A')\"",
            "self.environ['A']",
            "request.environ.get('A')",
            "os.environ[name]",
            "os.environ[f'{a}_B']",
            "os.environ.items()",
            "os.environ.copy()",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
    }

    #[test]
    fn what_is_tested_first_is_not_required() {
        let text = "if 'A' in os.environ:\n    a = os.environ['A']\nb = os.environ['B']\n";
        assert_eq!(
            found(text),
            [
                ("A".to_owned(), Need::Optional, 2),
                ("B".to_owned(), Need::Required, 3)
            ]
        );
    }
}
