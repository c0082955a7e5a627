//! The command line under test.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::platform::Platform;

/// What a command left.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// The last line of standard output as JSON: what `--json` promises.
    pub fn json(&self) -> Result<Value> {
        let last = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(last).with_context(|| format!("no JSON on the last line of {self:?}"))
    }

    /// Fails unless the exit code is 0.
    pub fn success(self) -> Result<Self> {
        if self.code != 0 {
            bail!("exit code {}: {}{}", self.code, self.stdout, self.stderr);
        }
        Ok(self)
    }

    /// Everything that was printed.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl Platform {
    /// Runs `berth` signed in to this platform.
    pub fn berth(&self, arguments: &[&str]) -> Result<Outcome> {
        self.berth_with_input(arguments, "")
    }

    /// Runs `berth` with something on standard input.
    pub fn berth_with_input(&self, arguments: &[&str], input: &str) -> Result<Outcome> {
        let mut command = Command::new(crate::berth_binary());
        if let Some(certificate) = self.certificate() {
            command.env("SSL_CERT_FILE", certificate);
        }
        let mut child = command
            .args(arguments)
            .env("BERTH_SERVER", self.url())
            .env("BERTH_TOKEN", self.token()?)
            .env("XDG_CONFIG_HOME", self.data().join("no-config"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child
            .stdin
            .take()
            .expect("standard input is a pipe")
            .write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        Ok(Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Deploys a Git repository and waits; the JSON of CONTRACT: project, deployment, state, …
    pub fn deploy(&self, project: &str, git: &str, more: &[&str]) -> Result<Value> {
        let mut arguments = vec![
            "deploy",
            "--git",
            git,
            "--project",
            project,
            "--wait",
            "--json",
        ];
        arguments.extend_from_slice(more);
        let outcome = self.berth(&arguments)?;
        outcome.json().with_context(|| outcome.text())
    }

    /// Deploys and expects it live.
    pub fn deploy_live(&self, project: &str, git: &str, more: &[&str]) -> Result<Value> {
        let done = self.deploy(project, git, more)?;
        if done["state"] != "live" {
            let logs = self.berth(&["logs", project, "--build"])?;
            bail!("{project} did not go live: {done}\n{}", logs.text());
        }
        Ok(done)
    }
}
