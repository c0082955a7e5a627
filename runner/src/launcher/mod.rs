//! The programs that run inside containers: `serve.py` starts a project's server, `environment.py`
//! installs its dependencies, `node.py` does that for Node, `package.py` runs an installed package's
//! program, `system.py` and `loader.py` make an image with its system packages, `wheels.py` installs what
//! projects share, `command.py` runs a build command; [`bridge`] is this binary itself. They are part of this binary, written once to the
//! data directory
//! and mounted read-only at `/berth`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::hash::Hash;

pub mod bridge;

macro_rules! programs {
    ($($path:literal)+) => {
        const PROGRAMS: &[(&str, &str)] = &[$(($path, include_str!($path)),)+];
    };
}

programs! {
    "berth_build/__init__.py"
    "berth_build/apt.py"
    "berth_build/bytecode.py"
    "berth_build/install.py"
    "berth_build/layer.py"
    "berth_build/plan.py"
    "berth_build/resolve.py"
    "berth_build/shared.py"
    "berth_build/tool.py"
    "berth_build/variables.py"
    "berth_launcher/__init__.py"
    "berth_launcher/command.py"
    "berth_launcher/entrypoint.py"
    "berth_launcher/failure.py"
    "berth_launcher/guard.py"
    "berth_launcher/intercept.py"
    "berth_launcher/launch.py"
    "berth_launcher/listen.py"
    "berth_launcher/report.py"
    "berth_launcher/servers.py"
    "berth_launcher/settings.py"
    "berth_node/__init__.py"
    "berth_node/installers.py"
    "berth_node/plan.py"
    "berth_node/tree.py"
    "command.py"
    "environment.py"
    "loader.py"
    "node.py"
    "package.py"
    "serve.py"
    "system.py"
    "wheels.py"
}

/// Where the programs are in a container.
pub const MOUNTED_AT: &str = "/berth";

/// What begins a line for the runner. A tenant's unfinished print may stand before it.
const MARKER: &str = "@@berth {";

/// Writes the programs below `directory` unless they are there; returns the directory to mount.
/// Its name holds the hash of its content, so that an instance that still runs keeps the programs
/// it was started with.
pub fn install(directory: &Path) -> std::io::Result<PathBuf> {
    let hash = PROGRAMS.iter().fold(Hash::new(), |hash, (path, text)| {
        hash.part(path.as_bytes()).part(text.as_bytes())
    });
    let finished = directory.join(format!("launcher-{}", hash.hex()));
    if finished.is_dir() {
        return Ok(finished);
    }
    let unfinished = directory.join("launcher.new");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    for (path, text) in PROGRAMS {
        let path = unfinished.join(path);
        let parent = path.parent().expect("a file is in a directory");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)?;
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&path)?
            .write_all(text.as_bytes())?;
    }
    fs::rename(&unfinished, &finished)?;
    Ok(finished)
}

/// What stands in front of a command whose output is to be guarded and which does not do so itself. The
/// image's own Python, that reads no package and no variable: nothing of a project is in its process.
pub const GUARDED: [&str; 3] = ["/usr/bin/python3", "-IS", "/berth/berth_launcher/guard.py"];

/// Whether a command begins with a program that guards its output and looks after the container's
/// processes itself; any other needs the engine's init.
pub fn is_guarded(command: &[String]) -> bool {
    let program = command.get(1).map(String::as_str);
    bridge::is_guarded(command)
        || command.starts_with(&GUARDED.map(String::from))
        || matches!(
            program,
            Some("/berth/environment.py" | "/berth/node.py" | "/berth/command.py")
        )
}

/// A line of output, taken apart: what is for the log, and what is for the runner.
pub fn split_line(line: &[u8]) -> (Option<&[u8]>, Option<Value>) {
    let marker = MARKER.as_bytes();
    let Some(at) = line
        .windows(marker.len())
        .position(|window| window == marker)
    else {
        return (Some(line), None);
    };
    // The marker's own `{` begins the JSON.
    match serde_json::from_slice(&line[at + marker.len() - 1..]) {
        Ok(event) => ((at > 0).then_some(&line[..at]), Some(event)),
        Err(_) => (Some(line), None),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn python_files(directory: &Path, prefix: &str, into: &mut BTreeSet<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                python_files(&entry.path(), &format!("{prefix}{name}/"), into);
            } else if Path::new(&name).extension().is_some_and(|e| e == "py") {
                into.insert(format!("{prefix}{name}"));
            }
        }
    }

    #[test]
    fn every_program_is_embedded() {
        let mut found = BTreeSet::new();
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/launcher");
        python_files(&here, "", &mut found);
        found.retain(|path| !path.contains("test"));
        let embedded: BTreeSet<String> = PROGRAMS.iter().map(|(p, _)| (*p).to_owned()).collect();
        assert_eq!(embedded, found);
    }

    #[test]
    fn programs_are_written_once() {
        let directory = tempfile::tempdir().unwrap();
        let first = install(directory.path()).unwrap();
        assert!(first.join("serve.py").is_file());
        assert_eq!(install(directory.path()).unwrap(), first);
    }

    #[test]
    fn lines_for_the_runner_are_found_behind_unfinished_prints() {
        let (log, event) = split_line(br#"dots...@@berth {"phase":"serve"}"#);
        assert_eq!(log, Some(&b"dots..."[..]));
        assert_eq!(event.unwrap()["phase"], "serve");
        let (log, event) = split_line(br#"@@berth {"phase":"serve"}"#);
        assert_eq!((log, event.is_some()), (None, true));
    }

    #[test]
    fn what_only_looks_like_one_is_log() {
        for line in [&b"@@berth {oops"[..], b"@@berth", b"", b"plain \xff"] {
            assert_eq!(split_line(line), (Some(line), None));
        }
    }
}
