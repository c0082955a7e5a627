//! Bodies on their way through the edge: passed on piece by piece, never gathered.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::endpoint::{EndpointWatch, Heard};
use crate::limit::{Answer, Permit};
use crate::pool::{Connection, Rest};
use crate::response::Extent;
use crate::sending::Sending;
use crate::session::OpenStream;
use crate::streams::Open;

/// As much of a request body as is looked at to find the request's id for an error made here.
pub(crate) const PEEK: usize = 64 * 1024;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The client broke off, or framed it wrongly.
    #[error(transparent)]
    Client(#[from] hyper::Error),
    /// The upstream broke off, or framed it wrongly.
    #[error(transparent)]
    Upstream(#[from] io::Error),
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
    /// The first bytes that have passed, up to [`PEEK`]. A copy: what it would hold of the buffer that
    /// the client's connection reads into could not be used for the next request.
    start: Vec<u8>,
}

impl RequestBody {
    /// `inner`, cut off with an error after `limit` bytes.
    pub(crate) fn client(inner: Incoming, limit: u64) -> Self {
        Self::Client(ClientBody {
            inner,
            left: limit,
            start: Vec::new(),
        })
    }

    /// A body made here.
    pub(crate) fn own(bytes: Bytes) -> Self {
        Self::Own(Some(bytes))
    }

    /// No body.
    pub(crate) fn empty() -> Self {
        Self::Own(None)
    }

    /// The first bytes of a client's body, as far as they have passed and up to [`PEEK`].
    pub(crate) fn start(&self) -> &[u8] {
        match self {
            Self::Own(_) => &[],
            Self::Client(body) => &body.start,
        }
    }

    /// The next piece. Trailers end here (RFC 9110 section 6.5.1).
    pub(crate) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(Ok)),
            Self::Client(body) => body.poll_piece(cx),
        }
    }

    /// Whether nothing more comes.
    pub(crate) fn has_ended(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Client(body) => body.inner.is_end_stream(),
        }
    }
}

impl ClientBody {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(cx)?) else {
                return Poll::Ready(None);
            };
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            let Some(left) = self.left.checked_sub(piece.len() as u64) else {
                return Poll::Ready(Some(Err(BodyError::TooLarge)));
            };
            self.left = left;
            let looked_at = piece.len().min(PEEK - self.start.len());
            self.start.extend_from_slice(&piece[..looked_at]);
            return Poll::Ready(Some(Ok(piece)));
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

/// A response body as it comes from an upstream. Dropping it before its end closes the connection.
#[derive(Debug)]
pub(crate) struct Received {
    /// Kept for the next request once the body has ended.
    connection: Option<Connection>,
    extent: Extent,
    /// Whether the connection may be kept.
    keeps: bool,
    /// What is left of the request.
    request: Option<Rest>,
}

/// A response body from an upstream, and what is held while it runs. Dropping it before its end
/// closes the upstream's connection, which is how a client's leaving reaches the instance.
#[derive(Debug)]
pub(crate) struct UpstreamBody {
    inner: Received,
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

impl Received {
    /// The body that follows on `connection`.
    pub(crate) fn new(connection: Connection, extent: Extent, keeps: bool) -> Self {
        let mut received = Self {
            connection: Some(connection),
            extent,
            keeps,
            request: None,
        };
        received.settle();
        received
    }

    /// Lets the rest of the request go on by itself: nobody may read this body meanwhile.
    pub(crate) fn go_on(&mut self, sending: Sending) {
        self.request = self
            .connection
            .as_mut()
            .and_then(|connection| connection.go_on(sending));
    }

    fn has_ended(&self) -> bool {
        self.extent == Extent::Ended
    }

    /// Lets the connection go once the body has ended.
    fn settle(&mut self) {
        if self.has_ended()
            && let Some(connection) = self.connection.take_if(|_| self.keeps)
        {
            connection.give_back();
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Some(request) = &mut self.request
            && let Poll::Ready(ended) = request.poll_end(cx)
        {
            self.request = None;
            if let Err(error) = ended {
                // Closes: the answer to half a request is nobody's.
                self.connection = None;
                return Poll::Ready(Some(Err(error)));
            }
        }
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(None);
        };
        loop {
            if let Some(piece) = self.extent.take(&mut connection.unused)? {
                self.settle();
                return Poll::Ready(Some(Ok(piece)));
            }
            if self.extent == Extent::Ended {
                self.settle();
                return Poll::Ready(None);
            }
            if ready!(connection.poll_more(cx))? == 0 {
                if self.extent == Extent::UntilClose {
                    self.extent = Extent::Ended;
                    return Poll::Ready(None);
                }
                let broken = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Poll::Ready(Some(Err(broken.into())));
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.extent {
            Extent::Sized(left) => SizeHint::with_exact(left),
            Extent::Ended => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }
}

impl UpstreamBody {
    /// A body that holds nothing yet.
    pub(crate) fn new(inner: Received) -> Self {
        Self {
            inner,
            failed: None,
            held: Held::default(),
            endpoint: None,
        }
    }

    /// Holds `held` until the body has ended.
    pub(crate) fn hold(&mut self, held: Held) {
        if !self.inner.has_ended() {
            self.held = held;
        }
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
        let piece = ready!(self.inner.poll_piece(cx));
        if self.inner.has_ended() {
            self.held = Held::default();
        }
        let piece = match piece {
            None => return Poll::Ready(None),
            Some(Err(error)) => return self.fail(cx, error),
            Some(Ok(piece)) => piece,
        };
        if let Some(watch) = self.endpoint.take() {
            match watch.hear(&piece) {
                Heard::More(watch) => self.endpoint = Some(watch),
                Heard::Session(stream) => self.held.stream = Some(stream),
                Heard::Nothing => {}
            }
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
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
            Self::Upstream(body) => body.inner.has_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Upstream(body) => body.inner.size_hint(),
        }
    }
}
