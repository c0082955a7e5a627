//! A server with `RemoteAuthProvider`: the client registers and people sign in at an authorization
//! server elsewhere.

use anyhow::{Result, ensure};
use serde_json::json;
use tests::identity_provider::{IdentityProvider, PERSON};

use super::Tenant;

/// The client is led there, and its tokens are taken here.
pub(super) fn tried(tenant: &Tenant<'_>, provider: &IdentityProvider) -> Result<()> {
    tenant.redeploy("first")?;
    let named = tenant.authorization_servers()?;
    ensure!(named == json!([provider.url()]), "{named}");
    let before = provider.grants()?.len();
    tenant.is_used_by_a_client(PERSON, |browser, url| {
        ensure!(url.starts_with(provider.url()), "{url}");
        browser.run(async |driver| {
            driver.goto(url).await?;
            IdentityProvider::sign_in(driver).await
        })
    })?;
    let grants = provider.grants()?.split_off(before);
    ensure!(
        grants == ["authorization_code", "refresh_token"],
        "{grants:?}"
    );
    Ok(())
}
