//! What a protected project says about itself: OAuth protected resource metadata (RFC 9728) and
//! the challenge that leads a client to it (RFC 6750 section 3).

use bytes::Bytes;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use serde_json::json;
use url::Url;

use crate::body::ResponseBody;
use crate::cors;
use crate::error::Refusal;
use crate::protocol::{Policy, Route};

/// Where the metadata of a resource begins (RFC 9728 section 3).
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Answers that depend only on the snapshot.
#[derive(Debug)]
pub(crate) struct Documents {
    /// The document whose `resource` is the origin.
    root: Bytes,
    /// … is the MCP URL.
    path: Bytes,
    /// … is the MCP URL with a slash at its end, for a client that was given it so: clients compare
    /// exactly.
    slash: Bytes,
    /// `WWW-Authenticate` where no token came.
    pub(crate) missing: HeaderValue,
    /// `WWW-Authenticate` where the token is not good.
    pub(crate) invalid: HeaderValue,
    /// `WWW-Authenticate` where the token lacks the scope.
    pub(crate) scope: HeaderValue,
}

impl Documents {
    /// Writes the documents of `route`.
    pub(crate) fn new(route: &Route, issuer: &str) -> anyhow::Result<Self> {
        let origin = Url::parse(&route.resource)?.origin().ascii_serialization();
        let scope = match &route.policy {
            Policy::Platform { scope, .. } => scope.as_str(),
            Policy::Public | Policy::Tenant => "",
        };
        let document = |resource: &str| {
            let document = json!({
                "resource": resource,
                "authorization_servers": [issuer],
                "scopes_supported": [scope],
                "bearer_methods_supported": ["header"],
                "resource_name": route.project_name,
            });
            Bytes::from(document.to_string())
        };
        // One header, `Bearer` first, then the parameters in this order: the SDKs read it with
        // regular expressions.
        let about = format!(r#"resource_metadata="{origin}{WELL_KNOWN}/mcp", scope="{scope}""#);
        let invalid = format!(
            r#"Bearer {about}, error="invalid_token", error_description="The access token is expired, revoked or not for this server""#
        );
        let lacking = format!(
            r#"Bearer {about}, error="insufficient_scope", error_description="The access token lacks a scope""#
        );
        Ok(Self {
            root: document(&origin),
            path: document(&route.resource),
            slash: document(&format!("{}/", route.resource)),
            missing: HeaderValue::try_from(format!("Bearer {about}"))?,
            invalid: HeaderValue::try_from(invalid)?,
            scope: HeaderValue::try_from(lacking)?,
        })
    }

    /// The metadata document at `path`, if one is served there.
    pub(crate) fn at(&self, path: &str) -> Option<&Bytes> {
        match path.strip_prefix(WELL_KNOWN)? {
            "" => Some(&self.root),
            "/mcp" => Some(&self.path),
            "/mcp/" => Some(&self.slash),
            _ => None,
        }
    }
}

/// Answers a request for a metadata document, to anybody and to pages of any origin.
pub(crate) fn answer(method: &Method, document: Bytes) -> Response<ResponseBody> {
    let any = HeaderValue::from_static("*");
    let mut response = match *method {
        Method::GET | Method::HEAD => Response::new(ResponseBody::own(document)),
        Method::OPTIONS => cors::preflight(&HeaderMap::new()),
        _ => {
            let mut response = Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "This document can only be read. Use GET.",
            )
            .json();
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
            response
        }
    };
    let headers = response.headers_mut();
    if *method != Method::OPTIONS {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, any);
    response
}

/// 404 as JSON without a challenge: clients of MCP 2025-03-26 look for an authorization server
/// here, and read anything else as an error.
pub(crate) fn not_served(resource: &str) -> Response<ResponseBody> {
    let message = format!(
        "There is nothing at this address. The MCP server is at {resource}; its metadata at /.well-known/oauth-protected-resource names its authorization server."
    );
    let mut response = Refusal::new(StatusCode::NOT_FOUND, message).json();
    response
        .headers_mut()
        .insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}
