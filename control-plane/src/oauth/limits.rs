//! How often one address may ask. Hosted clients ask for many people from few addresses, so these
//! bound what a flood costs; what keeps guessers out is the length of codes and tokens.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use time::Duration;

use crate::app::App;
use crate::error::{Error, Result};
use crate::pages::PageError;
use crate::signin::address::client_address;
use crate::signin::attempts::Limiter;

/// The window of all of them.
const WINDOW: Duration = Duration::MINUTE;

/// Authorization requests per address. Each person causes two or three.
const AUTHORIZATIONS: u32 = 600;

/// Token requests that failed, per address. Those that succeed are not counted, since honest
/// clients refresh in bursts.
const FAILURES: u32 = 600;

/// Introspections per address.
const INTROSPECTIONS: u32 = 1_200;

/// Revocations per address. A client that is closed gives back a token or two.
const REVOCATIONS: u32 = 600;

/// The counters of a router, one each.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    authorizations: Arc<Limiter<IpAddr>>,
    failures: Arc<Limiter<IpAddr>>,
    introspections: Arc<Limiter<IpAddr>>,
    revocations: Arc<Limiter<IpAddr>>,
}

impl Limits {
    pub(super) fn new() -> Self {
        let limiter = |limit| Arc::new(Limiter::new(limit, WINDOW));
        Self {
            authorizations: limiter(AUTHORIZATIONS),
            failures: limiter(FAILURES),
            introspections: limiter(INTROSPECTIONS),
            revocations: limiter(REVOCATIONS),
        }
    }
}

/// One who asks, and how often they did before.
#[derive(Debug)]
pub(super) struct Asker {
    address: IpAddr,
    limits: Limits,
    app: App,
}

impl FromRequestParts<App> for Asker {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, PageError> {
        let limits = parts.extensions.get::<Limits>().cloned().ok_or_else(|| {
            Error::Internal(anyhow::anyhow!("this route is outside the layer of limits"))
        })?;
        Ok(Self {
            address: client_address(&parts.headers),
            limits,
            app: app.clone(),
        })
    }
}

impl Asker {
    /// Their address.
    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// Counts an authorization request.
    pub(super) fn admit_authorization(&self) -> Result<()> {
        let now = self.app.clock.now();
        self.limits.authorizations.admit(self.address, now)
    }

    /// Counts an introspection.
    pub(super) fn admit_introspection(&self) -> Result<()> {
        let now = self.app.clock.now();
        self.limits.introspections.admit(self.address, now)
    }

    /// Counts a revocation.
    pub(super) fn admit_revocation(&self) -> Result<()> {
        let now = self.app.clock.now();
        self.limits.revocations.admit(self.address, now)
    }

    /// Whether a token request may be tried.
    pub(super) fn check_failures(&self) -> Result<()> {
        let now = self.app.clock.now();
        self.limits.failures.check(&self.address, now)
    }

    /// Counts a token request that was refused.
    pub(super) fn count_failure(&self) {
        let now = self.app.clock.now();
        // The next one is refused by `check_failures`; this one has its answer.
        let _ = self.limits.failures.admit(self.address, now);
    }
}
