//! What a protected project says about itself: OAuth protected resource metadata (RFC 9728) and
//! the challenge that leads a client to it (RFC 6750 section 3).

use bytes::Bytes;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use serde_json::json;

use crate::body::ResponseBody;
use crate::cors;
use crate::error::Refusal;
use crate::protocol::Route;

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
    /// Lead to the document of the MCP URL.
    mcp: Challenges,
    /// Lead to the document of the origin, which is above `/sse` as well: clients refuse a resource
    /// that is not above the address they were given.
    sse: Challenges,
}

/// `WWW-Authenticate` for each reason. One header, `Bearer` first, then the parameters: the SDKs
/// read it with regular expressions.
#[derive(Debug)]
pub(crate) struct Challenges {
    /// No token came: no `error` then (RFC 6750 section 3.1).
    pub(crate) missing: HeaderValue,
    /// The token is not good.
    pub(crate) invalid: HeaderValue,
    /// The token lacks the scope.
    pub(crate) scope: HeaderValue,
}

/// Challenges that lead nowhere, for the host that takes API tokens only: a client that hears of an
/// authorization server there would start a sign-in.
pub(crate) static UNADVERTISED: Challenges = Challenges {
    missing: HeaderValue::from_static("Bearer"),
    invalid: HeaderValue::from_static(r#"Bearer error="invalid_token""#),
    scope: HeaderValue::from_static(r#"Bearer error="insufficient_scope""#),
};

impl Challenges {
    fn new(document: &str, scope: &str) -> anyhow::Result<Self> {
        let about = format!(r#"Bearer resource_metadata="{document}", scope="{scope}""#);
        let invalid = format!(
            r#"{about}, error="invalid_token", error_description="The access token is expired, revoked or not for this server""#
        );
        let lacking = format!(
            r#"{about}, error="insufficient_scope", error_description="The access token lacks a scope""#
        );
        Ok(Self {
            missing: HeaderValue::try_from(about)?,
            invalid: HeaderValue::try_from(invalid)?,
            scope: HeaderValue::try_from(lacking)?,
        })
    }
}

impl Documents {
    /// Writes the documents of `route`, whose resource has this `origin` and asks for `scope`.
    pub(crate) fn new(
        route: &Route,
        origin: &str,
        issuer: &str,
        scope: &str,
    ) -> anyhow::Result<Self> {
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
        Ok(Self {
            root: document(origin),
            path: document(&route.resource),
            slash: document(&format!("{}/", route.resource)),
            mcp: Challenges::new(&format!("{origin}{WELL_KNOWN}/mcp"), scope)?,
            sse: Challenges::new(&format!("{origin}{WELL_KNOWN}"), scope)?,
        })
    }

    /// The metadata document at `path`, if one is served there.
    pub(crate) fn at(&self, path: &str) -> Option<&Bytes> {
        match path.strip_prefix(WELL_KNOWN)? {
            "" | "/" | "/sse" => Some(&self.root),
            "/mcp" => Some(&self.path),
            "/mcp/" => Some(&self.slash),
            _ => None,
        }
    }

    /// The challenges for a request to the MCP path `path`.
    pub(crate) fn challenges(&self, path: &str) -> &Challenges {
        if path.starts_with("/mcp") {
            &self.mcp
        } else {
            &self.sse
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
