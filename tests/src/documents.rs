//! A host on the web where clients keep their metadata documents: TLS with a certificate of its own,
//! reached by the platform through its setting for inner hosts.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

/// The name of the host.
const HOST: &str = "client.example";

/// The running host; gone when dropped.
pub struct Documents {
    server: Child,
    port: u16,
    directory: TempDir,
    http: reqwest::blocking::Client,
}

impl Documents {
    /// Starts it.
    pub fn serve() -> Result<Self> {
        let directory = TempDir::new()?;
        let made = rcgen::generate_simple_self_signed(vec![HOST.to_owned()])?;
        let (certificate, key) = (
            directory.path().join("cert.pem"),
            directory.path().join("key.pem"),
        );
        std::fs::write(&certificate, made.cert.pem())?;
        std::fs::write(&key, made.signing_key.serialize_pem())?;
        let mut server = Command::new("/usr/bin/python3")
            .arg(crate::root().join("tests/servers/documents.py"))
            .args([&certificate, &key])
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the host of documents")?;
        let mut line = String::new();
        let stdout = server.stdout.take().expect("standard output is a pipe");
        BufReader::new(stdout).read_line(&mut line)?;
        let port: u16 = line.trim().parse().context("the host names its port")?;
        let http = reqwest::blocking::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(made.cert.pem().as_bytes())?])
            .resolve(HOST, ([127, 0, 0, 1], port).into())
            .build()?;
        Ok(Self {
            server,
            port,
            directory,
            http,
        })
    }

    /// What a platform must be told to reach it.
    pub fn settings(&self) -> Vec<(String, String)> {
        let certificate = self.directory.path().join("cert.pem");
        vec![
            (
                "BERTH_OUTBOUND_HOSTS".into(),
                format!("{HOST}=127.0.0.1:{}", self.port),
            ),
            (
                "BERTH_OUTBOUND_CA_FILE".into(),
                certificate.display().to_string(),
            ),
        ]
    }

    /// Its name.
    pub fn host(&self) -> &str {
        HOST
    }

    /// The address of a document, as clients write it.
    pub fn url(&self, path: &str) -> String {
        format!("https://{HOST}{path}")
    }

    /// Keeps a document.
    pub fn put(&self, path: &str, document: &Value) -> Result<()> {
        let answer = self
            .http
            .put(format!("https://{HOST}:{}{path}", self.port))
            .body(document.to_string())
            .send()?;
        ensure!(answer.status() == 204, "{answer:?}");
        Ok(())
    }

    /// How often a document was asked for.
    pub fn requests(&self, path: &str) -> Result<u64> {
        let answer = self
            .http
            .get(format!("https://{HOST}:{}/requests?{path}", self.port))
            .send()?;
        Ok(answer.json()?)
    }
}

impl Drop for Documents {
    fn drop(&mut self) {
        // It has nothing to tidy up.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
