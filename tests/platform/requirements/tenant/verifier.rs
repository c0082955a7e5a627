//! A server with `JWTVerifier` and the public key of some authorization server.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tests::mcp::Caller;
use tests::oauth::{App, parameter, parameters};
use tests::python;

use super::Tenant;

/// It takes the tokens of that authorization server, and no others.
pub(super) fn tried(tenant: &Tenant<'_>, key: &rcgen::KeyPair) -> Result<()> {
    deploys_in_its_mode_alone(tenant)?;
    let (status, challenge) = tenant.refuses(None)?;
    ensure!(
        status == 401
            && challenge.starts_with("Bearer")
            && !challenge.contains("resource_metadata"),
        "the server's own: {status} {challenge}"
    );
    let claims = json!({
        "iss": "https://issuer.example", "aud": tenant.mcp_url(),
        "sub": "u-17", "scope": "orders",
        "exp": jsonwebtoken::get_current_timestamp() + 600,
    });
    takes(tenant, &signed(key, &claims)?)?;
    let now = jsonwebtoken::get_current_timestamp();
    let another = tenant.platform.mcp_url("another");
    for (name, value) in [
        ("aud", json!(another)),
        ("iss", json!(tenant.platform.url())),
        ("exp", json!(now - 600)),
        ("scope", json!("mcp")),
    ] {
        let mut changed = claims.clone();
        changed[name] = value;
        does_not_take(tenant, &signed(key, &changed)?).context(name)?;
    }
    let forged = signed(&rcgen::KeyPair::generate()?, &claims)?;
    does_not_take(tenant, &forged).context("signature")?;
    // And no token of the platform is issued for it.
    let app = App::register(tenant.platform, &json!({}))?;
    let told = parameters(&app.look(&app.authorize_url(tenant.project, &[])?)?)?;
    ensure!(parameter(&told, "error")? == "invalid_target", "{told:?}");
    Ok(())
}

/// Where the platform decides, nobody could call it: that is said, with what to do.
fn deploys_in_its_mode_alone(tenant: &Tenant<'_>) -> Result<()> {
    let (platform, project) = (tenant.platform, tenant.project);
    let entrypoint = ["--entrypoint", tenant.entrypoint];
    let failed = platform.deploy(project, &tenant.repository.url(), &entrypoint)?;
    ensure!(failed["state"] == "failed", "{failed}");
    let fix = failed["diagnosis"]["fix"].as_str().unwrap_or_default();
    ensure!(fix.contains("access mode to tenant"), "{failed}");
    platform
        .berth(&["access", project, "set", "--mode", "tenant"])?
        .success()?;
    tenant.redeploy("first")?;
    let page = platform.page(&format!("/projects/{project}"))?;
    ensure!(page.contains("asks for its own sign-in"), "{page}");
    let listed = platform.berth(&["tools", project])?;
    ensure!(listed.code == 1, "{listed:?}");
    ensure!(listed.text().contains("own sign-in"), "{listed:?}");
    Ok(())
}

/// A real client lists and calls with this token, and the server knows whose it is.
fn takes(tenant: &Tenant<'_>, token: &str) -> Result<()> {
    let output = Command::new(tenant.major.python()?)
        .arg(python::client("list_and_call.py"))
        .args([&*tenant.mcp_url(), "who", "{}"])
        .env("TEST_ACCESS_TOKEN", token)
        .envs(
            tenant
                .platform
                .certificate()
                .map(|file| ("SSL_CERT_FILE", file)),
        )
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = said.lines().last();
    let last = last.with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let saw: Value = serde_json::from_str(last)?;
    ensure!(
        saw == json!({ "tools": ["who"], "text": ["u-17"], "is_error": false }),
        "{saw}"
    );
    Ok(())
}

/// The server refuses this token in its own words, whatever is asked.
fn does_not_take(tenant: &Tenant<'_>, token: &str) -> Result<()> {
    let (status, challenge) = tenant.refuses(Some(token))?;
    ensure!(status == 401, "{status} {challenge}");
    ensure!(
        challenge.starts_with("Bearer error=\"invalid_token\"")
            && !challenge.contains("resource_metadata"),
        "{challenge}"
    );
    let caller = Caller::with_token(tenant.platform, tenant.project, token)?;
    let answer = caller.call("who", &json!({}))?;
    ensure!(answer.status() == 401, "{answer:?}");
    Ok(())
}

fn signed(key: &rcgen::KeyPair, claims: &Value) -> Result<String> {
    let private = EncodingKey::from_ec_der(key.serialized_der());
    Ok(jsonwebtoken::encode(
        &Header::new(Algorithm::ES256),
        claims,
        &private,
    )?)
}
