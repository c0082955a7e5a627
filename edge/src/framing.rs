//! A stricter reading of HTTP/1.1 framing than the server library's, in front of it.
//!
//! The library follows RFC 9112 where that lets a server repair a message: it takes
//! `Transfer-Encoding` over `Content-Length`, drops a repeated `Content-Length`, and ends lines at a
//! bare line feed. Another proxy in front of the edge may have read the same bytes differently,
//! which is how requests are smuggled. So such a message is answered with 400 and the connection
//! closed (RFC 9112 sections 2.2, 6.1 and 6.3).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// Longest time for a client to send the rest of a head it has begun, and all of the first.
const HEAD: Duration = Duration::from_secs(10);

/// Most bytes of one line that are kept; the server library refuses longer heads itself.
const MAX_LINE: usize = 64 * 1024;

/// Makes the server library answer 400 wherever in a head it stands.
const POISON: &[u8] = b"\0";

/// A client's connection whose requests are checked as they are read.
#[derive(Debug)]
pub(crate) struct Checked {
    stream: TcpStream,
    scanner: Scanner,
    refused: bool,
    /// Whether a head has come whole. Until then the connection gets no more time than a head.
    greeted: bool,
    /// Runs while a head is awaited.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Checked {
    /// Checks what comes over `stream` from its first byte on.
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            scanner: Scanner::default(),
            refused: false,
            greeted: false,
            deadline: None,
        }
    }

    /// Ends the wait for a head that comes too slowly.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.greeted && !self.scanner.is_in_head() {
            return Poll::Pending;
        }
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(HEAD)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Checked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.refused {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Pending => return self.poll_deadline(cx),
            Poll::Ready(read) => read?,
        }
        if let Err(Refused { sound }) = self.scanner.scan(&buf.filled()[before..]) {
            self.refused = true;
            buf.set_filled(before + sound);
            buf.put_slice(POISON);
        }
        if !self.scanner.is_in_head() {
            self.greeted = true;
            self.deadline = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Checked {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A message that must not be served.
#[derive(Debug, PartialEq, Eq)]
struct Refused {
    /// Bytes of the piece that belong to earlier messages.
    sound: usize,
}

/// Follows message boundaries through the pieces in which bytes arrive.
#[derive(Debug, Default)]
struct Scanner {
    state: State,
    /// The beginning of a line that is not complete yet.
    line: Vec<u8>,
    /// What the head at hand said about its body.
    framing: Framing,
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
    /// In a chunk, its final line break included.
    Chunk(u64),
    /// After the last chunk.
    Trailers,
}

#[derive(Debug, Clone, Copy, Default)]
struct Framing {
    length: Option<u64>,
    chunked: bool,
}

impl Scanner {
    fn is_in_head(&self) -> bool {
        self.state == State::Head
    }

    /// Reads the next piece; fails at a message that can be read in two ways.
    fn scan(&mut self, piece: &[u8]) -> Result<(), Refused> {
        let mut at = 0;
        let mut sound = 0;
        while at < piece.len() {
            let rest = &piece[at..];
            at += match self.state {
                State::Idle | State::Head => {
                    if self.state == State::Idle {
                        sound = at;
                    }
                    self.head(rest).ok_or(Refused { sound })?
                }
                State::Sized(left) => self.skip(left, rest, State::Sized, State::Idle),
                State::Chunk(left) => self.skip(left, rest, State::Chunk, State::ChunkSize),
                // The library checks chunks strictly; what it refuses need not be followed.
                State::ChunkSize | State::Trailers => self.chunk_line(rest),
            };
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

    /// Takes one line of a head; gives the bytes used, or `None` if it must not be served.
    fn head(&mut self, rest: &[u8]) -> Option<usize> {
        let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
            self.state = State::Head;
            self.keep(rest);
            return Some(rest.len());
        };
        let kept = std::mem::take(&mut self.line);
        let joined;
        let line = if kept.is_empty() {
            &rest[..end]
        } else {
            joined = [kept.as_slice(), &rest[..end]].concat();
            &joined
        };
        let line = line.strip_suffix(b"\r")?;
        if line.contains(&b'\r') {
            return None;
        }
        match self.state {
            // Empty lines before a request are let through (RFC 9112 section 2.2).
            State::Idle if line.is_empty() => {}
            State::Head if line.is_empty() => self.finish_head(),
            _ => {
                self.state = State::Head;
                self.framing.note(line)?;
            }
        }
        Some(end + 1)
    }

    fn finish_head(&mut self) {
        let framing = std::mem::take(&mut self.framing);
        self.state = match framing.length {
            _ if framing.chunked => State::ChunkSize,
            None | Some(0) => State::Idle,
            Some(length) => State::Sized(length),
        };
    }

    /// Takes one line of a chunked body's framing.
    fn chunk_line(&mut self, rest: &[u8]) -> usize {
        let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
            self.keep(rest);
            return rest.len();
        };
        let mut line = std::mem::take(&mut self.line);
        line.extend_from_slice(&rest[..end]);
        let line = line.trim_ascii();
        self.state = match self.state {
            State::Trailers if line.is_empty() => State::Idle,
            State::Trailers => State::Trailers,
            _ => match chunk_size(line) {
                0 => State::Trailers,
                // With the line break after it.
                size => State::Chunk(size.saturating_add(2)),
            },
        };
        end + 1
    }

    fn keep(&mut self, part: &[u8]) {
        let room = MAX_LINE.saturating_sub(self.line.len());
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }
}

impl Framing {
    /// Notes a header; `None` where it makes the message ambiguous.
    fn note(&mut self, line: &[u8]) -> Option<()> {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            return Some(());
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        // The library refuses white space before the colon and in front of the name.
        if name.eq_ignore_ascii_case(b"content-length") {
            let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            if !digits || self.length.is_some() || self.chunked {
                return None;
            }
            self.length = Some(std::str::from_utf8(value).ok()?.parse().ok()?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || self.length.is_some() || !value.eq_ignore_ascii_case(b"chunked") {
                return None;
            }
            self.chunked = true;
        }
        Some(())
    }
}

/// The size in a chunk's first line; 0 where it cannot be read, which the library refuses.
fn chunk_size(line: &[u8]) -> u64 {
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    std::str::from_utf8(&line[..digits])
        .ok()
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .unwrap_or(0)
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
            "A: b\nC: d",
            "A: b\rC: d",
        ] {
            let message = format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\nhello");
            let bytes = [GOOD, message.as_bytes()].concat();
            let mut scanner = Scanner::default();
            assert_eq!(
                scanner.scan(&bytes),
                Err(Refused { sound: GOOD.len() }),
                "{headers:?}"
            );
            for size in 1..bytes.len() {
                let mut scanner = Scanner::default();
                let refused = bytes.chunks(size).any(|piece| scanner.scan(piece).is_err());
                assert!(refused, "{headers:?} in pieces of {size}");
            }
        }
    }
}
