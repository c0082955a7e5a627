//! A project's host: who may call, where the call goes, what comes back.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderName, Method, Response, StatusCode, Uri};
use http_body::Body;
use hyper::body::Incoming;

use crate::auth::Denied;
use crate::body::{EndpointWatch, ResponseBody, Seen, UpstreamBody};
use crate::client::Client;
use crate::cors;
use crate::error::{self, Refusal};
use crate::forward::{self, Failure};
use crate::headers;
use crate::limit::{Kind, MAX_BODY};
use crate::metadata;
use crate::protocol::Policy;
use crate::reach::{self, Reached};
use crate::server::Edge;
use crate::session::{self, Owner, Principal};
use crate::table::{Site, Target};

const MCP_SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const MCP_METHOD: HeaderName = HeaderName::from_static("mcp-method");

/// Longest wait for the head of an answer: the read timeout of the Python clients, the longest of
/// the known ones.
const FIRST_BYTE: Duration = Duration::from_mins(5);

/// What is known of a request before it is passed on.
pub(crate) struct Call {
    principal: Principal,
    /// The MCP session it belongs to.
    session: Option<Box<str>>,
    pub(crate) owner: Owner,
}

/// Answers a request for the host of `site`.
pub(crate) async fn answer(
    edge: &Edge,
    client: &Client,
    site: Arc<Site>,
    parts: Parts,
    body: Incoming,
) -> Response<ResponseBody> {
    let guarded = is_guarded(&site);
    let path = parts.uri.path();
    if guarded && let Some(document) = site.documents.at(path) {
        return metadata::answer(&parts.method, document.clone());
    }
    let speaks_mcp = is_mcp_path(path);
    if !speaks_mcp {
        return if guarded {
            metadata::not_served(&site.resource)
        } else {
            call(edge, client, site, parts, body).await
        };
    }
    if !cors::is_allowed(&parts.headers, &site.origin) {
        let refusal = Refusal::new(
            StatusCode::FORBIDDEN,
            "Pages of this origin may not call this server. Call it from a program, or from a page on localhost.",
        );
        return error::refuse(refusal, &parts.headers, body).await;
    }
    let origin = parts.headers.get(ORIGIN).cloned();
    let mut response = if parts.method == Method::OPTIONS {
        cors::preflight(&parts.headers)
    } else {
        call(edge, client, site, parts, body).await
    };
    cors::expose(origin, response.headers_mut());
    response
}

fn is_guarded(site: &Site) -> bool {
    matches!(site.policy, Policy::Platform { .. })
}

/// The paths of the MCP transports: Streamable HTTP, and HTTP+SSE of MCP 2024-11-05.
fn is_mcp_path(path: &str) -> bool {
    matches!(path, "/mcp" | "/mcp/" | "/sse" | "/messages" | "/messages/")
}

async fn call(
    edge: &Edge,
    client: &Client,
    site: Arc<Site>,
    mut parts: Parts,
    body: Incoming,
) -> Response<ResponseBody> {
    if body.size_hint().lower() > MAX_BODY {
        error::discard(&parts.headers, body).await;
        return Refusal::too_large().json_rpc(None);
    }
    let call = match Call::admit(&site, &parts) {
        Ok(call) => call,
        Err(refusal) => return error::refuse(refusal, &parts.headers, body).await,
    };
    let kind = kind(&parts);
    let Some(permit) = site.project.usage.enter(kind) else {
        let refusal = Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            "This project answers as many requests as it may at once. Wait a moment and try again.",
        )
        .retry_after(1);
        return error::refuse(refusal, &parts.headers, body).await;
    };
    let reached = match reach::reach(edge, site, call, &parts).await {
        Ok(reached) => reached,
        Err(refusal) => return error::refuse(refusal, &parts.headers, body).await,
    };
    let Reached {
        site,
        call,
        target,
        ready,
    } = reached;
    let origin = client.origin(&parts.headers, edge.scheme);
    let scheme = origin.scheme;
    headers::forward_request(&mut parts.headers, origin);
    if is_guarded(&site) {
        headers::strip_credentials(&mut parts.headers);
    }
    drop_final_slash(&mut parts.uri);
    let method = parts.method.clone();
    let host = parts.headers.get(HOST).cloned();
    let opens_sse = method == Method::GET && parts.uri.path() == "/sse";
    let (answer, seen) =
        forward::send(&target.pool, ready, parts, body, MAX_BODY, FIRST_BYTE).await;
    let mut response = match answer {
        Ok(response) => response,
        Err(failure) => return failed(&site, &failure, &seen),
    };
    call.note(&site, &target, &method, &response);
    client.note_stream(kind, response.headers());
    headers::project_response(response.headers_mut(), &target, is_guarded(&site));
    if let Some(host) = host.as_ref().and_then(|host| host.to_str().ok()) {
        headers::keep_scheme(response.headers_mut(), host, scheme);
    }
    let body = response.body_mut();
    body.hold(permit);
    if opens_sse {
        body.endpoint = Some(EndpointWatch {
            project: Arc::clone(&site.project),
            deployment: target.deployment(),
            principal: call.principal,
        });
    }
    response.map(|body| ResponseBody::Upstream(Box::new(body)))
}

impl Call {
    /// Checks who calls, and finds the session.
    pub(crate) fn admit(site: &Site, parts: &Parts) -> Result<Self, Refusal> {
        let principal = match &site.policy {
            Policy::Public | Policy::Tenant => None,
            Policy::Platform { scope, .. } => {
                let token = site
                    .verifier
                    .check(&parts.headers, &site.resource, site.project.id, scope)
                    .map_err(|denied| challenge(site, denied))?;
                Some(Arc::clone(&token.principal))
            }
        };
        let session = session_id(parts);
        let owner = session.map_or(Owner::Unknown, |id| {
            site.project.sessions.find(id, &principal)
        });
        if owner == Owner::Foreign {
            return Err(Refusal::session_not_found());
        }
        Ok(Self {
            principal,
            session: session.map(Into::into),
            owner,
        })
    }

    /// Learns from an answer which sessions there are.
    fn note(
        &self,
        site: &Site,
        target: &Target,
        method: &Method,
        response: &Response<UpstreamBody>,
    ) {
        let sessions = &site.project.sessions;
        let status = response.status();
        if let Some(id) = self.session.as_deref()
            && method == Method::DELETE
            && status.is_success()
        {
            sessions.forget(id);
            return;
        }
        let issued = response
            .headers()
            .get(MCP_SESSION_ID)
            .and_then(|id| id.to_str().ok());
        if let Some(id) = issued
            && status.is_success()
            && (self.owner == Owner::Unknown || self.session.as_deref() != Some(id))
        {
            sessions.learn(id, target.deployment(), &self.principal);
        }
    }
}

/// The MCP session a request belongs to.
pub(crate) fn session_id(parts: &Parts) -> Option<&str> {
    if let Some(id) = parts.headers.get(MCP_SESSION_ID) {
        return id.to_str().ok();
    }
    if parts.uri.path().starts_with("/messages") {
        return session::id_in_query(parts.uri.query()?);
    }
    None
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

fn challenge(site: &Site, denied: Denied) -> Refusal {
    let documents = &site.documents;
    match denied {
        Denied::Missing => Refusal::new(
            StatusCode::UNAUTHORIZED,
            "This server needs an access token. Connect with a client that signs in by OAuth.",
        )
        .challenge(&documents.missing),
        Denied::Invalid => Refusal::new(
            StatusCode::UNAUTHORIZED,
            "The access token is expired, revoked or not for this server. Sign in again.",
        )
        .challenge(&documents.invalid),
        Denied::Scope => Refusal::new(
            StatusCode::FORBIDDEN,
            "The access token lacks a scope that this server needs. Sign in again and grant it.",
        )
        .challenge(&documents.scope),
    }
}

/// `/mcp/` is `/mcp`: a redirect between them would lose the method or the scheme with some clients.
fn drop_final_slash(uri: &mut Uri) {
    if uri.path() == "/mcp/" {
        let target = uri
            .query()
            .map_or_else(|| "/mcp".to_owned(), |query| format!("/mcp?{query}"));
        *uri = target
            .parse()
            .expect("the query was part of a valid target before");
    }
}

/// An error in answer to a request that was passed on, at least in part.
fn failed(site: &Site, failure: &Failure, seen: &Seen) -> Response<ResponseBody> {
    let refusal = match failure {
        Failure::TooLarge => Refusal::too_large(),
        Failure::TimedOut(_) => Refusal::new(
            StatusCode::GATEWAY_TIMEOUT,
            "The server did not begin to answer within 300 seconds. Let long work report progress.",
        ),
        Failure::Unreachable(_) => reach::starting(),
        Failure::Broken(_) | Failure::Switched => Refusal::new(
            StatusCode::BAD_GATEWAY,
            "The server broke off before it answered, so the call may have had effect. Look at its logs.",
        ),
    };
    if refusal.status().is_server_error() {
        tracing::warn!(project.id = %site.project.id, error = %failure, "a call was not answered");
    }
    refusal.json_rpc(error::find_id(&seen.start()).as_ref())
}
