//! Bodies on their way through the edge: passed on chunk by chunk, never gathered or copied.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use uuid::Uuid;

use crate::limit::Permit;
use crate::pool::Connection;
use crate::session::{self, Principal};
use crate::table::Project;

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
}

/// A client's request body on its way to an upstream.
#[derive(Debug)]
pub(crate) struct RequestBody {
    /// `None` where there is no body.
    inner: Option<Incoming>,
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
}

impl RequestBody {
    /// `inner`, cut off with an error after `limit` bytes.
    pub(crate) fn new(inner: Incoming, limit: u64) -> (Self, Arc<Seen>) {
        let seen = Arc::new(Seen::default());
        let body = Self {
            inner: Some(inner),
            left: limit,
            seen: Arc::clone(&seen),
        };
        (body, seen)
    }

    /// No body, for a request that is sent again.
    pub(crate) fn empty() -> Self {
        Self {
            inner: None,
            left: 0,
            seen: Arc::default(),
        }
    }
}

impl Seen {
    /// Whether the body was cut off for its size.
    pub(crate) fn too_large(&self) -> bool {
        self.lock().too_large
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

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        let Some(frame) = ready!(Pin::new(inner).poll_frame(cx)) else {
            return Poll::Ready(None);
        };
        let frame = frame?;
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

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
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
    /// The project's place among its requests.
    permit: Option<Permit>,
    /// Set while the first event of an HTTP+SSE stream is awaited.
    pub(crate) endpoint: Option<EndpointWatch>,
}

/// Where to note the session that an HTTP+SSE stream opens.
#[derive(Debug)]
pub(crate) struct EndpointWatch {
    pub(crate) project: Arc<Project>,
    pub(crate) deployment: Uuid,
    pub(crate) principal: Principal,
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
            permit: None,
            endpoint: None,
        };
        if body.inner.is_end_stream() {
            body.finish();
        }
        body
    }

    /// Holds a project's place until the body has ended.
    pub(crate) fn hold(&mut self, permit: Permit) {
        if !self.inner.is_end_stream() {
            self.permit = Some(permit);
        }
    }

    fn finish(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.give_back();
        }
        self.permit = None;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(cx)) else {
            self.finish();
            return Poll::Ready(None);
        };
        if let Ok(frame) = &frame {
            if let (Some(chunk), Some(watch)) = (frame.data_ref(), self.endpoint.take())
                && let Some(id) = session::id_in_endpoint_event(chunk)
            {
                watch
                    .project
                    .sessions
                    .learn(id, watch.deployment, &watch.principal);
            }
            if self.inner.is_end_stream() {
                self.finish();
            }
        }
        Poll::Ready(Some(frame))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
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
