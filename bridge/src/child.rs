//! One process of the server.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus, Stdio};

use anyhow::{Context as _, anyhow};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::limits::GRACE;
use crate::settings::Settings;

/// A running server with its pipes. What it writes to standard error is the instance's log.
pub struct Child {
    process: tokio::process::Child,
    input: Option<ChildStdin>,
    output: Option<ChildStdout>,
}

impl Child {
    /// Starts it, in a process group of its own so that it ends with all it started.
    pub fn start(settings: &Settings) -> anyhow::Result<Self> {
        let (program, arguments) = settings
            .command
            .split_first()
            .context("no command was given")?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(&settings.variables)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .process_group(0)
            .kill_on_drop(true);
        for name in settings.hidden {
            command.env_remove(name);
        }
        let mut process = command
            .spawn()
            .map_err(|error| anyhow!("{} cannot be started: {error}", program.to_string_lossy()))?;
        Ok(Self {
            input: process.stdin.take(),
            output: process.stdout.take(),
            process,
        })
    }

    /// Its standard output; there is one.
    pub fn take_output(&mut self) -> ChildStdout {
        self.output.take().expect("it is taken once")
    }

    /// Puts its standard output back.
    pub fn return_output(&mut self, output: ChildStdout) {
        self.output = Some(output);
    }

    /// Its standard input; there is one.
    pub fn take_input(&mut self) -> ChildStdin {
        self.input.take().expect("it is taken once")
    }

    /// Writes to its standard input, which stays open.
    pub async fn write(&mut self, line: &[u8]) -> std::io::Result<()> {
        match &mut self.input {
            Some(input) => {
                input.write_all(line).await?;
                input.flush().await
            }
            None => Ok(()),
        }
    }

    /// Resolves when it has ended, with the code to end with as well.
    pub async fn ended(&mut self) -> ExitCode {
        exit_code(self.process.wait().await.ok())
    }

    /// The same, for people.
    pub async fn how_it_ended(&mut self) -> String {
        match self.process.wait().await {
            Ok(status) => describe(status),
            Err(_) => "for an unknown reason".to_owned(),
        }
    }

    /// Asks it and all it started to end.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it as MCP says: its input first, then SIGTERM, then SIGKILL.
    pub async fn end(mut self) {
        drop(self.input.take());
        if timeout(GRACE, self.process.wait()).await.is_err() {
            self.signal(Signal::TERM);
            let _ = timeout(GRACE, self.process.wait()).await;
        }
        // Also what it may have left behind.
        self.signal(Signal::KILL);
        let _ = self.process.wait().await;
    }

    fn signal(&self, signal: Signal) {
        let group = self
            .process
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(group) = group {
            // One that has ended meanwhile needs none.
            let _ = kill_process_group(group, signal);
        }
    }
}

/// 128 + n for signal n, as an engine shows it.
fn exit_code(status: Option<ExitStatus>) -> ExitCode {
    let Some(status) = status else {
        return ExitCode::FAILURE;
    };
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("with status {code}"),
        (None, Some(9)) => "because it was killed, usually for using too much memory".to_owned(),
        (None, Some(signal)) => format!("by signal {signal}"),
        (None, None) => "for an unknown reason".to_owned(),
    }
}
