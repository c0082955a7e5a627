//! Every setting of the edge.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use ipnet::IpNet;
use url::Url;

use crate::protocol::REPORT_SECONDS;

/// Settings of the edge: the public listener in front of the dashboard and of every project.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Address to listen on; repeat the flag, or separate addresses by commas in the variable.
    #[arg(
        long,
        env = "BERTH_LISTEN",
        value_name = "ADDRESS:PORT",
        value_delimiter = ',',
        default_values = ["127.0.0.1:8080", "[::1]:8080"]
    )]
    pub listen: Vec<SocketAddr>,

    /// Where people reach the dashboard; requests for its host go to the control plane.
    #[arg(
        long = "url",
        env = "BERTH_URL",
        value_name = "URL",
        default_value = "http://localhost:8080"
    )]
    pub public_url: Url,

    /// Where the control plane listens, without TLS: for example `http://127.0.0.1:8081`.
    #[arg(
        long,
        env = "BERTH_CONTROL_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8081"
    )]
    pub control_url: Url,

    /// The domain under which projects live: `PROJECT.<this domain>`.
    #[arg(
        long,
        env = "BERTH_APPS_DOMAIN",
        value_name = "DOMAIN",
        default_value = "localhost"
    )]
    pub apps_domain: String,

    /// The edge's role token, which the control plane checks; prefer the file.
    #[arg(
        id = "edge-token",
        long,
        env = "BERTH_EDGE_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub token: Option<String>,

    /// A file that holds the edge's role token.
    #[arg(
        id = "edge-token-file",
        long,
        env = "BERTH_EDGE_TOKEN_FILE",
        value_name = "FILE",
        conflicts_with = "edge-token"
    )]
    pub token_file: Option<PathBuf>,

    /// Directory for what must survive a restart; the edge keeps routes, sessions and its key in `edge/` in it.
    #[arg(
        long = "data",
        env = "BERTH_DATA",
        value_name = "DIR",
        default_value = ".berth"
    )]
    pub data: PathBuf,

    /// The proxies in front.
    #[command(flatten)]
    pub proxies: TrustedProxies,

    /// The threads that serve.
    #[command(flatten)]
    pub threads: Threads,
}

/// The threads that serve clients.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct Threads {
    /// Threads that serve clients, each with connections of its own; one a processor unless set.
    #[arg(
        long = "edge-threads",
        env = "BERTH_EDGE_THREADS",
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=MAX_THREADS)
    )]
    pub edge_threads: Option<u16>,
}

/// Most threads; more would find no work on the machines there are.
pub(crate) const MAX_THREADS: i64 = 63;

/// How long the edge waits, for those who cannot: [`Times::default`] is right for clients.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// A request is held this long for an instance that is known but does not take connections,
    /// because it starts or restarts: clients read a 5xx as something final. Below the 60 s after
    /// which the TypeScript SDK gives a request up, with room for the answer (the Python SDK waits
    /// 300 s).
    pub hold: Duration,
    /// Longest wait for the head of an answer: above the 300 s for which the Python SDK waits in
    /// silence, the longest of the known clients, so that it is the client who gives up.
    pub first_byte: Duration,
    /// Between two reports while there is nothing to say at once.
    pub report: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            hold: Duration::from_secs(50),
            first_byte: Duration::from_secs(310),
            report: Duration::from_secs(REPORT_SECONDS),
        }
    }
}

/// Which peers are the operator's own proxies.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TrustedProxies {
    /// Network (`10.0.0.0/8`) or address of a proxy in front, whose X-Forwarded-For and
    /// X-Forwarded-Proto are believed; repeat the flag, or separate by commas in the variable.
    #[arg(
        long = "trusted-proxy",
        env = "BERTH_TRUSTED_PROXIES",
        value_name = "CIDR",
        value_delimiter = ',',
        value_parser = parse_network
    )]
    pub trusted_proxies: Vec<IpNet>,
}

/// A network, or an address for a network of that alone.
fn parse_network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    text.parse()
        .or_else(|_| text.parse().map(|address: IpAddr| address.into()))
        .map_err(|_| "give a network such as 10.0.0.0/8, or an address such as 127.0.0.1".into())
}

impl Config {
    /// The role token: the setting itself, or what its file holds without surrounding white space.
    pub(crate) fn role_token(&self) -> anyhow::Result<String> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => token.trim().to_owned(),
            (None, Some(file)) => read_token(file)?,
            (None, None) => bail!(
                "the edge has no role token: set BERTH_EDGE_TOKEN_FILE to the file that the control plane reads as well"
            ),
        };
        if token.is_empty() {
            bail!("the edge's role token is empty: write the control plane's edge token there");
        }
        Ok(token)
    }

    /// `address:port` of the control plane.
    pub(crate) fn control_address(&self) -> anyhow::Result<String> {
        if self.control_url.scheme() != "http" {
            bail!(
                "BERTH_CONTROL_URL must start with http://, it is {}: the control plane listens without TLS",
                self.control_url
            );
        }
        let host = self
            .control_url
            .host_str()
            .context("BERTH_CONTROL_URL names no host")?;
        let port = self.control_url.port_or_known_default().unwrap_or(80);
        Ok(format!("{host}:{port}"))
    }

    /// The dashboard's host: lower case, without port.
    pub(crate) fn dashboard_host(&self) -> anyhow::Result<String> {
        let host = self
            .public_url
            .host_str()
            .context("BERTH_URL names no host: give a URL such as http://localhost:8080")?;
        Ok(host.to_ascii_lowercase())
    }

    /// `.` and the apps domain in lower case, to compare the end of a host with.
    pub(crate) fn apps_suffix(&self) -> String {
        let domain = self.apps_domain.trim_matches('.').to_ascii_lowercase();
        format!(".{domain}")
    }

    /// Where the route snapshot is kept.
    pub(crate) fn snapshot_file(&self) -> PathBuf {
        self.data.join("edge").join("routes.json")
    }

    /// Where MCP sessions are kept.
    pub(crate) fn session_file(&self) -> PathBuf {
        self.data.join("edge").join("sessions.json")
    }
}

fn read_token(file: &Path) -> anyhow::Result<String> {
    let token = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the edge's role token from {}", file.display()))?;
    Ok(token.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        edge: Config,
    }

    #[test]
    fn listen_takes_a_comma_separated_list() {
        let cli = Cli::parse_from(["berth", "--listen", "127.0.0.1:1,[::1]:2"]);
        assert_eq!(cli.edge.listen.len(), 2);
        assert_eq!(cli.edge.listen[1].port(), 2);
    }

    #[test]
    fn proxies_are_networks_or_addresses() {
        let cli = Cli::parse_from([
            "berth",
            "--trusted-proxy",
            "10.0.0.0/8,127.0.0.1",
            "--trusted-proxy",
            "::1",
        ]);
        let networks = cli.edge.proxies.trusted_proxies;
        let networks: Vec<_> = networks.iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["10.0.0.0/8", "127.0.0.1/32", "::1/128"]);
        assert!(Cli::try_parse_from(["berth", "--trusted-proxy", "proxy"]).is_err());
    }

    #[test]
    fn a_control_plane_behind_tls_is_refused() {
        let cli = Cli::parse_from(["berth", "--control-url", "https://127.0.0.1:1"]);
        assert!(cli.edge.control_address().is_err());
    }

    #[test]
    fn the_token_file_is_trimmed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "abc\n").unwrap();
        let cli = Cli::parse_from(["berth", "--edge-token-file", file.to_str().unwrap()]);
        assert_eq!(cli.edge.role_token().unwrap(), "abc");
    }
}
