//! What the edge and the control plane say to each other.
//!
//! `GET /internal/edge/routes?after=VERSION` with `Authorization: Bearer <edge's role token>`
//! answers a [`RouteSnapshot`], or 204 after [`MAX_WAIT_SECONDS`] while `VERSION` is current.
//! The edge swaps its table whole and keeps the snapshot on disk, so that it serves while the
//! control plane or its database is away.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The longest an answer is held, in seconds; below common proxy idle limits (60 s).
pub const MAX_WAIT_SECONDS: u64 = 20;

/// Everything the edge needs to serve every project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteSnapshot {
    /// Grows with every change; a snapshot older than the one in use is ignored.
    pub version: i64,
    /// The authorization server's issuer, for example `https://berth.example.com`, exactly as it
    /// stands in tokens and metadata (no trailing slash).
    pub issuer: String,
    /// Public signing keys as a JWK set (RFC 7517): every key whose tokens may still be alive.
    pub keys: serde_json::Value,
    /// Grants whose tokens are no longer accepted although not yet expired.
    pub revoked_grants: Vec<Uuid>,
    /// The projects.
    pub routes: Vec<Route>,
}

/// One project at the edge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Lower-case host without port, for example `hello.localhost`.
    pub host: String,
    /// The project.
    pub project: Uuid,
    /// Its name.
    pub project_name: String,
    /// The protected resource and the tokens' audience: exactly the public MCP URL,
    /// for example `https://hello.example.net/mcp` (RFC 8707, RFC 9728).
    pub resource: String,
    /// Who may call.
    pub policy: Policy,
    /// Where new MCP sessions and requests without one go; `None` while nothing is live.
    pub live: Option<Upstream>,
    /// Replaced instances that still serve the MCP sessions they own.
    pub draining: Vec<Upstream>,
}

/// Who may call a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Policy {
    /// A token of the platform's authorization server with this resource as audience.
    Platform {
        /// The scope a token must carry (RFC 6750 section 3.1).
        scope: String,
    },
    /// Anyone.
    Public,
}

/// One instance that can be called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// The deployment it runs: the `Berth-Deployment` response header.
    pub deployment: Uuid,
    /// The exact commit: the `Berth-Commit` response header.
    pub commit: String,
    /// `address:port`, HTTP/1.1 without TLS.
    pub address: String,
}
