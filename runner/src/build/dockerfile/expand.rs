//! Variables in a Dockerfile: `$NAME`, `${NAME}`, `${NAME:-word}`, `${NAME:+word}` and the same
//! without a colon; quotes and escapes go.

use std::collections::BTreeMap;

/// Longest text that comes of it, bytes: a word that names others in a row grows fast.
const MAX_BYTES: usize = 64 * 1024;
/// Longest document that comes of it, bytes.
const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;

/// A word with its variables replaced, and its quotes and escapes gone. The error says what is
/// wrong with it.
pub fn expand(
    word: &str,
    variables: &BTreeMap<String, String>,
    escape: char,
) -> Result<String, String> {
    let mut expander = Expander {
        variables,
        escape,
        rest: word.chars().collect(),
        at: 0,
    };
    let text = expander.text(None, 0)?;
    Ok(text)
}

/// A text of several lines with its variables replaced: quotes are text in it, and only a dollar
/// sign and the escape character can be escaped.
pub fn expand_document(text: &str, variables: &BTreeMap<String, String>) -> Result<String, String> {
    let mut expander = Expander {
        variables,
        escape: '\\',
        rest: text.chars().collect(),
        at: 0,
    };
    let mut expanded = String::new();
    while let Some(c) = expander.next() {
        match (c, expander.peek()) {
            ('\\', Some(next)) if next == '$' || next == '\\' => {
                expanded.push(next);
                expander.at += 1;
            }
            ('$', _) => expanded.push_str(&expander.variable(0)?),
            _ => expanded.push(c),
        }
        if expanded.len() > MAX_DOCUMENT_BYTES {
            let kib = MAX_DOCUMENT_BYTES / 1024;
            return Err(format!("a document has more than {kib} KiB"));
        }
    }
    Ok(expanded)
}

struct Expander<'a> {
    variables: &'a BTreeMap<String, String>,
    escape: char,
    rest: Vec<char>,
    at: usize,
}

impl Expander<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.get(self.at).copied();
        self.at += usize::from(c.is_some());
        c
    }

    fn peek(&self) -> Option<char> {
        self.rest.get(self.at).copied()
    }

    /// Up to `end`, or to the end of the word.
    fn text(&mut self, end: Option<char>, depth: u8) -> Result<String, String> {
        let mut text = String::new();
        while let Some(c) = self.next() {
            if Some(c) == end {
                return Ok(text);
            }
            match c {
                '\'' => self.single(&mut text)?,
                '"' => self.double(&mut text, depth)?,
                '$' => text.push_str(&self.variable(depth)?),
                c if c == self.escape => text.extend(self.next()),
                c => text.push(c),
            }
            if text.len() > MAX_BYTES {
                return Err(format!("a value has more than {} KiB", MAX_BYTES / 1024));
            }
        }
        match end {
            None => Ok(text),
            Some(_) => Err("a ${ has no end".to_owned()),
        }
    }

    fn single(&mut self, text: &mut String) -> Result<(), String> {
        loop {
            match self.next() {
                None => return Err("a quote has no end".to_owned()),
                Some('\'') => return Ok(()),
                Some(c) => text.push(c),
            }
        }
    }

    fn double(&mut self, text: &mut String, depth: u8) -> Result<(), String> {
        loop {
            match self.next() {
                None => return Err("a quote has no end".to_owned()),
                Some('"') => return Ok(()),
                Some('$') => text.push_str(&self.variable(depth)?),
                Some(c) if c == self.escape => match self.next() {
                    Some(next) if next == '"' || next == '$' || next == self.escape => {
                        text.push(next);
                    }
                    next => {
                        text.push(c);
                        text.extend(next);
                    }
                },
                Some(c) => text.push(c),
            }
            if text.len() > MAX_BYTES {
                return Err(format!("a value has more than {} KiB", MAX_BYTES / 1024));
            }
        }
    }

    /// What stands behind a dollar sign.
    fn variable(&mut self, depth: u8) -> Result<String, String> {
        // Deeper ones are written by nobody.
        if depth > 8 {
            return Err("variables stand too deep in each other".to_owned());
        }
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(self.variables.get(&name).cloned().unwrap_or_default());
        }
        self.at += 1;
        let name = self.name();
        if name.is_empty() {
            return Err("a ${ names no variable".to_owned());
        }
        let value = self.variables.get(&name).cloned();
        let (operator, counts_empty) = match self.next() {
            Some('}') => return Ok(value.unwrap_or_default()),
            Some(':') => (self.next(), false),
            other => (other, true),
        };
        let value = value.filter(|value| counts_empty || !value.is_empty());
        match operator {
            Some('-') => {
                let word = self.text(Some('}'), depth + 1)?;
                Ok(value.unwrap_or(word))
            }
            Some('+') => {
                let word = self.text(Some('}'), depth + 1)?;
                Ok(value.map(|_| word).unwrap_or_default())
            }
            Some('?') => {
                let word = self.text(Some('}'), depth + 1)?;
                value.ok_or_else(|| format!("the variable {name} is not set: {word}"))
            }
            _ => Err(format!(
                "of ${{{name}…}} only the forms with :-, :+ and :? are known here"
            )),
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            let fits =
                c == '_' || c.is_ascii_alphabetic() || (c.is_ascii_digit() && !name.is_empty());
            if !fits {
                break;
            }
            name.push(c);
            self.at += 1;
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_does_not_grow_without_bounds() {
        let long = BTreeMap::from([("A".to_owned(), "x".repeat(MAX_BYTES))]);
        assert!(expand_document(&"$A".repeat(16), &long).is_ok());
        let error = expand_document(&"$A".repeat(17), &long).unwrap_err();
        assert_eq!(error, "a document has more than 1024 KiB");
    }

    fn expanded(word: &str) -> Result<String, String> {
        let variables = [("A", "1"), ("EMPTY", ""), ("PATH", "/bin")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        expand(word, &BTreeMap::from(variables), '\\')
    }

    #[test]
    fn variables_are_replaced() {
        for (word, value) in [
            ("$A", "1"),
            ("x${A}y", "x1y"),
            ("$A.$NONE.", "1.."),
            ("${NONE:-b}", "b"),
            ("${EMPTY:-b}", "b"),
            ("${EMPTY-b}", ""),
            ("${A:+b}", "b"),
            ("${NONE:+b}", ""),
            ("${NONE:-${A}/$PATH}", "1//bin"),
            ("/opt/bin:$PATH", "/opt/bin:/bin"),
            ("$", "$"),
            ("$1", "$1"),
        ] {
            assert_eq!(expanded(word).as_deref(), Ok(value), "{word}");
        }
    }

    #[test]
    fn quotes_are_text_in_a_document() {
        let variables = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        let text = "it's \"$A\" \\$A \\n ${A:-x}\n";
        let expanded = expand_document(text, &variables).unwrap();
        assert_eq!(expanded, "it's \"1\" $A \\n 1\n");
    }

    #[test]
    fn quotes_and_escapes_go() {
        for (word, value) in [
            (r#""a b""#, "a b"),
            (r"a\ b", "a b"),
            (r"\$A", "$A"),
            (r"'$A'", "$A"),
            (r#""$A \" \x""#, r#"1 " \x"#),
            ("it\"'\"s", "it's"),
        ] {
            assert_eq!(expanded(word).as_deref(), Ok(value), "{word}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for word in [
            "${A",
            "${",
            "'a",
            "\"a",
            "${A#x}",
            "${A//x/y}",
            "${NONE:?why}",
            "${}",
        ] {
            assert!(expanded(word).is_err(), "{word}");
        }
        let deep = format!("{}{}", "${NONE:-".repeat(20), "}".repeat(20));
        assert!(expanded(&deep).is_err());
        assert_eq!(
            expanded("${NONE:?why}").unwrap_err(),
            "the variable NONE is not set: why"
        );
    }
}
