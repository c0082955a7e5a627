//! `berth step`: one step of a repository's Dockerfile, inside a container of the image that the
//! step before it left. It is told what to do by `/run/berth/step.json` and tells how it went in
//! lines for the runner.
//!
//! It runs in the container, as its root, because whatever a path of the image leads to (a link to
//! `/etc`, a device) must mean the container's, and so that nothing of the image is needed: it may
//! have no shell and no Python, or ones of the tenant's making.

mod archive;
mod open;
mod pack;
mod run;
mod users;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::json;

use crate::lines;

/// What to do.
const PLAN: &str = "/run/berth/step.json";
/// Files that the runner brought.
const FILES: &str = "/run/berth/files.tar";
/// Where files for the runner go.
const OUT: &str = "/out";

/// One step.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Plan {
    /// Runs a command.
    Run(run::Run),
    /// Puts files into the image.
    Copy(archive::Copy),
    /// Takes files out of the image.
    Pack(pack::Pack),
    /// Makes files readable for the user that instances run as.
    Open(open::Open),
}

/// Why a step failed: a stable code, and a sentence.
#[derive(Debug)]
pub struct Failure {
    code: &'static str,
    message: String,
}

impl Failure {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let code = match error.raw_os_error() {
            // ENOSPC, EDQUOT, EFBIG.
            Some(28 | 122 | 27) => "disk",
            _ => "step_failed",
        };
        Self::new(code, error.to_string())
    }
}

/// Says which path an error is about.
fn about(path: &Path) -> impl FnOnce(io::Error) -> Failure + '_ {
    move |error| {
        let mut failure = Failure::from(error);
        failure.message = format!("{}: {}", path.display(), failure.message);
        failure
    }
}

/// Does the step; gives the code to end with.
///
/// # Errors
/// Only for a plan that cannot be read, which is the platform's fault.
pub fn work() -> anyhow::Result<ExitCode> {
    let text = fs::read(PLAN).context("reading the step's plan")?;
    let plan: Plan = serde_json::from_slice(&text).context("understanding the step's plan")?;
    let begun = Instant::now();
    let done = match plan {
        Plan::Run(run) => run.work(Path::new("/"), Path::new(FILES)),
        Plan::Copy(copy) => copy.work(Path::new("/"), Path::new(FILES)),
        Plan::Pack(pack) => pack.work(Path::new("/"), Path::new(OUT)),
        Plan::Open(open) => {
            open.work(Path::new("/"));
            Ok(())
        }
    };
    Ok(match done {
        Ok(()) => {
            let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            say(&json!({"phase": "step", "ms": ms}));
            say(&json!({"phase": "done"}));
            ExitCode::SUCCESS
        }
        Err(failure) => {
            say(
                &json!({"phase": "fail", "step": "step", "code": failure.code, "message": failure.message}),
            );
            ExitCode::FAILURE
        }
    })
}

fn say(event: &serde_json::Value) {
    lines::log(format!("@@berth {event}").as_bytes());
}

/// A path of the image below `root`, which is `/` except in tests.
fn within(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// The project's variables for builds. They are secret: what is wrong with them is not quoted.
fn variables(file: Option<&Path>) -> Result<BTreeMap<String, String>, Failure> {
    let Some(file) = file else {
        return Ok(BTreeMap::new());
    };
    let text = fs::read(file).map_err(about(file))?;
    serde_json::from_slice(&text)
        .map_err(|_| Failure::new("step_failed", "the variables of builds cannot be read"))
}
