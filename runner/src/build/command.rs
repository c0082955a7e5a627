//! The build command: run once the dependencies are installed, in a copy of the source that it may
//! write to. The copy is then what instances get, read-only, instead of the source.
//!
//! ```text
//! commands/<key>/tree     the source and what the command made of it
//! ```
//! A key is the hash of source, environment, command and build variables, so a rollback runs nothing.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::container::{BuildHost, Failure, Site, mount, run, tenant_directory};
use super::environment::Workplace;
use crate::diagnose::{Code, diagnosis, unknown_failure};
use crate::hash::Hash;
use crate::protocol::Diagnosis;
use crate::runtime::{Exit, Runtime};
use crate::store;

/// What a build command works on.
pub struct Work<'a> {
    /// Program and arguments.
    pub command: &'a [String],
    /// The source.
    pub source: &'a Path,
    /// The root directory within it.
    pub root: &'a str,
    /// The environment.
    pub environment: &'a Path,
    /// The image.
    pub image: &'a str,
}

/// What it left.
pub struct Made {
    /// The tree that takes the source's place.
    pub tree: PathBuf,
    /// How long it took, milliseconds, if it had to be run.
    pub timings: Vec<(String, u64)>,
}

/// Opens the store below the runner's directory.
pub fn open(directory: &Path) -> std::io::Result<()> {
    fs::create_dir_all(directory.join("commands"))
}

/// Finds what the command made of this source before, or runs it.
pub async fn obtain<R: Runtime>(
    directory: &Path,
    runtime: &R,
    host: &BuildHost,
    site: &Site<'_>,
    work: &Work<'_>,
) -> Result<Made, Failure> {
    let entry = directory.join("commands").join(key(site, work));
    let tree = entry.join("tree");
    if tree.is_dir() {
        store::touch(&entry);
        site.log
            .line("The build command has run on exactly this before: its result is already here.");
        return Ok(Made {
            tree,
            timings: Vec::new(),
        });
    }
    site.log
        .line(format!("Running the build command {:?}.", work.command));
    let place = Workplace::new(directory, site)?;
    let finished = place.0.join("finished");
    DirBuilder::new().mode(0o755).create(&finished)?;
    tenant_directory(&finished.join("tree"))?;
    let mut mounts = vec![
        mount(work.source, "/source", true),
        mount(work.environment, "/env", true),
    ];
    mounts.push(mount(&finished.join("tree"), "/app", false));
    let mut spec = host.container(site, work.image, "command.py", mounts);
    let within = format!("/app/{}", work.root);
    spec.environment.insert(
        "BERTH_APP_DIR".to_owned(),
        within.trim_end_matches('/').to_owned(),
    );
    spec.environment.insert(
        "BERTH_BUILD_COMMAND".to_owned(),
        Value::from(work.command).to_string(),
    );
    let heard = run(runtime, site, &spec).await?;
    match fs::rename(&finished, &entry) {
        // Another deployment of the same was faster; both are the same.
        Err(_) if tree.is_dir() => {}
        other => other?,
    }
    Ok(Made {
        tree,
        timings: heard.timings,
    })
}

fn key(site: &Site<'_>, work: &Work<'_>) -> String {
    let mut hash = Hash::new()
        .part(site.owner.project.as_bytes())
        .part(work.source.as_os_str().as_encoded_bytes())
        .part(work.environment.as_os_str().as_encoded_bytes())
        .part(work.image.as_bytes())
        .part(work.root.as_bytes())
        .part(site.variables_mark);
    for argument in work.command {
        hash = hash.part(argument.as_bytes());
    }
    hash.hex()
}

/// The command's program said why it failed.
pub fn said(account: &Value, command: &[String]) -> Diagnosis {
    let shown = command.join(" ");
    let message = account["message"].as_str().unwrap_or_default();
    match account["code"].as_str() {
        Some("command_not_found") => diagnosis(
            Code::BuildCommandFailed,
            format!("The build command `{shown}` cannot be run: {message}."),
            "Name a program of the dependencies, of the system packages or, with its path, of the source; a shell's own words are no programs.",
        ),
        Some("command_failed") => diagnosis(
            Code::BuildCommandFailed,
            format!("The build command `{shown}` failed: {message}."),
            "Read the build's log above, correct what the command names, and deploy again.",
        ),
        Some("disk") => diagnosis(
            Code::PlatformFailure,
            "The disk for builds is full.",
            "Ask the operator to make room.",
        ),
        _ => unknown_failure("The build command", &[message.to_owned()]),
    }
}

/// The command's container ended without its program's word.
pub fn ended(exit: Exit, tail: &[String]) -> Diagnosis {
    if exit.out_of_memory {
        return crate::diagnose::build_out_of_memory(crate::limits::BUILD_MEMORY_BYTES);
    }
    unknown_failure("The build command", tail)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failure_names_the_command() {
        let command = ["make".to_owned(), "all".to_owned()];
        let found = said(
            &json!({"code": "command_failed", "message": "it ended with status 2"}),
            &command,
        );
        assert_eq!(found.code, "build_command_failed");
        assert_eq!(
            found.cause,
            "The build command `make all` failed: it ended with status 2."
        );
        let found = said(
            &json!({"code": "command_not_found", "message": "make is not there"}),
            &command,
        );
        assert!(
            found.cause.ends_with("make is not there."),
            "{}",
            found.cause
        );
        assert_eq!(
            said(&json!({"message": "hm"}), &command).code,
            "unknown_failure"
        );
    }
}
