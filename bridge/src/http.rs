//! Streamable HTTP on `$PORT` (MCP 2025-11-25, basic/transports).
//!
//! Only the edge reaches it: who may call, from which origin and how much, is decided there.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::stream;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rmcp::model::{ErrorCode, RequestId};
use rmcp::transport::common::http_header::{
    EVENT_STREAM_MIME_TYPE, HEADER_SESSION_ID, JSON_MIME_TYPE,
};
use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use crate::limits::{KEEP_ALIVE, MAX_MESSAGE_BYTES, PATIENCE, SHUTDOWN, STREAM_MESSAGES, SWEEP};
use crate::message::{self, Kind};
use crate::report;
use crate::session::{Outgoing, SERVER_ERROR, Session};
use crate::sessions::{Refusal, Sessions};
use crate::settings::Settings;

/// Where the server is served.
const PATH: &str = "/mcp";
/// When to come again, seconds, where all sessions are busy.
const RETRY_SECONDS: u16 = 5;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Serves until SIGTERM, then ends every session.
pub async fn serve(settings: Settings, mut stop: Signal) -> anyhow::Result<()> {
    let port = settings.port;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        .await
        .with_context(|| format!("port {port} cannot be opened"))?;
    let sessions = Sessions::new(settings);
    report::serving(
        "stdio",
        port,
        Some("The server speaks stdio: each MCP session gets a process of its own."),
    );
    let mut connections = JoinSet::new();
    let mut sweep = interval(SWEEP);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((connection, _)) = accepted {
                    let sessions = Arc::clone(&sessions);
                    connections.spawn(async move {
                        let answer = service_fn(move |request| {
                            let sessions = Arc::clone(&sessions);
                            async move { Ok::<_, Infallible>(answer(&sessions, request).await) }
                        });
                        // A connection that breaks is the client's to notice.
                        let _ = hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(connection), answer)
                            .await;
                    });
                }
            }
            Some(_) = connections.join_next() => {}
            _ = sweep.tick() => sessions.sweep(),
            _ = stop.recv() => break,
        }
    }
    drop(listener);
    let _ = timeout(SHUTDOWN, sessions.close()).await;
    Ok(())
}

async fn answer(sessions: &Arc<Sessions>, request: Request<Incoming>) -> Response<Body> {
    if request.uri().path().trim_end_matches('/') != PATH {
        return refuse(
            StatusCode::NOT_FOUND,
            ErrorCode::INVALID_REQUEST,
            None,
            "The MCP server is at /mcp.",
        );
    }
    match *request.method() {
        Method::POST => post(sessions, request).await,
        Method::GET => get(sessions, &request),
        Method::DELETE => delete(sessions, &request),
        _ => {
            let mut response = refuse(
                StatusCode::METHOD_NOT_ALLOWED,
                ErrorCode::INVALID_REQUEST,
                None,
                "Use POST, GET or DELETE.",
            );
            let allowed = HeaderValue::from_static("GET, POST, DELETE");
            response.headers_mut().insert(ALLOW, allowed);
            response
        }
    }
}

async fn post(sessions: &Arc<Sessions>, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let session = session_id(&head.headers);
    let takes_stream = takes(&head.headers, EVENT_STREAM_MIME_TYPE);
    let Ok(body) = Limited::new(body, MAX_MESSAGE_BYTES).collect().await else {
        return refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::INVALID_REQUEST,
            None,
            "The message is larger than 16 MiB or broke off; send less at once.",
        );
    };
    let body = body.to_bytes();
    let kind = match message::read(&body) {
        Ok(kind) => kind,
        Err(why) => {
            let why = format!("This is no JSON-RPC message: {why}. Send one message a request.");
            return refuse(StatusCode::BAD_REQUEST, ErrorCode::PARSE_ERROR, None, &why);
        }
    };
    let id = match &kind {
        Kind::Request { id, .. } => Some(id.clone()),
        _ => None,
    };
    let session = match (session, &kind) {
        (Some(name), _) => match sessions.find(&name) {
            Some(session) => session,
            None => return unknown_session(id),
        },
        (
            None,
            Kind::Request {
                is_initialize: true,
                ..
            },
        ) => match sessions.begin() {
            Ok(session) => session,
            Err(refusal) => return no_session(id, &refusal),
        },
        // Also the revision without sessions (2026-07-28): a stdio server has one client, so each
        // gets a process, and its handshake tells when it begins.
        (None, _) => {
            return refuse(
                StatusCode::BAD_REQUEST,
                SERVER_ERROR,
                id,
                "This server needs a session: begin with initialize, and send the Mcp-Session-Id of its answer.",
            );
        }
    };
    let Kind::Request { id, progress, .. } = kind else {
        if let Kind::Notification {
            canceled: Some(id), ..
        } = &kind
        {
            session.cancel(id);
        }
        session.send(&body).await;
        return reply(StatusCode::ACCEPTED, None, Bytes::new());
    };
    let (stream, receiver) = mpsc::channel(STREAM_MESSAGES);
    if !session.expect(id.clone(), progress, stream, takes_stream) {
        return refuse(
            StatusCode::BAD_REQUEST,
            ErrorCode::INVALID_REQUEST,
            Some(id),
            "A request with this id is still being answered; give each its own.",
        );
    }
    session.send(&body).await;
    let mut response = respond(receiver, takes_stream).await;
    let name = HeaderValue::from_str(&session.id).expect("it is hexadecimal");
    response.headers_mut().insert(HEADER_SESSION_ID, name);
    response
}

/// The answer alone where it comes soon, else a stream of everything up to it.
async fn respond(mut receiver: mpsc::Receiver<Outgoing>, takes_stream: bool) -> Response<Body> {
    if takes_stream {
        return match timeout(PATIENCE, receiver.recv()).await {
            Ok(Some(first)) if first.is_last => json(first.bytes),
            Ok(first) => event_stream(first, receiver),
            Err(_) => event_stream(None, receiver),
        };
    }
    while let Some(outgoing) = receiver.recv().await {
        if outgoing.is_last {
            return json(outgoing.bytes);
        }
    }
    refuse(
        StatusCode::BAD_GATEWAY,
        SERVER_ERROR,
        None,
        "The server did not answer.",
    )
}

fn get(sessions: &Arc<Sessions>, request: &Request<Incoming>) -> Response<Body> {
    let Some(session) = named(sessions, request) else {
        return unknown_session(None);
    };
    let (stream, receiver) = mpsc::channel(STREAM_MESSAGES);
    session.listen(stream);
    event_stream(None, receiver)
}

fn delete(sessions: &Arc<Sessions>, request: &Request<Incoming>) -> Response<Body> {
    let is_gone = session_id(request.headers()).is_some_and(|id| sessions.end(&id));
    if is_gone {
        reply(StatusCode::OK, None, Bytes::new())
    } else {
        unknown_session(None)
    }
}

fn named(sessions: &Arc<Sessions>, request: &Request<Incoming>) -> Option<Arc<Session>> {
    sessions.find(&session_id(request.headers())?)
}

fn session_id(headers: &http::HeaderMap) -> Option<String> {
    Some(headers.get(HEADER_SESSION_ID)?.to_str().ok()?.to_owned())
}

/// Whether a client accepts a type; one that says nothing accepts all (RFC 9110 section 12.5.1).
fn takes(headers: &http::HeaderMap, kind: &str) -> bool {
    let mut accepts = headers.get_all(ACCEPT).iter().peekable();
    accepts.peek().is_none()
        || accepts.any(|value| {
            let value = value.to_str().unwrap_or_default();
            value.contains(kind) || value.contains("*/*")
        })
}

/// Server-sent events, with a comment now and then while nothing happens. It ends with its channel.
fn event_stream(first: Option<Outgoing>, receiver: mpsc::Receiver<Outgoing>) -> Response<Body> {
    let events = stream::unfold((first, receiver), |(first, mut receiver)| async move {
        let next = match first {
            Some(outgoing) => Ok(Some(outgoing)),
            None => timeout(KEEP_ALIVE, receiver.recv()).await,
        };
        let event = match next {
            Ok(None) => return None,
            Ok(Some(outgoing)) => [b"event: message\ndata: ", &*outgoing.bytes, b"\n\n"]
                .concat()
                .into(),
            Err(_) => Bytes::from_static(b": at work\n\n"),
        };
        Some((Ok(Frame::data(event)), (None, receiver)))
    });
    let mut response = Response::new(StreamBody::new(events).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(EVENT_STREAM_MIME_TYPE),
    );
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-transform"),
    );
    response
}

fn json(bytes: Bytes) -> Response<Body> {
    reply(StatusCode::OK, Some(JSON_MIME_TYPE), bytes)
}

fn reply(status: StatusCode, kind: Option<&'static str>, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(bytes).boxed_unsync());
    *response.status_mut() = status;
    if let Some(kind) = kind {
        let kind = HeaderValue::from_static(kind);
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}

fn refuse(status: StatusCode, code: ErrorCode, id: Option<RequestId>, why: &str) -> Response<Body> {
    let bytes = message::error(id, code, why.to_owned());
    reply(status, Some(JSON_MIME_TYPE), bytes.into())
}

fn unknown_session(id: Option<RequestId>) -> Response<Body> {
    refuse(
        StatusCode::NOT_FOUND,
        ErrorCode::INVALID_REQUEST,
        id,
        "Session not found: it has ended. Begin a new one with initialize.",
    )
}

fn no_session(id: Option<RequestId>, refusal: &Refusal) -> Response<Body> {
    match refusal {
        Refusal::Unstartable(why) => {
            refuse(StatusCode::INTERNAL_SERVER_ERROR, SERVER_ERROR, id, why)
        }
        Refusal::Full(most) => {
            let why = format!(
                "All {most} sessions of this server are in use; try again in a moment. More memory for instances makes room for more."
            );
            let mut response = refuse(StatusCode::SERVICE_UNAVAILABLE, SERVER_ERROR, id, &why);
            let seconds = HeaderValue::from(RETRY_SECONDS);
            response.headers_mut().insert(RETRY_AFTER, seconds);
            response
        }
    }
}
