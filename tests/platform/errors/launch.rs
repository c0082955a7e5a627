//! The launcher with a real release, without a container: what it reports and what is logged.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::blocking::Client;
use serde_json::{Value, json};

/// Importing FastMCP takes up to 10 s on two busy cores.
const START: Duration = Duration::from_secs(90);

/// What begins a line for the runner.
const MARKER: &str = "@@berth ";

/// A run of the launcher.
pub struct Launch {
    child: Child,
    lines: mpsc::Receiver<String>,
    port: u16,
    home: tempfile::TempDir,
    /// Paths of this machine and what stands for them in a recording.
    paths: Vec<(String, &'static str)>,
    /// What was logged so far.
    pub log: Vec<String>,
}

/// What an HTTP answer to the first message says.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The JSON-RPC error's code, where it is one.
    pub error: Option<i64>,
    /// The error's message, or the body.
    pub message: String,
}

impl Launch {
    /// Starts the launcher on a source with an environment's interpreter.
    pub fn start(
        python: &Path,
        app: &Path,
        entrypoint: &str,
        variables: &[(String, String)],
    ) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let home = tempfile::TempDir::new()?;
        let programs = tests::root().join("runner/src/launcher");
        let (reader, writer) = std::io::pipe()?;
        let child = Command::new(python)
            .arg(programs.join("serve.py"))
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", home.path())
            .env("PORT", port.to_string())
            .env("BERTH_APP_DIR", app)
            .env("BERTH_ENTRYPOINT", entrypoint)
            .env("BERTH_PUBLIC_URL", "https://notes.example.com")
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .spawn()?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(reader);
            let mut line = Vec::new();
            while reader
                .read_until(b'\n', &mut line)
                .is_ok_and(|read| read > 0)
            {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                if sender.send(text).is_err() {
                    break;
                }
            }
        });
        let environment: PathBuf = python
            .parent()
            .and_then(Path::parent)
            .context("bin/python")?
            .into();
        let paths = vec![
            (environment.to_string_lossy().into_owned(), "/env"),
            (app.to_string_lossy().into_owned(), "/app"),
            (programs.to_string_lossy().into_owned(), "/berth"),
            (home.path().to_string_lossy().into_owned(), "/home/app"),
        ];
        Ok(Self {
            child,
            lines,
            port,
            home,
            paths,
            log: Vec::new(),
        })
    }

    /// The `serve` or `fail` line, with the packages that the first line told of; `None` when the
    /// process ended without one.
    pub fn outcome(&mut self) -> Result<Option<Value>> {
        let mut packages = Value::Null;
        loop {
            let Ok(line) = self.lines.recv_timeout(START) else {
                return Ok(None);
            };
            let line = self.without_paths(&line);
            let Some((before, event)) = line.split_once(MARKER) else {
                self.log.push(line);
                continue;
            };
            let Ok(mut event) = serde_json::from_str::<Value>(event) else {
                self.log.push(line);
                continue;
            };
            if !before.is_empty() {
                self.log.push(before.to_owned());
            }
            match event["phase"].as_str() {
                Some("prepare") => packages = event["packages"].take(),
                Some("serve") => return Ok(Some(event)),
                Some("fail") => {
                    event["packages"] = packages;
                    return Ok(Some(event));
                }
                _ => {}
            }
        }
    }

    /// Sends the handshake as a client does.
    pub fn initialize(&self) -> Result<Answer> {
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "tests", "version": "1"}});
        self.post(&json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}))
    }

    fn post(&self, message: &Value) -> Result<Answer> {
        let response = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(START)
            .build()?
            .post(format!("http://127.0.0.1:{}/mcp", self.port))
            .header("host", "notes.example.com")
            .header("accept", "application/json, text/event-stream")
            .json(message)
            .send()?;
        let status = response.status().as_u16();
        let body = response.text()?;
        let data = body
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .next_back();
        let answer: Value = serde_json::from_str(data.unwrap_or(&body)).unwrap_or_default();
        let error = answer["error"]["code"].as_i64();
        let message = answer["error"]["message"]
            .as_str()
            .map_or(body, str::to_owned);
        Ok(Answer {
            status,
            error,
            message,
        })
    }

    /// SIGTERM; everything that is still logged joins the log.
    pub fn stop(mut self) -> Result<Vec<String>> {
        Command::new("kill")
            .args(["-TERM", "--"])
            .arg(self.child.id().to_string())
            .status()?;
        while let Ok(line) = self.lines.recv_timeout(START) {
            let line = self.without_paths(&line);
            self.log.push(line);
        }
        self.child.wait()?;
        Ok(std::mem::take(&mut self.log))
    }

    fn without_paths(&self, line: &str) -> String {
        self.paths
            .iter()
            .fold(line.to_owned(), |line, (path, name)| {
                line.replace(path, name)
            })
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The home is needed until here.
        let _ = self.home.path();
    }
}
