//! A server with `OAuthProxy` before an identity provider: registration, consent page, cookies,
//! sign-in at the provider, its own tokens, and a redeploy.

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::identity_provider::{IdentityProvider, PERSON};
use tests::oauth::{field, parameter, parameters};
use thirtyfour::prelude::*;

use super::super::Seen;
use super::Tenant;

/// A person, a browser and the installed client go the whole way.
pub(super) fn tried(tenant: &Tenant<'_>, provider: &IdentityProvider) -> Result<()> {
    tenant.redeploy("first")?;
    it_leads_to_itself(tenant)?;
    tokens_of_the_platform_stay_out(tenant)?;
    what_is_its_own_is_untouched(tenant)?;
    let before = provider.grants()?.len();
    // FastMCP 2 takes the form of its consent page from any browser.
    if tenant.major.number != "2" {
        its_consent_is_bound_to_the_browser(tenant, provider)?;
    }
    ensure!(provider.grants()?.len() == before, "nobody signed in yet");
    // What the server keeps in FASTMCP_HOME is there after a redeploy: its tokens stay good.
    tenant.is_used_by_a_client(PERSON, |browser, url| {
        through_its_pages(browser, url, tenant, provider)
    })?;
    let grants = provider.grants()?.split_off(before);
    ensure!(
        grants == ["authorization_code", "refresh_token"],
        "{grants:?}"
    );
    Ok(())
}

/// Challenge and metadata are the server's, at the project's host.
fn it_leads_to_itself(tenant: &Tenant<'_>) -> Result<()> {
    let origin = tenant.origin()?;
    let (status, challenge) = tenant.refuses(None)?;
    let metadata = format!("{origin}/.well-known/oauth-protected-resource/mcp");
    ensure!(status == 401, "{status}");
    ensure!(
        challenge.contains(&format!("resource_metadata=\"{metadata}\"")),
        "{challenge}"
    );
    let read = |url: &str| -> Result<Value> {
        Ok(tenant.http.get(url).send()?.error_for_status()?.json()?)
    };
    let resource = read(&metadata)?;
    ensure!(resource["resource"] == format!("{origin}/mcp"));
    ensure!(resource["authorization_servers"] == json!([format!("{origin}/")]));
    let server = read(&format!("{origin}/.well-known/oauth-authorization-server"))?;
    ensure!(server["issuer"] == format!("{origin}/"), "{server}");
    for (member, path) in [
        ("registration_endpoint", "/register"),
        ("authorization_endpoint", "/authorize"),
        ("token_endpoint", "/token"),
    ] {
        ensure!(server[member] == format!("{origin}{path}"), "{server}");
    }
    Ok(())
}

/// An API token does not reach the server, at neither of the project's addresses.
fn tokens_of_the_platform_stay_out(tenant: &Tenant<'_>) -> Result<()> {
    let created = tenant
        .platform
        .berth(&["tokens", "create", tenant.project, "--calls", "--json"])?
        .success()?
        .json()?;
    let token = created["token"].as_str().context("no token")?;
    ensure!(
        tenant.refuses(Some(token))? == tenant.refuses(None)?,
        "to the server it is a call without a token"
    );
    let seen = Seen::read(
        tenant
            .request(Method::GET, "/seen")?
            .bearer_auth(token)
            .send()?,
    )?;
    ensure!(seen.headers("authorization").is_empty(), "{seen:?}");
    let (host, port) = (
        format!("{}--key.localhost", tenant.project),
        tenant.platform.port(),
    );
    let http = Client::builder()
        .resolve(&host, ([127, 0, 0, 1], port).into())
        .build()?;
    let request = http.post(format!("http://{host}:{port}/mcp"));
    let answer = request.bearer_auth(token).body("{}").send()?;
    ensure!(answer.status() == 404, "{answer:?}");
    Ok(())
}

/// Credentials and cookies pass both ways, cookies with all that they say of themselves.
fn what_is_its_own_is_untouched(tenant: &Tenant<'_>) -> Result<()> {
    let request = tenant.request(Method::GET, "/seen")?.bearer_auth("theirs");
    let answer = request
        .header("cookie", "__Host-kept=1")
        .header("x-forwarded-host", "evil.example")
        .send()?;
    let cookies: Vec<&str> = answer
        .headers()
        .get_all("set-cookie")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    ensure!(
        cookies
            == [
                "__Host-kept=1; HttpOnly; Max-Age=600; Path=/; SameSite=lax; Secure",
                "framed=2; Path=/seen; SameSite=none; Secure",
            ],
        "{cookies:?}"
    );
    let seen = Seen::read(answer)?;
    let origin = tenant.origin()?;
    let (_, host) = origin.split_once("://").context("an origin")?;
    for (name, value) in [
        ("authorization", "Bearer theirs"),
        ("cookie", "__Host-kept=1"),
        ("host", host),
        ("x-forwarded-host", host),
        ("x-forwarded-proto", "https"),
    ] {
        ensure!(seen.header(name)? == value, "{name}: {seen:?}");
    }
    Ok(())
}

/// Its consent page is the server's, and only the browser that was shown it can say yes.
fn its_consent_is_bound_to_the_browser(
    tenant: &Tenant<'_>,
    provider: &IdentityProvider,
) -> Result<()> {
    let consent = ask_by_hand(tenant)?;
    let page = tenant.http.get(&consent).send()?;
    ensure!(page.headers()["x-frame-options"] == "DENY", "{page:?}");
    let cookie = page.headers()["set-cookie"].to_str()?.to_owned();
    ensure!(
        cookie.starts_with("__Host-MCP_CONSENT_STATE")
            && cookie.ends_with("; HttpOnly; Max-Age=900; Path=/; SameSite=lax; Secure"),
        "{cookie}"
    );
    let page = page.text()?;
    ensure!(
        page.contains("Orders") && page.contains("By hand"),
        "{page}"
    );
    let approve = |cookie: Option<&str>| -> Result<Response> {
        let request = tenant.http.post(&consent).form(&[
            ("txn_id", field(&page, "txn_id")?),
            ("csrf_token", field(&page, "csrf_token")?),
            ("action", "approve"),
        ]);
        Ok(match cookie {
            Some(cookie) => request.header("cookie", cookie),
            None => request,
        }
        .send()?)
    };
    let refused = approve(None)?;
    ensure!(refused.status() == 403, "another browser: {refused:?}");
    let (pair, _) = cookie.split_once(';').context("a cookie has attributes")?;
    let allowed = approve(Some(pair))?;
    ensure!(location(&allowed)?.starts_with(&format!("{}/authorize?", provider.url())));
    let upstream = parameters(&allowed)?;
    ensure!(parameter(&upstream, "redirect_uri")? == format!("{}/auth/callback", tenant.origin()?));
    let stolen = tenant
        .request(Method::GET, "/auth/callback")?
        .query(&[("code", "x"), ("state", &parameter(&upstream, "state")?)])
        .send()?;
    ensure!(stolen.status() == 403, "another browser: {stolen:?}");
    Ok(())
}

/// Registers a client and begins its authorization; the address of the consent page.
fn ask_by_hand(tenant: &Tenant<'_>) -> Result<String> {
    let client = json!({
        "client_name": "By hand", "redirect_uris": ["http://127.0.0.1:9/callback"],
        "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
        "token_endpoint_auth_method": "none",
    });
    let register = tenant.request(Method::POST, "/register")?;
    let registered: Value = register.json(&client).send()?.error_for_status()?.json()?;
    let client_id = registered["client_id"].as_str().context("no client_id")?;
    let asked = tenant.request(Method::GET, "/authorize")?.query(&[
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", "http://127.0.0.1:9/callback"),
        // RFC 7636 appendix B.
        (
            "code_challenge",
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        ),
        ("code_challenge_method", "S256"),
        ("resource", &tenant.mcp_url()),
        ("state", "by-hand"),
    ]);
    let consent = location(&asked.send()?)?;
    ensure!(consent.starts_with(&format!("{}/consent?", tenant.origin()?)));
    Ok(consent)
}

fn location(answer: &Response) -> Result<String> {
    let location = answer.headers().get("location");
    let location = location.with_context(|| format!("no redirect: {answer:?}"))?;
    Ok(location.to_str()?.to_owned())
}

/// A person goes through the server's consent page and the provider's sign-in page, whose host is
/// another site, so that the way back to the server shows what becomes of its cookies.
fn through_its_pages(
    browser: &Browser,
    url: &str,
    tenant: &Tenant<'_>,
    provider: &IdentityProvider,
) -> Result<()> {
    let seen = format!("{}/seen", tenant.origin()?);
    let cookies = browser.run(async |driver| {
        driver.goto(&seen).await?;
        driver.goto(&seen).await?;
        driver.source().await
    })?;
    for cookie in ["__Host-kept=1", "framed=2"] {
        ensure!(cookies.contains(cookie), "the browser kept it: {cookies}");
    }
    let (address, page) = browser.run(async |driver| {
        driver.goto(url).await?;
        driver.query(By::Id("consentForm")).first().await?;
        Ok((driver.current_url().await?, driver.source().await?))
    })?;
    ensure!(
        address
            .as_str()
            .starts_with(&format!("{}/consent?", tenant.origin()?)),
        "{address}"
    );
    ensure!(page.contains("Orders"), "{page}");
    let address = browser.run(async |driver| {
        let approve = driver.query(By::Css("button[value=approve]"));
        approve.first().await?.click().await?;
        driver.query(By::Name("person")).first().await?;
        driver.current_url().await
    })?;
    ensure!(address.as_str().starts_with(provider.url()), "{address}");
    browser.run(IdentityProvider::sign_in)
}
