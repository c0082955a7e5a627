//! Who may call: what is known of a request before it is passed on.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use uuid::Uuid;

use crate::access::{Access, Passing, Rules, is_mcp_path, may_mean_mcp_path};
use crate::auth::{self, Denied, LEEWAY};
use crate::body::UpstreamBody;
use crate::caller::{API_TOKEN_PREFIX, Caller, Credential};
use crate::client::Client;
use crate::cors;
use crate::error::Refusal;
use crate::protocol::EdgeStep;
use crate::session::{self, OpenStream, Owner, Principal};
use crate::site::{Door, Site};
use crate::target::Target;

const SESSION_ID: &str = "mcp-session-id";
const MCP_SESSION_ID: HeaderName = HeaderName::from_static(SESSION_ID);
/// What is known of a request before it is passed on.
pub(crate) struct Call {
    pub(crate) passing: Passing,
    /// Who calls, where the project asks.
    pub(crate) caller: Option<Arc<Caller>>,
    pub(crate) principal: Principal,
    /// The MCP session it belongs to.
    session: Option<Box<str>>,
    pub(crate) owner: Owner,
}

impl Call {
    /// Checks path, origin and token, and finds the session.
    pub(crate) fn admit(site: &Site, client: &Client, parts: &Parts) -> Result<Self, Refusal> {
        let path = parts.uri.path();
        let Some(passing) = site.passing(path) else {
            return Err(not_served(site));
        };
        if keeps_pages_off(passing, path) && !cors::is_allowed(&parts.headers, &site.origins) {
            return Err(foreign_origin());
        }
        let caller = match &*site.access {
            Access::Platform(rules) if passing == Passing::Checked => {
                Some(identify(site, client, rules, parts)?)
            }
            _ => None,
        };
        let named = named_session(parts);
        if caller.is_some() && named.is_ambiguous {
            return Err(ambiguous_session());
        }
        let principal = caller.as_ref().map(|caller| Arc::clone(&caller.principal));
        // What a server hands out on an open path is no MCP session.
        let session = named.id.filter(|_| passing != Passing::PublicPath);
        let owner = session.map_or(Owner::Unknown, |id| {
            site.project.sessions.find(id, &principal)
        });
        if owner == Owner::Foreign {
            return Err(Refusal::session_not_found().caller(caller));
        }
        Ok(Self {
            passing,
            caller,
            principal,
            session: session.map(Into::into),
            owner,
        })
    }

    /// The grant of the access token, if one came.
    pub(crate) fn grant(&self) -> Option<Uuid> {
        self.caller.as_ref()?.grant()
    }

    /// The API token, if one came.
    pub(crate) fn api_token(&self) -> Option<Uuid> {
        self.caller.as_ref()?.api_token()
    }

    /// Learns from an answer which sessions there are.
    pub(crate) fn note(
        &self,
        site: &Site,
        target: &Target,
        method: &Method,
        response: &Response<UpstreamBody>,
    ) {
        if self.passing == Passing::PublicPath {
            return;
        }
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

    /// The MCP session in which an answer streams events, if there is one.
    pub(crate) fn stream(&self, site: &Site, answer: &HeaderMap) -> Option<OpenStream> {
        if self.passing == Passing::PublicPath {
            return None;
        }
        let issued = answer.get(MCP_SESSION_ID).and_then(|id| id.to_str().ok());
        let id = issued.or(self.session.as_deref())?;
        site.project.sessions.open(id)
    }
}

/// The MCP session that a request names.
struct NamedSession<'a> {
    id: Option<&'a str>,
    /// Whether a server may read another one in the request than the edge does, which would lead a
    /// caller into somebody else's.
    is_ambiguous: bool,
}

/// The MCP session a request belongs to: in HTTP+SSE the query names it.
pub(crate) fn session_id(parts: &Parts) -> Option<&str> {
    named_session(parts).id
}

fn named_session(parts: &Parts) -> NamedSession<'_> {
    let mut ids = parts.headers.get_all(MCP_SESSION_ID).iter();
    let header = ids.next();
    let text = header.and_then(|id| id.to_str().ok());
    let is_odd = header.is_some() && (text.is_none() || ids.next().is_some());
    let mut names = parts.headers.keys().map(HeaderName::as_str);
    let is_ambiguous = is_odd || names.any(is_underscored_session_id);
    if !is_post_of_sse(parts) {
        return NamedSession {
            id: text,
            is_ambiguous,
        };
    }
    let query = parts.uri.query();
    NamedSession {
        id: query.and_then(session::id_in_query),
        is_ambiguous: is_ambiguous || header.is_some() || !query.is_none_or(session::is_named_once),
    }
}

fn is_post_of_sse(parts: &Parts) -> bool {
    matches!(parts.uri.path(), "/messages" | "/messages/")
}

/// Whether servers that, CGI-like, cannot tell an underscore from a dash take a header for the one
/// that names the MCP session; lower-case name.
fn is_underscored_session_id(name: &str) -> bool {
    name.len() == SESSION_ID.len()
        && name.contains('_')
        && name
            .bytes()
            .zip(SESSION_ID.bytes())
            .all(|(byte, known)| byte == known || (byte, known) == (b'_', b'-'))
}

/// Whether the edge keeps web pages of unknown origins from a path, and lets those of known ones read
/// its answers: on the MCP paths, unless the server decides itself. Where all paths are open, the
/// server may know the endpoint by other spellings too.
pub(crate) fn keeps_pages_off(passing: Passing, path: &str) -> bool {
    match passing {
        Passing::Checked | Passing::PublicPath => is_mcp_path(path),
        Passing::Public => may_mean_mcp_path(path),
        Passing::Tenant => false,
    }
}

/// Finds out who calls, and whether they may.
fn identify(
    site: &Site,
    client: &Client,
    rules: &Rules,
    parts: &Parts,
) -> Result<Arc<Caller>, Refusal> {
    let refuse = |denied| challenge(site, parts.uri.path(), denied);
    let credentials = auth::credentials(&parts.headers).map_err(refuse)?;
    let caller = holder(site, client, credentials).map_err(refuse)?;
    match judge(&caller, site, rules) {
        Ok(()) => Ok(caller),
        Err(denied) => Err(refuse(denied).caller(Some(caller))),
    }
}

/// Who holds the token in `credentials`.
fn holder(site: &Site, client: &Client, credentials: &HeaderValue) -> Result<Arc<Caller>, Denied> {
    let directory = &site.directory;
    let takes_access_tokens = site.door == Door::Main;
    if takes_access_tokens && let Some(caller) = client.shown.find(&directory.verifier, credentials)
    {
        return Ok(caller);
    }
    let bearer = auth::bearer_token(credentials)?;
    if bearer.starts_with(API_TOKEN_PREFIX) {
        return directory.api_token(bearer).ok_or(Denied::Invalid);
    }
    if !takes_access_tokens {
        return Err(Denied::Invalid);
    }
    let caller = directory.verifier.verify(bearer).ok_or(Denied::Invalid)?;
    client.shown.keep(&directory.verifier, credentials, &caller);
    Ok(caller)
}

/// Whether the holder of a genuine token may call now.
fn judge(caller: &Caller, site: &Site, rules: &Rules) -> Result<(), Denied> {
    let project = site.project.named;
    match &caller.credential {
        Credential::AccessToken {
            grant,
            project: of,
            audience,
            scope,
        } => {
            if site.directory.is_revoked(*grant) {
                return Err(Denied::Revoked);
            }
            if **audience != *site.resource || *of != project {
                return Err(Denied::Foreign);
            }
            if caller.expired(LEEWAY) {
                return Err(Denied::Expired);
            }
            let wanted = rules.scope.as_bytes();
            let mut granted = scope.as_bytes().split(|&byte| byte == b' ');
            if !granted.any(|granted| granted == wanted) {
                return Err(Denied::Scope);
            }
        }
        Credential::ApiToken { projects, .. } => {
            if caller.expired(0) {
                return Err(Denied::Expired);
            }
            if projects
                .as_ref()
                .is_some_and(|good| !good.contains(&project))
            {
                return Err(Denied::Foreign);
            }
        }
    }
    if !rules.admit(caller.user, &site.directory) {
        return Err(Denied::NotAllowed);
    }
    Ok(())
}

/// What a request without a good token for `path` is told: in the header what a client acts on, in
/// the sentence what a person does.
fn challenge(site: &Site, path: &str, denied: Denied) -> Refusal {
    let (status, sentence) = match site.door {
        Door::Main => refusal_at_main_door(denied),
        Door::Keys => refusal_at_key_door(denied),
    };
    let refusal = Refusal::new(status, sentence).step(denied.step());
    let challenges = site.challenges(path);
    match denied {
        Denied::Missing => refusal.challenge(&challenges.missing),
        Denied::Invalid | Denied::Expired | Denied::Revoked | Denied::Foreign => {
            refusal.challenge(&challenges.invalid)
        }
        Denied::Scope => refusal.challenge(&challenges.scope),
        // Another token of this user would do no better: a challenge would make clients loop.
        Denied::NotAllowed => refusal,
    }
}

fn refusal_at_main_door(denied: Denied) -> (StatusCode, &'static str) {
    match denied {
        Denied::Missing => (
            StatusCode::UNAUTHORIZED,
            "This server needs an access token. Connect with a client that signs in by OAuth, or send an API token.",
        ),
        Denied::Invalid => (
            StatusCode::UNAUTHORIZED,
            "The access token is not valid here. Sign in again, or make a new API token.",
        ),
        Denied::Expired => (
            StatusCode::UNAUTHORIZED,
            "The access token has expired. Sign in again, or make a new API token.",
        ),
        Denied::Revoked => (
            StatusCode::UNAUTHORIZED,
            "The access of this client was revoked. Sign in again.",
        ),
        Denied::Foreign => (
            StatusCode::UNAUTHORIZED,
            "The access token is for another server. Sign in to this one, or use an API token that covers it.",
        ),
        Denied::Scope => (
            StatusCode::FORBIDDEN,
            "The access token lacks a scope that this server needs. Sign in again and grant it.",
        ),
        Denied::NotAllowed => (StatusCode::FORBIDDEN, NOT_ALLOWED),
    }
}

fn refusal_at_key_door(denied: Denied) -> (StatusCode, &'static str) {
    match denied {
        Denied::Missing => (
            StatusCode::UNAUTHORIZED,
            "This address takes API tokens only. Make one in the dashboard and send it as: Authorization: Bearer brt_…",
        ),
        Denied::Expired => (
            StatusCode::UNAUTHORIZED,
            "The API token has expired. Make a new one in the dashboard.",
        ),
        Denied::Foreign => (
            StatusCode::UNAUTHORIZED,
            "The API token does not cover this project. Make one in the dashboard that does.",
        ),
        Denied::Invalid | Denied::Revoked | Denied::Scope => (
            StatusCode::UNAUTHORIZED,
            "This is no valid API token. Make one in the dashboard and send it as: Authorization: Bearer brt_…",
        ),
        Denied::NotAllowed => (StatusCode::FORBIDDEN, NOT_ALLOWED),
    }
}

const NOT_ALLOWED: &str = "You are signed in, but may not use this server. Ask its owner for access, or connect as somebody who has it.";

fn foreign_origin() -> Refusal {
    Refusal::new(
        StatusCode::FORBIDDEN,
        "Pages of this origin may not call this server. Call it from a program or a page on localhost, or have its owner allow the origin.",
    )
    .step(EdgeStep::OriginRefused)
}

fn ambiguous_session() -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        "The request names its MCP session more than once, or not plainly. Send the id once, as the server gave it.",
    )
}

/// There is nothing at this path.
fn not_served(site: &Site) -> Refusal {
    let resource = &site.resource;
    Refusal::not_served(match (site.door, &*site.access) {
        (Door::Main, _) => format!(
            "There is nothing at this address. The MCP server is at {resource}; its metadata at /.well-known/oauth-protected-resource names its authorization server."
        ),
        (Door::Keys, Access::Platform(_)) => {
            "There is nothing at this address. The MCP server is at /mcp on this host; it takes API tokens only.".to_owned()
        }
        (Door::Keys, Access::Public | Access::Tenant) => format!(
            "This project asks for no token of the platform, so this address serves nothing. The MCP server is at {resource}."
        ),
    })
}
