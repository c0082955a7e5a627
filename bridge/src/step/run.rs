//! `RUN`: a command, with the files and directories that are there only while it runs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::archive::{self, Source};
use super::{Failure, about, users, variables, within};

/// What is run.
#[derive(Debug, Deserialize)]
pub struct Run {
    /// Program and arguments.
    command: Vec<String>,
    /// Its environment, beside the image's own.
    environment: BTreeMap<String, String>,
    /// A file with more of it, which must not stay anywhere.
    variables: Option<PathBuf>,
    /// Where it runs; made if it is not there.
    working_dir: String,
    /// As whom, unless root.
    user: Option<String>,
    /// Files that are there only while it runs.
    #[serde(default)]
    binds: Vec<Bind>,
    /// Directories that are there only while it runs, and empty at first.
    #[serde(default)]
    scratch: Vec<String>,
}

/// One bind mount: what it brings, and where.
#[derive(Debug, Deserialize)]
struct Bind {
    source: Source,
    target: String,
}

impl Run {
    /// Runs it; what is only lent is taken away again.
    pub fn work(self, root: &Path, files: &Path) -> Result<(), Failure> {
        let user = match self.user.as_deref() {
            None => None,
            Some(user) => Some(users::find(root, user)?),
        };
        let directory = within(root, &self.working_dir);
        fs::create_dir_all(&directory).map_err(about(&directory))?;
        let mut lent = Vec::new();
        for scratch in &self.scratch {
            lent.extend(lend(&within(root, scratch))?);
        }
        for bind in &self.binds {
            let target = within(root, &bind.target);
            lent.extend(missing(&target));
            archive::extract(files, &bind.source, &target, archive::Owner::default())?;
        }
        let mut command = self.command(&directory)?;
        if let Some(user) = user {
            command.uid(user.uid).gid(user.gid);
            if !self.environment.contains_key("HOME") {
                command.env("HOME", user.home);
            }
        }
        let program = &self.command[0];
        let status = command
            .status()
            .map_err(|error| Failure::new("command_not_found", format!("{program}: {error}")))?;
        for path in lent.iter().rev() {
            take_away(path);
        }
        match (status.code(), status.signal()) {
            (Some(0), _) => Ok(()),
            (Some(code), _) => Err(Failure::new(
                "command_failed",
                format!("It ended with status {code}"),
            )),
            // What memory ended is told so by the engine, or at least looks like it.
            (None, Some(9)) => Err(Failure::new("killed", "It was killed")),
            (None, signal) => Err(Failure::new(
                "command_failed",
                format!("It ended by signal {}", signal.unwrap_or_default()),
            )),
        }
    }

    fn command(&self, directory: &Path) -> Result<Command, Failure> {
        let (program, arguments) = self
            .command
            .split_first()
            .ok_or_else(|| Failure::new("command_not_found", "No command was given"))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("HOME", "/root")
            .envs(&self.environment)
            .envs(variables(self.variables.as_deref())?)
            .current_dir(directory)
            .stdin(Stdio::null());
        Ok(command)
    }
}

/// The first directory on the way to `path` that is not there: with it goes what is made below.
fn missing(path: &Path) -> Option<PathBuf> {
    let mut found = None;
    for part in path.ancestors() {
        if fs::symlink_metadata(part).is_ok() {
            break;
        }
        found = Some(part.to_owned());
    }
    found
}

/// Makes an empty directory, unless there is one with something in it, which is left as it is.
fn lend(path: &Path) -> Result<Option<PathBuf>, Failure> {
    let made = missing(path);
    fs::create_dir_all(path).map_err(about(path))?;
    let is_empty = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    // Whoever runs the command writes here.
    archive::set_mode(path, 0o777)?;
    Ok(made.or_else(|| is_empty.then(|| path.join("."))))
}

/// What cannot be removed stays in the image; that harms nobody else.
fn take_away(path: &Path) {
    if path.ends_with(".") || path.as_os_str().as_encoded_bytes().ends_with(b"/.") {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            take_away(&entry.path());
        }
        return;
    }
    let is_directory = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    let _ = if is_directory {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str, scratch: &[&str], root: &Path) -> Result<(), Failure> {
        Run {
            command: ["/bin/sh", "-c", text].map(str::to_owned).to_vec(),
            environment: BTreeMap::from([("A".to_owned(), "b".to_owned())]),
            variables: None,
            working_dir: "/made/here".to_owned(),
            user: None,
            binds: Vec::new(),
            scratch: scratch.iter().map(|path| (*path).to_owned()).collect(),
        }
        .work(root, Path::new("/nothing"))
    }

    #[test]
    fn what_is_lent_does_not_stay() {
        let root = tempfile::tempdir().unwrap();
        let kept = root.path().join("kept");
        fs::create_dir(&kept).unwrap();
        let text = format!(
            "echo $A > out; echo x > {0}/cache/x; echo y > {0}/kept/y; test -z \"$(ls {0}/deep/er)\"",
            root.path().display()
        );
        run(&text, &["/cache", "/deep/er", "/kept"], root.path()).unwrap();
        let out = fs::read_to_string(root.path().join("made/here/out")).unwrap();
        assert_eq!(out, "b\n");
        assert!(!root.path().join("cache").exists());
        assert!(!root.path().join("deep").exists());
        assert!(kept.is_dir() && !kept.join("y").exists());
    }

    #[test]
    fn how_it_ended_is_told() {
        let root = tempfile::tempdir().unwrap();
        let failure = run("exit 3", &[], root.path()).unwrap_err();
        assert_eq!(failure.code, "command_failed");
        assert_eq!(failure.message, "It ended with status 3");
        assert_eq!(
            run("kill -9 $$", &[], root.path()).unwrap_err().code,
            "killed"
        );
    }
}
