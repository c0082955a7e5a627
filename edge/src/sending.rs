//! A request on its way to an upstream, written as HTTP/1.1 (RFC 9112).

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderValue, Method};
use tokio::io::AsyncWrite;

use crate::body::{BodyError, RequestBody};
use crate::headers::{Added, write_line};

/// What ends a chunk.
const CHUNK_END: &[u8] = b"\r\n";

/// What ends a chunk and the body with it.
const LAST_CHUNK_END: &[u8] = b"\r\n0\r\n\r\n";

/// What ends a body after the end of a chunk.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Room made for a request line and what stands between names and values.
const LINES: usize = 512;

/// A request, as far as it has not been written. Each piece of its body is written together with what
/// stands before it: most requests leave in one.
pub(crate) struct Sending {
    /// Request line and headers; kept where they may be sent again.
    head: Vec<u8>,
    /// The line that gives the size of the piece, in a chunked body.
    size: Vec<u8>,
    piece: Bytes,
    /// What stands behind the piece.
    end: &'static [u8],
    /// Bytes written of these four.
    written: usize,
    body: RequestBody,
    chunked: bool,
    /// Whether all of the body is there or has been written.
    ended: bool,
    begun: bool,
    pub(crate) asks_for_head: bool,
    is_repeatable: bool,
}

/// Why a request could not be sent.
#[derive(Debug)]
pub(crate) enum Unsent {
    /// The connection does not take it.
    Connection(io::Error),
    /// The body broke off.
    Body(BodyError),
}

impl Default for Sending {
    /// Nothing to be sent.
    fn default() -> Self {
        Self {
            head: Vec::new(),
            size: Vec::new(),
            piece: Bytes::new(),
            end: b"",
            written: 0,
            body: RequestBody::empty(),
            chunked: false,
            ended: true,
            begun: false,
            asks_for_head: false,
            is_repeatable: false,
        }
    }
}

impl Sending {
    /// A request for the path and query of `parts`, whatever stands before them: the `Host` header says
    /// the same. It has the headers `added` after its own.
    pub(crate) fn new(parts: &mut Parts, added: &Added, body: RequestBody) -> Self {
        let is_empty = body.has_ended();
        let chunked = !is_empty && !parts.headers.contains_key(CONTENT_LENGTH);
        if chunked {
            let chunked = HeaderValue::from_static("chunked");
            parts.headers.insert(TRANSFER_ENCODING, chunked);
        }
        let idempotent = [Method::GET, Method::HEAD, Method::OPTIONS, Method::DELETE];
        Self {
            head: head(parts, added.lines()),
            body,
            chunked,
            ended: is_empty,
            asks_for_head: parts.method == Method::HEAD,
            is_repeatable: is_empty && idempotent.contains(&parts.method),
            ..Self::default()
        }
    }

    /// Whether all of it has been written.
    pub(crate) fn is_done(&self) -> bool {
        self.ended && self.left() == 0
    }

    /// Whether it may be sent a second time: nothing of it was written, or it changes nothing where
    /// `closed` tells that the first connection was closing (RFC 9110 section 9.2.2).
    pub(crate) fn may_repeat(&self, closed: bool) -> bool {
        !self.begun || (closed && self.is_repeatable)
    }

    /// Goes back to the start, where it may be repeated.
    pub(crate) fn rewind(&mut self) {
        self.written = 0;
    }

    /// Whether anything was written.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// The first bytes of the body, as far as they have passed.
    pub(crate) fn start(&self) -> &[u8] {
        self.body.start()
    }

    /// Writes what can be written now; ready when all is.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut stream: Pin<&mut impl AsyncWrite>,
    ) -> Poll<Result<(), Unsent>> {
        loop {
            let fetched = if self.wants_piece() {
                self.poll_piece(cx).map_err(Unsent::Body)?
            } else {
                Poll::Ready(())
            };
            if self.left() > 0 {
                let written = ready!(self.poll_write(cx, stream.as_mut()));
                self.note(written.map_err(Unsent::Connection)?);
            } else if self.ended {
                return Poll::Ready(Ok(()));
            } else {
                ready!(fetched);
            }
        }
    }

    /// Whether there is room for the next piece of the body; the first one goes with the head.
    fn wants_piece(&self) -> bool {
        let goes_with_head = !self.begun && self.piece.is_empty();
        !self.ended && (goes_with_head || self.left() == 0)
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let piece = ready!(self.body.poll_piece(cx)).transpose()?;
        self.ended = piece.is_none() || self.body.has_ended();
        self.piece = piece.unwrap_or_default();
        if self.chunked {
            self.frame_piece();
        }
        Poll::Ready(Ok(()))
    }

    /// Makes the piece a chunk (RFC 9112 section 7.1).
    fn frame_piece(&mut self) {
        if !self.piece.is_empty() {
            // A Vec takes all that is written to it.
            let _ = write!(self.size, "{:x}\r\n", self.piece.len());
        }
        self.end = match (self.piece.is_empty(), self.ended) {
            (true, true) => LAST_CHUNK,
            (true, false) => b"",
            (false, true) => LAST_CHUNK_END,
            (false, false) => CHUNK_END,
        };
    }

    fn parts(&self) -> [&[u8]; 4] {
        [&self.head, &self.size, &self.piece, self.end]
    }

    fn left(&self) -> usize {
        let all: usize = self.parts().iter().map(|part| part.len()).sum();
        all - self.written
    }

    fn poll_write(
        &self,
        cx: &mut Context<'_>,
        stream: Pin<&mut impl AsyncWrite>,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(b""); 4];
        let mut count = 0;
        let mut skip = self.written;
        for part in self.parts() {
            let rest = &part[skip.min(part.len())..];
            skip -= part.len() - rest.len();
            if !rest.is_empty() {
                slices[count] = IoSlice::new(rest);
                count += 1;
            }
        }
        match stream.poll_write_vectored(cx, &slices[..count]) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            polled => polled,
        }
    }

    fn note(&mut self, written: usize) {
        self.begun = true;
        self.written += written;
        if self.left() > 0 {
            return;
        }
        // At once: what it holds of the buffer that the client's connection reads into could not be
        // used for the next request.
        self.piece = Bytes::new();
        self.size.clear();
        self.end = b"";
        if !self.is_repeatable {
            self.head = Vec::new();
        }
        self.written = self.head.len();
    }
}

/// Request line and headers, with those `added`.
fn head(parts: &Parts, added: &[u8]) -> Vec<u8> {
    let values: usize = parts.headers.values().map(HeaderValue::len).sum();
    let target = parts
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let mut head = Vec::with_capacity(LINES + target.len() + values + added.len());
    head.extend_from_slice(parts.method.as_str().as_bytes());
    head.push(b' ');
    if target.starts_with('?') {
        // The path of an absolute URL may be left out (RFC 9112 section 3.2.1).
        head.push(b'/');
    }
    head.extend_from_slice(target.as_bytes());
    head.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in &parts.headers {
        write_line(&mut head, name, value);
    }
    head.extend_from_slice(added);
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http::Request;
    use tokio::io::{AsyncReadExt as _, duplex};

    use super::*;

    fn request(method: &str, headers: &[(&str, &str)], body: RequestBody) -> Sending {
        let mut request = Request::builder().method(method).uri("http://h.d/mcp?a=b");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let mut added = Added::none();
        added.push(&http::header::FORWARDED, &HeaderValue::from_static("x"));
        Sending::new(&mut parts, &added, body)
    }

    /// What is written of it over a connection that takes `room` bytes at a time.
    async fn written(sending: &mut Sending, room: usize) -> String {
        let (mut ours, mut theirs) = duplex(room);
        let mut text = String::new();
        let send = async {
            poll_fn(|cx| sending.poll(cx, Pin::new(&mut ours)))
                .await
                .unwrap();
            drop(ours);
        };
        let (sent, read) = tokio::join!(send, theirs.read_to_string(&mut text));
        let () = sent;
        read.unwrap();
        text
    }

    #[tokio::test]
    async fn a_request_is_written_whole_through_any_gap() {
        let body = || RequestBody::own(Bytes::from_static(b"0123456789abcdefg"));
        for room in [1, 7, 64, 4096] {
            let mut sized = request("POST", &[("host", "h.d"), ("content-length", "17")], body());
            assert_eq!(
                written(&mut sized, room).await,
                "POST /mcp?a=b HTTP/1.1\r\nhost: h.d\r\ncontent-length: 17\r\nforwarded: x\r\n\r\n0123456789abcdefg",
            );
            assert!(sized.is_done());
            let mut chunked = request("POST", &[("host", "h.d")], body());
            assert_eq!(
                written(&mut chunked, room).await,
                "POST /mcp?a=b HTTP/1.1\r\nhost: h.d\r\ntransfer-encoding: chunked\r\nforwarded: x\r\n\r\n11\r\n0123456789abcdefg\r\n0\r\n\r\n",
            );
            let mut empty = request("POST", &[("host", "h.d")], RequestBody::empty());
            assert_eq!(
                written(&mut empty, room).await,
                "POST /mcp?a=b HTTP/1.1\r\nhost: h.d\r\nforwarded: x\r\n\r\n"
            );
        }
    }

    #[test]
    fn the_target_is_a_path_whatever_form_it_came_in() {
        for (came, goes) in [
            ("/mcp?a=b", "/mcp?a=b"),
            ("http://h.d/mcp", "/mcp"),
            ("http://h.d", "/"),
            ("http://h.d?a=b", "/?a=b"),
            ("*", "*"),
        ] {
            let request = Request::builder().uri(came).body(()).unwrap();
            let head = head(&request.into_parts().0, b"");
            assert_eq!(
                String::from_utf8_lossy(&head),
                format!("GET {goes} HTTP/1.1\r\n\r\n")
            );
        }
    }

    #[tokio::test]
    async fn what_changes_something_is_not_sent_twice() {
        let body = || RequestBody::own(Bytes::from_static(b"0123456789abcdefg"));
        for (method, body, repeats) in [
            ("GET", RequestBody::empty(), true),
            ("DELETE", RequestBody::empty(), true),
            ("POST", RequestBody::empty(), false),
            ("GET", body(), false),
            ("POST", body(), false),
        ] {
            let mut sending = request(method, &[], body);
            assert!(sending.may_repeat(false), "nothing was written");
            let first = written(&mut sending, 4096).await;
            assert_eq!(sending.may_repeat(true), repeats, "{method}");
            assert!(!sending.may_repeat(false), "{method}");
            if repeats {
                sending.rewind();
                assert_eq!(written(&mut sending, 4096).await, first);
            }
        }
    }
}
