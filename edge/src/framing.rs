//! A stricter reading of HTTP/1.1 framing than the server library's, in front of it.
//!
//! The library follows RFC 9112 where that lets a server repair a message: it takes
//! `Transfer-Encoding` over `Content-Length`, drops a repeated `Content-Length`, ends lines at a
//! bare line feed, cuts a fragment off a target, and passes over what stands in chunk extensions.
//! Another proxy in front of the edge may have read the same bytes differently, which is how
//! requests are smuggled. So such a message is answered with 400 and the connection closed
//! (RFC 9112 sections 2.2, 3, 6.1, 6.3 and 7.1). What the library refuses itself is left to it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::Sleep;

use crate::scan::{Refused, Scanner};

/// Longest time for a client to send the rest of a head it has begun, and all of the first.
const HEAD: Duration = Duration::from_secs(10);

/// A client that is told off while it still sends hears it only if the rest is read: what stands
/// unread when a connection closes makes the kernel reset it, and the answer is lost. For at most
/// this long, and this many bytes.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// Makes the server library answer 400 wherever in a head it stands. It looks at a head that came
/// in part only when an end has come.
const HEAD_POISON: &[u8] = b"\0\r\n\r\n";

/// Makes the server library give a body up: in a chunk's extension it is passed over, but then the
/// stream ends.
const BODY_POISON: &[u8] = b"\0";

/// A client's connection whose requests are checked as they are read.
#[derive(Debug)]
pub(crate) struct Checked {
    /// There until the drop.
    stream: Option<TcpStream>,
    scanner: Scanner,
    /// Once a message has been refused, what the server library is still to read.
    poison: Option<&'static [u8]>,
    /// Whether a head has come whole. Until then the connection gets no more time than a head.
    greeted: bool,
    /// Runs while a head is awaited.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Where the connection goes if the client is not heard out.
    remains: Option<oneshot::Sender<TcpStream>>,
}

/// A client's connection that the server library has given up while the client still sends.
#[derive(Debug)]
pub(crate) struct Remains(oneshot::Receiver<TcpStream>);

impl Checked {
    /// Checks what comes over `stream` from its first byte on.
    pub(crate) fn new(stream: TcpStream) -> (Self, Remains) {
        let (keep, remains) = oneshot::channel();
        let checked = Self {
            stream: Some(stream),
            scanner: Scanner::default(),
            poison: None,
            greeted: false,
            deadline: None,
            remains: Some(keep),
        };
        (checked, Remains(remains))
    }

    fn stream(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.stream.as_mut().expect("it is there until the drop"))
    }

    /// Gives as much of the poison as there is room for; nothing, the end, once all is given.
    fn put_poison(&mut self, buf: &mut ReadBuf<'_>) {
        let poison = self.poison.unwrap_or_default();
        let (now, later) = poison.split_at(poison.len().min(buf.remaining()));
        buf.put_slice(now);
        self.poison = Some(later);
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

impl Drop for Checked {
    fn drop(&mut self) {
        if (self.poison.is_some() || !self.scanner.is_between())
            && let (Some(stream), Some(remains)) = (self.stream.take(), self.remains.take())
        {
            // Nobody waits for it where the edge stops.
            let _ = remains.send(stream);
        }
    }
}

impl Remains {
    /// Reads what a client still sends after its last answer, until it closes or has been given
    /// enough; to be called when the server library is done.
    pub(crate) async fn linger(mut self) {
        let Ok(mut stream) = self.0.try_recv() else {
            return;
        };
        let read = async {
            // Not in the future, of which every connection has one.
            let mut thrown = vec![0; 4096];
            let mut left = LINGER_BYTES;
            // The end of the answers is said first: the client may wait for it.
            stream.shutdown().await?;
            while left > 0 {
                match stream.read(&mut thrown).await? {
                    0 => break,
                    read => left = left.saturating_sub(read),
                }
            }
            io::Result::Ok(())
        };
        // A client that is gone, or goes on for longer, has had its chance.
        let _ = tokio::time::timeout(LINGER, read).await;
    }
}

impl AsyncRead for Checked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.poison.is_some() {
            self.put_poison(buf);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match self.stream().poll_read(cx, buf) {
            Poll::Pending => return self.poll_deadline(cx),
            Poll::Ready(read) => read?,
        }
        if let Err(Refused { sound, in_head }) = self.scanner.scan(&buf.filled()[before..]) {
            self.poison = Some(if in_head { HEAD_POISON } else { BODY_POISON });
            buf.set_filled(before + sound);
            self.put_poison(buf);
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
        self.stream().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream
            .as_ref()
            .is_some_and(AsyncWrite::is_write_vectored)
    }
}

/// Whether an upstream's response says its length in two ways: whoever chose the other one would read
/// what is left out as the next response (RFC 9112 section 6.3).
pub(crate) fn is_ambiguous(response: &HeaderMap) -> bool {
    let mut lengths = response.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next();
    let several = lengths.next().is_some();
    let odd = |length: &HeaderValue| !length.as_bytes().iter().all(u8::is_ascii_digit);
    let mut codings = response.get_all(TRANSFER_ENCODING).iter();
    match codings.next() {
        None => several || length.is_some_and(odd),
        Some(coding) => {
            length.is_some()
                || codings.next().is_some()
                || !coding.as_bytes().eq_ignore_ascii_case(b"chunked")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_with_two_lengths_are_ambiguous() {
        for (headers, ambiguous) in [
            (&[][..], false),
            (&[("content-length", "5")], false),
            (&[("transfer-encoding", "Chunked")], false),
            (&[("content-length", "5"), ("content-length", "5")], true),
            (&[("content-length", "5, 5")], true),
            (
                &[("transfer-encoding", "chunked"), ("content-length", "5")],
                true,
            ),
            (&[("transfer-encoding", "gzip, chunked")], true),
            (&[("transfer-encoding", "identity")], true),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_static(value));
            }
            assert_eq!(is_ambiguous(&map), ambiguous, "{headers:?}");
        }
    }
}
