//! The bridge is this very binary, `berth bridge`, started inside an instance.
//!
//! An image's C library may be older than this machine's, for which the binary was linked. So it
//! is mounted together with the loader and the libraries that this process runs with, and started
//! by that loader; a binary that was linked statically is started as it is. Nothing is asked of the
//! image but the kernel, which is the same.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::hash::Hash;

/// Where it is in an instance.
pub const MOUNTED_AT: &str = "/run/bridge";
/// This process's binary, also when its file has been replaced since.
const OWN: &str = "/proc/self/exe";
/// What this process has mapped, its libraries among it.
const MAPS: &str = "/proc/self/maps";
/// The binary's name in the directory.
const PROGRAM: &str = "berth";

/// The directory with everything the bridge needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    directory: PathBuf,
    /// The loader's file name, where there is one.
    loader: Option<String>,
}

impl Bridge {
    /// Puts it below `directory` unless it is there. Its name tells versions apart, so that an
    /// instance that still runs keeps what it was started with.
    pub fn install(directory: &Path) -> io::Result<Self> {
        let libraries = libraries(&fs::read_to_string(MAPS)?);
        let loader = libraries
            .iter()
            .find_map(|path| file_name(path).filter(|name| is_loader(name)))
            .map(str::to_owned);
        let own = fs::metadata(OWN)?;
        let mut hash = Hash::new()
            .part(&own.len().to_ne_bytes())
            .part(&own.mtime().to_ne_bytes())
            .part(&own.mtime_nsec().to_ne_bytes());
        for library in &libraries {
            hash = hash.part(library.as_os_str().as_encoded_bytes());
        }
        let bridge = Self {
            directory: directory.join(format!("bridge-{}", hash.hex())),
            loader,
        };
        if !bridge.directory.is_dir() {
            // A name of its own: two instances may start at once.
            let unfinished = directory.join(format!("bridge.new-{}", uuid::Uuid::new_v4()));
            let filled = fill(&unfinished, &libraries)
                .and_then(|()| fs::rename(&unfinished, &bridge.directory));
            if filled.is_err() {
                let _ = fs::remove_dir_all(&unfinished);
                if !bridge.directory.is_dir() {
                    filled?;
                }
            }
        }
        Ok(bridge)
    }

    /// What to mount at [`MOUNTED_AT`].
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The whole command that serves `server`.
    pub fn command(&self, server: &[String]) -> Vec<String> {
        let mut command = self.own(&["bridge", "--"]);
        command.extend_from_slice(server);
        command
    }

    /// The whole command that does a step of a Dockerfile.
    pub fn step(&self) -> Vec<String> {
        self.own(&["step"])
    }

    /// The whole command that starts another one, as a container's first process, and passes its
    /// output on. Nothing of the image has a part in it.
    pub fn guarded(&self, inner: &[String]) -> Vec<String> {
        let mut command = self.own(&["guard", "--"]);
        command.extend_from_slice(inner);
        command
    }

    /// This binary with these words.
    fn own(&self, words: &[&str]) -> Vec<String> {
        let inside = |name: &str| format!("{MOUNTED_AT}/{name}");
        let mut command = Vec::new();
        if let Some(loader) = &self.loader {
            command.push(inside(loader));
            command.push("--library-path".to_owned());
            command.push(MOUNTED_AT.to_owned());
        }
        command.push(inside(PROGRAM));
        command.extend(words.iter().map(|word| (*word).to_owned()));
        command
    }
}

/// Whether a command begins with this binary as a guard.
pub fn is_guarded(command: &[String]) -> bool {
    let program = format!("{MOUNTED_AT}/{PROGRAM}");
    // In front of it stands at most the loader with its option.
    let at = command.iter().take(4).position(|word| *word == program);
    at.is_some_and(|at| command.get(at + 1).is_some_and(|word| word == "guard"))
}

fn fill(directory: &Path, libraries: &BTreeSet<PathBuf>) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(directory)?;
    let program = directory.join(PROGRAM);
    // The same file where it is on the same disk: a binary can be large. Its path may lead to a
    // newer one by now.
    let own = fs::metadata(OWN)?;
    let is_linked = fs::hard_link(fs::read_link(OWN)?, &program).is_ok()
        && fs::metadata(&program)
            .is_ok_and(|link| (link.dev(), link.ino()) == (own.dev(), own.ino()));
    if !is_linked {
        let _ = fs::remove_file(&program);
        fs::copy(OWN, &program)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    }
    for library in libraries {
        for name in names_of(library) {
            let copy = directory.join(name);
            fs::copy(library, &copy)?;
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}

/// The shared libraries among what a process has mapped, the loader included.
fn libraries(maps: &str) -> BTreeSet<PathBuf> {
    maps.lines()
        .filter_map(|line| Some(PathBuf::from(&line[line.find('/')?..])))
        .filter(|path| file_name(path).is_some_and(|name| is_loader(name) || is_library(name)))
        .collect()
}

fn file_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn is_loader(name: &str) -> bool {
    name.starts_with("ld-linux") || name.starts_with("ld-musl") || name.starts_with("ld-2.")
}

fn is_library(name: &str) -> bool {
    name.starts_with("lib")
        && (name.contains(".so.") || Path::new(name).extension().is_some_and(|end| end == "so"))
}

/// A library's own name and those by which others ask for it: `libc.so.6` may be a link to
/// `libc-2.31.so`.
fn names_of(library: &Path) -> BTreeSet<String> {
    let own = file_name(library).unwrap_or_default();
    let mut names = BTreeSet::from([own.to_owned()]);
    let stem = own.split(['.', '-']).next().unwrap_or(own);
    let beside = library
        .parent()
        .and_then(|parent| fs::read_dir(parent).ok());
    for entry in beside.into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        if is_link
            && name.starts_with(stem)
            && is_library(&name)
            && entry
                .path()
                .canonicalize()
                .is_ok_and(|real| real == library)
        {
            names.insert(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_libraries_of_this_process_are_found() {
        let maps = "7f00-7f01 r-xp 00000000 08:01 1  /usr/lib/libc.so.6\n\
            7f01-7f02 r--p 00000000 08:01 1  /usr/lib/libc.so.6\n\
            7f02-7f03 r-xp 00000000 08:01 2  /usr/lib/ld-linux-x86-64.so.2\n\
            7f03-7f04 r-xp 00000000 08:01 3  /opt/berth/target/berth\n\
            7f04-7f05 rw-p 00000000 00:00 0  [heap]\n7f05-7f06 rw-p 00000000 00:00 0\n";
        let found: Vec<PathBuf> = libraries(maps).into_iter().collect();
        let expected = ["/usr/lib/ld-linux-x86-64.so.2", "/usr/lib/libc.so.6"];
        assert_eq!(found, expected.map(PathBuf::from));
    }

    #[test]
    fn what_is_installed_runs_by_itself() {
        let directory = tempfile::tempdir().unwrap();
        let bridge = Bridge::install(directory.path()).unwrap();
        assert_eq!(Bridge::install(directory.path()).unwrap(), bridge);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        // This test's own binary, started as an instance would: by its loader, with an empty
        // environment. It knows `--list`, not `bridge`.
        let command = bridge.command(&["server".to_owned()]);
        let at = command.iter().position(|word| word == "bridge").unwrap();
        assert_eq!(command[at..], ["bridge", "--", "server"]);
        let here = |word: &String| word.replace(MOUNTED_AT, bridge.directory().to_str().unwrap());
        let words: Vec<String> = command[..at].iter().map(here).collect();
        assert!(is_guarded(&bridge.guarded(&bridge.step())));
        assert!(!is_guarded(&command) && !is_guarded(&bridge.step()));
        let output = Command::new(&words[0])
            .args(&words[1..])
            .arg("--list")
            .env_clear()
            .output()
            .unwrap();
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            listed.contains("what_is_installed_runs_by_itself"),
            "{output:?}"
        );
    }
}
