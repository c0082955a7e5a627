//! A server with an `OAuthProvider`, which is an authorization server itself.

use anyhow::{Result, ensure};
use serde_json::json;

use super::Tenant;

/// It gives the client its tokens, and they stay good.
pub(super) fn tried(tenant: &Tenant<'_>) -> Result<()> {
    tenant.redeploy("first")?;
    let origin = tenant.origin()?;
    let named = tenant.authorization_servers()?;
    ensure!(named == json!([format!("{origin}/")]), "{named}");
    tenant.is_used_by_a_client("orders", |browser, url| {
        ensure!(url.starts_with(&format!("{origin}/authorize?")), "{url}");
        browser.run(async |driver| driver.goto(url).await)
    })
}
