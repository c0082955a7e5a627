//! Bodies on their way through the edge: passed on chunk by chunk, never gathered or copied.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::endpoint::{EndpointWatch, Heard};
use crate::limit::{Answer, Permit};
use crate::pool::Connection;
use crate::session::OpenStream;
use crate::streams::Open;

/// As much of a request body as is looked at to find the request's id for an error made here.
pub(crate) const PEEK: usize = 64 * 1024;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The other side broke off.
    #[error(transparent)]
    Hyper(#[from] hyper::Error),
    /// The request is larger than the edge takes.
    #[error("the request body is larger than the limit")]
    TooLarge,
    /// Whoever reads may call no more.
    #[error("the caller's access was withdrawn")]
    Withdrawn,
}

/// A request body on its way to an upstream.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// Made by the edge; `None` where there is none, or no more.
    Own(Option<Bytes>),
    /// A client's.
    Client(ClientBody),
}

/// A client's request body, cut off with an error where it is too long.
#[derive(Debug)]
pub(crate) struct ClientBody {
    inner: Incoming,
    /// Bytes that may still come.
    left: u64,
    seen: Arc<Seen>,
}

/// What the edge still knows of a body it has passed on.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<SeenState>);

#[derive(Debug, Default)]
struct SeenState {
    chunks: Vec<Bytes>,
    bytes: usize,
    too_large: bool,
    broken: bool,
    ended: bool,
}

impl RequestBody {
    /// `inner`, cut off with an error after `limit` bytes.
    pub(crate) fn new(inner: Incoming, limit: u64) -> (Self, Arc<Seen>) {
        let seen = Arc::new(Seen::default());
        seen.lock().ended = inner.is_end_stream();
        let body = Self::Client(ClientBody {
            inner,
            left: limit,
            seen: Arc::clone(&seen),
        });
        (body, seen)
    }

    /// A body made here.
    pub(crate) fn own(bytes: Bytes) -> Self {
        Self::Own(Some(bytes))
    }

    /// No body.
    pub(crate) fn empty() -> Self {
        Self::Own(None)
    }
}

impl Seen {
    /// Whether the body was cut off for its size.
    pub(crate) fn too_large(&self) -> bool {
        self.lock().too_large
    }

    /// Whether the client broke off, or its framing could not be read.
    pub(crate) fn broken(&self) -> bool {
        self.lock().broken
    }

    /// Whether the body has passed to its end.
    pub(crate) fn ended(&self) -> bool {
        self.lock().ended
    }

    /// The first bytes of the body, as far as they have passed and up to [`PEEK`].
    pub(crate) fn start(&self) -> Vec<u8> {
        self.lock().chunks.concat()
    }

    /// Notes a chunk without copying it.
    fn note(&self, chunk: &Bytes) {
        let mut state = self.lock();
        if state.bytes < PEEK {
            state.bytes += chunk.len();
            state.chunks.push(chunk.clone());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, SeenState> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(cx)) else {
            self.seen.lock().ended = true;
            return Poll::Ready(None);
        };
        let frame = frame.inspect_err(|_| self.seen.lock().broken = true)?;
        if self.inner.is_end_stream() {
            self.seen.lock().ended = true;
        }
        if let Some(chunk) = frame.data_ref() {
            let Some(left) = self.left.checked_sub(chunk.len() as u64) else {
                self.seen.lock().too_large = true;
                return Poll::Ready(Some(Err(BodyError::TooLarge)));
            };
            self.left = left;
            self.seen.note(chunk);
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Client(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Client(body) => body.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Client(body) => body.inner.size_hint(),
        }
    }
}

/// A response body on its way to the client.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// Made by the edge.
    Own(Option<Bytes>),
    /// Passed on from an upstream.
    Upstream(Box<UpstreamBody>),
}

/// A response body from an upstream, and what is held while it runs. Dropping it before its end
/// closes the upstream's connection, which is how a client's leaving reaches the instance.
#[derive(Debug)]
pub(crate) struct UpstreamBody {
    inner: Incoming,
    /// Kept for the next request once the body has ended.
    connection: Option<Connection>,
    /// Why the body broke off, while what came before it is passed on.
    failed: Option<BodyError>,
    held: Held,
    /// Set while the first event of an HTTP+SSE stream is awaited.
    pub(crate) endpoint: Option<Box<EndpointWatch>>,
}

/// What counts a response while it runs.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// The project's place among its requests.
    #[expect(dead_code, reason = "what is held is given back when it is dropped")]
    pub(crate) permit: Option<Permit>,
    /// The place among what the instance is answering; a stream on which a client only listens has
    /// none, since its client comes back to the instance that follows.
    #[expect(dead_code, reason = "what is held is given back when it is dropped")]
    pub(crate) answer: Option<Answer>,
    /// The MCP session in which events are streamed.
    pub(crate) stream: Option<OpenStream>,
    /// The place among the project's open streams; it says when to end.
    pub(crate) open: Option<Open>,
}

impl ResponseBody {
    /// A body made here.
    pub(crate) fn own(bytes: impl Into<Bytes>) -> Self {
        Self::Own(Some(bytes.into()))
    }

    /// No body.
    pub(crate) fn empty() -> Self {
        Self::Own(None)
    }
}

impl UpstreamBody {
    /// A body that gives `connection` back at its end.
    pub(crate) fn new(inner: Incoming, connection: Connection) -> Self {
        let mut body = Self {
            inner,
            connection: Some(connection),
            failed: None,
            held: Held::default(),
            endpoint: None,
        };
        if body.inner.is_end_stream() {
            body.finish();
        }
        body
    }

    /// Lets the connection go on by itself while nobody reads this body: a request's body may still
    /// be on its way.
    pub(crate) fn detach(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.detach();
        }
    }

    /// Holds `held` until the body has ended.
    pub(crate) fn hold(&mut self, held: Held) {
        if !self.inner.is_end_stream() {
            self.held = held;
        }
    }

    fn finish(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.give_back();
        }
        self.held = Held::default();
    }

    fn poll_inner(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if polled.is_ready() {
            return polled;
        }
        // The connection knows now that somebody reads, and may have something.
        if let Some(connection) = &mut self.connection {
            connection.drive(cx);
        }
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if let Some(open) = &self.held.open
            && open.poll_over(cx).is_ready()
        {
            return self.fail(cx, BodyError::Withdrawn);
        }
        let Some(frame) = ready!(self.poll_inner(cx)) else {
            self.finish();
            return Poll::Ready(None);
        };
        let frame = match frame {
            Err(error) => return self.fail(cx, error.into()),
            Ok(frame) => frame,
        };
        if let (Some(chunk), Some(watch)) = (frame.data_ref(), self.endpoint.take()) {
            match watch.hear(chunk) {
                Heard::More(watch) => self.endpoint = Some(watch),
                Heard::Session(stream) => self.held.stream = Some(stream),
                Heard::Nothing => {}
            }
        }
        if self.inner.is_end_stream() {
            self.finish();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    /// Breaks off. The server library throws away what it has not sent when it hears of an error;
    /// now it sends, and asks once more.
    fn fail<T>(&mut self, cx: &Context<'_>, error: BodyError) -> Poll<T> {
        self.failed = Some(error);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Upstream(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Upstream(body) => body.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Upstream(body) => body.inner.size_hint(),
        }
    }
}
