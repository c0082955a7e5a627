//! Every setting of the runner. `--help` is made from these comments.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use outbound::AllowedAddress;
use url::Url;

use crate::network::{DEFAULT_POOL, Subnet};

/// What a build may know of this host's way to the package index. Nothing else of the
/// environment goes into a build, and none of this into an instance.
const BUILD_VARIABLES: &[&str] = &[
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_INSECURE_HOST",
    "NPM_CONFIG_REGISTRY",
    "npm_config_registry",
];

/// pip's names for what uv calls otherwise: used where uv's own are not set.
const PIP_VARIABLES: &[(&str, &str)] = &[
    ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
    ("PIP_EXTRA_INDEX_URL", "UV_INDEX"),
];

/// Settings of `berth runner`.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Directory of everything the runner keeps: sources, environments, volumes, its key.
    #[arg(long, env = "BERTH_DATA", default_value = ".berth", value_name = "DIR")]
    pub data: PathBuf,

    /// Where the control plane answers.
    #[arg(long, env = "BERTH_CONTROL_URL", value_name = "URL")]
    pub control_url: Url,

    /// The runner's role token.
    #[arg(
        long = "runner-token",
        env = "BERTH_RUNNER_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        conflicts_with = "token_file"
    )]
    pub token: Option<String>,

    /// A file that holds the runner's role token.
    #[arg(
        long = "runner-token-file",
        env = "BERTH_RUNNER_TOKEN_FILE",
        value_name = "FILE"
    )]
    pub token_file: Option<PathBuf>,

    /// Everything else.
    #[command(flatten)]
    pub settings: Settings,
}

/// Settings of the runner that `berth all` has too.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// The container engine: `unix:///path` or `tcp://host:port`.
    #[arg(
        long,
        env = "DOCKER_HOST",
        default_value = "unix:///var/run/docker.sock",
        value_name = "URL"
    )]
    pub docker_host: String,

    /// A name of this runner for people; the host's name unless set.
    #[arg(long, env = "BERTH_RUNNER_NAME", value_name = "NAME")]
    pub runner_name: Option<String>,

    /// Most builds at once.
    #[arg(long, env = "BERTH_BUILD_SLOTS", default_value_t = 1, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub build_slots: u32,

    /// What one build may add to the disk, MiB: the largest sets of packages unpack to some 4 GiB, once
    /// into the cache and once into the environment.
    #[arg(long, env = "BERTH_BUILD_DISK_MIB", default_value_t = 8192, value_name = "MIB",
          value_parser = clap::value_parser!(u64).range(64..=1_048_576))]
    pub build_disk_mib: u64,

    /// Let people deploy from `file://` repositories of this machine. Only for a machine whose
    /// files all who can deploy may read.
    #[arg(long, env = "BERTH_ALLOW_FILE_SOURCES")]
    pub allow_file_sources: bool,

    /// Hosts and networks on private addresses that sources may be fetched from.
    #[arg(
        long,
        env = "BERTH_BUILD_ALLOW",
        value_delimiter = ',',
        value_name = "HOST|CIDR"
    )]
    pub build_allow: Vec<AllowedAddress>,

    /// Further variables for builds: `NAME=value`, or `NAME` to pass the runner's own on.
    #[arg(
        long,
        env = "BERTH_BUILD_ENV",
        value_delimiter = ',',
        hide_env_values = true,
        value_name = "NAME[=VALUE]"
    )]
    pub build_env: Vec<String>,

    /// Images that a Dockerfile may begin with beside the platform's own, as patterns of names:
    /// `alpine:*`, `ghcr.io/company/*`. They are pulled without credentials.
    #[arg(
        long,
        env = "BERTH_PULL_IMAGES",
        value_delimiter = ',',
        value_name = "PATTERN"
    )]
    pub pull_images: Vec<String>,

    /// Certificate authorities that builds trust; used where the file is there.
    #[arg(
        long,
        env = "BERTH_CA_BUNDLE",
        default_value = "/etc/ssl/certs/ca-certificates.crt",
        value_name = "FILE"
    )]
    pub ca_bundle: PathBuf,

    /// Resolvers of containers; the engine's unless set.
    #[arg(long, env = "BERTH_DNS", value_delimiter = ',', value_name = "ADDRESS")]
    pub dns: Vec<IpAddr>,

    /// Where the networks of projects get their addresses: a /28 each.
    #[arg(long, env = "BERTH_NETWORK_POOL", default_value = DEFAULT_POOL, value_name = "CIDR")]
    pub network_pool: Subnet,
}

impl Config {
    /// The role token, from wherever it was given.
    pub fn role_token(&self) -> anyhow::Result<String> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(path)) => fs::read_to_string(path)
                .with_context(|| format!("reading the runner's token from {}", path.display()))?,
            (None, None) => {
                bail!(
                    "set BERTH_RUNNER_TOKEN or BERTH_RUNNER_TOKEN_FILE to the runner's role token"
                )
            }
        };
        let token = token.trim();
        if token.is_empty() {
            bail!("the runner's role token is empty");
        }
        Ok(token.to_owned())
    }

    /// The runner's part of the data directory, absolute: an engine mounts nothing else.
    pub fn directory(&self) -> anyhow::Result<PathBuf> {
        let directory = self.data.join("runner");
        std::path::absolute(&directory)
            .with_context(|| format!("resolving {}", directory.display()))
    }
}

impl Settings {
    /// The name for people.
    pub fn name(&self) -> String {
        self.runner_name.clone().unwrap_or_else(|| {
            let name = fs::read_to_string("/proc/sys/kernel/hostname");
            name.map_or_else(|_| "runner".to_owned(), |name| name.trim().to_owned())
        })
    }

    /// The environment of builds: what of the runner's own may pass, and what was set for them.
    #[expect(
        clippy::disallowed_methods,
        reason = "other programs' settings, passed on under the names they have there"
    )]
    pub fn build_variables(&self) -> BTreeMap<String, String> {
        let own: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        build_variables(&own, &self.build_env)
    }
}

fn build_variables(own: &BTreeMap<String, String>, extra: &[String]) -> BTreeMap<String, String> {
    let mut chosen: BTreeMap<String, String> = own
        .iter()
        .filter(|(name, _)| BUILD_VARIABLES.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    for (theirs, ours) in PIP_VARIABLES {
        if let Some(value) = own.get(*theirs) {
            chosen
                .entry((*ours).to_owned())
                .or_insert_with(|| value.clone());
        }
    }
    for entry in extra {
        match entry.split_once('=') {
            Some((name, value)) => {
                chosen.insert(name.to_owned(), value.to_owned());
            }
            None => {
                if let Some(value) = own.get(entry) {
                    chosen.insert(entry.clone(), value.clone());
                }
            }
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn only_what_leads_to_the_index_passes() {
        let own = map(&[
            ("HTTPS_PROXY", "http://proxy"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
            ("PIP_INDEX_URL", "https://index"),
            ("PIP_FIND_LINKS", "/wheels"),
        ]);
        assert_eq!(
            build_variables(&own, &[]),
            map(&[
                ("HTTPS_PROXY", "http://proxy"),
                ("UV_DEFAULT_INDEX", "https://index")
            ])
        );
    }

    #[test]
    fn further_variables_are_named_one_by_one() {
        let own = map(&[
            ("TOKEN", "t"),
            ("UV_INDEX", "a"),
            ("PIP_EXTRA_INDEX_URL", "b"),
        ]);
        let extra = ["TOKEN".to_owned(), "X=1=2".to_owned(), "GONE".to_owned()];
        assert_eq!(
            build_variables(&own, &extra),
            map(&[("TOKEN", "t"), ("UV_INDEX", "a"), ("X", "1=2")])
        );
    }
}
