//! Makes a line of a tenant's output harmless to show: valid UTF-8, no control characters, no
//! terminal escape sequences, no secrets, of bounded length.

use super::Masker;

/// The longest text of a line, bytes.
pub const MAX_TEXT_BYTES: usize = 16 * 1024;

/// Ends a line that was cut.
const CUT: &str = " … (line cut)";

/// Where a terminal escape sequence goes on (ECMA-48 §5.4, §8.3).
#[derive(Clone, Copy, PartialEq)]
enum Escape {
    No,
    /// After ESC.
    Start,
    /// `ESC [` up to a final byte.
    Csi,
    /// `ESC ]` and its like: up to BEL or `ESC \`.
    Text,
    /// ESC inside [`Escape::Text`].
    TextEnd,
}

impl Escape {
    /// Where it goes on after this character.
    fn after(self, character: char) -> Self {
        match self {
            Self::No => match character {
                '\x1b' => Self::Start,
                '\u{9b}' => Self::Csi,
                _ => Self::No,
            },
            Self::Start => match character {
                '[' => Self::Csi,
                ']' | 'P' | 'X' | '^' | '_' => Self::Text,
                // Intermediate bytes of a short sequence.
                ' '..='/' => Self::Start,
                _ => Self::No,
            },
            Self::Csi => match character {
                ' '..='?' => Self::Csi,
                _ => Self::No,
            },
            Self::Text => match character {
                '\x1b' => Self::TextEnd,
                '\x07' => Self::No,
                _ => Self::Text,
            },
            Self::TextEnd => match character {
                '\\' => Self::No,
                _ => Self::Text,
            },
        }
    }
}

/// One line, made safe.
pub fn tame(bytes: &[u8], masker: &Masker) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    let mut escape = Escape::No;
    for character in text.chars() {
        let before = escape;
        escape = escape.after(character);
        if before == Escape::No && escape == Escape::No && is_shown(character) {
            plain.push(character);
        }
    }
    // Before it is cut: half a secret is still a secret.
    cut(masker.mask(&plain))
}

/// Tabs are kept; other controls and what turns the direction of text around are not.
fn is_shown(character: char) -> bool {
    character == '\t'
        || !(character.is_control()
            || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES - CUT.len()));
        text.push_str(CUT);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(bytes: &[u8]) -> String {
        tame(bytes, &Masker::default())
    }

    #[test]
    fn colours_titles_and_controls_go() {
        assert_eq!(plain(b"\x1b[1;31mred\x1b[0m"), "red");
        assert_eq!(plain(b"\x1b]0;title\x07a\x1b]8;;u\x1b\\b"), "ab");
        assert_eq!(plain(b"\x1b(Bx\x1b7y"), "xy");
        assert_eq!(plain("a\u{9b}31mb".as_bytes()), "ab");
        assert_eq!(plain(b"a\rb\x00c\x7f\td"), "abc\td");
        assert_eq!(plain("a\u{202e}b\u{2066}".as_bytes()), "ab");
    }

    #[test]
    fn an_unfinished_sequence_takes_nothing_with_it_but_itself() {
        assert_eq!(plain(b"a\x1b["), "a");
        assert_eq!(plain(b"a\x1b"), "a");
    }

    #[test]
    fn invalid_utf8_is_replaced_and_markup_kept() {
        assert_eq!(plain(b"a\xffb<script>"), "a\u{fffd}b<script>");
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let line = plain("é".repeat(MAX_TEXT_BYTES).as_bytes());
        assert!(line.len() <= MAX_TEXT_BYTES);
        assert!(line.ends_with("é … (line cut)"));
        assert_eq!(plain(&[b'x'; MAX_TEXT_BYTES]).len(), MAX_TEXT_BYTES);
    }
}
