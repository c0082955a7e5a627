//! The persistent files of projects: each volume in a file system of its own, as large as it may
//! grow, so that a full one is full for its own server and for nobody else.
//!
//! A volume is an ext4 file system in a file, mounted through a loop device. Quotas would need a
//! file system of the host that keeps them, which most do not. The file is sparse: it takes what
//! is in it, and gives back what is deleted. Where the machine cannot mount, a volume is a plain
//! directory, and its size is only watched; every report says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};
use uuid::Uuid;

use crate::protocol::{VolumeKind, VolumeReport};
use crate::runtime::docker::CONTAINER_USER;
use crate::store::{remove_tree, tree_bytes};

/// The smallest file system that is made: below it, the journal leaves no room.
const MIN_BYTES: u64 = 16 << 20;
/// The file system on which mounting is tried.
const TRIAL: &str = "trial";
/// A mounted volume may not bring programs that change their user, nor devices. What is deleted
/// is given back to the host.
const MOUNT_OPTIONS: &str = "loop,nosuid,nodev,discard";
/// Characters of a program's complaint that are worth keeping.
const MAX_SAID: usize = 300;

/// The volumes of a runner.
#[derive(Debug)]
pub struct Volumes {
    directory: PathBuf,
    /// Why nothing can be mounted here, if so.
    unmountable: Option<String>,
    /// One volume is made or removed at a time; what the plain ones took when last measured.
    measured: Mutex<BTreeMap<String, u64>>,
    changing: Mutex<()>,
}

/// One volume, by its name on the disk: the project's id, and a word for all but the first kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    project: Uuid,
    kind: VolumeKind,
}

impl Name {
    fn text(self) -> String {
        match self.kind {
            VolumeKind::Data => self.project.to_string(),
            VolumeKind::Redis => format!("{}-redis", self.project),
        }
    }

    /// `None` for what is no volume.
    fn parse(text: &str) -> Option<Self> {
        let (id, kind) = match text.strip_suffix("-redis") {
            Some(id) => (id, VolumeKind::Redis),
            None => (text, VolumeKind::Data),
        };
        let project = Uuid::parse_str(id).ok()?;
        let name = Self { project, kind };
        (name.text() == text).then_some(name)
    }
}

impl Volumes {
    /// Opens the directory of all volumes, and finds out whether this machine can mount.
    pub fn open(directory: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&directory)
            .with_context(|| format!("making {}", directory.display()))?;
        let mut volumes = Self::watched(directory, None);
        if let Err(error) = volumes.try_mounting() {
            let reason = format!("{error:#}");
            tracing::warn!(
                reason,
                "volumes cannot be mounted here: their sizes are watched and not limited"
            );
            volumes.unmountable = Some(reason);
        }
        Ok(volumes)
    }

    /// Those of a machine that cannot mount, for a reason.
    fn watched(directory: PathBuf, unmountable: Option<String>) -> Self {
        Self {
            directory,
            unmountable,
            measured: Mutex::default(),
            changing: Mutex::default(),
        }
    }

    fn try_mounting(&self) -> anyhow::Result<()> {
        let (image, at) = (self.image(TRIAL), self.directory.join(TRIAL));
        let tried = (|| {
            make_image(&image, MIN_BYTES)?;
            make_mount_point(&at)?;
            mount(&image, &at)
        })();
        let cleaned = remove_at(&image, &at);
        tried.and(cleaned)
    }

    fn image(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.img"))
    }

    /// Finds or makes a volume that holds up to `bytes`; returns the directory to mount in a
    /// container. A volume that has become too small grows; none shrinks. It blocks.
    pub fn ensure(&self, project: Uuid, kind: VolumeKind, bytes: u64) -> anyhow::Result<PathBuf> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let name = Name { project, kind }.text();
        let (image, at) = (self.image(&name), self.directory.join(&name));
        let bytes = bytes.max(MIN_BYTES);
        if !image.exists() {
            // One that was begun without a file system of its own holds somebody's files.
            if at.exists() || self.unmountable.is_some() {
                make_plain(&at)?;
                return Ok(at);
            }
            self.make(&name, bytes)?;
        }
        if let Some(reason) = &self.unmountable {
            bail!("the files of this project lie in {name}.img, which cannot be mounted: {reason}");
        }
        if is_mounted(&at)? {
            grow_in_use(&image, bytes)?;
        } else {
            grow_at_rest(&image, bytes)?;
            make_mount_point(&at)?;
            mount(&image, &at)?;
        }
        Ok(at)
    }

    fn make(&self, name: &str, bytes: u64) -> anyhow::Result<()> {
        let free = free_bytes(&self.directory)?;
        if free < bytes {
            bail!(
                "{} MiB are free on the runner's disk and a volume may grow to {} MiB: free some \
                 space, or lower the limit (BERTH_DATA_LIMIT_MIB)",
                free >> 20,
                bytes >> 20
            );
        }
        // Whole or not at all: what was cut off is made anew.
        let unfinished = self.directory.join(format!("{name}.new"));
        make_image(&unfinished, bytes)?;
        fs::rename(&unfinished, self.image(name))?;
        Ok(())
    }

    /// Removes everything that is kept of a project, for good. Nothing may use it. It blocks.
    pub fn remove(&self, project: Uuid) -> anyhow::Result<()> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        for kind in [VolumeKind::Data, VolumeKind::Redis] {
            let name = Name { project, kind }.text();
            remove_at(&self.image(&name), &self.directory.join(&name))?;
            self.lock_measured().remove(&name);
        }
        Ok(())
    }

    fn names(&self) -> io::Result<BTreeSet<Name>> {
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            names.extend(Name::parse(name.strip_suffix(".img").unwrap_or(&name)));
        }
        Ok(names)
    }

    /// The projects of which anything is kept.
    pub fn projects(&self) -> BTreeSet<Uuid> {
        let names = self.names().unwrap_or_else(|error| {
            tracing::warn!(%error, "the volumes cannot be listed");
            BTreeSet::new()
        });
        names.into_iter().map(|name| name.project).collect()
    }

    /// What is to be said of each volume.
    pub fn report(&self) -> io::Result<Vec<VolumeReport>> {
        let names = self.names()?;
        Ok(names
            .into_iter()
            .map(|name| self.report_one(name))
            .collect())
    }

    fn report_one(&self, name: Name) -> VolumeReport {
        let text = name.text();
        let at = self.directory.join(&text);
        let is_limited = self.image(&text).exists();
        let mut report = VolumeReport {
            project: name.project,
            kind: name.kind,
            used_bytes: None,
            size_bytes: None,
            watched: None,
        };
        if !is_limited {
            report.used_bytes = self.lock_measured().get(&text).copied();
            let reason = self.unmountable.as_deref();
            report.watched = Some(
                reason
                    .unwrap_or("it was begun before volumes had a size")
                    .to_owned(),
            );
        } else if is_mounted(&at).unwrap_or_default()
            && let Ok(space) = rustix::fs::statvfs(&at)
        {
            report.used_bytes = Some((space.f_blocks - space.f_bfree) * space.f_frsize);
            report.size_bytes = Some(space.f_blocks * space.f_frsize);
        }
        report
    }

    /// Measures those that are plain directories. It blocks, for as long as there are files.
    pub fn measure(&self) {
        for name in self.names().unwrap_or_default() {
            let text = name.text();
            let at = self.directory.join(&text);
            if !self.image(&text).exists()
                && let Some(bytes) = tree_bytes(&at)
            {
                self.lock_measured().insert(text, bytes);
            }
        }
    }

    fn lock_measured(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, u64>> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this machine seems able to mount volumes. Changes nothing.
pub fn check() -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("only root can mount them");
    }
    if !Path::new("/dev/loop-control").exists() {
        bail!("there are no loop devices");
    }
    let version = Command::new("mkfs.ext4").arg("-V").output();
    version.context("mkfs.ext4 cannot be run (package e2fsprogs)")?;
    Ok(())
}

/// Unmounts every volume below a runner's directory; what is in them stays. Nothing may use them.
pub fn release_all(runner: &Path) -> anyhow::Result<()> {
    let directory = runner.join(DIRECTORY);
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let at = entry?.path();
        if at.is_dir() && is_mounted(&at)? {
            unmount(&at)?;
        }
    }
    Ok(())
}

/// Where volumes lie below the runner's directory.
pub const DIRECTORY: &str = "volumes";

fn make_image(image: &Path, bytes: u64) -> anyhow::Result<()> {
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(image)
        .with_context(|| format!("making {}", image.display()))?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.set_len(bytes)?;
    let owner = format!(
        "nodiscard,lazy_itable_init=1,lazy_journal_init=1,root_owner={CONTAINER_USER}:{CONTAINER_USER}"
    );
    // No blocks are kept for root: it writes nothing here.
    let arguments = ["-q", "-F", "-m", "0", "-E", &owner, "--"];
    run("mkfs.ext4", &arguments, &[image])
}

/// A directory that the instance's user cannot write: while nothing is mounted on it, nothing
/// gets in.
fn make_mount_point(at: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(at) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn mount(image: &Path, at: &Path) -> anyhow::Result<()> {
    let arguments = ["-t", "ext4", "-o", MOUNT_OPTIONS, "--"];
    run("mount", &arguments, &[image, at])?;
    // Of no use to a server, and it may not even look into it. One that is missing, or that a
    // server has put something else in place of, is left alone.
    let _ = fs::remove_dir(at.join("lost+found"));
    Ok(())
}

fn unmount(at: &Path) -> anyhow::Result<()> {
    run("umount", &["--"], &[at])
}

/// Whether something is mounted on a directory: it then lies on another device than its parent.
fn is_mounted(at: &Path) -> io::Result<bool> {
    let device = match fs::symlink_metadata(at) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found?.dev(),
    };
    let parent = at.parent().unwrap_or(at);
    Ok(fs::symlink_metadata(parent)?.dev() != device)
}

/// The loop device of an image, if it is on one.
fn loop_device(image: &Path) -> anyhow::Result<Option<PathBuf>> {
    let found = Command::new("losetup")
        .args(["--noheadings", "--output", "NAME", "--associated"])
        .arg(image)
        .output()
        .context("losetup cannot be run")?;
    let device = String::from_utf8_lossy(&found.stdout);
    let device = device.lines().map(str::trim).find(|name| !name.is_empty());
    Ok(device.map(PathBuf::from))
}

/// Makes a file system larger that is not in use.
fn grow_at_rest(image: &Path, bytes: u64) -> anyhow::Result<()> {
    if fs::metadata(image)?.len() >= bytes || loop_device(image)?.is_some() {
        return Ok(());
    }
    set_length(image, bytes)?;
    // Its journal may hold what an interruption left; what the check mended is well.
    let checked = Command::new("e2fsck")
        .args(["-f", "-p", "--"])
        .arg(image)
        .output()
        .context("e2fsck cannot be run")?;
    if !matches!(checked.status.code(), Some(0 | 1)) {
        bail!("e2fsck failed: {}", said(&checked.stderr));
    }
    run("resize2fs", &["--"], &[image])
}

/// The same for one that is mounted, which some machines do not allow: it then grows when it is
/// next mounted.
fn grow_in_use(image: &Path, bytes: u64) -> anyhow::Result<()> {
    let before = fs::metadata(image)?.len();
    let Some(device) = loop_device(image)?.filter(|_| before < bytes) else {
        return Ok(());
    };
    let resize = |length| {
        set_length(image, length)?;
        run("losetup", &["--set-capacity"], &[&device])
    };
    let grown = resize(bytes).and_then(|()| run("resize2fs", &["--"], &[&device]));
    if let Err(error) = grown {
        tracing::warn!(
            error = format!("{error:#}"),
            "a volume keeps its size for now"
        );
        resize(before)?;
    }
    Ok(())
}

fn set_length(image: &Path, bytes: u64) -> anyhow::Result<()> {
    let file = fs::OpenOptions::new().write(true).open(image)?;
    Ok(file.set_len(bytes)?)
}

/// Nothing below it: there, a tenant's code could put a link in the way of root. What the server
/// expects inside, the launcher makes.
fn make_plain(at: &Path) -> anyhow::Result<()> {
    if !at.exists() {
        fs::DirBuilder::new().mode(0o755).create(at)?;
        chown(at, Some(CONTAINER_USER), Some(CONTAINER_USER))
            .context("giving a volume to the instance's user (the runner must be root)")?;
    }
    Ok(())
}

fn remove_at(image: &Path, at: &Path) -> anyhow::Result<()> {
    if is_mounted(at)? {
        unmount(at)?;
    }
    match fs::remove_file(image) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    Ok(remove_tree(at)?)
}

fn free_bytes(directory: &Path) -> io::Result<u64> {
    let space = rustix::fs::statvfs(directory)?;
    Ok(space.f_bavail * space.f_frsize)
}

/// Runs a program of the system with fixed arguments and paths of ours; its complaint is the error.
fn run(program: &str, arguments: &[&str], paths: &[&Path]) -> anyhow::Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .args(paths)
        .output()
        .with_context(|| format!("{program} cannot be run"))?;
    if output.status.success() {
        return Ok(());
    }
    bail!("{program} failed: {}", said(&output.stderr))
}

fn said(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    text.trim().chars().take(MAX_SAID).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROJECT: Uuid = Uuid::from_u128(7);
    const MIB: u64 = 1 << 20;

    /// A runner's directory whose volumes are unmounted at the end.
    struct Bench(tempfile::TempDir);

    impl Bench {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }
        fn directory(&self) -> PathBuf {
            self.0.path().join(DIRECTORY)
        }
        fn open(&self) -> Volumes {
            Volumes::open(self.directory()).unwrap()
        }
    }

    impl Drop for Bench {
        fn drop(&mut self) {
            release_all(self.0.path()).unwrap();
        }
    }

    #[test]
    fn names_are_those_of_volumes_and_nothing_else() {
        for kind in [VolumeKind::Data, VolumeKind::Redis] {
            let name = Name {
                project: PROJECT,
                kind,
            };
            assert_eq!(Name::parse(&name.text()), Some(name));
        }
        let upper = PROJECT.to_string().to_uppercase();
        for text in [
            "trial",
            "",
            "-redis",
            "0-redis",
            &format!("{upper}A"),
            "../x",
        ] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_full_volume_is_full_and_its_neighbour_is_not() {
        let bench = Bench::new();
        let volumes = bench.open();
        assert_eq!(
            volumes.unmountable, None,
            "these tests need root and loop devices"
        );
        let at = volumes.ensure(PROJECT, VolumeKind::Data, 32 * MIB).unwrap();
        assert_eq!(fs::metadata(&at).unwrap().uid(), CONTAINER_USER);
        assert_eq!(fs::read_dir(&at).unwrap().count(), 0, "it begins empty");
        let error = fs::write(at.join("big"), vec![7; 40 << 20]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let report = &volumes.report().unwrap()[0];
        let (used, size) = (report.used_bytes.unwrap(), report.size_bytes.unwrap());
        assert!(size < 32 * MIB && used > size / 10 * 9, "{report:?}");
        assert_eq!(report.watched, None);
        let other = volumes
            .ensure(PROJECT, VolumeKind::Redis, 32 * MIB)
            .unwrap();
        fs::write(other.join("small"), vec![7; 1 << 20]).unwrap();
    }

    #[test]
    fn what_is_in_a_volume_outlives_the_mount_and_grows_with_the_limit() {
        let bench = Bench::new();
        let at = bench
            .open()
            .ensure(PROJECT, VolumeKind::Data, 16 * MIB)
            .unwrap();
        fs::write(at.join("kept"), "here").unwrap();
        // As after a restart of the machine.
        release_all(bench.0.path()).unwrap();
        assert!(!at.join("kept").exists());
        assert_eq!(fs::metadata(&at).unwrap().uid(), 0, "no server writes here");
        let volumes = bench.open();
        assert_eq!(volumes.report().unwrap()[0].used_bytes, None);
        let again = volumes.ensure(PROJECT, VolumeKind::Data, 64 * MIB).unwrap();
        assert_eq!(fs::read_to_string(again.join("kept")).unwrap(), "here");
        let size = volumes.report().unwrap()[0].size_bytes.unwrap();
        assert!(size > 40 * MIB, "{size}");
        volumes
            .ensure(PROJECT, VolumeKind::Data, 96 * MIB)
            .expect("one that is in use grows or stays as it is");
        assert_eq!(volumes.projects(), BTreeSet::from([PROJECT]));
        volumes.remove(PROJECT).unwrap();
        assert_eq!(fs::read_dir(bench.directory()).unwrap().count(), 0);
    }

    #[test]
    fn without_mounting_the_size_is_watched_and_said_to_be() {
        let bench = Bench::new();
        fs::create_dir(bench.directory()).unwrap();
        let reason = Some("mount failed: no".to_owned());
        let volumes = Volumes::watched(bench.directory(), reason.clone());
        let at = volumes.ensure(PROJECT, VolumeKind::Data, 16 * MIB).unwrap();
        fs::write(at.join("big"), vec![7; 20 << 20]).unwrap();
        assert_eq!(volumes.report().unwrap()[0].used_bytes, None);
        volumes.measure();
        let report = &volumes.report().unwrap()[0];
        assert!(report.used_bytes.unwrap() >= 20 * MIB);
        assert_eq!((report.size_bytes, &report.watched), (None, &reason));
        // The same directory where mounting works: its files stay where they are.
        let mounting = bench.open();
        assert_eq!(
            mounting
                .ensure(PROJECT, VolumeKind::Data, 16 * MIB)
                .unwrap(),
            at
        );
        assert!(at.join("big").exists());
        assert!(mounting.report().unwrap()[0].watched.is_some());
    }

    #[test]
    fn what_cannot_be_mounted_any_more_is_not_replaced_by_an_empty_directory() {
        let bench = Bench::new();
        bench
            .open()
            .ensure(PROJECT, VolumeKind::Data, 16 * MIB)
            .unwrap();
        release_all(bench.0.path()).unwrap();
        let volumes = Volumes::watched(bench.directory(), Some("no loop".into()));
        let error = volumes
            .ensure(PROJECT, VolumeKind::Data, 16 * MIB)
            .unwrap_err()
            .to_string();
        assert!(error.contains("no loop"), "{error}");
    }
}
