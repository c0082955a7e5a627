//! The client's side of the API.

use std::error::Error as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use url::{Host, Url};

use super::credentials::Credentials;
use super::exit::Failure;
use crate::config::{DEFAULT_URL, Secret};

/// A server that is there answers the handshake well before that.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Longest silence of an answer; a followed log is never silent for more than 15 s.
const SILENCE_LIMIT: Duration = Duration::from_mins(1);

/// The environment's words for the server and its token, in every client command.
#[derive(Debug, Clone, clap::Args)]
pub struct ClientArguments {
    /// The server [default: the one signed in to last, else http://localhost:8080].
    #[arg(long, env = "BERTH_SERVER", value_name = "URL", global = true)]
    pub server: Option<Url>,

    /// An API token, instead of signing in.
    #[arg(
        long,
        env = "BERTH_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true,
        global = true
    )]
    pub token: Option<Secret>,
}

/// A server and, when signed in, the token for it.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    server: Url,
    token: Option<Secret>,
}

impl Client {
    /// The server as named, signed in to or not.
    pub fn anonymous(arguments: &ClientArguments) -> anyhow::Result<Self> {
        let credentials = Credentials::load()?;
        let server = match &arguments.server {
            Some(server) => server.clone(),
            None => match credentials.default_server() {
                Some(server) => server,
                None => DEFAULT_URL.parse().context("the default URL is one")?,
            },
        };
        let token = arguments
            .token
            .clone()
            .filter(|token| !token.expose().is_empty())
            .or_else(|| credentials.token(&server).map(Secret::new));
        Ok(Self {
            http: http(&server)?,
            server,
            token,
        })
    }

    /// The server, signed in to.
    pub fn signed_in(arguments: &ClientArguments) -> anyhow::Result<Self> {
        let client = Self::anonymous(arguments)?;
        if client.token.is_none() {
            return Err(client.not_signed_in());
        }
        Ok(client)
    }

    /// The same server with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: Some(Secret::new(token)),
            ..self.clone()
        }
    }

    /// The server.
    pub fn server(&self) -> &Url {
        &self.server
    }

    /// The server as people write it.
    pub fn name(&self) -> &str {
        self.server.as_str().trim_end_matches('/')
    }

    /// Whether there is a token to show.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Asks for a document. `path` has been made by [`path`].
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        document(self.answer(self.request(Method::GET, path)?).await?).await
    }

    /// Asks for a text.
    pub async fn text(&self, path: &str) -> anyhow::Result<String> {
        let answer = self.answer(self.request(Method::GET, path)?).await?;
        answer.text().await.context("the answer broke off")
    }

    /// Asks for a document that may be missing.
    pub async fn find(&self, path: &str) -> anyhow::Result<Option<Value>> {
        match self.get(path).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if matches!(error.downcast_ref(), Some(Failure::NotFound(_))) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a document and reads the answer's; `Null` when there is none.
    pub async fn send(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.request(method, path)?.json(body);
        document(self.answer(request).await?).await
    }

    /// Sends a file.
    pub async fn put_file(&self, path: &str, file: tokio::fs::File) -> anyhow::Result<Value> {
        let length = file
            .metadata()
            .await
            .context("cannot look at the archive")?
            .len();
        let request = self
            .request(Method::PUT, path)?
            .header("content-type", "application/gzip")
            .header("content-length", length)
            .body(file);
        document(self.answer(request).await?).await
    }

    /// Opens a stream of server-sent events.
    pub async fn follow(&self, path: &str) -> anyhow::Result<Response> {
        self.answer(
            self.request(Method::GET, path)?
                .header("accept", "text/event-stream"),
        )
        .await
    }

    /// A plain HTTP client that finds the same hosts.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    fn request(&self, method: Method, path: &str) -> anyhow::Result<RequestBuilder> {
        let url = self
            .server
            .join(path)
            .with_context(|| format!("{path} makes no URL"))?;
        let request = self.http.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        })
    }

    async fn answer(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.unwrap_or_default();
        let sentence =
            problem(&text).unwrap_or_else(|| format!("{} answered {status}", self.name()));
        Err(match status {
            StatusCode::UNAUTHORIZED if self.token.is_none() => self.not_signed_in(),
            StatusCode::UNAUTHORIZED => Failure::NotSignedIn(format!(
                "{sentence} Run `berth login --server {}` to sign in again.",
                self.name()
            ))
            .into(),
            StatusCode::NOT_FOUND => Failure::NotFound(sentence).into(),
            _ => anyhow!(sentence),
        })
    }

    fn not_signed_in(&self) -> anyhow::Error {
        let sentence = format!(
            "not signed in to {0}: run `berth login --server {0}`, or set BERTH_TOKEN",
            self.name()
        );
        Failure::NotSignedIn(sentence).into()
    }

    fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        anyhow!(
            "{} does not answer ({}): is Berth running there? Another server is named with \
             --server or BERTH_SERVER",
            self.name(),
            root_cause(error)
        )
    }
}

/// The last and most telling of an error's causes.
pub fn root_cause(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    let mut sentence = error.to_string();
    while let Some(inner) = cause {
        sentence = inner.to_string();
        cause = inner.source();
    }
    sentence
}

/// A path of the API with its variable segments escaped.
pub fn path(segments: &[&str]) -> String {
    let mut url = Url::parse("http://path/api/v1").expect("a constant URL parses");
    url.path_segments_mut()
        .expect("http URLs have segments")
        .extend(segments);
    url.path().to_owned()
}

async fn document(response: Response) -> anyhow::Result<Value> {
    let bytes = response
        .bytes()
        .await
        .context("the answer broke off; try again")?;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    match serde_json::from_slice(&bytes) {
        Ok(document) => Ok(document),
        Err(_) => bail!("the answer is no JSON; is this a Berth server?"),
    }
}

/// The sentence of an RFC 9457 problem, with those of its fields.
fn problem(text: &str) -> Option<String> {
    let problem: Value = serde_json::from_str(text).ok()?;
    let detail = problem["detail"]
        .as_str()
        .or_else(|| problem["title"].as_str())?;
    match problem["request_id"]
        .as_str()
        .filter(|_| problem["status"] == 500)
    {
        Some(id) => Some(format!("{detail} (request {id})")),
        None => Some(detail.to_owned()),
    }
}

fn http(server: &Url) -> anyhow::Result<reqwest::Client> {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is where the command line's client is made"
    )]
    let builder = reqwest::Client::builder();
    let builder = builder
        .user_agent(concat!("berth/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_LIMIT)
        .read_timeout(SILENCE_LIMIT)
        .dns_resolver(Arc::new(LocalhostIsHere));
    // A proxy for the way out leads away from a server on this machine.
    let builder = if is_here(server) {
        builder.no_proxy()
    } else {
        builder
    };
    builder.build().context("cannot make an HTTP client")
}

fn is_here(server: &Url) -> bool {
    match server.host() {
        Some(Host::Domain(domain)) => is_localhost(domain),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// `*.localhost` is this machine (RFC 6761 section 6.3), although not every libc knows; every
/// other name is the system's to resolve.
struct LocalhostIsHere;

impl Resolve for LocalhostIsHere {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        Box::pin(async move {
            if is_localhost(&name) {
                let here = [
                    IpAddr::from(Ipv4Addr::LOCALHOST),
                    Ipv6Addr::LOCALHOST.into(),
                ];
                let here = here.into_iter().map(|address| SocketAddr::new(address, 0));
                return Ok(Box::new(here) as Addrs);
            }
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name, 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_escaped() {
        assert_eq!(
            path(&["projects", "a/../b?c", "tools"]),
            "/api/v1/projects/a%2F..%2Fb%3Fc/tools"
        );
    }

    #[test]
    fn problems_become_their_sentence() {
        let text = r#"{"title":"Conflict","status":409,"detail":"The name is taken."}"#;
        assert_eq!(problem(text).unwrap(), "The name is taken.");
        let text = r#"{"status":500,"detail":"Oh.","request_id":"7"}"#;
        assert_eq!(problem(text).unwrap(), "Oh. (request 7)");
        assert_eq!(problem("<html>"), None);
    }

    #[test]
    fn localhost_and_all_below_it_are_here() {
        assert!(is_localhost("hello.localhost"));
        assert!(is_localhost("LOCALHOST."));
        assert!(!is_localhost("localhost.example.com"));
    }
}
