//! Where the messages on a client's connection begin and end, read without leniency; see `framing`.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

/// Longest line of a head, in bytes: as long as a whole head may be (`server::MAX_HEAD`).
const MAX_LINE: usize = 64 * 1024;

/// Longest extension of a chunk, in bytes: nobody uses any, and some count them as nothing.
const MAX_EXTENSION: usize = 1024;

/// Most digits of a chunk's size: what 64 bits hold.
const MAX_SIZE_DIGITS: usize = 16;

/// A message that must not be served.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Bytes of the piece that are sound.
    pub(crate) sound: usize,
    /// Whether it is the head that is refused, rather than a body.
    pub(crate) in_head: bool,
}

/// Follows message boundaries through the pieces in which bytes arrive.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    state: State,
    /// The beginning of a line that is not complete yet.
    line: Vec<u8>,
    /// What the head at hand has said so far.
    head: Head,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// Before the first byte of a request.
    #[default]
    Idle,
    /// In the request line or a header.
    Head,
    /// In a body of known length, with this much to come.
    Sized(u64),
    /// In the line that gives the size of a chunk.
    ChunkSize,
    /// In a chunk, with this much to come.
    Chunk(u64),
    /// In the line break that ends a chunk.
    ChunkEnd,
    /// After the last chunk.
    Trailers,
}

/// A line, as far as it has come.
enum Line<'a> {
    /// Its text without the line break, and the bytes of the piece that it took.
    Whole(Cow<'a, [u8]>, usize),
    /// The rest is still to come.
    Part,
}

#[derive(Debug, Clone, Copy, Default)]
struct Head {
    /// Whether the request line has come.
    begun: bool,
    length: Option<u64>,
    chunked: bool,
}

impl Scanner {
    /// Whether the beginning of a head has come, and not its end.
    pub(crate) fn is_in_head(&self) -> bool {
        self.state == State::Head
    }

    /// Whether the last message has come whole, and none of the next.
    pub(crate) fn is_between(&self) -> bool {
        self.state == State::Idle
    }

    /// Reads the next piece; fails at a message that can be read in two ways.
    pub(crate) fn scan(&mut self, piece: &[u8]) -> Result<(), Refused> {
        let mut at = 0;
        let mut sound = 0;
        while at < piece.len() {
            let rest = &piece[at..];
            if self.state != State::Head {
                // Of a head that is refused, nothing is sound.
                sound = at;
            }
            let in_head = matches!(self.state, State::Idle | State::Head);
            let used = match self.state {
                State::Idle | State::Head => self.head(rest),
                State::Sized(left) => Some(self.skip(left, rest, State::Sized, State::Idle)),
                State::Chunk(left) => Some(self.skip(left, rest, State::Chunk, State::ChunkEnd)),
                State::ChunkSize | State::ChunkEnd | State::Trailers => self.chunk_line(rest),
            };
            at += used.ok_or(Refused { sound, in_head })?;
        }
        Ok(())
    }

    /// Passes over bytes that are counted.
    fn skip(&mut self, left: u64, rest: &[u8], more: fn(u64) -> State, then: State) -> usize {
        let here = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
        let left = left - here as u64;
        self.state = if left == 0 { then } else { more(left) };
        here
    }

    /// Takes a line; `None` where it is longer than `longest` or holds a carriage return that is
    /// not part of its end, or ends without one (RFC 9112 section 2.2).
    fn line<'a>(&mut self, rest: &'a [u8], longest: usize) -> Option<Line<'a>> {
        // Nearly every line comes whole: one look finds its end, and that it is a proper one.
        if self.line.is_empty()
            && let Some(end) = memchr2(b'\r', b'\n', rest)
            && rest[end..].starts_with(b"\r\n")
        {
            return (end < longest).then_some(Line::Whole(Cow::Borrowed(&rest[..end]), end + 2));
        }
        let end = memchr(b'\n', rest);
        let here = &rest[..end.unwrap_or(rest.len())];
        if self.line.len() + here.len() > longest {
            return None;
        }
        let Some(end) = end else {
            self.line.extend_from_slice(here);
            return Some(Line::Part);
        };
        let text = if self.line.is_empty() {
            Cow::Borrowed(here.strip_suffix(b"\r")?)
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(here);
            line.pop_if(|last| *last == b'\r')?;
            Cow::Owned(line)
        };
        memchr(b'\r', &text)
            .is_none()
            .then_some(Line::Whole(text, end + 1))
    }

    /// Takes one line of a head; gives the bytes used, or `None` if it must not be served.
    fn head(&mut self, rest: &[u8]) -> Option<usize> {
        let Line::Whole(line, used) = self.line(rest, MAX_LINE)? else {
            self.state = State::Head;
            return Some(rest.len());
        };
        if !line.is_empty() {
            self.state = State::Head;
            self.head.note(&line)?;
        } else if self.head.begun {
            self.finish_head();
        } else {
            // Empty lines before a request are let through (RFC 9112 section 2.2).
            self.state = State::Idle;
        }
        Some(used)
    }

    fn finish_head(&mut self) {
        let head = std::mem::take(&mut self.head);
        self.state = match head.length {
            _ if head.chunked => State::ChunkSize,
            None | Some(0) => State::Idle,
            Some(length) => State::Sized(length),
        };
    }

    /// Takes one line of a chunked body's framing (RFC 9112 section 7.1). The fields of a trailer
    /// are left to the library; what matters here is where they end.
    fn chunk_line(&mut self, rest: &[u8]) -> Option<usize> {
        let longest = match self.state {
            State::ChunkSize => MAX_SIZE_DIGITS + MAX_EXTENSION + 1,
            State::ChunkEnd => 1,
            _ => MAX_LINE,
        };
        let Line::Whole(line, used) = self.line(rest, longest)? else {
            return Some(rest.len());
        };
        self.state = match self.state {
            State::ChunkSize => match chunk_size(&line)? {
                0 => State::Trailers,
                size => State::Chunk(size),
            },
            State::Trailers if line.is_empty() => State::Idle,
            State::Trailers => State::Trailers,
            _ if line.is_empty() => State::ChunkSize,
            _ => return None,
        };
        Some(used)
    }
}

impl Head {
    /// Notes a line; `None` where it makes the message ambiguous.
    fn note(&mut self, line: &[u8]) -> Option<()> {
        if !self.begun {
            self.begun = true;
            return is_request_line(line).then_some(());
        }
        // The library refuses white space before the colon and in front of the name.
        if let Some(value) = value_of(line, b"content-length")? {
            let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            if !digits || self.length.is_some() || self.chunked {
                return None;
            }
            self.length = Some(std::str::from_utf8(value).ok()?.parse().ok()?);
        } else if let Some(value) = value_of(line, b"transfer-encoding")? {
            if self.chunked || self.length.is_some() || !value.eq_ignore_ascii_case(b"chunked") {
                return None;
            }
            self.chunked = true;
        }
        Some(())
    }
}

/// The value of the header in a line, if its name is `known`; `None` where it has that name only for
/// those who cannot tell an underscore from a dash, as CGI-like servers behind the edge cannot.
#[expect(clippy::option_option, reason = "the outer one is for `?`")]
fn value_of<'a>(line: &'a [u8], known: &[u8]) -> Option<Option<&'a [u8]>> {
    // Most lines are told apart by their first letter.
    if !line[0].eq_ignore_ascii_case(&known[0]) {
        return Some(None);
    }
    let Some((name, [b':', value @ ..])) = line.split_at_checked(known.len()) else {
        return Some(None);
    };
    if name.eq_ignore_ascii_case(known) {
        return Some(Some(value.trim_ascii()));
    }
    let alike = name
        .iter()
        .zip(known)
        .all(|(&byte, known)| byte.eq_ignore_ascii_case(known) || (byte, *known) == (b'_', b'-'));
    (!alike).then_some(None)
}

/// Whether it is a request line with a target that everybody reads alike (RFC 9112 section 3.2): a
/// path, an absolute URL, or `*` of OPTIONS; of printable ASCII (RFC 3986), without a fragment or a
/// backslash, which some take for a slash. CONNECT is for proxies: what follows it would be no HTTP.
fn is_request_line(line: &[u8]) -> bool {
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let is_absolute = || {
        let starts = |scheme: &[u8]| {
            target
                .get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        };
        starts(b"http://") || starts(b"https://")
    };
    let has_form = match target {
        b"*" => method == b"OPTIONS",
        [b'/', ..] => true,
        _ => is_absolute(),
    };
    has_form
        && method != b"CONNECT"
        && matches!(version, b"HTTP/1.1" | b"HTTP/1.0")
        && target
            .iter()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'\\'))
}

/// The size in a chunk's first line: hexadecimal digits alone, then at most an extension.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let (size, extension) = line.split_at(digits);
    let is_extension = || {
        extension.trim_ascii_start().starts_with(b";")
            && extension
                .iter()
                .all(|&byte| byte == b'\t' || !byte.is_ascii_control())
    };
    if !(1..=MAX_SIZE_DIGITS).contains(&digits)
        || extension.len() > MAX_EXTENSION
        || !(extension.is_empty() || is_extension())
    {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[u8] = b"POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe\nlo\r\n\
        GET / HTTP/1.1\r\nHost: a\r\n\r\n\
        POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=1\r\nhe\nlo\r\n0\r\nA: b\r\n\r\n\
        GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn sound_messages_pass_in_pieces_of_any_size() {
        for size in 1..GOOD.len() {
            let mut scanner = Scanner::default();
            for piece in GOOD.chunks(size) {
                assert_eq!(scanner.scan(piece), Ok(()), "pieces of {size}");
            }
            assert_eq!(scanner.state, State::Idle, "pieces of {size}");
        }
    }

    #[test]
    fn ambiguous_messages_are_refused_in_pieces_of_any_size() {
        for headers in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Content-Length: 5\r\ncontent-length: 6",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: xchunked",
            "Content_Length: 5",
            "transfer_encoding: chunked",
            "A: b\nC: d",
            "A: b\rC: d",
        ] {
            let message = format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\nhello");
            let bytes = [GOOD, message.as_bytes()].concat();
            let mut scanner = Scanner::default();
            assert_eq!(
                scanner.scan(&bytes),
                Err(Refused {
                    sound: GOOD.len(),
                    in_head: true
                }),
                "{headers:?}"
            );
            for size in 1..bytes.len() {
                let mut scanner = Scanner::default();
                let refused = bytes.chunks(size).any(|piece| scanner.scan(piece).is_err());
                assert!(refused, "{headers:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn broken_chunks_are_refused_where_they_break_in_pieces_of_any_size() {
        const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (sound, broken) in [
            ("", "5\nhello\r\n0\r\n\r\n"),
            ("", "0x5\r\n"),
            ("", "-5\r\n"),
            ("", "5 \r\n"),
            ("", " 5\r\n"),
            ("", "5_0\r\n"),
            ("", "\r\n"),
            ("", "10000000000000000\r\n"),
            ("", "5;a\0\r\n"),
            ("5\r\nhello", "X\r\n"),
            ("5\r\nhello", "\n0\r\n"),
            ("5\r\nhello\r\n0\r\nA: b\r\n", "C: d\n\r\n"),
        ] {
            let bytes = [HEAD, sound, broken].concat();
            let expected = Err(Refused {
                sound: HEAD.len() + sound.len(),
                in_head: false,
            });
            let mut scanner = Scanner::default();
            assert_eq!(scanner.scan(bytes.as_bytes()), expected, "{broken:?}");
            for size in 1..bytes.len() {
                let mut scanner = Scanner::default();
                let mut pieces = bytes.as_bytes().chunks(size);
                assert!(
                    pieces.any(|piece| scanner.scan(piece).is_err()),
                    "{broken:?} in pieces of {size}"
                );
            }
        }
        for extension in [1, MAX_EXTENSION - 1, MAX_EXTENSION, MAX_EXTENSION + 100_000] {
            let line = format!("{HEAD}5;{}\r\nhello\r\n", "x".repeat(extension));
            let refused = Scanner::default().scan(line.as_bytes()).is_err();
            assert_eq!(refused, extension >= MAX_EXTENSION, "{extension}");
        }
    }

    #[test]
    fn lines_that_name_no_target_for_all_are_refused() {
        for (line, good) in [
            ("GET / HTTP/1.1", true),
            ("GET /a?b=%20 HTTP/1.0", true),
            ("GET HTTP://a/ HTTP/1.1", true),
            ("OPTIONS * HTTP/1.1", true),
            ("GET * HTTP/1.1", false),
            ("GET a HTTP/1.1", false),
            ("GET  / HTTP/1.1", false),
            ("GET /a b HTTP/1.1", false),
            ("GET /#a HTTP/1.1", false),
            ("GET /\\a HTTP/1.1", false),
            ("GET /\u{e9} HTTP/1.1", false),
            ("GET / HTTP/1.2", false),
            ("GET /", false),
            ("CONNECT a:80 HTTP/1.1", false),
            ("CONNECT / HTTP/1.1", false),
        ] {
            assert_eq!(is_request_line(line.as_bytes()), good, "{line}");
        }
    }
}
