//! R39: FastMCP servers with a sign-in of their own, in access mode `tenant`.

mod proxy;

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::blocking::{Client, RequestBuilder};
use reqwest::{Method, Url};
use serde_json::{Value, json};
use tests::mcp::Caller;
use tests::oauth::{App, parameter, parameters};
use tests::platform::{self, Platform};
use tests::repository::Repository;
use tests::{python, wait};

use super::api;
use super::gateway::SOON;
use crate::Test;

pub const TESTS: &[Test] = &[
    ("r39_tenant_mode_oauth_proxy_of_fastmcp_4", || {
        proxy::goes_the_whole_way("4", "4.1.2")
    }),
    ("r39_tenant_mode_oauth_proxy_of_fastmcp_3", || {
        proxy::goes_the_whole_way("3", "3.4.10")
    }),
    ("r39_tenant_mode_jwt_verifier", jwt_verifier),
];

/// A project whose server decides itself who may call.
struct Tenant<'a> {
    platform: &'a Platform,
    project: &'a str,
    /// Follows no redirect and keeps no cookie.
    http: Client,
    repository: Repository,
}

/// A server for this version of FastMCP.
fn server(code: &str, fastmcp: &str) -> Result<Repository> {
    let requirements = format!("fastmcp=={fastmcp}\n");
    Repository::new(&[("server.py", code), ("requirements.txt", &requirements)])
}

impl Tenant<'_> {
    /// Makes the project with its variables; nothing is deployed yet.
    fn create(&self, variables: &[(&str, &str)]) -> Result<()> {
        let made = json!({ "name": self.project, "source_url": self.repository.url() });
        api(self.platform, Method::POST, "/projects", &made)?;
        let path = format!("/projects/{}/variables", self.project);
        let set: Vec<Value> = variables
            .iter()
            .map(|(name, value)| json!({ "name": name, "value": value }))
            .collect();
        let change = json!({ "set": set, "unset": [] });
        api(self.platform, Method::PATCH, &path, &change)?;
        Ok(())
    }

    /// Lets the server decide and deploys it, as an owner does.
    fn deploy(&self) -> Result<()> {
        self.platform
            .berth(&["access", self.project, "set", "--mode", "tenant"])?
            .success()?;
        self.redeploy("first")
    }

    /// Deploys another commit, and waits until the edge sends new requests to it.
    fn redeploy(&self, mark: &str) -> Result<()> {
        let commit = self.repository.commit(&[("mark.txt", mark)])?;
        self.platform
            .deploy_live(self.project, &self.repository.url(), &[])?;
        wait::until("the edge to know", SOON, || {
            let answer = self.request(Method::GET, "/mcp")?.send()?;
            let from = answer.headers().get("berth-commit");
            Ok(from.is_some_and(|from| from == &*commit).then_some(()))
        })
    }

    fn mcp_url(&self) -> String {
        self.platform.mcp_url(self.project)
    }

    /// What a server must call itself by: its public URL without the path.
    fn origin(&self) -> Result<String> {
        let url = self.mcp_url();
        Ok(url.strip_suffix("/mcp").context("a URL of MCP")?.to_owned())
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder> {
        let url = Url::parse(&self.mcp_url())?.join(path)?;
        Ok(self.http.request(method, url))
    }

    /// The status and the challenge with which the server answers a call that shows `token`.
    fn refuses(&self, token: Option<&str>) -> Result<(u16, String)> {
        let request = self.http.post(self.mcp_url());
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let answer = request.body("{}").send()?;
        let challenge = answer.headers().get("www-authenticate");
        let challenge = challenge.context("no challenge")?.to_str()?.to_owned();
        Ok((answer.status().as_u16(), challenge))
    }
}

/// A server with `JWTVerifier` and the public key of some authorization server.
fn jwt_verifier() -> Result<()> {
    let key = rcgen::KeyPair::generate()?;
    let public = key.public_key_pem();
    let code = include_str!("../../servers/jwt_verifier.py");
    let (platform, project) = (platform::shared()?, "verified");
    let tenant = Tenant {
        platform: &platform,
        project,
        http: platform.client_of(project).build()?,
        repository: server(code, "4.1.2")?,
    };
    tenant.create(&[("PUBLIC_KEY", &public)])?;
    deploys_in_its_mode_alone(&tenant)?;
    let (status, challenge) = tenant.refuses(None)?;
    ensure!(
        (status, &*challenge) == (401, r#"Bearer scope="orders""#),
        "the server's own: {status} {challenge}"
    );
    let claims = json!({
        "iss": "https://issuer.example", "aud": tenant.mcp_url(),
        "sub": "u-17", "scope": "orders",
        "exp": jsonwebtoken::get_current_timestamp() + 600,
    });
    takes(&tenant, &signed(&key, &claims)?)?;
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
        does_not_take(&tenant, &signed(&key, &changed)?).context(name)?;
    }
    let forged = signed(&rcgen::KeyPair::generate()?, &claims)?;
    does_not_take(&tenant, &forged).context("signature")?;
    // And no token of the platform is issued for it.
    let app = App::register(tenant.platform, &json!({}))?;
    let told = parameters(&app.look(&app.authorize_url(tenant.project, &[])?)?)?;
    ensure!(parameter(&told, "error")? == "invalid_target", "{told:?}");
    Ok(())
}

/// Where the platform decides, nobody could call it: that is said, with what to do.
fn deploys_in_its_mode_alone(tenant: &Tenant<'_>) -> Result<()> {
    let (platform, project) = (tenant.platform, tenant.project);
    let failed = platform.deploy(project, &tenant.repository.url(), &[])?;
    ensure!(failed["state"] == "failed", "{failed}");
    let fix = failed["diagnosis"]["fix"].as_str().unwrap_or_default();
    ensure!(fix.contains("access mode to tenant"), "{failed}");
    tenant.deploy()?;
    let page = platform.page(&format!("/projects/{project}"))?;
    ensure!(page.contains("asks for its own sign-in"), "{page}");
    let listed = platform.berth(&["tools", project])?;
    ensure!(listed.code == 1, "{listed:?}");
    ensure!(listed.text().contains("own sign-in"), "{listed:?}");
    Ok(())
}

/// A real client lists and calls with this token, and the server knows whose it is.
fn takes(tenant: &Tenant<'_>, token: &str) -> Result<()> {
    let python = python::environment("client-fastmcp-4", &["fastmcp==4.1.2"])?;
    let output = Command::new(python)
        .arg(python::client("list_and_call.py"))
        .args([&*tenant.mcp_url(), "who", "{}"])
        .env("TEST_ACCESS_TOKEN", token)
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
            && challenge.contains("scope=\"orders\"")
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
