//! One instance that can be called.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderValue;
use uuid::Uuid;

use crate::limit::Answering;
use crate::pool::Pool;
use crate::protocol::{HostHeader, Upstream};

/// One instance that can be called, with its connections.
#[derive(Debug)]
pub(crate) struct Target {
    upstream: Upstream,
    pub(crate) deployment_header: HeaderValue,
    pub(crate) commit_header: HeaderValue,
    pub(crate) pool: Arc<Pool>,
    /// The host it is told instead of the public one; see [`HostHeader::Localhost`].
    pub(crate) local_host: Option<HeaderValue>,
    /// The requests it is answering.
    pub(crate) answering: Arc<Answering>,
    /// Whether it serves at `/mcp/` and redirects from `/mcp`, rather than the other way round.
    wants_slash: AtomicBool,
}

impl Target {
    /// The instance at `upstream`.
    pub(crate) fn new(upstream: &Upstream) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            deployment_header: HeaderValue::try_from(upstream.deployment.to_string())?,
            commit_header: HeaderValue::try_from(upstream.commit.as_str())?,
            pool: Pool::new(upstream.address.clone()),
            local_host: match upstream.host_header {
                HostHeader::Public => None,
                HostHeader::Localhost => {
                    let port = upstream.address.rsplit(':').next().unwrap_or_default();
                    Some(HeaderValue::try_from(format!("localhost:{port}"))?)
                }
            },
            answering: Arc::default(),
            wants_slash: AtomicBool::new(false),
            upstream: upstream.clone(),
        }))
    }

    /// Whether it is `upstream`, and nothing about it has changed.
    pub(crate) fn is(&self, upstream: &Upstream) -> bool {
        self.upstream == *upstream
    }

    /// `address:port`.
    pub(crate) fn address(&self) -> &str {
        &self.upstream.address
    }

    /// The path of its MCP endpoint: whoever asks for the other of the two would be redirected.
    pub(crate) fn endpoint(&self) -> &'static str {
        if self.wants_slash.load(Ordering::Relaxed) {
            "/mcp/"
        } else {
            "/mcp"
        }
    }

    /// Learns from a redirect between `/mcp` and `/mcp/` which of them it serves.
    pub(crate) fn note_redirect(&self, from: &str, location: &str) {
        let to = location.split('?').next().unwrap_or_default();
        if from == "/mcp" && to.ends_with("/mcp/") {
            self.wants_slash.store(true, Ordering::Relaxed);
        } else if from == "/mcp/" && to.ends_with("/mcp") {
            self.wants_slash.store(false, Ordering::Relaxed);
        }
    }

    /// The deployment this instance runs.
    pub(crate) fn deployment(&self) -> Uuid {
        self.upstream.deployment
    }
}
