//! Patterns with holes: `No module named '{module}'` is found anywhere in a text, and `{module}`
//! stands for what is between. A hole ends where the next part of the pattern begins, or with its
//! line; `{}` is not kept.

use std::collections::BTreeMap;

/// What the holes of a pattern stand for.
pub type Values = BTreeMap<String, String>;

enum Part<'a> {
    Text(&'a str),
    Hole(&'a str),
}

/// The parts of a pattern. A brace without its partner is text.
fn parts(pattern: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = pattern;
    while let Some((start, end)) = next_hole(rest) {
        if start > 0 {
            parts.push(Part::Text(&rest[..start]));
        }
        parts.push(Part::Hole(&rest[start + 1..end]));
        rest = &rest[end + 1..];
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest));
    }
    parts
}

/// Where the next `{name}` stands: code in a text, such as `{'a'}`, is none.
fn next_hole(text: &str) -> Option<(usize, usize)> {
    text.match_indices('{').find_map(|(start, _)| {
        let end = start + text[start..].find('}')?;
        let name = &text[start + 1..end];
        name.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            .then_some((start, end))
    })
}

/// Finds a pattern in a text.
pub fn find(pattern: &str, text: &str) -> Option<Values> {
    let parts = parts(pattern);
    if parts.is_empty() {
        return Some(Values::new());
    }
    let Some(Part::Text(first)) = parts.first() else {
        // A hole at the beginning begins with the text's last line that fits.
        return text.lines().rev().find_map(|line| fits(&parts, line));
    };
    text.match_indices(first)
        .find_map(|(at, _)| fits(&parts, &text[at..]))
}

/// Whether a text begins as the parts say.
fn fits(parts: &[Part<'_>], text: &str) -> Option<Values> {
    let mut values = Values::new();
    let mut rest = text;
    let mut parts = parts.iter().peekable();
    while let Some(part) = parts.next() {
        match part {
            Part::Text(text) => rest = rest.strip_prefix(text)?,
            Part::Hole(name) => {
                let line = rest.lines().next().unwrap_or_default();
                let end = match parts.peek() {
                    Some(Part::Text(next)) => rest.find(next)?,
                    _ => line.len(),
                };
                if end > line.len() {
                    return None;
                }
                if !name.is_empty() {
                    values.insert((*name).to_owned(), rest[..end].to_owned());
                }
                rest = &rest[end..];
            }
        }
    }
    Some(values)
}

/// Fills a text's holes; `None` when one has no value.
pub fn fill(text: &str, values: &Values) -> Option<String> {
    parts(text)
        .iter()
        .map(|part| match part {
            Part::Text(text) => Some(*text),
            Part::Hole(name) => values.get(*name).map(String::as_str),
        })
        .collect()
}

/// The names of a text's holes.
pub fn holes(text: &str) -> Vec<&str> {
    parts(text)
        .into_iter()
        .filter_map(|part| match part {
            Part::Hole(name) => Some(name),
            Part::Text(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> Values {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn holes_stand_for_what_is_between() {
        assert_eq!(
            find("No module named '{module}'", "x: No module named 'a.b'."),
            Some(values(&[("module", "a.b")]))
        );
        assert_eq!(
            find(
                "cannot import name '{name}' from '{module}'",
                "cannot import name 'A' from 'b' (c)"
            ),
            Some(values(&[("name", "A"), ("module", "b")]))
        );
        assert_eq!(
            find("{library}: cannot open", "y\nlibx.so: cannot open z"),
            Some(values(&[("library", "libx.so")]))
        );
        assert_eq!(find("a '{x}' b", "a 'one\ntwo' b"), None);
        assert_eq!(
            find("ends with {rest}", "it ends with this\nand more"),
            Some(values(&[("rest", "this")]))
        );
        assert_eq!(find("plain", "not here"), None);
    }

    #[test]
    fn braces_of_code_are_text() {
        assert!(find("arguments {'{have}'} must", "arguments {'uid'} must be").is_some());
        assert_eq!(
            fill("{a} {'b'} {{", &values(&[("a", "1")])).as_deref(),
            Some("1 {'b'} {{")
        );
        assert_eq!(fill("{a} {c}", &values(&[("a", "1")])), None);
    }
}
