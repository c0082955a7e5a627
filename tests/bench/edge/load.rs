//! Load by wrk: as many calls as a number of connections carries.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::process::Server;

/// What is called, and how hard.
pub struct Load<'a> {
    pub directory: &'a Path,
    pub connections: usize,
    pub seconds: u64,
}

/// What came of it.
pub struct Sample {
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Of the server's processes, for each request.
    pub cpu_us: f64,
    pub rss_mib: f64,
}

impl Load<'_> {
    /// Calls a server for a while.
    pub fn run(&self, server: &Server) -> Result<Sample> {
        let script = self.directory.join("load.lua");
        std::fs::write(&script, lua(server))?;
        let before = server.cpu_seconds()?;
        let output = Command::new("wrk")
            .args(["--threads", "1", "--latency"])
            .args(["--connections", &self.connections.to_string()])
            .args(["--duration", &format!("{}s", self.seconds)])
            .arg("--script")
            .arg(&script)
            .arg(format!("http://127.0.0.1:{}/mcp", server.port))
            .output()
            .context("wrk is missing; install it, or run ./tests/run --long")?;
        let cpu = server.cpu_seconds()? - before;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "wrk failed: {text}");
        ensure!(
            !text.contains("Non-2xx") && !text.contains("Socket errors"),
            "some calls failed: {text}"
        );
        let requests: f64 = text
            .lines()
            .find_map(|line| line.trim().split_once(" requests in "))
            .context("no count of requests")?
            .0
            .parse()?;
        Ok(Sample {
            per_second: value(&text, "Requests/sec:")?.parse()?,
            p50_ms: milliseconds(value(&text, "50%")?)?,
            p99_ms: milliseconds(value(&text, "99%")?)?,
            cpu_us: cpu * 1e6 / requests,
            rss_mib: server.rss_kib()? / 1024.0,
        })
    }
}

/// What stands after a word at the beginning of a line.
fn value<'a>(text: &'a str, word: &str) -> Result<&'a str> {
    text.lines()
        .find_map(|line| line.trim().strip_prefix(word))
        .map(str::trim)
        .with_context(|| format!("no {word} in {text}"))
}

fn milliseconds(text: &str) -> Result<f64> {
    for (unit, factor) in [("us", 0.001), ("ms", 1.0), ("s", 1000.0)] {
        if let Some(number) = text.strip_suffix(unit) {
            return Ok(number.parse::<f64>()? * factor);
        }
    }
    anyhow::bail!("{text} is no time")
}

/// A `tools/call` as a client of MCP 2026-07-28 sends it.
fn lua(server: &Server) -> String {
    let token = server
        .token
        .as_ref()
        .map(|token| format!("wrk.headers['Authorization'] = 'Bearer {token}'\n"))
        .unwrap_or_default();
    format!(
        "wrk.method = 'POST'
wrk.body = '{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{{\"name\":\"add\",\"arguments\":{{\"a\":1,\"b\":2}}}}}}'
wrk.headers['Host'] = '{}'
wrk.headers['Content-Type'] = 'application/json'
wrk.headers['Accept'] = 'application/json, text/event-stream'
wrk.headers['Mcp-Protocol-Version'] = '2026-07-28'
wrk.headers['Mcp-Method'] = 'tools/call'
wrk.headers['Mcp-Name'] = 'add'
{token}",
        server.host
    )
}
