//! Passes one request to one upstream and its answer back, both as streams.

use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf as _;
use http::Response;
use http::request::Parts;
use hyper::body::Incoming;
use memchr::memchr;

use crate::alarm::Alarm;
use crate::body::{BodyError, Received, RequestBody, UpstreamBody};
use crate::headers::Added;
use crate::pool::{Connection, Pool};
use crate::response::{Head, MAX_HEAD, Unreadable, read_head};
use crate::sending::{Sending, Unsent};

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
    /// The upstream broke off.
    #[error("it broke off: {0}")]
    Broken(std::io::Error),
    /// The upstream's answer cannot be passed on.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
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

/// Sends the request with the headers `added` and waits for the head of the answer, within `limits`.
/// A failure comes with the first bytes of the request's body, for an error that carries its id.
pub(crate) async fn send(
    pool: &Arc<Pool>,
    ready: Ready,
    mut parts: Box<Parts>,
    added: &Added,
    body: Incoming,
    limits: Limits<'_>,
) -> Result<Response<UpstreamBody>, (Failure, Vec<u8>)> {
    let body = RequestBody::client(body, limits.body);
    let mut sending = Sending::new(&mut parts, added, body);
    drop(parts);
    let answer = {
        let exchanged = pin!(exchange(pool, ready, &mut sending));
        limits.alarm.within(limits.first_byte, exchanged).await
    };
    match answer.unwrap_or(Err(Failure::TimedOut(limits.first_byte))) {
        Ok(response) => Ok(response.map(UpstreamBody::new)),
        Err(failure) => Err((failure, sending.start().to_vec())),
    }
}

/// Sends a request, a second time on a new connection where that is safe, and waits for the head of
/// the answer; what is left of the request then goes on by itself. The connection is kept when the
/// answer's body has ended.
pub(crate) async fn exchange(
    pool: &Arc<Pool>,
    ready: Ready,
    sending: &mut Sending,
) -> Result<Response<Received>, Failure> {
    let Ready { connection, used } = ready;
    let failure = match attempt(connection, sending).await {
        Ok(response) => return Ok(response),
        Err(failure) => failure,
    };
    // The upstream closed a kept connection. What never left, and what changes nothing, is sent
    // again; a call that may have been made is not.
    let is_closing = matches!(&failure, Failure::Broken(error) if is_closing(error));
    if !is_closing {
        return Err(failure);
    }
    pool.distrust();
    if !sending.may_repeat(used) {
        return Err(failure);
    }
    sending.rewind();
    // Boxed: it is needed once in a thousand times.
    Box::pin(async { attempt(pool.connect().await?, sending).await }).await
}

/// Sends a request on `connection` and waits for the head of the answer.
async fn attempt(
    connection: Connection,
    sending: &mut Sending,
) -> Result<Response<Received>, Failure> {
    let mut connection = Some(connection);
    let mut unsent = None;
    let head = std::future::poll_fn(|cx| {
        let connection = connection.as_mut().expect("it is there until the head is");
        if unsent.is_none() {
            match connection.poll_send(cx, sending) {
                Poll::Ready(Err(Unsent::Body(error))) => return Poll::Ready(Err(error.into())),
                Poll::Ready(Err(Unsent::Connection(error))) => unsent = Some(error),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        // A server that takes no more of a request may have said why.
        if let Some(error) = unsent.take_if(|_| !sending.has_begun()) {
            return Poll::Ready(Err(Failure::Broken(error)));
        }
        let read = ready!(poll_head(connection, cx, sending.asks_for_head));
        Poll::Ready(read.map_err(|failure| match (failure, unsent.take()) {
            (Failure::Broken(_), Some(first)) => Failure::Broken(first),
            (failure, _) => failure,
        }))
    })
    .await?;
    let connection = connection.take().expect("the head came over it");
    let keeps = head.keeps && unsent.is_none() && sending.is_done();
    Ok(head.response.map(|()| {
        let mut received = Received::new(connection, head.extent, keeps);
        if !sending.is_done() {
            received.go_on(std::mem::take(sending));
        }
        received
    }))
}

/// Reads the head of the final answer; interim ones are for the edge (RFC 9110 section 15.2).
fn poll_head(
    connection: &mut Connection,
    cx: &mut Context<'_>,
    to_head: bool,
) -> Poll<Result<Head, Failure>> {
    loop {
        let came = ready!(connection.poll_more(cx)).map_err(Failure::Broken)?;
        if came == 0 {
            return Poll::Ready(Err(Failure::Broken(ErrorKind::UnexpectedEof.into())));
        }
        // A head that comes byte by byte is looked at once a line.
        let new = &connection.unused[connection.unused.len() - came..];
        let mut looks = memchr(b'\n', new).is_some() || connection.unused.len() > MAX_HEAD;
        while looks && let Some((head, length)) = read_head(&connection.unused, to_head)? {
            connection.unused.advance(length);
            if !head.response.status().is_informational() {
                return Poll::Ready(Ok(head));
            }
            looks = !connection.unused.is_empty();
        }
    }
}

/// Whether the error looks like a connection that was closed while it was idle.
fn is_closing(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
    )
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::TooLarge,
            BodyError::Client(_) | BodyError::Upstream(_) | BodyError::Withdrawn => Self::Unread,
        }
    }
}
