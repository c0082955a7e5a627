//! The HTTP clients of the runner, but for the one that fetches sources.

use std::time::Duration;

use reqwest::{Client, redirect};

/// An address on this host, or the control plane's, answers a connection at once or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client for one known address each: it goes there directly and nowhere else, whatever the
/// answer says. Every request sets its own time limit. Connections are not kept when `keep` is
/// not set: whoever is asked once should not hold a connection for it.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place for clients of known addresses"
)]
pub fn direct(keep: bool) -> reqwest::Result<Client> {
    let builder = Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT);
    if keep {
        builder.build()
    } else {
        builder.pool_max_idle_per_host(0).build()
    }
}
