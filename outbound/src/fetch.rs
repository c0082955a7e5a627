//! Fetching a JSON document from an address that a stranger chose, for example the description of
//! a client (Client ID Metadata Document, draft section 6.5 "Server Side Request Forgery").

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use reqwest::{Certificate, Client, Response, StatusCode};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use url::{Host, Url};

use crate::address::Reach;
use crate::freshness;
use crate::resolver::{CheckedResolver, Forbidden, Lookup, PinnedHost, SystemLookup};

/// Longest fetch, from the lookup of the name to the last byte. Somebody's browser waits for it.
pub const TOTAL: Duration = Duration::from_secs(5);

/// Largest document. The draft recommends 5 KiB for a client's description; key sets with
/// certificate chains and descriptions with many languages are larger, and this still costs nothing.
pub const MAX_BYTES: usize = 64 * 1024;

/// Fetches at the same time; further ones wait within their time. Bounds what strangers can make
/// us send to others.
const AT_ONCE: usize = 16;

/// Longest URL.
const MAX_URL: usize = 2_000;

const USER_AGENT: &str = concat!("berth/", env!("CARGO_PKG_VERSION"));

/// A document and how long it stays good by its own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The JSON value.
    pub body: Value,
    /// From now on; `None` when the answer does not say.
    pub fresh_for: Option<Duration>,
}

/// Why there is no document. The texts are for strangers: they name no address of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The URL is not one that is fetched.
    #[error("its address {0}")]
    Url(&'static str),
    /// The name resolves to an address that is not public.
    #[error("its host does not resolve to public addresses only")]
    Forbidden,
    /// No connection, no TLS, or it broke.
    #[error("no secure connection to its host could be made")]
    Unreachable,
    /// The time was over.
    #[error("its host did not answer within {} seconds", TOTAL.as_secs())]
    TimedOut,
    /// Another status than 200. Redirects are among them: they are not followed.
    #[error("its host answered with status {0}; it must be 200, without redirect")]
    Status(u16),
    /// More than [`MAX_BYTES`].
    #[error("it is larger than {} KiB", MAX_BYTES / 1024)]
    TooLarge,
    /// Not of a JSON media type.
    #[error("it is not served as application/json")]
    WrongType,
    /// Not JSON.
    #[error("it is not valid JSON")]
    NotJson,
}

impl Fault {
    /// Whether the document may well be there and as before: its host is what fails.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable | Self::TimedOut => true,
            Self::Status(status) => matches!(status, 408 | 425 | 429 | 500..),
            _ => false,
        }
    }
}

/// What a [`Fetcher`] is built with.
pub struct Options {
    /// Private addresses that may be reached after all.
    pub reach: Reach,
    /// Names that are elsewhere than where the resolver says.
    pub pinned: Vec<PinnedHost>,
    /// Certificates that are trusted beside the system's, PEM.
    pub trusted: Option<Vec<u8>>,
    /// Where names are looked up.
    pub lookup: Arc<dyn Lookup>,
    /// Longest fetch.
    pub total: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            reach: Reach::default(),
            pinned: Vec::new(),
            trusted: None,
            lookup: Arc::new(SystemLookup),
            total: TOTAL,
        }
    }
}

/// Fetches JSON documents, over https and port 443 only, from public addresses only.
#[derive(Debug)]
pub struct Fetcher {
    client: Client,
    total: Duration,
    at_once: Semaphore,
}

impl Fetcher {
    /// Fails when `trusted` is no PEM, or the system's certificates cannot be read.
    pub fn new(options: Options) -> anyhow::Result<Self> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one client for documents of strangers: every address is checked"
        )]
        let builder = Client::builder();
        let mut builder = builder
            .user_agent(USER_AGENT)
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy() // a proxy would connect for us, past the address check
            .referer(false)
            .timeout(options.total)
            .pool_max_idle_per_host(0) // a kept connection would outlive its check
            .dns_resolver(Arc::new(CheckedResolver::with(
                options.reach,
                &options.pinned,
                options.lookup,
            )));
        if let Some(pem) = &options.trusted {
            let trusted = Certificate::from_pem_bundle(pem)
                .context("the file of trusted certificates is not PEM")?;
            anyhow::ensure!(
                !trusted.is_empty(),
                "the file of trusted certificates holds none"
            );
            builder = builder.tls_certs_merge(trusted);
        }
        Ok(Self {
            client: builder.build()?,
            total: options.total,
            at_once: Semaphore::new(AT_ONCE),
        })
    }

    /// Fetches the JSON document at `url`.
    pub async fn json(&self, url: &str) -> Result<Document, Fault> {
        let url = check_url(url).map_err(Fault::Url)?;
        timeout(self.total, self.get(url))
            .await
            .unwrap_or(Err(Fault::TimedOut))
    }

    async fn get(&self, url: Url) -> Result<Document, Fault> {
        let _permit = self
            .at_once
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let response = self
            .client
            .get(url)
            .header(ACCEPT, "application/json")
            .send()
            .await
            .map_err(|error| fault_of(&error))?;
        if response.status() != StatusCode::OK {
            return Err(Fault::Status(response.status().as_u16()));
        }
        if !is_json(response.headers()) {
            return Err(Fault::WrongType);
        }
        let fresh_for = freshness::of(response.headers());
        let body = read(response).await?;
        let body = serde_json::from_slice(&body).map_err(|_| Fault::NotJson)?;
        Ok(Document { body, fresh_for })
    }
}

/// Whether a URL is one that is fetched; the error is the reason.
///
/// It must be spelled exactly as the URL standard writes it. That leaves one spelling for each
/// place, without dot segments, default port, upper-case host, tabs or backslashes. An address in
/// place of a name is refused in every spelling, since it never meets the resolver's check.
pub fn check_url(text: &str) -> Result<Url, &'static str> {
    if text.len() > MAX_URL {
        return Err("is longer than 2000 characters");
    }
    let url = Url::parse(text).map_err(|_| "is not a URL")?;
    if url.scheme() != "https" {
        return Err("does not begin with https://");
    }
    if !url.username().is_empty() || url.password().is_some() || authority(text).contains('@') {
        return Err("holds a user name");
    }
    if url.fragment().is_some() {
        return Err("has a fragment");
    }
    if url.port().is_some() {
        return Err("names a port other than 443");
    }
    match url.host() {
        Some(Host::Domain(name)) if is_name(name) => {}
        _ => return Err("does not name a host; an address cannot stand in its place"),
    }
    if url.as_str() != text {
        return Err(
            "is not in its plain spelling, with a lower-case host, no port and no dot segments",
        );
    }
    Ok(url)
}

/// What stands between `//` and the path.
fn authority(text: &str) -> &str {
    let rest = text.get("https://".len()..).unwrap_or_default();
    rest.split(['/', '?', '#', '\\']).next().unwrap_or_default()
}

/// A name with a domain: one without is looked up on our own network. The last label is not a
/// number, which old resolvers take for a part of an address.
fn is_name(name: &str) -> bool {
    let good = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    name.contains('.')
        && name.split('.').all(good)
        && name
            .rsplit('.')
            .next()
            .is_some_and(|last| last.starts_with(|c: char| c.is_ascii_alphabetic()))
}

fn is_json(headers: &HeaderMap) -> bool {
    let media = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    media == "application/json" || media.starts_with("application/") && media.ends_with("+json")
}

async fn read(mut response: Response) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| fault_of(&error))? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(Fault::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn fault_of(error: &reqwest::Error) -> Fault {
    if let Some(forbidden) = Forbidden::within(error) {
        tracing::warn!(host = forbidden.host, address = %forbidden.address, "a document's host is not public; it was not fetched");
        return Fault::Forbidden;
    }
    if error.is_timeout() {
        return Fault::TimedOut;
    }
    // The URL is a stranger's, and may be meant to be read in logs.
    tracing::debug!(error = ?std::error::Error::source(error), "a document could not be fetched");
    Fault::Unreachable
}
