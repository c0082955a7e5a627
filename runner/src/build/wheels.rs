//! Wheels that all projects of this machine share, and the jobs that install them.
//!
//! ```text
//! wheels/cache/       uv's cache: index pages, and each wheel unpacked and compiled
//! wheels/known/       what was installed before, by Python's number and requirement
//! wheels/jobs/<id>/   a job in progress: its plan, its gate, its lock, its environment
//! ```
//! Whatever is shared could be planted for others, so a job runs nothing but our own program, uv and
//! Python's compiler, without a project's variables, as [`WHEELS_USER`], to whom alone the files
//! belong: its environment is made of hard links to them, which a build of the project (as another
//! user) may take out of its environment and can never write through. What a job takes from a lock
//! are names and hashes; see `launcher/berth_build/shared.py`.
//!
//! A job's container is started when a build begins and waits at its gate, a pipe, until the build
//! knows the lock: so its start costs no time.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, lchown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FileType, Mode};
use serde_json::json;
use uuid::Uuid;

use super::container::{BuildHost, Site, mount};
use crate::runtime::docker::{CONTAINER_USER, WHEELS_USER};
use crate::runtime::{ContainerSpec, Role};
use crate::store::remove_tree;

/// What the shared wheels may take, bytes; with more they all go and are downloaded again. A common
/// package takes a few megabytes, a large framework five gigabytes.
const MAX_BYTES: u64 = 40 << 30;

/// What may name an index, and with it a password.
const INDEX_VARIABLES: &[&str] = &[
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
];

/// Where a password for an index may come from otherwise.
fn may_hold_password(name: &str) -> bool {
    let is_of_index = name.starts_with("UV_INDEX_")
        && ["_USERNAME", "_PASSWORD"]
            .iter()
            .any(|end| name.ends_with(end));
    is_of_index || matches!(name, "NETRC" | "UV_KEYRING_PROVIDER" | "UV_CREDENTIALS_DIR")
}

/// Whether the machine's own settings let wheels be shared: an index that asks for a password gives
/// its files to those who know it, and so must what came from there.
pub fn may_be_shared(machine: &BTreeMap<String, String>) -> bool {
    if machine.keys().any(|name| may_hold_password(name)) {
        return false;
    }
    INDEX_VARIABLES
        .iter()
        .filter_map(|name| machine.get(*name))
        .all(|addresses| !addresses.contains('@'))
}

/// Whether a project's variables of builds may lead to packages of its own: then nothing of it is
/// shared, nor is the machine's index asked for what may be names of private packages.
pub fn is_own_index(name: &str) -> bool {
    ["UV_", "PIP_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// The wheels of this machine.
#[derive(Debug)]
pub struct Wheels {
    directory: PathBuf,
}

impl Wheels {
    /// Opens them, and removes what interrupted jobs left.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let wheels = Self {
            directory: directory.join("wheels"),
        };
        remove_tree(&wheels.directory.join("jobs"))?;
        Ok(wheels)
    }

    /// Prepares a job.
    pub fn job(&self, python: &str) -> io::Result<Job> {
        for name in ["cache", "known"] {
            owned_directory(&self.directory.join(name))?;
        }
        let id = Uuid::new_v4().simple().to_string();
        let place = self.directory.join("jobs").join(&id);
        directory(&place)?;
        owned_directory(&place.join("env"))?;
        let plan = json!({ "python": python, "environment": format!("jobs/{id}/env") });
        write(&place.join("plan.json"), &plan.to_string())?;
        Ok(Job {
            gate: make_gate(&place)?,
            wheels: self.directory.clone(),
            place,
        })
    }
}

/// The pipe at which a job's container waits, open at both ends here, so that it waits for nobody and
/// keeps what is written.
fn make_gate(place: &Path) -> io::Result<File> {
    let path = place.join("gate");
    let mode = Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, mode, 0)?;
    fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    OpenOptions::new().read(true).write(true).open(path)
}

/// A job; its directory goes with it.
#[derive(Debug)]
pub struct Job {
    wheels: PathBuf,
    place: PathBuf,
    gate: File,
}

impl Job {
    /// Its container, on the runtime image as it was made: no project has a say in what is in it.
    pub fn container(&self, host: &BuildHost, site: &Site<'_>, image: &str) -> ContainerSpec {
        let mounts = vec![
            mount(&self.wheels, "/wheels", false),
            mount(&self.environment(), "/env", false),
            mount(&self.place, "/run/berth/job", true),
        ];
        let site = Site {
            variables_file: None,
            ..*site
        };
        let mut spec = host.container(&site, image, "wheels.py", mounts);
        spec.role = Role::Wheels;
        // That of others belongs to the user of projects.
        spec.environment
            .insert("HOME".to_owned(), "/tmp".to_owned());
        spec
    }

    /// Lets it install a lock.
    pub fn install(&mut self, lock: &str) -> io::Result<()> {
        if let Err(error) = write(&self.place.join("lock.txt"), lock) {
            self.call_off()?;
            return Err(error);
        }
        self.gate.write_all(b"go\n")
    }

    /// Lets it end with nothing done.
    pub fn call_off(&mut self) -> io::Result<()> {
        self.gate.write_all(b"no\n")
    }

    /// The environment that it makes.
    pub fn environment(&self) -> PathBuf {
        self.place.join("env")
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let place = std::mem::take(&mut self.place);
        // An environment that was not wanted has thousands of files; nobody waits for it.
        std::thread::spawn(move || {
            if let Err(error) = remove_tree(&place) {
                tracing::warn!(%error, "a job's directory could not be removed");
            }
        });
    }
}

/// Gives the directories of an environment to the user of builds, so that packages can be added.
/// The files stay whose they are.
pub fn open_for_builds(environment: &Path) -> io::Result<()> {
    for directory in tree(environment)? {
        lchown(&directory, Some(CONTAINER_USER), Some(CONTAINER_USER))?;
    }
    Ok(())
}

/// Removes wheels that no environment has and that came before `oldest`; returns how many. Nothing
/// may be at work.
pub fn clean(directory: &Path, oldest: SystemTime) -> io::Result<usize> {
    let wheels = directory.join("wheels");
    let (cache, known) = (wheels.join("cache"), wheels.join("known"));
    if !cache.is_dir() {
        return Ok(0);
    }
    let mut removed = 0;
    for archive in below(&cache)?.iter().filter(|path| is_archive(path)) {
        if fs::symlink_metadata(archive)?.modified()? <= oldest && !is_in_use(archive)? {
            remove_tree(archive)?;
            removed += 1;
        }
    }
    for requirement in below(&known)? {
        if fs::symlink_metadata(&requirement)?.modified()? <= oldest {
            fs::remove_file(requirement)?;
        }
    }
    if size(&wheels)? > MAX_BYTES {
        tracing::warn!("the shared wheels are larger than they may be: all are removed");
        remove_tree(&cache)?;
        remove_tree(&known)?;
    }
    Ok(removed)
}

/// What is in the directories of a directory.
fn below(top: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for directory in fs::read_dir(top)? {
        let directory = directory?;
        if directory.file_type()?.is_dir() {
            for entry in fs::read_dir(directory.path())? {
                found.push(entry?.path());
            }
        }
    }
    Ok(found)
}

/// Whether it is an unpacked wheel of uv's cache: `archive-v0/<id>`, or a later version's.
fn is_archive(path: &Path) -> bool {
    let bucket = path.parent().and_then(Path::file_name);
    path.is_dir() && bucket.is_some_and(|name| name.to_string_lossy().starts_with("archive-v"))
}

/// Whether an environment has it: then its files have more names than the one in the store. Every
/// wheel has metadata, which are linked as all of its files but the list of them.
fn is_in_use(archive: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(archive)? {
        let metadata = entry?.path().join("METADATA");
        if let Ok(found) = fs::symlink_metadata(metadata)
            && found.nlink() > 1
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What all files below a directory take, bytes.
fn size(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for directory in tree(directory)? {
        for entry in fs::read_dir(directory)? {
            bytes += fs::symlink_metadata(entry?.path())?.blocks() * 512;
        }
    }
    Ok(bytes)
}

/// A directory and all below it, without recursion: wheels may be as deep as they like.
fn tree(top: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut left = VecDeque::from([top.to_owned()]);
    while let Some(directory) = left.pop_front() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                left.push_back(entry.path());
            }
        }
        found.push(directory);
    }
    Ok(found)
}

/// A directory that every user of a container may look into.
fn directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)
}

/// A directory that only shared wheels' user may write to.
fn owned_directory(path: &Path) -> io::Result<()> {
    directory(path)?;
    chown(path, Some(WHEELS_USER), Some(WHEELS_USER))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_index_with_a_password_is_not_for_all() {
        let machine =
            |address: &str| BTreeMap::from([("UV_DEFAULT_INDEX".to_owned(), address.to_owned())]);
        assert!(may_be_shared(&BTreeMap::new()));
        assert!(may_be_shared(&machine("https://packages.example/simple")));
        assert!(!may_be_shared(&machine(
            "https://user:token@packages.example/simple"
        )));
        for name in ["UV_INDEX_INTERNAL_PASSWORD", "NETRC"] {
            let machine = BTreeMap::from([(name.to_owned(), "x".to_owned())]);
            assert!(!may_be_shared(&machine), "{name}");
        }
        for name in ["UV_INDEX", "UV_DEFAULT_INDEX", "PIP_EXTRA_INDEX_URL"] {
            assert!(is_own_index(name), "{name}");
        }
        assert!(!is_own_index("NPM_TOKEN"));
    }

    #[test]
    fn a_wheel_goes_when_no_environment_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let archives = directory.path().join("wheels/cache/archive-v0");
        let make = |name: &str| {
            let info = archives.join(name).join("a-1.dist-info");
            fs::create_dir_all(&info).unwrap();
            fs::write(info.join("METADATA"), "Name: a").unwrap();
            info.join("METADATA")
        };
        let (used, _unused) = (make("used"), make("unused"));
        let known = directory.path().join("wheels/known/a70d0d0a");
        fs::create_dir_all(&known).unwrap();
        fs::write(known.join("requirement"), "").unwrap();
        fs::hard_link(used, directory.path().join("environment")).unwrap();
        let now = SystemTime::from(crate::clock::now());
        let clean = |oldest| clean(directory.path(), oldest).unwrap();
        assert_eq!(
            clean(now - Duration::from_hours(1)),
            0,
            "they have just come"
        );
        assert_eq!(clean(now + Duration::from_hours(1)), 1);
        assert!(archives.join("used").exists() && !archives.join("unused").exists());
        assert!(!known.join("requirement").exists());
        fs::remove_file(directory.path().join("environment")).unwrap();
        assert_eq!(clean(now + Duration::from_hours(1)), 1);
    }

    #[test]
    fn a_gate_keeps_what_is_said_until_it_is_heard() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("job");
        fs::create_dir(&place).unwrap();
        let mut job = Job {
            gate: make_gate(&place).unwrap(),
            wheels: directory.path().to_owned(),
            place: place.clone(),
        };
        job.install("a==1").unwrap();
        let mut heard = String::new();
        io::BufRead::read_line(
            &mut io::BufReader::new(File::open(place.join("gate")).unwrap()),
            &mut heard,
        )
        .unwrap();
        assert_eq!(heard, "go\n");
        assert_eq!(fs::read_to_string(place.join("lock.txt")).unwrap(), "a==1");
    }
}
