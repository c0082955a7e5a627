//! From the text of a Dockerfile to its instructions, as the reference of the format has it
//! (docs.docker.com/reference/dockerfile).
//!
//! The parsers that there are as crates give spans of the text and leave to their caller what is
//! difficult: lines that go on, comments between them, and the quoting of `ENV` and `ARG`, which
//! must be kept until variables are replaced. What they would save is less than this file.

use crate::diagnose::{Code, diagnosis};
use crate::protocol::Diagnosis;

/// Largest Dockerfile, bytes: real ones have a few thousand.
const MAX_BYTES: usize = 256 * 1024;
/// Most instructions: an image has room for about 120 layers.
const MAX_INSTRUCTIONS: usize = 500;

/// An instruction and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The number of its first line, from 1.
    pub number: usize,
    /// Its name, in capitals.
    pub name: String,
    /// `--name=value`, in order; a flag without a value has an empty one.
    pub flags: Vec<(String, String)>,
    /// What follows them, in one line; quotes and escapes are still in it.
    pub rest: String,
    /// The texts that follow a `<<`.
    pub documents: Vec<Document>,
}

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// What it is called.
    pub name: String,
    /// Whether variables in it are replaced: its name was not quoted.
    pub expands: bool,
    /// What it says, with its last newline.
    pub text: String,
}

/// A Dockerfile.
#[derive(Debug)]
pub struct Parsed {
    /// Its instructions.
    pub lines: Vec<Line>,
    /// The character that makes the next one text; a backslash unless said.
    pub escape: char,
}

/// What an instruction cannot be, and where.
pub fn refused(file: &str, line: usize, why: impl AsRef<str>, fix: impl AsRef<str>) -> Diagnosis {
    let why = why.as_ref().trim_end_matches('.');
    let mut found = diagnosis(
        Code::DockerfileInvalid,
        format!("{file} cannot be built: {why}."),
        fix,
    );
    found.location = Some(format!("{file}:{line}"));
    found
}

/// Reads a Dockerfile; `file` is its name, for people.
pub fn parse(file: &str, text: &str) -> Result<Parsed, Diagnosis> {
    if text.len() > MAX_BYTES {
        let why = format!("it has more than {} KiB", MAX_BYTES / 1024);
        return Err(refused(
            file,
            1,
            why,
            "Move what it writes into files of the source.",
        ));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let rows: Vec<&str> = text.lines().collect();
    let (escape, mut at) = directives(file, &rows)?;
    let mut lines = Vec::new();
    while at < rows.len() {
        let Some((number, logical)) = logical(&rows, &mut at, escape) else {
            break;
        };
        let mut line = instruction(number, &logical, escape);
        if takes_documents(&line.name) {
            line.documents = documents(file, &line, &rows, &mut at)?;
        }
        lines.push(line);
        if lines.len() > MAX_INSTRUCTIONS {
            let why = format!("it has more than {MAX_INSTRUCTIONS} instructions");
            return Err(refused(
                file,
                number,
                why,
                "Join commands with &&, or move them into a script.",
            ));
        }
    }
    Ok(Parsed { lines, escape })
}

/// `# name=value` at the very top; gives the escape character and where instructions begin.
fn directives(file: &str, rows: &[&str]) -> Result<(char, usize), Diagnosis> {
    let mut escape = '\\';
    for (index, row) in rows.iter().enumerate() {
        let directive = row
            .trim()
            .strip_prefix('#')
            .and_then(|text| text.split_once('='));
        let Some((name, value)) = directive else {
            return Ok((escape, index));
        };
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        match name.as_str() {
            // It names a program that the host's builder would fetch and run. The usual one says
            // no more than that the usual format is meant, but it is not fetched either.
            "syntax" if is_usual_syntax(value) => {}
            "syntax" => {
                let why = format!("`# syntax={value}` names a program to build it with");
                let fix =
                    "Remove the line and use the usual instructions: only those are built here.";
                return Err(refused(file, index + 1, why, fix));
            }
            "escape" => match value {
                "\\" | "`" => escape = value.chars().next().unwrap_or('\\'),
                _ => {
                    let why = format!("`# escape={value}` is neither \\ nor `");
                    return Err(refused(file, index + 1, why, "Remove the line."));
                }
            },
            "check" => {}
            // Any other comment ends them.
            _ => return Ok((escape, index)),
        }
    }
    Ok((escape, rows.len()))
}

/// `docker/dockerfile:1`, in any version and from its usual place.
fn is_usual_syntax(value: &str) -> bool {
    let name = value.strip_prefix("docker.io/").unwrap_or(value);
    let name = name.split(['@', ':']).next().unwrap_or(name);
    name == "docker/dockerfile"
}

/// The next instruction in one line, with the number of its first.
fn logical(rows: &[&str], at: &mut usize, escape: char) -> Option<(usize, String)> {
    let mut text = String::new();
    let mut first = None;
    while let Some(row) = rows.get(*at) {
        *at += 1;
        let bare = row.trim();
        // Comments and empty lines are nothing, also between the lines of an instruction.
        if bare.is_empty() || bare.starts_with('#') {
            continue;
        }
        let number = *first.get_or_insert(*at);
        let end = row.trim_end();
        let goes_on = end.strip_suffix(escape);
        let part = goes_on.unwrap_or(end);
        text.push_str(if text.is_empty() {
            part.trim_start()
        } else {
            part
        });
        if goes_on.is_none() {
            return Some((number, text));
        }
    }
    first.map(|number| (number, text))
}

fn instruction(number: usize, logical: &str, escape: char) -> Line {
    let (name, rest) = cut_word(logical);
    let name = name.to_ascii_uppercase();
    let mut rest = rest.trim_start();
    let mut flags = Vec::new();
    while rest.starts_with("--") && takes_flags(&name) {
        let word = words(rest, escape).into_iter().next().unwrap_or_default();
        rest = rest[word.len()..].trim_start();
        let word = word.trim_start_matches("--");
        if word.is_empty() {
            break;
        }
        let (flag, value) = word.split_once('=').unwrap_or((word, ""));
        flags.push((flag.to_owned(), value.to_owned()));
    }
    Line {
        number,
        name,
        flags,
        rest: rest.trim_end().to_owned(),
        documents: Vec::new(),
    }
}

fn cut_word(text: &str) -> (&str, &str) {
    match text.find(char::is_whitespace) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    }
}

fn takes_flags(name: &str) -> bool {
    matches!(name, "ADD" | "COPY" | "FROM" | "HEALTHCHECK" | "RUN")
}

fn takes_documents(name: &str) -> bool {
    matches!(name, "ADD" | "COPY" | "RUN")
}

/// The here-documents that a line names, read from the rows behind it.
fn documents(
    file: &str,
    line: &Line,
    rows: &[&str],
    at: &mut usize,
) -> Result<Vec<Document>, Diagnosis> {
    let mut found = Vec::new();
    if json_words(&line.rest).is_some() {
        return Ok(found);
    }
    for word in line.rest.split_whitespace() {
        let Some(mark) = word
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .strip_prefix("<<")
        else {
            continue;
        };
        let (mark, strips) = match mark.strip_prefix('-') {
            Some(mark) => (mark, true),
            None => (mark, false),
        };
        let name = mark.trim_matches(['"', '\'']);
        if name.is_empty() || name.contains('<') {
            continue;
        }
        let mut text = String::new();
        loop {
            let Some(row) = rows.get(*at) else {
                let why = format!("the text that <<{name} begins has no end");
                let fix = format!("End it with a line that holds {name} alone.");
                return Err(refused(file, line.number, why, fix));
            };
            *at += 1;
            let row = if strips {
                row.trim_start_matches('\t')
            } else {
                row
            };
            if row == name {
                break;
            }
            text.push_str(row);
            text.push('\n');
        }
        found.push(Document {
            name: name.to_owned(),
            expands: name == mark,
            text,
        });
    }
    Ok(found)
}

/// `["a", "b"]`, if it is that.
pub fn json_words(text: &str) -> Option<Vec<String>> {
    let text = text.trim();
    text.starts_with('[')
        .then(|| serde_json::from_str(text).ok())?
}

/// Words as a Dockerfile separates them: at spaces that are neither quoted nor escaped. Quotes and
/// escapes stay in them.
pub fn words(text: &str, escape: char) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        if quote.is_none() && c.is_whitespace() {
            if let Some(start) = start.take() {
                found.push(&text[start..at]);
            }
            continue;
        }
        start.get_or_insert(at);
        match quote {
            // Nothing is special within single quotes.
            Some('\'') if c != '\'' => {}
            _ if c == escape => {
                characters.next();
            }
            Some(q) if c == q => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            _ => {}
        }
    }
    if let Some(start) = start {
        found.push(&text[start..]);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<Line> {
        parse("Dockerfile", text).expect("it is well-formed").lines
    }

    fn shown(text: &str) -> Vec<(usize, String, String)> {
        let lines = lines(text).into_iter();
        lines
            .map(|line| (line.number, line.name, line.rest))
            .collect()
    }

    #[test]
    fn lines_go_on_and_comments_are_nothing() {
        let text = "# a comment\n\nfrom python:3.12 AS x\nRUN apt-get update \\\n  # why\n\n  && apt-get install -y \\  \n    curl\n  # end\nCMD [\"a\"]\n";
        assert_eq!(
            shown(text),
            [
                (3, "FROM".into(), "python:3.12 AS x".into()),
                (
                    4,
                    "RUN".into(),
                    "apt-get update   && apt-get install -y     curl".into()
                ),
                (10, "CMD".into(), "[\"a\"]".into()),
            ]
        );
    }

    #[test]
    fn the_escape_character_can_be_another_one() {
        let text = "# escape=`\nFROM a\nRUN x `\n y \\\n";
        let parsed = parse("Dockerfile", text).unwrap();
        assert_eq!(
            (parsed.escape, parsed.lines[1].rest.as_str()),
            ('`', "x  y \\")
        );
        // Behind an instruction or another comment it is a comment.
        assert_eq!(
            parse("D", "# hello\n# escape=`\nFROM a\n").unwrap().escape,
            '\\'
        );
        assert!(parse("D", "# escape=x\nFROM a\n").is_err());
    }

    #[test]
    fn a_program_to_build_with_is_refused() {
        for usual in [
            "docker/dockerfile:1",
            "docker.io/docker/dockerfile:1.7-labs",
        ] {
            assert!(
                parse("D", &format!("# syntax={usual}\nFROM a\n")).is_ok(),
                "{usual}"
            );
        }
        for other in [
            "evil/frontend",
            "docker/dockerfile-upstream:master",
            "docker/dockerfile.evil/x:1",
        ] {
            let found = parse("D", &format!("#syntax = {other}\nFROM a\n")).unwrap_err();
            assert_eq!(found.code, "dockerfile_invalid", "{other}");
            assert_eq!(found.location.as_deref(), Some("D:1"));
        }
    }

    #[test]
    fn flags_stand_in_front() {
        let line = &lines("FROM a\nRUN --mount=type=cache,target=/c --network=none pip --x\n")[1];
        let flags: Vec<(&str, &str)> = line
            .flags
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            flags,
            [("mount", "type=cache,target=/c"), ("network", "none")]
        );
        assert_eq!(line.rest, "pip --x");
    }

    #[test]
    fn documents_are_read_to_their_end() {
        let text = "FROM a\nRUN <<EOF\nFROM b # no instruction\n\nEOF\nCOPY <<-'A' <<\"B\" /x/\n\tone\n\tA\ntwo\nB\nRUN [\"a\", \"<<C\"]\n";
        let found = lines(text);
        assert_eq!(found.len(), 4);
        assert_eq!(found[1].documents[0].text, "FROM b # no instruction\n\n");
        assert!(found[1].documents[0].expands);
        let texts: Vec<(&str, bool)> = found[2]
            .documents
            .iter()
            .map(|d| (d.text.as_str(), d.expands))
            .collect();
        assert_eq!(texts, [("one\n", false), ("two\n", false)]);
        let open = parse("D", "FROM a\nRUN <<EOF\nx\n").unwrap_err();
        assert!(open.cause.contains("<<EOF"), "{}", open.cause);
    }

    #[test]
    fn words_keep_their_quotes() {
        assert_eq!(
            words(r#"A=1  B="x y" C=x\ y D='a\'"#, '\\'),
            ["A=1", r#"B="x y""#, r"C=x\ y", r"D='a\'"]
        );
        assert_eq!(json_words(r#" ["a", "b c"] "#).unwrap(), ["a", "b c"]);
        assert!(json_words("[ -f x ] && y").is_none() && json_words("[1]").is_none());
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let long = format!("FROM a\n{}", "RUN x\n".repeat(MAX_INSTRUCTIONS + 1));
        assert!(parse("D", &long).is_err());
        assert!(parse("D", &" ".repeat(MAX_BYTES + 1)).is_err());
        assert!(parse("D", "").unwrap().lines.is_empty());
    }
}
