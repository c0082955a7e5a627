//! Real clients, each a program of its own in `tests/clients`: it says on standard output what it
//! saw at every step, and waits before the last one until another deployment is in place.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::browser::Browser;
use crate::platform::Platform;
use crate::{python, wait};

/// The slowest step is the first: an interpreter with many modules starts on a busy machine.
const STEP: Duration = Duration::from_mins(2);

/// What a client said at each step it came to.
pub type Steps = BTreeMap<String, Value>;

/// A client at work.
pub struct Flow {
    child: Child,
    lines: Receiver<String>,
    home: TempDir,
    /// What was seen so far; of a client that failed, too.
    pub steps: Steps,
}

impl Flow {
    /// Starts a client with a home of its own and no desktop; where it would open a browser, the
    /// test gets the URL.
    pub fn start(command: &mut Command) -> Result<Self> {
        let home = TempDir::new()?;
        let mut child = command
            .env("HOME", home.path())
            .env("FASTMCP_HOME", home.path())
            .env("XDG_CONFIG_HOME", home.path())
            .env("NO_COLOR", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env(
                "BROWSER",
                format!("{} %s", python::client("open_url.py").display()),
            )
            .env("TEST_URL_FILE", home.path().join("authorize-url"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(home.path().join("stderr"))?)
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let stdout = child.stdout.take().expect("standard output is a pipe");
        let (said, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if said.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            child,
            lines,
            home,
            steps: Steps::new(),
        })
    }

    /// Runs it to its end: the owner signs in and allows it in a real browser, again when it says
    /// that it steps up, and `redeploy` is called when the client waits for it.
    pub fn run(&mut self, platform: &Platform, redeploy: impl Fn() -> Result<()>) -> Result<()> {
        self.run_with(|browser, url| browser.authorize(platform, url), redeploy)
    }

    /// The same, with another way through the pages that the URL opens.
    pub fn run_with(
        &mut self,
        authorize: impl Fn(&Browser, &str) -> Result<()>,
        redeploy: impl Fn() -> Result<()>,
    ) -> Result<()> {
        self.authorize(&authorize)
            .and_then(|()| self.follow(&authorize, redeploy))
            .with_context(|| {
                let seen: Vec<&String> = self.steps.keys().collect();
                format!("after {seen:?} the client said: {}", self.stderr())
            })
    }

    fn authorize(&mut self, through: &impl Fn(&Browser, &str) -> Result<()>) -> Result<()> {
        let browser = Browser::start()?;
        let file = self.url_file();
        let url = wait::until("the client to open its browser", STEP, || {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(Err(anyhow::anyhow!("the client ended with {status}"))));
            }
            Ok(std::fs::read_to_string(&file).ok().map(Ok))
        })??;
        // A second one would mean that a token could not be renewed.
        std::fs::remove_file(&file)?;
        through(&browser, &url)?;
        // The browser stays until the client got its answer.
        self.next().map(|_| ()).with_context(|| browser.shows())
    }

    fn follow(
        &mut self,
        through: &impl Fn(&Browser, &str) -> Result<()>,
        redeploy: impl Fn() -> Result<()>,
    ) -> Result<()> {
        while let Some(step) = self.next()? {
            if step == "stepping_up" {
                self.authorize(through)?;
            }
            if step == "waiting" {
                redeploy()?;
                let stdin = self.child.stdin.as_mut().expect("standard input is a pipe");
                stdin.write_all(b"go on\n")?;
            }
        }
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the client ended with {status}");
        }
        if self.url_file().exists() {
            bail!("the client wanted to sign in again");
        }
        Ok(())
    }

    /// The next step's name; `None` at the end.
    fn next(&mut self) -> Result<Option<String>> {
        loop {
            let line = match self.lines.recv_timeout(STEP) {
                Ok(line) => line,
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(None),
                Err(mpsc::RecvTimeoutError::Timeout) => bail!("no step in {} s", STEP.as_secs()),
            };
            // Clients also print of their own.
            let Ok(said) = serde_json::from_str::<Value>(&line) else {
                continue;
            };
            if let Some(step) = said["step"].as_str() {
                self.steps.insert(step.to_owned(), said["saw"].clone());
                return Ok(Some(step.to_owned()));
            }
        }
    }

    fn url_file(&self) -> PathBuf {
        self.home.path().join("authorize-url")
    }

    fn stderr(&self) -> String {
        let text = std::fs::read(self.home.path().join("stderr")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
