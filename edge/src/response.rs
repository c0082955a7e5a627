//! What an upstream answers, read as HTTP/1.1 (RFC 9112): the head, and where the body ends.

use std::io;
use std::mem::MaybeUninit;

use bytes::{Buf as _, Bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use httparse::Status;
use hyper::ext::ReasonPhrase;

use crate::framing;

/// Most bytes of a response's head.
pub(crate) const MAX_HEAD: usize = 64 * 1024;

/// Most headers of a response: the server library takes as many of a request.
const MAX_HEADERS: usize = 100;

/// Headers that the edge adds to a response. Room for them is made at once.
const MOST_ADDED: usize = 6;

/// Longest line with the size of a chunk, and longest trailer section, in bytes: both are thrown away.
const MAX_CHUNK_LINE: usize = 4 * 1024;
const MAX_TRAILERS: usize = 16 * 1024;

/// The head of a response.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) response: Response<()>,
    pub(crate) extent: Extent,
    /// Whether the connection may serve another request after it.
    pub(crate) keeps: bool,
}

/// Why a response cannot be passed on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("it is no HTTP/1.1: {0}")]
    Nonsense(#[from] httparse::Error),
    #[error("a header of its answer holds what no header may")]
    Header(#[from] http::Error),
    #[error("the head of its answer is longer than {MAX_HEAD} bytes")]
    TooLong,
    /// It says its length in two ways.
    #[error("the length of its answer is ambiguous")]
    Ambiguous,
    /// It switched protocols without being asked.
    #[error("it switched protocols")]
    Switched,
}

/// What is still to come of a body (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// This many bytes.
    Sized(u64),
    /// A line with the size of a chunk.
    ChunkSize,
    /// This much of a chunk.
    Chunk(u64),
    /// The line break that ends a chunk.
    ChunkEnd,
    /// Fields after the last chunk.
    Trailers,
    /// All until the connection closes.
    UntilClose,
    /// Nothing.
    Ended,
}

/// Reads a head from the start of `bytes` and says how long it is; `None` while it is not whole.
/// `to_head` says that it answers a HEAD.
pub(crate) fn read_head(bytes: &Bytes, to_head: bool) -> Result<Option<(Head, usize)>, Unreadable> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        bytes,
        &mut fields,
    )?;
    let (length, is_whole) = match parsed {
        Status::Complete(length) => (length, true),
        Status::Partial => (bytes.len(), false),
    };
    if length > MAX_HEAD {
        return Err(Unreadable::TooLong);
    }
    if !is_whole {
        return Ok(None);
    }
    let status = StatusCode::from_u16(response.code.unwrap_or_default())
        .map_err(|_| httparse::Error::Status)?;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Unreadable::Switched);
    }
    let mut head = Head {
        response: Response::default(),
        extent: Extent::Ended,
        keeps: true,
    };
    *head.response.status_mut() = status;
    if status.is_informational() {
        return Ok(Some((head, length)));
    }
    let mut headers = HeaderMap::with_capacity(response.headers.len() + MOST_ADDED);
    for field in response.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(http::Error::from)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value))
            .map_err(http::Error::from)?;
        headers.append(name, value);
    }
    let is_newest = response.version == Some(1);
    head.extent = extent(status, to_head, is_newest, &headers)?;
    head.keeps = is_newest && head.extent != Extent::UntilClose && !closes(&headers);
    *head.response.headers_mut() = headers;
    // The server library writes the usual one.
    if let Some(reason) = response.reason
        && status.canonical_reason() != Some(reason)
        && let Ok(reason) = ReasonPhrase::try_from(reason.as_bytes())
    {
        head.response.extensions_mut().insert(reason);
    }
    Ok(Some((head, length)))
}

fn extent(
    status: StatusCode,
    to_head: bool,
    is_newest: bool,
    headers: &HeaderMap,
) -> Result<Extent, Unreadable> {
    if framing::is_ambiguous(headers) {
        return Err(Unreadable::Ambiguous);
    }
    if to_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Ok(Extent::Ended);
    }
    if headers.contains_key(TRANSFER_ENCODING) {
        // HTTP/1.0 knows no chunks: some would read until the end.
        return is_newest
            .then_some(Extent::ChunkSize)
            .ok_or(Unreadable::Ambiguous);
    }
    let Some(length) = headers.get(CONTENT_LENGTH) else {
        return Ok(Extent::UntilClose);
    };
    // It is made of digits alone.
    let length = length.to_str().ok().and_then(|length| length.parse().ok());
    length.map(Extent::sized).ok_or(Unreadable::Ambiguous)
}

/// Whether the connection ends with the response (RFC 9112 section 9.3).
fn closes(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|option| option.trim().eq_ignore_ascii_case("close"))
}

impl Extent {
    fn sized(length: u64) -> Self {
        match length {
            0 => Self::Ended,
            _ => Self::Sized(length),
        }
    }

    /// Takes the next piece of the body from the start of `bytes`; `None` when more must come, or the
    /// body has ended.
    pub(crate) fn take(&mut self, bytes: &mut Bytes) -> io::Result<Option<Bytes>> {
        self.pass_framing(bytes)?;
        let (left, rest): (u64, fn(u64) -> Self) = match *self {
            Self::Sized(left) => (left, Self::sized),
            Self::Chunk(left) => (left, |left| match left {
                0 => Self::ChunkEnd,
                _ => Self::Chunk(left),
            }),
            Self::UntilClose => (u64::MAX, |_| Self::UntilClose),
            Self::ChunkSize | Self::ChunkEnd | Self::Trailers | Self::Ended => return Ok(None),
        };
        if bytes.is_empty() {
            return Ok(None);
        }
        let here = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let piece = bytes.split_to(here);
        *self = rest(left - here as u64);
        // The end may be there as well; what is no end is found with the next piece.
        let _ = self.pass_framing(bytes);
        Ok(Some(piece))
    }

    /// Takes what stands between two chunks and after the last.
    fn pass_framing(&mut self, bytes: &mut Bytes) -> io::Result<()> {
        loop {
            let (used, next) = match self {
                // To the library, no digit is a zero.
                Self::ChunkSize if bytes.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) => {
                    return Err(nonsense("a chunk has no size"));
                }
                Self::ChunkSize => match httparse::parse_chunk_size(bytes) {
                    Ok(Status::Complete((used, 0))) => (used, Self::Trailers),
                    Ok(Status::Complete((used, size))) => (used, Self::Chunk(size)),
                    Ok(Status::Partial) => return bounded(bytes, MAX_CHUNK_LINE),
                    Err(_) => return Err(nonsense("the size of a chunk is no number")),
                },
                Self::ChunkEnd if bytes.starts_with(b"\r\n") => (2, Self::ChunkSize),
                Self::ChunkEnd if b"\r\n".starts_with(bytes) => return Ok(()),
                Self::ChunkEnd => return Err(nonsense("a chunk is longer than it says")),
                Self::Trailers => {
                    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
                    match httparse::parse_headers(bytes, &mut fields) {
                        Ok(Status::Complete((used, _))) => (used, Self::Ended),
                        Ok(Status::Partial) => return bounded(bytes, MAX_TRAILERS),
                        Err(_) => return Err(nonsense("the last chunk is not followed by fields")),
                    }
                }
                Self::Sized(_) | Self::Chunk(_) | Self::UntilClose | Self::Ended => return Ok(()),
            };
            bytes.advance(used);
            *self = next;
        }
    }
}

/// Lets more come, up to `most` bytes.
fn bounded(bytes: &Bytes, most: usize) -> io::Result<()> {
    if bytes.len() > most {
        return Err(nonsense("what frames its answer is too long"));
    }
    Ok(())
}

fn nonsense(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Option<(Head, usize)>, Unreadable> {
        read_head(&Bytes::copy_from_slice(text.as_bytes()), false)
    }

    /// The body at the start of `raw` where it comes in pieces of `size`, and what follows it.
    fn body(extent: Extent, raw: &[u8], size: usize) -> io::Result<(Vec<u8>, Vec<u8>, Extent)> {
        let (mut extent, mut unused, mut body) = (extent, Vec::new(), Vec::new());
        for piece in raw.chunks(size) {
            unused.extend_from_slice(piece);
            let mut bytes = Bytes::from(unused);
            while let Some(piece) = extent.take(&mut bytes)? {
                body.extend_from_slice(&piece);
            }
            unused = bytes.to_vec();
        }
        Ok((body, unused, extent))
    }

    #[test]
    fn a_head_says_how_far_the_body_goes_and_whether_the_connection_lasts() {
        for (text, extent, keeps) in [
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n",
                Extent::Sized(5),
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n",
                Extent::Ended,
                true,
            ),
            (
                "HTTP/1.1 200\r\ntransfer-encoding: Chunked\r\n",
                Extent::ChunkSize,
                true,
            ),
            ("HTTP/1.1 200 OK\r\n", Extent::UntilClose, false),
            ("HTTP/1.1 204 No Content\r\n", Extent::Ended, true),
            (
                "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n",
                Extent::Ended,
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: x, Close\r\n",
                Extent::Sized(5),
                false,
            ),
            (
                "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n",
                Extent::Sized(5),
                false,
            ),
            (
                "HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive\r\n",
                Extent::Sized(5),
                false,
            ),
        ] {
            let whole = format!("{text}\r\nbody");
            let (head, length) = head(&whole).unwrap().unwrap();
            assert_eq!((head.extent, head.keeps), (extent, keeps), "{text:?}");
            assert_eq!(&whole[length..], "body");
        }
        let answer = Bytes::from_static(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
        let (head, _) = read_head(&answer, true).unwrap().unwrap();
        assert_eq!((head.extent, head.keeps), (Extent::Ended, true));
        assert_eq!(head.response.headers()[CONTENT_LENGTH], "5");
    }

    #[test]
    fn a_head_is_read_when_it_is_whole_and_not_read_without_end() {
        let whole = "HTTP/1.1 200 OK\r\na: b\r\nA: \u{e9}\r\n\r\n";
        for cut in 0..whole.len() {
            let part = Bytes::copy_from_slice(&whole.as_bytes()[..cut]);
            assert!(read_head(&part, false).unwrap().is_none(), "{cut}");
        }
        let (head, _) = head(whole).unwrap().unwrap();
        let values: Vec<_> = head.response.headers().get_all("a").iter().collect();
        assert_eq!(values, ["b".as_bytes(), "\u{e9}".as_bytes()]);
        let endless = format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(MAX_HEAD));
        assert!(matches!(
            super::tests::head(&endless),
            Err(Unreadable::TooLong)
        ));
        let many = format!(
            "HTTP/1.1 200 OK\r\n{}\r\n",
            "a: b\r\n".repeat(MAX_HEADERS + 1)
        );
        assert!(super::tests::head(&many).is_err());
    }

    #[test]
    fn an_interim_head_and_an_unusual_reason_are_told_apart() {
        let (interim, _) = head("HTTP/1.1 103 Early Hints\r\ncontent-length: x\r\n\r\n")
            .unwrap()
            .unwrap();
        assert!(interim.response.status().is_informational());
        for (line, reason) in [
            ("200 OK", None),
            ("200 Fine", Some("Fine")),
            ("599 Odd", Some("Odd")),
        ] {
            let (head, _) = head(&format!("HTTP/1.1 {line}\r\n\r\n")).unwrap().unwrap();
            let said = head.response.extensions().get::<ReasonPhrase>();
            assert_eq!(
                said.map(ReasonPhrase::as_bytes),
                reason.map(str::as_bytes),
                "{line}"
            );
        }
    }

    #[test]
    fn what_comes_before_a_fault_is_passed_on() {
        let mut bytes = Bytes::from_static(b"3\r\nonejunk");
        let mut extent = Extent::ChunkSize;
        assert_eq!(extent.take(&mut bytes).unwrap().unwrap(), "one");
        assert!(extent.take(&mut bytes).is_err());
    }

    #[test]
    fn an_odd_head_is_refused() {
        for text in [
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
            "HTTP/1.1 204 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n",
            "HTTP/1.1 99 Low\r\n\r\n",
            "HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
        ] {
            assert!(head(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_body_ends_where_it_says_in_pieces_of_any_size() {
        for (extent, raw) in [
            (Extent::Sized(8), &b"oneothernext"[..]),
            (
                Extent::ChunkSize,
                b"3\r\none\r\n5 ; x=y\r\nother\r\n0\r\n\r\nnext",
            ),
            (
                Extent::ChunkSize,
                b"3\r\none\r\n005\r\nother\r\n0\r\na: b\r\nc: d\r\n\r\nnext",
            ),
        ] {
            for size in 1..=raw.len() {
                let (body, left, end) = body(extent, raw, size).unwrap();
                assert_eq!(
                    (&*body, &*left, end),
                    (&b"oneother"[..], &b"next"[..], Extent::Ended),
                    "{size}"
                );
            }
        }
        let (body, left, end) = body(Extent::UntilClose, b"all of it", 2).unwrap();
        assert_eq!(
            (&*body, left.len(), end),
            (&b"all of it"[..], 0, Extent::UntilClose)
        );
    }

    #[test]
    fn a_body_framed_wrongly_breaks_off() {
        let (line, fields) = ("0".repeat(MAX_CHUNK_LINE + 2), "a".repeat(MAX_TRAILERS + 2));
        for raw in [
            "-3\r\none\r\n",
            "3\r\nonenot the end\r\n",
            "x\r\n",
            "\r\n\r\n",
            " 3\r\none\r\n",
            ";x\r\n\r\n",
            "fffffffffffffffff\r\none",
            "0\r\nno field\r\n\r\n",
            &format!("3;{line}"),
            &format!("0\r\n{fields}"),
        ] {
            for size in [1, 3, raw.len()] {
                assert!(
                    body(Extent::ChunkSize, raw.as_bytes(), size).is_err(),
                    "{raw:.40} by {size}"
                );
            }
        }
    }
}
