//! What lies in the content-addressed stores and nobody uses any more.
//!
//! A store's entry is used when something is found in it; its name is then marked by the time of
//! last change of its directory. What a deployment still refers to stays whatever its age.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use crate::build::wheels;
use crate::clock;

/// What a removal in progress is called; one that was interrupted is finished by the next cleaning.
const REMOVING: &str = "removing-";

/// Characters of an error message that are worth keeping.
const MAX_SAID: usize = 500;

/// How long an unused source or environment is kept: whoever returns to last week's version, or
/// deploys the same dependencies again, does not wait.
const UNUSED_FOR: Duration = Duration::from_hours(7 * 24);

/// Marks an entry as used now.
pub fn touch(path: &Path) {
    let now = SystemTime::from(clock::now());
    let touched = fs::File::open(path).and_then(|file| file.set_modified(now));
    if let Err(error) = touched {
        // It is then removed too early at worst, and built again.
        tracing::debug!(%error, path = %path.display(), "an entry could not be marked as used");
    }
}

/// Removes what is unused below the runner's directory; returns how many entries.
pub fn clean(directory: &Path, keep: &[PathBuf]) -> io::Result<usize> {
    let oldest = SystemTime::from(clock::now()) - UNUSED_FOR;
    let mut removed = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(REMOVING) {
            say(&entry.path(), &remove_tree(&entry.path()));
        }
    }
    for store in [
        "sources",
        "environments",
        "locks",
        "cache",
        "commands",
        "systems",
        "steps",
    ] {
        for entry in fs::read_dir(directory.join(store))? {
            let path = entry?.path();
            // A kept source is the tree inside its entry; an environment's lock goes with it.
            let bare = path.with_extension("");
            let is_kept = keep
                .iter()
                .any(|kept| kept.starts_with(&path) || *kept == bare);
            if is_kept || fs::symlink_metadata(&path)?.modified()? > oldest {
                continue;
            }
            // One that cannot be removed does not keep the others.
            removed += usize::from(say(&path, &remove(directory, &path)));
        }
    }
    // Last, when the environments that went have given back their links.
    removed += wheels::clean(directory, oldest)?;
    Ok(removed)
}

fn say(path: &Path, removed: &io::Result<()>) -> bool {
    if let Err(error) = removed {
        tracing::warn!(%error, path = %path.display(), "an unused entry could not be removed");
    }
    removed.is_ok()
}

/// Out of sight first, so that an interruption leaves nothing that looks whole.
fn remove(directory: &Path, path: &Path) -> io::Result<()> {
    if !path.is_dir() {
        return fs::remove_file(path);
    }
    let doomed = directory.join(format!("{REMOVING}{}", Uuid::new_v4()));
    fs::rename(path, &doomed)?;
    remove_tree(&doomed)
}

/// Removes a directory with everything in it, also one that a tenant's code wrote: as deep as it
/// likes. The standard library goes down by recursion and would overflow the stack of the whole
/// process at some ten thousand levels; `rm` does not. Nothing there is no error.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let output = Command::new("rm")
        .args(["-rf", "--one-file-system", "--"])
        .arg(path)
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let said: String = String::from_utf8_lossy(&output.stderr)
        .chars()
        .take(MAX_SAID)
        .collect();
    Err(io::Error::other(format!("rm: {said}")))
}

/// What a tree takes on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TreeSize {
    /// Bytes.
    pub bytes: u64,
    /// Files and directories, each of which takes an inode.
    pub files: u64,
}

/// Measures a tree. A tenant made it as deep as it likes, which `du` survives.
pub fn tree_size(at: &Path) -> Option<TreeSize> {
    Some(TreeSize {
        bytes: tree_bytes(at)?,
        files: disk_usage(at, "--inodes")?,
    })
}

/// What a tree takes on the disk, in bytes.
pub fn tree_bytes(at: &Path) -> Option<u64> {
    disk_usage(at, "--block-size=1")
}

fn disk_usage(at: &Path, unit: &str) -> Option<u64> {
    let output = Command::new("du")
        .args(["--summarize", "--one-file-system", unit, "--"])
        .arg(at)
        .output()
        .ok()?;
    // Files that go while it looks are no failure.
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_files_count_as_files() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..100 {
            fs::write(directory.path().join(number.to_string()), "").unwrap();
        }
        let size = tree_size(directory.path()).unwrap();
        assert_eq!(size.files, 101, "with the directory itself");
        assert_eq!(Some(size.bytes), tree_bytes(directory.path()));
    }

    #[test]
    fn a_tree_deeper_than_any_stack_goes() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().join("deep");
        fs::create_dir(&top).unwrap();
        // Built from below, since no path is that long: the tree so far goes under a new top.
        for level in 0..20_000 {
            let next = directory.path().join(format!("next{level}"));
            fs::create_dir(&next).unwrap();
            fs::rename(&top, next.join("d")).unwrap();
            fs::rename(&next, &top).unwrap();
        }
        remove_tree(&top).unwrap();
        assert!(!top.exists());
        remove_tree(&top).expect("nothing there is no error");
    }

    #[test]
    fn what_is_old_and_unused_goes() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        fs::create_dir_all(at("cache")).unwrap();
        for path in [
            "sources/used/tree",
            "sources/old/tree",
            "sources/new/tree",
            "environments/used",
            "environments/old",
        ] {
            fs::create_dir_all(at(path)).unwrap();
        }
        for store in ["locks", "commands", "systems", "steps"] {
            fs::create_dir_all(at(store)).unwrap();
        }
        for path in [
            "environments/used.lock",
            "environments/old.lock",
            "locks/old",
        ] {
            fs::write(at(path), "").unwrap();
        }
        let long_ago = SystemTime::from(clock::now()) - 2 * UNUSED_FOR;
        for path in [
            "sources/used",
            "sources/old",
            "environments/used",
            "environments/old",
            "environments/used.lock",
            "environments/old.lock",
            "locks/old",
        ] {
            fs::File::open(at(path))
                .unwrap()
                .set_modified(long_ago)
                .unwrap();
        }
        let keep = [at("sources/used/tree"), at("environments/used")];
        assert_eq!(clean(directory.path(), &keep).unwrap(), 4);
        for path in [
            "sources/used/tree",
            "sources/new/tree",
            "environments/used",
            "environments/used.lock",
        ] {
            assert!(at(path).exists(), "{path}");
        }
        touch(&at("environments/used"));
        assert_eq!(clean(directory.path(), &[]).unwrap(), 2);
        assert!(at("environments/used").exists() && !at("environments/used.lock").exists());
    }
}
