//! Markdown that strangers' words cannot leave. What a repository, a server or an exception says is
//! shown as code, or word for word with everything taken out of it that GitHub would make a heading, a
//! link, an image, a mention or a reference of.
//!
//! <https://github.github.com/gfm/>; mentions and references are made of the finished text, so that a
//! backslash does not keep them away, and a space without width does.

/// Keeps what stands on both sides of it from being read as one thing, and is not seen.
const APART: char = '\u{200b}';

/// Shown of a text that says nothing.
const NOTHING: &str = "(nothing)";

/// Lines of one block of code.
const MAX_LINES: usize = 40;

/// Characters of one line of a block.
const MAX_LINE: usize = 300;

/// A text of bounded length, made of pieces that each stand by themselves: it can be cut between any
/// two of them.
#[derive(Debug)]
pub struct Text {
    written: String,
    most: usize,
    cut: bool,
}

impl Text {
    /// An empty one for so many characters.
    pub fn new(most: usize) -> Self {
        Self {
            written: String::new(),
            most,
            cut: false,
        }
    }

    /// Adds a piece and a line's end; what does not fit any more is left out, with all that follows.
    pub fn add(&mut self, piece: &str) {
        const LEFT_OUT: &str = "\n…\n";
        let length = self.written.chars().count() + piece.chars().count() + LEFT_OUT.len();
        if self.cut {
            return;
        }
        if length > self.most {
            self.cut = true;
            self.written.push_str(LEFT_OUT);
            return;
        }
        self.written.push_str(piece);
        self.written.push('\n');
    }

    /// Adds a paragraph.
    pub fn paragraph(&mut self, piece: &str) {
        self.add(&format!("{piece}\n"));
    }

    /// The whole.
    pub fn finish(self) -> String {
        self.written
    }
}

/// A text as one line without control characters and what turns the direction of writing, at most so
/// long.
pub fn one_line(text: &str, most: usize) -> String {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    cut(&words.join(" ").replace(is_invisible, ""), most)
}

/// Marks of direction and other characters that nobody sees, and that make a text read otherwise than
/// it is.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// The longest run of backticks.
fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// A text as code within a line. It ends at a run of backticks of the length of its own ends, so
/// these are longer than any run in it.
pub fn code(text: &str, most: usize) -> String {
    let text = one_line(text, most);
    let text = if text.is_empty() { NOTHING } else { &text };
    let ends = "`".repeat(longest_run(text) + 1);
    // One space on both sides is taken off again when it is shown.
    let space = if text.starts_with('`') || text.ends_with('`') {
        " "
    } else {
        ""
    };
    format!("{ends}{space}{text}{space}{ends}")
}

/// A sentence, with what stands between backticks in it as code and the rest word for word.
pub fn prose(text: &str, most: usize) -> String {
    let text = one_line(text, most);
    let parts: Vec<&str> = text.split('`').collect();
    let paired = parts.len().is_multiple_of(2);
    let mut said = String::new();
    for (number, part) in parts.iter().enumerate() {
        let last = number + 1 == parts.len();
        if number % 2 == 1 && !(paired && last) {
            if !part.trim().is_empty() {
                said.push_str(&code(part, most));
            }
        } else {
            if paired && last {
                said.push('\'');
            }
            plain(part, &mut said);
        }
    }
    said
}

/// Word for word. A backtick never comes here.
fn plain(text: &str, said: &mut String) {
    let mut before = String::new();
    for character in text.chars() {
        match character {
            // Entities, so that the character is not in the source either: `$` begins formulas there.
            '&' => said.push_str("&amp;"),
            '<' => said.push_str("&lt;"),
            '>' => said.push_str("&gt;"),
            '$' => said.push_str("&#36;"),
            '@' => said.push_str("&#64;"),
            '#' => said.push_str("&#35;"),
            ' ' | ',' | ';' | '?' | '\'' | '"' | '%' => said.push(character),
            other if other.is_ascii_punctuation() => {
                said.push('\\');
                said.push(other);
            }
            other => said.push(other),
        }
        if is_apart(&before, character) {
            said.push(APART);
        }
        before.push(character);
    }
}

/// Whether what follows must not be read together with it: mentions, references (`#1`, `GH-1`),
/// addresses (`https://`, `www.`).
fn is_apart(before: &str, character: char) -> bool {
    match character {
        '@' | '#' | ':' => true,
        '-' => before.to_ascii_lowercase().ends_with("gh"),
        '.' => before.to_ascii_lowercase().ends_with("www"),
        _ => false,
    }
}

/// For places that are no Markdown: one line as it is, in which nothing becomes a mention, a reference
/// or a link.
pub fn quiet(text: &str, most: usize) -> String {
    let mut said = String::new();
    for character in one_line(text, most).chars() {
        let apart = is_apart(&said, character);
        said.push(character);
        if apart {
            said.push(APART);
        }
    }
    said
}

/// Text as a block of code.
pub fn block(language: &str, text: &str) -> String {
    let mut lines: Vec<String> = text
        .lines()
        .take(MAX_LINES)
        .map(|line| {
            let line: String = line
                .chars()
                .filter(|c| (*c == '\t' || !c.is_control()) && !is_invisible(*c))
                .collect();
            cut(&line, MAX_LINE)
        })
        .collect();
    if text.lines().nth(MAX_LINES).is_some() {
        lines.push("…".to_owned());
    }
    let text = lines.join("\n");
    let ends = "`".repeat(longest_run(&text).max(2) + 1);
    format!("{ends}{language}\n{text}\n{ends}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What strangers may try, each as a sentence, as code in a line and as a block.
    const ATTACKS: [&str; 22] = [
        "@octocat and @acme/owners",
        "#1, acme/tools#1 and GH-1",
        "![](https://evil.example/pixel.png)",
        "[click](https://evil.example)",
        "<img src=x onerror=alert(1)>",
        "<!-- berth: 1 -->",
        "</details><h1>",
        "`code` @octocat `more",
        "``` \n@octocat\n```",
        "`````` x",
        "`",
        "``",
        "$`\\href{https://evil.example}{x}`$ and $x$",
        "# heading\n## another",
        "- list\n1. list\n> quote\n---",
        "| a | b |\n|---|---|",
        "https://evil.example www.evil.example ftp://evil.example mailto:a@b.example",
        "**bold** _it_ ~~gone~~ \\` \\@octocat",
        "&#64;octocat &lt;b&gt;",
        "\u{202e}txt.exe\u{200b}@octocat",
        "a\u{0}b\u{1b}[31m\r\n\tc",
        "[x]: https://evil.example\n[^1]: note",
    ];

    /// What is left when code is taken out, as GitHub reads it: runs of backticks of one length.
    fn outside_of_code(markdown: &str) -> String {
        let mut left = String::new();
        let mut rest = markdown;
        while let Some(start) = rest.find('`') {
            left.push_str(&rest[..start]);
            let run = rest[start..].chars().take_while(|c| *c == '`').count();
            let inside = &rest[start + run..];
            let mut at = 0;
            let end = loop {
                let found = inside[at..].find('`').expect("a span that does not end") + at;
                let length = inside[found..].chars().take_while(|c| *c == '`').count();
                if length == run {
                    break found;
                }
                at = found + length;
            };
            rest = &inside[end + run..];
        }
        left.push_str(rest);
        left
    }

    #[test]
    fn strangers_words_stay_words() {
        for attack in ATTACKS {
            for markdown in [prose(attack, 600), code(attack, 600), block("", attack)] {
                let outside = outside_of_code(&markdown);
                for bad in ["@", "](", "<", "://", "www.", "$", "`", "![", "**"] {
                    assert!(!outside.contains(bad), "{bad} in {markdown}");
                }
                let mut before = ' ';
                for character in outside.chars() {
                    let entity = before == '&';
                    assert!(
                        character != '#' || entity,
                        "a reference or heading in {markdown}"
                    );
                    assert!(!character.is_control() || character == '\n', "{markdown:?}");
                    before = character;
                }
            }
            assert!(!prose(attack, 600).contains('\n'));
            assert!(!code(attack, 600).contains('\n'));
        }
    }

    #[test]
    fn what_is_made_of_the_finished_text_is_kept_apart() {
        assert_eq!(prose("@a", 9), "&#64;\u{200b}a");
        assert_eq!(prose("a#1", 9), "a&#35;\u{200b}1");
        assert_eq!(prose("GH-1", 9), "GH\\-\u{200b}1");
        assert_eq!(prose("http://x", 9), "http\\:\u{200b}\\/\\/x");
        assert_eq!(prose("www.x", 9), "www\\.\u{200b}x");
        assert_eq!(quiet("@a #1 <b>", 9), "@\u{200b}a #\u{200b}1 <b>");
    }

    #[test]
    fn sentences_keep_their_code() {
        assert_eq!(
            prose("Write `mcp = FastMCP()` in `a_b.py`, then deploy.", 100),
            "Write `mcp = FastMCP()` in `a_b.py`, then deploy\\."
        );
        assert_eq!(prose("one ` alone", 100), "one ' alone");
        assert_eq!(code("a`b", 9), "``a`b``");
        assert_eq!(code("`a`", 9), "`` `a` ``");
        assert_eq!(code(" \n", 9), "`(nothing)`");
    }

    #[test]
    fn lengths_have_an_end() {
        assert_eq!(code("aaaaaa", 4), "`aaa…`");
        let mut text = Text::new(100);
        for _ in 0..50 {
            text.add("`0123456789`");
        }
        let text = text.finish();
        assert!(text.chars().count() <= 100, "{text}");
        assert!(text.ends_with("…\n"));
        let long = block("py", &"x\n".repeat(500));
        assert_eq!(long.lines().count(), MAX_LINES + 3);
    }
}
