//! What an upstream answers, read as HTTP/1.1 (RFC 9112): the head, and where the body ends.

use std::io;
use std::mem::MaybeUninit;

use bytes::{Buf as _, Bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use httparse::Status;

use crate::framing;

/// Most bytes of a response's head.
const MAX_HEAD: usize = 64 * 1024;

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
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
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
    let Status::Complete(length) = parsed else {
        return if bytes.len() > MAX_HEAD {
            Err(Unreadable::TooLong)
        } else {
            Ok(None)
        };
    };
    let status =
        StatusCode::from_u16(response.code.unwrap_or_default()).map_err(http::Error::from)?;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Unreadable::Switched);
    }
    let mut headers = HeaderMap::with_capacity(response.headers.len() + MOST_ADDED);
    for field in response.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(http::Error::from)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value))
            .map_err(http::Error::from)?;
        headers.append(name, value);
    }
    let is_newest = response.version == Some(1);
    let extent = extent(status, to_head, is_newest, &headers)?;
    let head = Head {
        status,
        keeps: extent != Extent::UntilClose && keeps(is_newest, &headers),
        extent,
        headers,
    };
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

/// Whether a connection outlives the response (RFC 9112 section 9.3).
fn keeps(is_newest: bool, headers: &HeaderMap) -> bool {
    let says = |option: &str| {
        headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|said| said.trim().eq_ignore_ascii_case(option))
    };
    if is_newest {
        !says("close")
    } else {
        says("keep-alive")
    }
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
        // The end may be there as well.
        self.pass_framing(bytes)?;
        Ok(Some(piece))
    }

    /// Takes what stands between two chunks and after the last.
    fn pass_framing(&mut self, bytes: &mut Bytes) -> io::Result<()> {
        loop {
            let (used, next) = match self {
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
