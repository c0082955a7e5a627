//! https before a platform: a proxy with a certificate of its own ends TLS and passes the rest on.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// The running proxy; gone when dropped.
#[derive(Debug)]
pub struct Front {
    proxy: Child,
    port: u16,
    directory: TempDir,
    trusted: reqwest::Certificate,
}

impl Front {
    /// Starts one before a port of this machine, for the dashboard and these projects.
    pub fn start(inside: u16, projects: &[&str]) -> Result<Self> {
        // By name: one for `*.localhost` would be for a whole top-level domain, and nobody takes it.
        let mut hosts = vec!["localhost".to_owned()];
        hosts.extend(projects.iter().map(|name| format!("{name}.localhost")));
        let made = rcgen::generate_simple_self_signed(hosts)?;
        let directory = TempDir::new()?;
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| directory.path().join(name));
        std::fs::write(&certificate, made.cert.pem())?;
        std::fs::write(&key, made.signing_key.serialize_pem())?;
        let mut proxy = Command::new("/usr/bin/python3")
            .arg(crate::root().join("tests/servers/tls.py"))
            .args([&certificate, &key])
            .arg(inside.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the proxy")?;
        let mut line = String::new();
        let stdout = proxy.stdout.take().expect("standard output is a pipe");
        BufReader::new(stdout).read_line(&mut line)?;
        Ok(Self {
            proxy,
            port: line.trim().parse().context("the proxy names its port")?,
            directory,
            trusted: reqwest::Certificate::from_pem(made.cert.pem().as_bytes())?,
        })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The file with its certificate, as PEM.
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("cert.pem")
    }

    /// Its certificate.
    pub fn trusted(&self) -> reqwest::Certificate {
        self.trusted.clone()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
    }
}
