//! R39: FastMCP servers with a sign-in of their own, in access mode `tenant`.

mod elsewhere;
mod inside;
mod proxy;
mod verifier;

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use reqwest::blocking::{Client, RequestBuilder};
use reqwest::redirect::Policy;
use reqwest::{Method, Url};
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::client::Flow;
use tests::identity_provider::IdentityProvider;
use tests::platform::{self, Platform};
use tests::repository::Repository;
use tests::{python, wait};

use super::api;
use super::gateway::SOON;
use crate::Test;
use crate::fastmcp::{MAJORS, Major, hold};

pub const TESTS: &[Test] = &[
    ("r39_tenant_mode_every_sign_in_of_fastmcp_2", || {
        every_sign_in(&MAJORS[0])
    }),
    ("r39_tenant_mode_every_sign_in_of_fastmcp_3", || {
        every_sign_in(&MAJORS[1])
    }),
    ("r39_tenant_mode_every_sign_in_of_fastmcp_4", || {
        every_sign_in(&MAJORS[2])
    }),
];

/// The projects of these tests: Berth must be reached over https for them.
const PROJECTS: [&str; 3] = ["tenant-2", "tenant-3", "tenant-4"];

/// The four patterns that FastMCP has, in files of one repository.
const FILES: &[(&str, &str)] = &[
    (
        "jwt_verifier.py",
        include_str!("../../servers/jwt_verifier.py"),
    ),
    (
        "remote_auth.py",
        include_str!("../../servers/remote_auth.py"),
    ),
    (
        "oauth_proxy.py",
        include_str!("../../servers/oauth_proxy.py"),
    ),
    (
        "oauth_provider.py",
        include_str!("../../servers/oauth_provider.py"),
    ),
];

/// One after another, in one project: a pattern that fails does not keep the others from being
/// tried.
fn every_sign_in(major: &Major) -> Result<()> {
    let platform = platform::shared_secure(&PROJECTS)?;
    let project = format!("tenant-{}", major.number);
    let requirements = format!("fastmcp=={}\n", major.version);
    let mut files = FILES.to_vec();
    files.push(("requirements.txt", &requirements));
    let repository = Repository::new(&files)?;
    let tenant = |entrypoint| -> Result<Tenant<'_>> {
        Ok(Tenant {
            platform: &platform,
            project: &project,
            major,
            http: platform
                .client_of(&project)
                .redirect(Policy::none())
                .build()?,
            repository: &repository,
            entrypoint,
        })
    };
    let verifies = tenant("jwt_verifier.py:mcp")?;
    let callback = format!("{}/auth/callback", verifies.origin()?);
    let provider = IdentityProvider::serve(&callback)?;
    let key = rcgen::KeyPair::generate()?;
    verifies.create(&provider, &key)?;
    let mut wrong = Vec::new();
    for (pattern, tried) in [
        ("JWTVerifier", verifier::tried(&verifies, &key)),
        (
            "RemoteAuthProvider",
            elsewhere::tried(&tenant("remote_auth.py:mcp")?, &provider),
        ),
        (
            "OAuthProxy",
            proxy::tried(&tenant("oauth_proxy.py:mcp")?, &provider),
        ),
        (
            "OAuthProvider",
            inside::tried(&tenant("oauth_provider.py:mcp")?),
        ),
    ] {
        let feature = format!("authentication: {pattern}");
        if let Err(error) = tried.and_then(|()| hold(&feature, major.version, true)) {
            wrong.push(format!("{feature}: {error:#}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// A project whose server decides itself who may call.
struct Tenant<'a> {
    platform: &'a Platform,
    project: &'a str,
    major: &'a Major,
    /// Follows no redirect and keeps no cookie.
    http: Client,
    repository: &'a Repository,
    entrypoint: &'static str,
}

impl Tenant<'_> {
    /// Makes the project with its variables; nothing is deployed yet.
    fn create(&self, provider: &IdentityProvider, key: &rcgen::KeyPair) -> Result<()> {
        let made = json!({ "name": self.project, "source_url": self.repository.url() });
        api(self.platform, Method::POST, "/projects", &made)?;
        let path = format!("/projects/{}/variables", self.project);
        let public = key.public_key_pem();
        let set: Vec<Value> = provider
            .variables()
            .into_iter()
            .chain([("PUBLIC_KEY", &*public)])
            .map(|(name, value)| json!({ "name": name, "value": value }))
            .collect();
        let change = json!({ "set": set, "unset": [] });
        api(self.platform, Method::PATCH, &path, &change)?;
        Ok(())
    }

    /// Deploys another commit, and waits until the edge sends new requests to it.
    fn redeploy(&self, mark: &str) -> Result<()> {
        let mark = format!("{mark} of {}", self.entrypoint);
        let commit = self.repository.commit(&[("mark.txt", &mark)])?;
        let entrypoint = ["--entrypoint", self.entrypoint];
        self.platform
            .deploy_live(self.project, &self.repository.url(), &entrypoint)?;
        wait::until("the edge to know", SOON, || {
            let answer = self.request(Method::GET, "/mcp")?.send()?;
            let from = answer.headers().get("berth-commit");
            Ok(from.is_some_and(|from| from == &*commit).then_some(()))
        })
    }

    /// The installed client goes the whole way: sign-in, calls, a renewed token, and a redeploy
    /// after which nobody signs in again. `who` is what the server knows of its caller.
    fn is_used_by_a_client(
        &self,
        who: &str,
        through: impl Fn(&Browser, &str) -> Result<()>,
    ) -> Result<()> {
        let mut command = Command::new(self.major.python()?);
        command
            .arg(python::client("python").join("own_sign_in_flow.py"))
            .arg(self.mcp_url())
            .envs(
                self.platform
                    .certificate()
                    .map(|file| ("SSL_CERT_FILE", file)),
            );
        let mut flow = Flow::start(&mut command)?;
        flow.run_with(through, || self.redeploy("second"))?;
        let saw = |step: &str| flow.steps.get(step).context(step.to_owned());
        ensure!(saw("connect")?["client"] == format!("fastmcp {}", self.major.version));
        ensure!(saw("list")?["tools"] == json!(["commit", "who"]));
        ensure!(saw("call")?["text"] == who, "{:?}", flow.steps);
        ensure!(saw("refresh")? == &json!({ "text": who, "renewed": true }));
        let again = saw("again")?;
        ensure!(again["text"] == who, "{again}");
        ensure!(again["before"] != again["after"], "{again}");
        Ok(())
    }

    /// The authorization servers that the challenge leads to.
    fn authorization_servers(&self) -> Result<Value> {
        let (status, challenge) = self.refuses(None)?;
        ensure!(status == 401, "{status}");
        let (metadata, _) = challenge
            .split_once("resource_metadata=\"")
            .and_then(|(_, rest)| rest.split_once('"'))
            .with_context(|| challenge.clone())?;
        let answer = self.http.get(metadata).send()?.error_for_status()?;
        let resource: Value = answer.json()?;
        ensure!(resource["resource"] == self.mcp_url(), "{resource}");
        Ok(resource["authorization_servers"].clone())
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
