//! An edge of its own with the routes that a platform's edge has saved, and no control plane: what
//! callers see while the platform is away.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use anyhow::Result;
use tempfile::TempDir;

use crate::platform::Platform;

/// Runs until it is dropped.
pub struct SpareEdge {
    child: Child,
    port: u16,
    _data: TempDir,
}

impl SpareEdge {
    /// Starts one; it listens a moment later.
    pub fn start(platform: &Platform) -> Result<Self> {
        let data = TempDir::new()?;
        std::fs::create_dir(data.path().join("edge"))?;
        std::fs::copy(
            platform.data().join("edge/routes.json"),
            data.path().join("edge/routes.json"),
        )?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new(crate::berth_binary())
            .arg("edge")
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--url", &platform.url(), "--apps-domain", "localhost"])
            // The discard port: this edge has no control plane.
            .args(["--control-url", "http://127.0.0.1:9"])
            .arg("--data")
            .arg(data.path())
            .env("BERTH_EDGE_TOKEN", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self {
            child,
            port,
            _data: data,
        })
    }

    /// Its port on this machine.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for SpareEdge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
