//! The bridge is this very binary, `berth bridge`, started inside an instance.
//!
//! An image's C library may be older than this machine's, for which the binary was linked. So it
//! is mounted together with the loader and the libraries that this process runs with, and started
//! by that loader; a binary that was linked statically is started as it is. Nothing is asked of the
//! image but the kernel, which is the same.
//!
//! The image may be hostile, and the bridge is root in some containers. So the loader is made to
//! read nothing of it: neither the list of libraries that glibc loads into every process
//! (`/etc/ld.so.preload`, whatever the loader is called with), nor the cache of where libraries
//! are, nor a library. Nor may the environment name one: what a Dockerfile or a project sets
//! reaches the program that the bridge starts, and never the container's own environment. And the
//! bridge asks glibc for nothing that is kept in modules: no user by name, no host by name, no
//! locale.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::hash::Hash;

/// Where it is in an instance.
pub const MOUNTED_AT: &str = "/run/bridge";
/// This process's binary, also when its file has been replaced since.
const OWN: &str = "/proc/self/exe";
/// What this process has mapped, its libraries among it.
const MAPS: &str = "/proc/self/maps";
/// The binary's name in the directory.
const PROGRAM: &str = "berth";
/// Raised when the same files are put there differently.
const RECIPE: &[u8] = b"2";
/// The loader, its three words, the binary and the first of its own.
const LONGEST_START: usize = 6;
/// Where glibc's loader reads which libraries every process gets, as it stands in the loader.
const PRELOAD: &[u8] = b"/etc/ld.so.preload\0";

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
            .part(RECIPE)
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
                .and_then(|()| needs_nothing_else(&unfinished, bridge.loader.as_deref()))
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
        let loader = self.loader.as_deref();
        let mut command = started_by(loader, MOUNTED_AT, &[]);
        command.extend(words.iter().map(|word| (*word).to_owned()));
        command
    }
}

/// The binary in `directory`, started by the loader there, if there is one, which reads libraries
/// of that directory alone. `options` are more for the loader.
fn started_by(loader: Option<&str>, directory: &str, options: &[&str]) -> Vec<String> {
    let mut command = Vec::new();
    if let Some(loader) = loader {
        command.push(format!("{directory}/{loader}"));
        command.extend(options.iter().map(|option| (*option).to_owned()));
        if is_of_glibc(loader) {
            command.push("--inhibit-cache".to_owned());
        }
        command.push("--library-path".to_owned());
        command.push(directory.to_owned());
    }
    command.push(format!("{directory}/{PROGRAM}"));
    command
}

/// Whether a command begins with this binary as a guard.
pub fn is_guarded(command: &[String]) -> bool {
    let program = format!("{MOUNTED_AT}/{PROGRAM}");
    // In front of it stands at most the loader with its options.
    let mut words = command
        .iter()
        .take(LONGEST_START)
        .skip_while(|word| **word != program);
    words.nth(1).is_some_and(|word| word == "guard")
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
            let copy = directory.join(&name);
            if is_of_glibc(&name) {
                fs::write(&copy, without_preload(&fs::read(library)?)?)?;
            } else {
                fs::copy(library, &copy)?;
            }
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}

/// A loader of glibc that gives no process more than it was built with: the file that would name
/// such libraries has no name any more, and no image has a file without one.
fn without_preload(loader: &[u8]) -> io::Result<Vec<u8>> {
    let places: Vec<usize> = (0..loader.len())
        .filter(|at| loader[*at..].starts_with(PRELOAD))
        .collect();
    let [at] = places[..] else {
        return Err(io::Error::other(format!(
            "this machine's loader names /etc/ld.so.preload {} times and not once, so it cannot be kept from reading an image's: run berth with the libc of a Debian release that it was tried with, or link it statically",
            places.len()
        )));
    };
    let mut closed = loader.to_vec();
    closed[at..at + PRELOAD.len()].fill(0);
    Ok(closed)
}

/// Asks the loader itself what it would load: it must be in `directory`, because everything else
/// would be the image's.
fn needs_nothing_else(directory: &Path, loader: Option<&str>) -> io::Result<()> {
    if loader.is_none() {
        return Ok(());
    }
    let within = directory.to_string_lossy();
    let command = started_by(loader, &within, &["--list"]);
    let output = Command::new(&command[0])
        .args(&command[1..])
        .env_clear()
        .output()?;
    let listed = String::from_utf8_lossy(&output.stdout);
    let elsewhere = listed.lines().find(|line| is_elsewhere(line, &within));
    if let Some(library) = elsewhere {
        return Err(io::Error::other(format!(
            "a library that berth needs would be taken from images: {}",
            library.trim()
        )));
    }
    if !output.status.success() {
        return Err(io::Error::other(format!(
            "the loader in {within} does not start berth: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    Ok(())
}

/// Whether a line of `ld.so --list` (`name => path (address)`) leads out of a directory. One without
/// a path is the kernel's own, or the loader itself.
fn is_elsewhere(line: &str, directory: &str) -> bool {
    let Some((_, found)) = line.split_once(" => ") else {
        return false;
    };
    let path = found.split(" (").next().unwrap_or(found);
    let is_missing = !path.contains('/') && path.contains("not found");
    is_missing || (path.contains('/') && Path::new(path).parent() != Some(Path::new(directory)))
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

/// Whether it is a loader of glibc: musl's knows neither the list of libraries nor the cache.
fn is_of_glibc(name: &str) -> bool {
    is_loader(name) && !name.starts_with("ld-musl")
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
        assert!(!is_guarded(&bridge.command(&["guard".to_owned()])));
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

    /// What stands in front of this test's own binary when it is started as an instance would, and
    /// where that is.
    fn installed() -> (tempfile::TempDir, Bridge, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        let bridge = Bridge::install(directory.path()).unwrap();
        let here = bridge.directory().to_str().unwrap().to_owned();
        let command = started_by(bridge.loader.as_deref(), &here, &[]);
        (directory, bridge, command)
    }

    #[test]
    fn the_loader_names_no_file_of_the_image() {
        let (_directory, bridge, command) = installed();
        let loader = bridge
            .loader
            .as_deref()
            .expect("tests are linked dynamically");
        let bytes = fs::read(bridge.directory().join(loader)).unwrap();
        let names = |name: &[u8]| bytes.windows(name.len()).any(|window| window == name);
        assert!(!names(b"ld.so.preload"), "it would be read");
        assert!(names(b"--inhibit-cache"), "it knows the option");
        assert!(command.contains(&"--inhibit-cache".to_owned()));
    }

    #[test]
    fn a_loader_that_cannot_be_closed_is_refused() {
        let once = [&b"\x7fELF"[..], PRELOAD, b"more"].concat();
        let closed = without_preload(&once).unwrap();
        assert_eq!(closed.len(), once.len());
        assert_eq!(closed[4..4 + PRELOAD.len()], [0; 19]);
        for other in [b"\x7fELF".to_vec(), [&once[..], PRELOAD].concat()] {
            let error = without_preload(&other).unwrap_err().to_string();
            assert!(
                error.contains("not once") && error.contains("statically"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_library_that_is_not_there_is_not_looked_for_in_images() {
        let (_directory, bridge, _) = installed();
        let loader = bridge.loader.as_deref();
        needs_nothing_else(bridge.directory(), loader).unwrap();
        fs::remove_file(bridge.directory().join("libc.so.6")).unwrap();
        let error = needs_nothing_else(bridge.directory(), loader).unwrap_err();
        assert!(error.to_string().contains("libc.so.6"), "{error}");
    }

    #[test]
    fn what_the_loader_lists_is_understood() {
        for (line, expected) in [
            ("\tlinux-vdso.so.1 (0x00007ffd)", false),
            ("\tlibc.so.6 => /d/libc.so.6 (0x00007f)", false),
            (
                "\t/lib64/ld-linux-x86-64.so.2 => /d/ld-linux-x86-64.so.2 (0x7f)",
                false,
            ),
            ("\tlibc.so.6 => /lib/libc.so.6 (0x00007f)", true),
            ("\tlibc.so.6 => /d/x/libc.so.6 (0x00007f)", true),
            ("\tlibz.so.1 => not found", true),
            ("\tlibc.musl-x86_64.so.1 => ldd (0x7f)", false),
        ] {
            assert_eq!(is_elsewhere(line, "/d"), expected, "{line}");
        }
    }
}
