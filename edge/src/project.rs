//! A project's host: what is answered here, what is passed on, what comes back.

use std::sync::Arc;
use std::time::Instant;

use http::header::ORIGIN;
use http::request::Parts;
use http::{HeaderName, Method, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;

use crate::access::Passing;
use crate::admit::{self, Call};
use crate::asked::Asked;
use crate::body::{Held, ResponseBody};
use crate::caller::Caller;
use crate::client::Client;
use crate::clock;
use crate::cors;
use crate::endpoint::EndpointWatch;
use crate::error::{self, Refusal};
use crate::forward::{self, Failure, Limits};
use crate::headers;
use crate::limit::{Kind, MAX_BODY, Permit};
use crate::metadata;
use crate::protocol::{CallEvent, EdgeStep};
use crate::reach::{self, Reached};
use crate::server::Edge;
use crate::site::Site;
use crate::steps::Walker;
use crate::streams;
use crate::target::Target;

const MCP_METHOD: HeaderName = HeaderName::from_static("mcp-method");

/// Answers a request for a host of `site`.
pub(crate) async fn answer(
    edge: &Edge,
    client: &Client,
    site: Arc<Site>,
    parts: Box<Parts>,
    body: Incoming,
) -> Response<ResponseBody> {
    let path = parts.uri.path();
    if let Some(document) = site.document(path) {
        note_step(
            edge,
            client,
            &site,
            &parts,
            EdgeStep::ResourceMetadata,
            None,
        );
        return metadata::answer(&parts.method, document.clone());
    }
    let guards_pages = site
        .passing(path)
        .is_some_and(|passing| admit::keeps_pages_off(passing, path));
    if !guards_pages {
        return call(edge, client, site, parts, body).await;
    }
    let mut origin = parts.headers.get(ORIGIN).cloned();
    let knows_page = origin.is_none() || cors::is_allowed(&parts.headers, &site.origins);
    origin.take_if(|_| !knows_page);
    let mut response = if knows_page && parts.method == Method::OPTIONS {
        cors::preflight(&parts.headers)
    } else {
        call(edge, client, site, parts, body).await
    };
    cors::expose(origin, response.headers_mut());
    response
}

/// Passes a call on and its answer back, or says why not.
async fn call(
    edge: &Edge,
    client: &Client,
    site: Arc<Site>,
    mut parts: Box<Parts>,
    body: Incoming,
) -> Response<ResponseBody> {
    let began = Instant::now();
    let kind = kind(&parts);
    let entered = enter(edge, client, Arc::clone(&site), &parts, &body, kind, began).await;
    let (permit, reached) = match entered {
        Ok(entered) => entered,
        Err(refusal) => {
            if let Some(step) = refusal.step {
                note_step(edge, client, &site, &parts, step, refusal.caller.as_deref());
            }
            return Box::pin(error::refuse(refusal, &parts.headers, body)).await;
        }
    };
    let Reached {
        site,
        call,
        target,
        ready,
        answer: place,
    } = reached;
    if let Some(caller) = &call.caller
        && caller.calls_first(site.project.id)
    {
        note_step(edge, client, &site, &parts, EdgeStep::Called, Some(caller));
    }
    let open_path = (call.passing == Passing::PublicPath).then(|| parts.uri.path().into());
    let (asked, added) = Asked::prepare(edge, client, &site, &call, &target, &mut parts);
    let limits = Limits {
        body: MAX_BODY,
        first_byte: edge.times.first_byte,
        alarm: &client.alarm,
    };
    let mut response = match forward::send(&target.pool, ready, parts, &added, body, limits).await {
        Ok(response) => response,
        Err((failure, start)) => {
            let response = failed(&site, &failure, &start);
            note_call(edge, &call, &site, &target, began, response.status());
            return response;
        }
    };
    note_call(edge, &call, &site, &target, began, response.status());
    call.note(&site, &target, &asked.method, &response);
    let has_events = headers::is_event_stream(response.headers());
    client.note_stream(kind, has_events);
    let mut held = Held {
        permit: Some(permit),
        answer: (!client.listens()).then_some(place),
        ..Held::default()
    };
    if has_events {
        held.stream = call.stream(&site, response.headers());
        let open = streams::open(&edge.routes, &site, call.caller.as_ref(), open_path);
        held.open = Some(open);
    }
    headers::project_response(response.headers_mut(), has_events, &target, call.passing);
    if has_location(response.status()) {
        asked.redirect(&site, &target, &mut response);
    }
    let body = response.body_mut();
    body.hold(held);
    if asked.opens_sse {
        let watch = EndpointWatch::new(&site.project, target.deployment(), call.principal);
        body.endpoint = Some(Box::new(watch));
    }
    response.map(|body| ResponseBody::Upstream(Box::new(body)))
}

/// Lets a request in: its caller, a place among the project's requests, and an instance.
async fn enter(
    edge: &Edge,
    client: &Client,
    site: Arc<Site>,
    parts: &Parts,
    body: &Incoming,
    kind: Kind,
    began: Instant,
) -> Result<(Permit, Reached), Refusal> {
    if body.size_hint().lower() > MAX_BODY {
        return Err(Refusal::too_large());
    }
    let call = Call::admit(&site, client, parts)?;
    let kind = match call.passing {
        Passing::PublicPath => Kind::Open,
        Passing::Checked | Passing::Public | Passing::Tenant => kind,
    };
    let permit = site.project.usage.enter(kind).ok_or_else(|| {
        Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            "This project answers as many requests as it may at once. Wait a moment and try again.",
        )
        .retry_after(1)
    })?;
    let reached = reach::reach(edge, client, site, call, parts, began).await?;
    Ok((permit, reached))
}

/// Notes what a client did on its way to a connection.
fn note_step(
    edge: &Edge,
    client: &Client,
    site: &Site,
    parts: &Parts,
    step: EdgeStep,
    caller: Option<&Caller>,
) {
    let walker = Walker {
        address: &client.origin(&parts.headers, edge.scheme).address,
        headers: &parts.headers,
        caller: caller.map(|caller| (caller.client_id(), caller.user)),
    };
    edge.steps.record(site.project.id, step, &walker);
}

/// Notes a call that an instance was given.
fn note_call(
    edge: &Edge,
    call: &Call,
    site: &Site,
    target: &Target,
    began: Instant,
    status: StatusCode,
) {
    let took = began.elapsed();
    let at = clock::roughly().saturating_sub(took);
    edge.calls.record(CallEvent {
        project: site.project.id,
        deployment: target.deployment(),
        grant: call.grant(),
        api_token: call.api_token(),
        at_ms: i64::try_from(at.as_millis()).unwrap_or(i64::MAX),
        duration_us: u32::try_from(took.as_micros()).unwrap_or(u32::MAX),
        status: status.as_u16(),
    });
}

/// A GET and `subscriptions/listen` (MCP 2026-07-28) hold a stream open to listen.
fn kind(parts: &Parts) -> Kind {
    let listens = || {
        parts
            .headers
            .get(MCP_METHOD)
            .is_some_and(|method| method == "subscriptions/listen")
    };
    if parts.method == Method::GET || listens() {
        Kind::Stream
    } else {
        Kind::Request
    }
}

/// Whether a client may follow an answer's `Location` (RFC 9110 section 10.2.2).
fn has_location(status: StatusCode) -> bool {
    status.is_redirection() || status == StatusCode::CREATED
}

/// An error in answer to a request that was passed on, at least in part; its body began with `start`.
fn failed(site: &Site, failure: &Failure, start: &[u8]) -> Response<ResponseBody> {
    let refusal = match failure {
        Failure::TooLarge => Refusal::too_large(),
        Failure::TimedOut(_) => Refusal::new(
            StatusCode::GATEWAY_TIMEOUT,
            "The server did not begin to answer within five minutes. Let long work report progress.",
        ),
        Failure::Unreachable(_) => reach::starting(),
        Failure::Unread => Refusal::new(
            StatusCode::BAD_REQUEST,
            "The request body broke off or is not framed as HTTP/1.1 asks. Send the request again, whole.",
        ),
        Failure::Broken(_) | Failure::Unreadable(_) => Refusal::new(
            StatusCode::BAD_GATEWAY,
            "The server broke off before it answered, so the call may have had effect. Look at its logs.",
        ),
    };
    if refusal.status().is_server_error() {
        tracing::warn!(project.id = %site.project.id, error = %failure, "a call was not answered");
    }
    refusal.json_rpc(error::find_id(start).as_ref())
}
