//! Just enough of a lexer to tell code from strings and comments, in Python and in JavaScript.

/// A piece of code and its line, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub line: usize,
    /// Columns before it on its line: Python's blocks.
    pub indent: usize,
}

/// What it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A name or a keyword.
    Name(String),
    /// A string whose value is written out. Escapes are left as they are: no name has any.
    Text(String),
    /// A string with parts that are computed, a number, a regular expression: a value.
    Value,
    /// One character of anything else.
    Mark(char),
}

/// Which language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    Python,
    JavaScript,
}

/// Most tokens of a file.
const MAX_TOKENS: usize = 200_000;

/// Takes a text apart. Never fails: what is no code ends in odd tokens, which match nothing.
pub fn tokens(text: &str, language: Language) -> Vec<Token> {
    let mut lexer = Lexer {
        rest: text,
        language,
        line: 1,
        indent: 0,
        at_start: true,
        tokens: Vec::new(),
    };
    while !lexer.rest.is_empty() && lexer.tokens.len() < MAX_TOKENS {
        lexer.step();
    }
    lexer.tokens
}

struct Lexer<'a> {
    rest: &'a str,
    language: Language,
    line: usize,
    indent: usize,
    at_start: bool,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn step(&mut self) {
        let c = self.rest.chars().next().expect("the rest is not empty");
        if c == '\n' {
            self.line += 1;
            (self.indent, self.at_start) = (0, true);
            self.skip(1);
        } else if c.is_whitespace() {
            if self.at_start {
                self.indent += 1;
            }
            self.skip(c.len_utf8());
        } else {
            self.at_start = false;
            self.code(c);
        }
    }

    fn code(&mut self, c: char) {
        let python = self.language == Language::Python;
        if python && c == '#' || !python && self.rest.starts_with("//") {
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.skip(end);
        } else if !python && self.rest.starts_with("/*") {
            let end = self.rest.find("*/").map_or(self.rest.len(), |at| at + 2);
            self.pass(end);
        } else if is_name(c) && !c.is_ascii_digit() {
            self.name();
        } else if c.is_ascii_digit() {
            let end = self.rest.find(|c: char| !is_name(c) && c != '.');
            self.push(Kind::Value);
            self.skip(end.unwrap_or(self.rest.len()));
        } else if matches!(c, '"' | '\'') || !python && c == '`' {
            self.string(c, "");
        } else if !python && c == '/' && self.is_operand_next() {
            self.expression();
        } else {
            self.push(Kind::Mark(c));
            self.skip(c.len_utf8());
        }
    }

    fn name(&mut self) {
        let end = self.rest.find(|c| !is_name(c)).unwrap_or(self.rest.len());
        let name = &self.rest[..end];
        let next = self.rest[end..].chars().next();
        // `r"…"`, `f'…'`, `rb"…"`.
        let is_prefix = self.language == Language::Python
            && end <= 2
            && name.chars().all(|c| "rRbBfFuUtT".contains(c));
        if let (true, Some(quote @ ('"' | '\''))) = (is_prefix, next) {
            let prefix = name.to_ascii_lowercase();
            self.skip(end);
            self.string(quote, &prefix);
        } else {
            self.push(Kind::Name(name.to_owned()));
            self.skip(end);
        }
    }

    fn string(&mut self, quote: char, prefix: &str) {
        let long = quote.to_string().repeat(3);
        let is_long = self.language == Language::Python && self.rest.starts_with(&long);
        let close = if is_long { long } else { quote.to_string() };
        let many_lines = is_long || quote == '`';
        let body = &self.rest[close.len()..];
        let length = end_of_string(body, &close, many_lines);
        let value = &body[..length];
        let computed = prefix.contains(['f', 't']) && value.contains('{')
            || quote == '`' && value.contains("${");
        self.push(if computed {
            Kind::Value
        } else {
            Kind::Text(value.to_owned())
        });
        let closed = body[length..].starts_with(&close);
        self.pass(close.len() + length + if closed { close.len() } else { 0 });
    }

    /// Whether a `/` begins a regular expression: a value cannot end right before it.
    fn is_operand_next(&self) -> bool {
        match self.tokens.last().map(|token| &token.kind) {
            None => true,
            Some(Kind::Mark(c)) => !matches!(c, ')' | ']' | '}'),
            Some(Kind::Name(name)) => matches!(name.as_str(), "return" | "typeof" | "case" | "in"),
            Some(Kind::Text(_) | Kind::Value) => false,
        }
    }

    fn expression(&mut self) {
        let mut escaped = false;
        let mut in_class = false;
        let end = self.rest.char_indices().skip(1).find(|(_, c)| {
            let plain = !std::mem::replace(&mut escaped, false);
            match c {
                '\\' if plain => escaped = true,
                '[' if plain => in_class = true,
                ']' if plain => in_class = false,
                '/' if plain && !in_class => return true,
                '\n' => return true,
                _ => {}
            }
            false
        });
        self.push(Kind::Value);
        match end {
            Some((at, '/')) => self.skip(at + 1),
            // A division after all, or something broken: go on right behind it.
            _ => self.skip(1),
        }
    }

    fn push(&mut self, kind: Kind) {
        self.tokens.push(Token {
            kind,
            line: self.line,
            indent: self.indent,
        });
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    /// Skips what may hold line ends.
    fn pass(&mut self, bytes: usize) {
        self.line += self.rest[..bytes].matches('\n').count();
        self.skip(bytes);
    }
}

/// Where a string's value ends; at its line's end when it is not closed.
fn end_of_string(body: &str, close: &str, many_lines: bool) -> usize {
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        if std::mem::replace(&mut escaped, false) {
            continue;
        }
        if c == '\\' {
            escaped = true;
        } else if body[at..].starts_with(close) || c == '\n' && !many_lines {
            return at;
        }
    }
    body.len()
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// Whether the tokens begin with these: names and marks as they are written.
pub fn begins(tokens: &[Token], pattern: &[&str]) -> bool {
    tokens.len() >= pattern.len()
        && tokens
            .iter()
            .zip(pattern)
            .all(|(token, wanted)| match &token.kind {
                Kind::Name(name) => name == wanted,
                Kind::Mark(mark) => wanted.chars().eq([*mark]),
                Kind::Text(_) | Kind::Value => false,
            })
}

/// The written-out string at a place.
pub fn text_at(tokens: &[Token], at: usize) -> Option<&str> {
    match &tokens.get(at)?.kind {
        Kind::Text(text) => Some(text),
        _ => None,
    }
}

/// The mark at a place.
pub fn mark_at(tokens: &[Token], at: usize) -> Option<char> {
    match tokens.get(at)?.kind {
        Kind::Mark(mark) => Some(mark),
        _ => None,
    }
}

/// The name at a place.
pub fn name_at(tokens: &[Token], at: usize) -> Option<&str> {
    match &tokens.get(at)?.kind {
        Kind::Name(name) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(text: &str, language: Language) -> String {
        let parts = tokens(text, language)
            .into_iter()
            .map(|token| match token.kind {
                Kind::Name(name) => name,
                Kind::Text(text) => format!("'{text}'"),
                Kind::Value => "#".into(),
                Kind::Mark(mark) => mark.to_string(),
            });
        parts.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_strings_are_no_code() {
        let python = "a = r'x' # os.environ['no']\n'''os\nenviron''' f'{a}' f'b' b\"c\\\"d\" 1.5";
        assert_eq!(
            short(python, Language::Python),
            "a = 'x' 'os\nenviron' # 'b' 'c\\\"d' #"
        );
        let script = "a // no\n/* no\n*/ `b` `${c}` x = /[/'\"]/; d / 2 / e; 'f'";
        assert_eq!(
            short(script, Language::JavaScript),
            "a 'b' # x = # ; d / # / e ; 'f'"
        );
    }

    #[test]
    fn lines_are_counted_through_long_strings() {
        let found = tokens("'''\n\n'''\nx", Language::Python);
        assert_eq!((found[0].line, found[1].line), (1, 4));
    }

    #[test]
    fn broken_code_ends() {
        for text in ["'abc", "'''abc", "`a${", "/abc", "/*", "\\", "é'ü", "'\\"] {
            for language in [Language::Python, Language::JavaScript] {
                assert!(tokens(text, language).len() < 9, "{text}");
            }
        }
    }
}
