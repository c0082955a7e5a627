//! A contestant: a process with its children, and what they have used.

use std::fs;
use std::net::TcpListener;
use std::process::Child;

use anyhow::{Context as _, Result};

/// Ticks of a processor's second in `/proc` (USER_HZ): 100 on every Linux.
const TICKS: f64 = 100.0;

/// A running server; ended when dropped.
pub struct Server {
    pub child: Child,
    pub port: u16,
    /// Whom requests must name.
    pub host: String,
    /// Where events are served.
    pub events_host: String,
    /// The caller's token, which the edge alone looks at.
    pub token: Option<String>,
}

impl Server {
    /// Processor seconds used so far, of the process and its children.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let mut ticks = 0_u64;
        for process in self.processes()? {
            let fields = stat(&process)?;
            // The 14th and 15th of proc(5), counted after the name.
            for index in [11, 12] {
                ticks += fields.get(index).context("a short stat")?.parse::<u64>()?;
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a few thousand ticks")]
        Ok(ticks as f64 / TICKS)
    }

    /// Resident memory of all of them, KiB.
    pub fn rss_kib(&self) -> Result<f64> {
        let mut kib = 0_f64;
        for process in self.processes()? {
            let status = fs::read_to_string(format!("/proc/{process}/status"))?;
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("VmRSS:"))
                .context("no VmRSS")?;
            kib += line.trim().trim_end_matches(" kB").parse::<f64>()?;
        }
        Ok(kib)
    }

    fn processes(&self) -> Result<Vec<String>> {
        let own = self.child.id().to_string();
        let mut all = vec![own.clone()];
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !name.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            // A process may end between the two looks.
            if stat(&name).is_ok_and(|fields| fields.get(1) == Some(&own)) {
                all.push(name);
            }
        }
        Ok(all)
    }
}

/// The fields of `/proc/PID/stat` after the name.
fn stat(process: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = text.rsplit_once(')').context("a stat without a name")?;
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM lets nginx end its workers; a process that is gone already is as good.
        let _ = std::process::Command::new("kill")
            .args(["-TERM", "--", &self.child.id().to_string()])
            .status();
        let _ = self.child.wait();
    }
}

/// A port that is free at the moment.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// What the figures were measured on.
pub fn machine() -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let count = cpus
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!("{count} × {model}, Linux {}", kernel.trim()))
}
