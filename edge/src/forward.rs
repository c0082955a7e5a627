//! Passes one request to one upstream and its answer back, both as streams.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;

use crate::alarm::Alarm;
use crate::body::{RequestBody, Seen, UpstreamBody};
use crate::framing;
use crate::pool::{Connection, Pool};

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The request body exceeded the limit.
    #[error("the request body is too large")]
    TooLarge,
    /// The client broke off in its request, or framed it wrongly.
    #[error("the request body cannot be read")]
    Unread,
    /// The upstream did not begin to answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// A new connection could not be opened where the old one had closed.
    #[error("cannot connect: {0}")]
    Unreachable(#[from] std::io::Error),
    /// The upstream broke off or spoke nonsense.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    /// The upstream switched protocols without being asked.
    #[error("it switched protocols")]
    Switched,
    /// The answer says its length in two ways.
    #[error("the length of its answer is ambiguous")]
    Ambiguous,
}

/// A connection to send on.
#[derive(Debug)]
pub(crate) struct Ready {
    connection: Connection,
    /// It has served before, and may be closing at this moment.
    used: bool,
}

impl Ready {
    /// A kept connection of `pool`.
    pub(crate) fn kept(pool: &Arc<Pool>) -> Option<Self> {
        let connection = pool.take()?;
        Some(Self {
            connection,
            used: true,
        })
    }

    /// A kept connection of `pool`, or a new one.
    pub(crate) async fn get(pool: &Arc<Pool>) -> std::io::Result<Self> {
        match Self::kept(pool) {
            Some(ready) => Ok(ready),
            None => Self::new(pool).await,
        }
    }

    /// A new connection.
    pub(crate) async fn new(pool: &Arc<Pool>) -> std::io::Result<Self> {
        let connection = pool.connect().await?;
        Ok(Self {
            connection,
            used: false,
        })
    }
}

/// What a request may take.
#[derive(Debug)]
pub(crate) struct Limits<'a> {
    /// Bytes of its body.
    pub(crate) body: u64,
    /// How long the head of the answer is waited for, and by which timer.
    pub(crate) first_byte: Duration,
    pub(crate) alarm: &'a Alarm,
}

/// Sends the request and waits for the head of the answer, within `limits`. Also gives what was seen
/// of the request's body, for an error that carries the request's id.
pub(crate) async fn send(
    pool: &Arc<Pool>,
    ready: Ready,
    mut parts: Box<Parts>,
    body: Incoming,
    limits: Limits<'_>,
) -> (Result<Response<UpstreamBody>, Failure>, Arc<Seen>) {
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    to_origin_form(&mut parts.uri);
    if !body.is_end_stream() && !parts.headers.contains_key(CONTENT_LENGTH) {
        // Said here since the client library would drop the body of a GET otherwise.
        let chunked = HeaderValue::from_static("chunked");
        parts.headers.insert(TRANSFER_ENCODING, chunked);
    }
    let (body, seen) = RequestBody::new(body, limits.body);
    let exchanged = pin!(exchange(pool, ready, Request::from_parts(*parts, body)));
    let answer = match limits.alarm.within(limits.first_byte, exchanged).await {
        Some(Ok((response, _))) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            Err(Failure::Switched)
        }
        Some(Ok((response, _))) if framing::is_ambiguous(response.headers()) => {
            Err(Failure::Ambiguous)
        }
        Some(Ok((response, connection))) => Ok(response.map(|body| {
            let mut body = UpstreamBody::new(body, connection);
            if !seen.ended() {
                body.detach();
            }
            body
        })),
        Some(Err(_)) if seen.too_large() => Err(Failure::TooLarge),
        Some(Err(_)) if seen.broken() => Err(Failure::Unread),
        Some(Err(failure)) => Err(failure),
        None => Err(Failure::TimedOut(limits.first_byte)),
    };
    (answer, seen)
}

/// Sends `request`, a second time on a new connection where that is safe, and waits for the head of
/// the answer. The connection comes with it, to be kept when the body has ended.
pub(crate) fn exchange(
    pool: &Arc<Pool>,
    ready: Ready,
    request: Request<RequestBody>,
) -> impl Future<Output = Result<(Response<Incoming>, Connection), Failure>> {
    let used = ready.used;
    let copy = (used && is_repeatable(&request)).then(|| Box::new(copy(&request)));
    // Given away before the future begins, which would have to hold the room for it otherwise.
    let sending = ready.connection.send(request);
    async move {
        let mut error = match sending.await {
            Ok(answered) => return Ok(answered),
            Err(error) => error,
        };
        // The upstream closed a kept connection. What never left, and what changes nothing, is sent
        // again; a call that may have been made is not (RFC 9110 section 9.2.2).
        let broken = is_closing(error.error());
        if broken {
            pool.distrust();
        }
        let closed = used && broken;
        let unsent = error.take_message().map(Box::new);
        match unsent.or_else(|| copy.filter(|_| closed)) {
            // Boxed: it is needed once in a thousand times.
            Some(request) => Box::pin(again(pool, request)).await,
            None => Err(error.into_error().into()),
        }
    }
}

/// Sends `request` on a new connection.
async fn again(
    pool: &Arc<Pool>,
    request: Box<Request<RequestBody>>,
) -> Result<(Response<Incoming>, Connection), Failure> {
    let connection = pool.connect().await?;
    let answered = connection.send(*request).await;
    Ok(answered.map_err(hyper::client::conn::TrySendError::into_error)?)
}

/// Whether the error looks like a connection that was closed while it was idle.
fn is_closing(error: &hyper::Error) -> bool {
    use std::error::Error;
    let reset = || {
        error
            .source()
            .and_then(|source| source.downcast_ref::<std::io::Error>())
            .is_some_and(|io| {
                use std::io::ErrorKind;
                matches!(
                    io.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                )
            })
    };
    error.is_closed() || error.is_canceled() || error.is_incomplete_message() || reset()
}

fn is_repeatable(request: &Request<RequestBody>) -> bool {
    let safe = [Method::GET, Method::HEAD, Method::OPTIONS, Method::DELETE];
    safe.contains(request.method()) && request.body().is_end_stream()
}

fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::empty());
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy
}

/// Drops scheme and host from a target in absolute form; the `Host` header says the same.
fn to_origin_form(uri: &mut Uri) {
    if uri.authority().is_some() {
        *uri = uri
            .path_and_query()
            .map_or_else(|| Uri::from_static("/"), |target| Uri::from(target.clone()));
    }
}
