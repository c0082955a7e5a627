//! Every setting of the control plane. `berth serve --help` is the manual; each flag is also a
//! variable `BERTH_…`, and each secret can be read from the file that `BERTH_…_FILE` names.

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use outbound::{Fetcher, PinnedHost};
use sqlx::postgres::PgConnectOptions;
use url::{Host, Url};

mod variables;

pub use variables::refuse_unknown_variables;

/// Where people reach Berth when nothing else is said.
pub const DEFAULT_URL: &str = "http://localhost:8080";

/// Where GitHub is when nothing else is said.
pub const DEFAULT_GITHUB_URL: &str = "https://github.com";

/// Where the API of [`DEFAULT_GITHUB_URL`] is.
pub const DEFAULT_GITHUB_API_URL: &str = "https://api.github.com";

/// Bytes in a mebibyte.
const MIB: u64 = 1024 * 1024;

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `value`.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares without telling by its time how much agrees.
    pub fn equals(&self, presented: &str) -> bool {
        verify_slices_are_equal(self.0.as_bytes(), presented.as_bytes()).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// Settings of the control plane (`berth serve`, and the larger part of `berth all`).
/// Call [`ServeConfig::check`] before use.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeConfig {
    /// Directory for everything that must survive a restart.
    #[arg(long, env = "BERTH_DATA", value_name = "DIR", default_value = ".berth")]
    pub data: PathBuf,

    /// Where people reach Berth: dashboard, API and authorization server.
    #[arg(
        long,
        env = "BERTH_URL",
        value_name = "URL",
        default_value = DEFAULT_URL,
        value_parser = parse_public_url
    )]
    pub url: Url,

    /// The domain under which projects live: `PROJECT.<this domain>`.
    #[arg(
        long,
        env = "BERTH_APPS_DOMAIN",
        value_name = "DOMAIN",
        default_value = "localhost",
        value_parser = parse_domain
    )]
    pub apps_domain: String,

    /// Start although dashboard and projects share a registrable domain. Projects are other
    /// people's code: they could then set cookies for the dashboard.
    #[arg(long, env = "BERTH_ALLOW_SHARED_DOMAIN")]
    pub allow_shared_domain: bool,

    /// Postgres 14 or newer, as `postgres://user:password@host/database`.
    #[arg(
        long,
        env = "BERTH_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub database_url: Option<Secret>,

    /// File that holds the database URL.
    #[arg(
        long,
        env = "BERTH_DATABASE_URL_FILE",
        value_name = "FILE",
        conflicts_with = "database_url"
    )]
    pub database_url_file: Option<PathBuf>,

    /// E-mail of the owner, who is created at the first start.
    #[arg(
        long,
        env = "BERTH_OWNER_EMAIL",
        value_name = "EMAIL",
        default_value = "owner@localhost"
    )]
    pub owner_email: String,

    /// The owner's first password; without one, a one-time sign-in link is printed.
    #[arg(
        long,
        env = "BERTH_OWNER_PASSWORD",
        value_name = "PASSWORD",
        hide_env_values = true
    )]
    pub owner_password: Option<Secret>,

    /// File that holds the owner's first password.
    #[arg(
        long,
        env = "BERTH_OWNER_PASSWORD_FILE",
        value_name = "FILE",
        conflicts_with = "owner_password"
    )]
    pub owner_password_file: Option<PathBuf>,

    /// What runners show to be let in.
    #[arg(
        long,
        env = "BERTH_RUNNER_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub runner_token: Option<Secret>,

    /// File that holds the runners' token.
    #[arg(
        long,
        env = "BERTH_RUNNER_TOKEN_FILE",
        value_name = "FILE",
        conflicts_with = "runner_token"
    )]
    pub runner_token_file: Option<PathBuf>,

    /// What edges show to be let in.
    #[arg(
        long,
        env = "BERTH_EDGE_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub edge_token: Option<Secret>,

    /// File that holds the edges' token.
    #[arg(
        long,
        env = "BERTH_EDGE_TOKEN_FILE",
        value_name = "FILE",
        conflicts_with = "edge_token"
    )]
    pub edge_token_file: Option<PathBuf>,

    /// File with the 32 random bytes that encrypt signing keys in the database
    /// [default: keys/kek in the data directory]. Keep a copy apart from the database's backups.
    #[arg(long, env = "BERTH_KEK_FILE", value_name = "FILE")]
    pub kek_file: Option<PathBuf>,

    /// Longest that a replaced instance keeps serving the MCP sessions it owns, in seconds. It
    /// stops as soon as it owns none.
    #[arg(
        long,
        env = "BERTH_DRAIN_SECONDS",
        value_name = "SECONDS",
        default_value_t = 1_800
    )]
    pub drain_seconds: u32,

    /// Longest build, in seconds.
    #[arg(
        long,
        env = "BERTH_BUILD_TIMEOUT_SECONDS",
        value_name = "SECONDS",
        default_value_t = 900
    )]
    pub build_timeout_seconds: u32,

    /// Longest wait for a started server to answer MCP, in seconds.
    #[arg(
        long,
        env = "BERTH_START_TIMEOUT_SECONDS",
        value_name = "SECONDS",
        default_value_t = 90
    )]
    pub start_timeout_seconds: u32,

    /// Memory of an instance, in MiB. A FastMCP server at rest takes about 70.
    #[arg(
        long,
        env = "BERTH_INSTANCE_MEMORY_MIB",
        value_name = "MIB",
        default_value_t = 512
    )]
    pub instance_memory_mib: u32,

    /// Processor share of an instance, in thousandths of a core.
    #[arg(
        long,
        env = "BERTH_INSTANCE_CPU_MILLIS",
        value_name = "MILLIS",
        default_value_t = 1_000
    )]
    pub instance_cpu_millis: u32,

    /// Processes and threads of an instance.
    // Threads count: a Python server with a thread pool beside its event loop passes 128.
    #[arg(
        long,
        env = "BERTH_INSTANCE_PIDS",
        value_name = "COUNT",
        default_value_t = 256
    )]
    pub instance_pids: u32,

    /// Largest `/data` of a project, in MiB. It takes the disk's space as it fills.
    // Databases of one file, caches and uploads fit well; and a hundred full ones fit a disk.
    #[arg(
        long,
        env = "BERTH_DATA_LIMIT_MIB",
        value_name = "MIB",
        default_value_t = 1_024,
        value_parser = clap::value_parser!(u32).range(16..)
    )]
    pub data_limit_mib: u32,

    /// Largest archive that `berth deploy PATH` may send, in MiB.
    #[arg(
        long,
        env = "BERTH_UPLOAD_LIMIT_MIB",
        value_name = "MIB",
        default_value_t = 50
    )]
    pub upload_limit_mib: u32,

    /// Inner hosts that descriptions of clients may come from, as `name=ADDRESS:PORT`, separated
    /// by commas. Each is found at exactly this address, without DNS; all other names must resolve
    /// to public addresses.
    #[arg(
        long,
        env = "BERTH_OUTBOUND_HOSTS",
        value_name = "HOSTS",
        value_delimiter = ','
    )]
    pub outbound_hosts: Vec<PinnedHost>,

    /// File with certificates, PEM, that are trusted beside the system's when descriptions of
    /// clients are fetched.
    #[arg(long, env = "BERTH_OUTBOUND_CA_FILE", value_name = "FILE")]
    pub outbound_ca_file: Option<PathBuf>,

    /// Where GitHub is: the public one, or an Enterprise Server.
    #[arg(
        long,
        env = "BERTH_GITHUB_URL",
        value_name = "URL",
        default_value = DEFAULT_GITHUB_URL,
        value_parser = parse_github_url
    )]
    pub github_url: Url,

    /// Where GitHub's API is; that of an Enterprise Server is at /api/v3 of its address.
    #[arg(
        long,
        env = "BERTH_GITHUB_API_URL",
        value_name = "URL",
        default_value = DEFAULT_GITHUB_API_URL,
        value_parser = parse_github_url
    )]
    pub github_api_url: Url,

    /// How often the branches of projects are compared with GitHub, in seconds: what heals a lost
    /// webhook, which GitHub does not send again.
    #[arg(
        long,
        env = "BERTH_GITHUB_RECONCILE_SECONDS",
        value_name = "SECONDS",
        default_value_t = 300,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub github_reconcile_seconds: u32,

    /// How many previews of pull requests a project may have open at once; further ones wait.
    #[arg(
        long,
        env = "BERTH_PREVIEWS_PER_PROJECT",
        value_name = "COUNT",
        default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=1_000)
    )]
    pub previews_per_project: u32,

    /// Stop the instance of a preview that nobody called for so long, in minutes; the next call starts
    /// it. 0 never does.
    #[arg(
        long,
        env = "BERTH_PREVIEW_SLEEP_MINUTES",
        value_name = "MINUTES",
        default_value_t = 30,
        value_parser = clap::value_parser!(u32).range(..=1_000_000)
    )]
    pub preview_sleep_minutes: u32,

    /// Let the operator open signing up by GitHub to anyone. Whoever signs up runs code on this
    /// machine, in containers that share its kernel.
    #[arg(long, env = "BERTH_ALLOW_STRANGERS")]
    pub allow_strangers: bool,

    /// Whether projects may name `file://` repositories of the runner's machine. A flag of the
    /// commands, since the runner has it too.
    #[arg(skip)]
    pub allow_file_sources: bool,

    /// The private Postgres that this process runs, once it does.
    #[arg(skip)]
    pub private_database: Option<PgConnectOptions>,
}

impl ServeConfig {
    /// Reads the secrets' files and refuses what cannot work together. Empty secrets count as
    /// not given, so that an empty variable is the same as none.
    pub fn check(mut self) -> anyhow::Result<Self> {
        read_secret_file(&mut self.database_url, self.database_url_file.as_deref())?;
        read_secret_file(
            &mut self.owner_password,
            self.owner_password_file.as_deref(),
        )?;
        read_secret_file(&mut self.runner_token, self.runner_token_file.as_deref())?;
        read_secret_file(&mut self.edge_token, self.edge_token_file.as_deref())?;
        if !self.owner_email.contains('@') {
            bail!(
                "BERTH_OWNER_EMAIL is {:?}, which is no e-mail address",
                self.owner_email
            );
        }
        if self.shares_domain() && !self.allow_shared_domain {
            bail!(
                "the dashboard ({}) and the projects (*.{}) share a registrable domain, so a \
                 project could set cookies for the dashboard: set BERTH_APPS_DOMAIN to another \
                 domain, or start with --allow-shared-domain",
                self.host(),
                self.apps_domain
            );
        }
        if (self.github_url.as_str() == with_slash(DEFAULT_GITHUB_URL))
            != (self.github_api_url.as_str() == with_slash(DEFAULT_GITHUB_API_URL))
        {
            bail!(
                "BERTH_GITHUB_URL is {} and BERTH_GITHUB_API_URL is {}, which do not belong together: set \
                 both (an Enterprise Server's API is at /api/v3 of its address)",
                self.github_url,
                self.github_api_url
            );
        }
        Ok(self)
    }

    /// How to reach the database. Fails when none is named or the URL cannot be read.
    pub fn database_options(&self) -> anyhow::Result<PgConnectOptions> {
        if let Some(options) = &self.private_database {
            return Ok(options.clone());
        }
        let url = self.database_url.as_ref().ok_or_else(|| {
            anyhow!(
                "no database is named: set BERTH_DATABASE_URL (or BERTH_DATABASE_URL_FILE), or run \
                 `berth all`, which brings its own"
            )
        })?;
        // The parser's error may quote the URL, and with it the password; it is left out.
        url.expose().parse().map_err(|_| {
            anyhow!("BERTH_DATABASE_URL is not of the form postgres://user:password@host/database")
        })
    }

    /// The file that holds the key encryption key.
    pub fn kek_path(&self) -> PathBuf {
        self.kek_file
            .clone()
            .unwrap_or_else(|| self.keys_directory().join("kek"))
    }

    /// Where keys and role tokens are kept.
    pub fn keys_directory(&self) -> PathBuf {
        self.data.join("keys")
    }

    /// The key that encrypts signing keys at rest.
    pub fn key_encryption_key(&self) -> anyhow::Result<[u8; 32]> {
        let path = self.kek_path();
        let bytes = std::fs::read(&path).with_context(|| {
            format!(
                "cannot read the key encryption key {}; make one with \
                 `head -c 32 /dev/urandom`, or restore the one this database was used with",
                path.display()
            )
        })?;
        bytes.try_into().map_err(|bytes: Vec<u8>| {
            anyhow!(
                "the key encryption key {} has {} bytes; it must have exactly 32",
                path.display(),
                bytes.len()
            )
        })
    }

    /// What fetches from addresses that strangers name. Fails when the certificates cannot be read.
    pub fn fetcher(&self) -> anyhow::Result<Fetcher> {
        let trusted = self
            .outbound_ca_file
            .as_deref()
            .filter(|path| !path.as_os_str().is_empty());
        let trusted = trusted
            .map(|path| {
                std::fs::read(path).with_context(|| {
                    format!("cannot read BERTH_OUTBOUND_CA_FILE {}", path.display())
                })
            })
            .transpose()?;
        Fetcher::new(outbound::Options {
            pinned: self.outbound_hosts.clone(),
            trusted,
            ..outbound::Options::default()
        })
    }

    /// The authorization server's issuer: the public URL without a trailing slash (RFC 8414).
    pub fn issuer(&self) -> String {
        self.url.as_str().trim_end_matches('/').to_owned()
    }

    /// Whether people reach Berth over https.
    pub fn is_secure(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The public host and, where it is not the scheme's own, the port: what a `Host` header says.
    pub fn authority(&self) -> String {
        with_port(self.host(), self.url.port())
    }

    /// A project's host, without port.
    pub fn project_host(&self, name: &str) -> String {
        format!("{name}.{}", self.apps_domain)
    }

    /// A project's second host, without port: it takes API tokens only. No project is called so,
    /// since names have no double hyphen.
    pub fn project_key_host(&self, name: &str) -> String {
        self.project_host(&format!("{name}--key"))
    }

    /// A project's origin, for example `http://hello.localhost:8080`.
    pub fn project_origin(&self, name: &str) -> String {
        let authority = with_port(&self.project_host(name), self.url.port());
        format!("{}://{authority}", self.url.scheme())
    }

    /// A project's public MCP URL: its protected resource and its tokens' audience.
    pub fn project_url(&self, name: &str) -> String {
        format!("{}/mcp", self.project_origin(name))
    }

    /// The MCP URL at a project's second host.
    pub fn project_key_url(&self, name: &str) -> String {
        let authority = with_port(&self.project_key_host(name), self.url.port());
        format!("{}://{authority}/mcp", self.url.scheme())
    }

    /// The authorization server's token endpoint.
    pub fn token_url(&self) -> String {
        format!("{}/oauth/token", self.issuer())
    }

    /// The one-time link of a setup token.
    pub fn setup_url(&self, token: &str) -> String {
        format!("{}/setup/{token}", self.issuer())
    }

    /// GitHub's address without a trailing slash.
    pub fn github(&self) -> &str {
        self.github_url.as_str().trim_end_matches('/')
    }

    /// GitHub's origin, as a page's policy names it.
    pub fn github_origin(&self) -> String {
        self.github_url.origin().ascii_serialization()
    }

    /// Where a repository of GitHub is read.
    pub fn clone_url(&self, full_name: &str) -> String {
        format!("{}/{full_name}.git", self.github())
    }

    /// How long a preview is idle before it is stopped; `None` for never.
    pub fn preview_sleep(&self) -> Option<time::Duration> {
        (self.preview_sleep_minutes > 0)
            .then(|| time::Duration::minutes(self.preview_sleep_minutes.into()))
    }

    /// Which sources projects may name.
    pub fn sources(&self) -> crate::projects::Sources {
        crate::projects::Sources {
            files: self.allow_file_sources,
            plain: (self.github_url.scheme() == "http").then(|| self.github_url.origin()),
        }
    }

    /// How long a replaced instance keeps its MCP sessions at the most.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds.into())
    }

    /// Largest upload, bytes.
    pub fn upload_limit_bytes(&self) -> u64 {
        u64::from(self.upload_limit_mib) * MIB
    }

    /// Largest `/data` of a project, bytes.
    pub fn data_limit_bytes(&self) -> u64 {
        u64::from(self.data_limit_mib) * MIB
    }

    /// Bounds of every build and instance.
    pub fn limits(&self) -> runner::protocol::Limits {
        runner::protocol::Limits {
            memory_bytes: i64::from(self.instance_memory_mib) * 1024 * 1024,
            cpu_millis: self.instance_cpu_millis.into(),
            pids: self.instance_pids.into(),
            build_seconds: self.build_timeout_seconds.into(),
            start_seconds: self.start_timeout_seconds.into(),
            data_bytes: self.data_limit_bytes(),
        }
    }

    /// Whether `presented` is the runners' role token. Never when none is set.
    pub fn accepts_runner(&self, presented: &str) -> bool {
        self.runner_token
            .as_ref()
            .is_some_and(|token| token.equals(presented))
    }

    /// Whether `presented` is the edges' role token. Never when none is set.
    pub fn accepts_edge(&self, presented: &str) -> bool {
        self.edge_token
            .as_ref()
            .is_some_and(|token| token.equals(presented))
    }

    /// Every setting as it is in force, secrets left out.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let secret = |secret: &Option<Secret>, file: &Option<PathBuf>| match (secret, file) {
            (_, Some(file)) => format!("from {}", file.display()),
            (Some(_), None) => "set".to_owned(),
            (None, None) => "not set".to_owned(),
        };
        vec![
            ("BERTH_DATA", self.data.display().to_string()),
            ("BERTH_URL", self.issuer()),
            ("BERTH_APPS_DOMAIN", self.apps_domain.clone()),
            (
                "BERTH_ALLOW_SHARED_DOMAIN",
                self.allow_shared_domain.to_string(),
            ),
            (
                "BERTH_DATABASE_URL",
                secret(&self.database_url, &self.database_url_file),
            ),
            ("BERTH_OWNER_EMAIL", self.owner_email.clone()),
            (
                "BERTH_OWNER_PASSWORD",
                secret(&self.owner_password, &self.owner_password_file),
            ),
            (
                "BERTH_RUNNER_TOKEN",
                secret(&self.runner_token, &self.runner_token_file),
            ),
            (
                "BERTH_EDGE_TOKEN",
                secret(&self.edge_token, &self.edge_token_file),
            ),
            ("BERTH_KEK_FILE", self.kek_path().display().to_string()),
            ("BERTH_DRAIN_SECONDS", self.drain_seconds.to_string()),
            (
                "BERTH_BUILD_TIMEOUT_SECONDS",
                self.build_timeout_seconds.to_string(),
            ),
            (
                "BERTH_START_TIMEOUT_SECONDS",
                self.start_timeout_seconds.to_string(),
            ),
            (
                "BERTH_INSTANCE_MEMORY_MIB",
                self.instance_memory_mib.to_string(),
            ),
            (
                "BERTH_INSTANCE_CPU_MILLIS",
                self.instance_cpu_millis.to_string(),
            ),
            ("BERTH_INSTANCE_PIDS", self.instance_pids.to_string()),
            ("BERTH_DATA_LIMIT_MIB", self.data_limit_mib.to_string()),
            ("BERTH_UPLOAD_LIMIT_MIB", self.upload_limit_mib.to_string()),
            (
                "BERTH_OUTBOUND_HOSTS",
                self.outbound_hosts
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(","),
            ),
            ("BERTH_GITHUB_URL", self.github().to_owned()),
            (
                "BERTH_GITHUB_API_URL",
                self.github_api_url
                    .as_str()
                    .trim_end_matches('/')
                    .to_owned(),
            ),
            (
                "BERTH_GITHUB_RECONCILE_SECONDS",
                self.github_reconcile_seconds.to_string(),
            ),
            (
                "BERTH_PREVIEWS_PER_PROJECT",
                self.previews_per_project.to_string(),
            ),
            (
                "BERTH_PREVIEW_SLEEP_MINUTES",
                self.preview_sleep_minutes.to_string(),
            ),
            ("BERTH_ALLOW_STRANGERS", self.allow_strangers.to_string()),
            (
                "BERTH_OUTBOUND_CA_FILE",
                self.outbound_ca_file
                    .as_ref()
                    .map_or_else(|| "none".to_owned(), |path| path.display().to_string()),
            ),
        ]
    }

    fn host(&self) -> &str {
        self.url.host_str().expect("parse_public_url wants a host")
    }

    /// One registrable domain has at least two labels, so names that differ in their last two
    /// labels never share one. Names that agree in them may still be apart (`a.co.uk`,
    /// `b.co.uk`); refusing those too needs no list of public suffixes that would grow old.
    fn shares_domain(&self) -> bool {
        !is_loopback(&self.url) && last_labels(self.host()) == last_labels(&self.apps_domain)
    }
}

fn with_port(host: &str, port: Option<u16>) -> String {
    port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The last two labels of a host name.
fn last_labels(host: &str) -> Vec<&str> {
    host.rsplit('.').take(2).collect()
}

fn parse_public_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text)
        .map_err(|error| format!("{error}; give a URL such as https://berth.example.com"))?;
    let plain = url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("give a URL that starts with https:// or http://".into());
    }
    if !plain {
        return Err("give scheme, host and port only, such as https://berth.example.com".into());
    }
    Ok(url)
}

fn with_slash(text: &str) -> String {
    format!("{text}/")
}

/// An address of GitHub's. Tokens travel to it, so plain http is for this machine only: tests, and
/// emulators.
fn parse_github_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text)
        .map_err(|error| format!("{error}; give a URL such as {DEFAULT_GITHUB_URL}"))?;
    let plain = url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if !plain || url.host_str().is_none_or(str::is_empty) {
        return Err(format!(
            "give scheme, host, port and path only, such as {DEFAULT_GITHUB_URL}"
        ));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(
            "secrets travel to GitHub: give an https:// address; http:// is for this machine"
                .into(),
        ),
        _ => Err("give a URL that starts with https://".into()),
    }
}

/// Whether an address is this machine's own.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(domain)) => domain == "localhost" || domain.ends_with(".localhost"),
        None => false,
    }
}

fn parse_domain(text: &str) -> Result<String, String> {
    let domain = text.to_ascii_lowercase();
    let good = domain.split('.').all(|label| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    });
    if good {
        Ok(domain)
    } else {
        Err("give a domain name without scheme and port, such as apps-example.net".into())
    }
}

/// Fills `secret` from `file` where one is named.
pub fn read_secret_file(secret: &mut Option<Secret>, file: Option<&Path>) -> anyhow::Result<()> {
    if let Some(path) = file.filter(|path| !path.as_os_str().is_empty()) {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the secret in {}", path.display()))?;
        // Editors and `echo` end files with a newline that nobody means.
        let text = text.trim_end_matches(['\n', '\r']);
        if text.is_empty() {
            bail!("{} is empty; write the secret into it", path.display());
        }
        *secret = Some(Secret::new(text));
    }
    if secret
        .as_ref()
        .is_some_and(|secret| secret.expose().is_empty())
    {
        *secret = None;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
