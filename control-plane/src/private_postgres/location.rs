//! Where the private Postgres lies, and what its files tell of it.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::process::Pid;

use super::Running;
use super::unprivileged::User;
use crate::crypto::{hex, sha256};

/// Where the files go when its user cannot enter the data directory.
const ELSEWHERE: &str = "/var/lib/berth";

/// Where its socket goes when the path in the data directory would be too long, for root.
const SHORT: &str = "/run/berth";

/// The longest directory of a socket: 107 bytes (unix(7)) less `/.s.PGSQL.5432`.
const SOCKET_DIRECTORY_LIMIT: usize = 107 - 14;

/// Begins the name of a cluster that is being made.
const NEW: &str = "postgres.new-";

/// How much of the server's log is quoted in an error, lines.
const LAST_WORDS: usize = 5;

/// The files of one private Postgres.
#[derive(Clone, Debug)]
pub struct Location {
    /// What Postgres calls its data directory.
    pub directory: PathBuf,
    /// What lies around it: log and socket.
    parent: PathBuf,
}

impl Location {
    /// The place for the data directory `data`, chosen at the first start and kept.
    pub fn choose(data: &Path, user: Option<&User>) -> anyhow::Result<Self> {
        if let Some(found) = Self::find(data)? {
            if let Some(user) = user
                && !user.can_enter(&found.parent)?
            {
                bail!(
                    "the user {} cannot enter {}, where the private Postgres lies: allow it with \
                     `chmod o+x` on it and what is above it",
                    user.name,
                    found.parent.display()
                );
            }
            return Ok(found);
        }
        let data = canonical(data)?;
        if let Some(user) = user
            && !user.can_enter(&data)?
        {
            let parent = Path::new(ELSEWHERE).join(short_hash(&data));
            make_directories(&parent)?;
            write_whole(&note(&data), parent.as_os_str().as_bytes())?;
            return Ok(Self::within(&parent));
        }
        Ok(Self::within(&data))
    }

    /// The place chosen before; `None` when there is none yet.
    pub fn find(data: &Path) -> anyhow::Result<Option<Self>> {
        let text = match fs::read_to_string(note(data)) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", note(data).display()));
            }
        };
        if let Some(parent) = text {
            return Ok(Some(Self::within(Path::new(parent.trim()))));
        }
        if data.join("postgres").join("PG_VERSION").exists() {
            return Ok(Some(Self::within(&canonical(data)?)));
        }
        Ok(None)
    }

    fn within(parent: &Path) -> Self {
        Self {
            directory: parent.join("postgres"),
            parent: parent.to_owned(),
        }
    }

    /// Whether a cluster is there.
    pub fn is_initialized(&self) -> bool {
        self.directory.join("PG_VERSION").exists()
    }

    /// The major version that made the cluster; `None` before there is one.
    pub fn version(&self) -> anyhow::Result<Option<u32>> {
        match fs::read_to_string(self.directory.join("PG_VERSION")) {
            Ok(text) => {
                let version = text.trim().parse();
                Ok(Some(version.with_context(|| {
                    format!("{} holds no Postgres version", self.directory.display())
                })?))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(error).with_context(|| format!("cannot read {}", self.directory.display()))
            }
        }
    }

    /// An empty directory of `user` beside the cluster's place.
    pub fn new_directory(&self, user: Option<&User>) -> anyhow::Result<PathBuf> {
        let path = self.parent.join(format!("{NEW}{}", crate::ids::new_id()));
        make_private(&path, user)?;
        Ok(path)
    }

    /// Removes half-made clusters. One whose initdb outlived us may resist; it goes next time.
    pub fn remove_leftovers(&self) {
        for entry in fs::read_dir(&self.parent).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(NEW) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Moves a finished cluster to its place, for good.
    pub fn keep(&self, new: &Path) -> anyhow::Result<()> {
        fs::rename(new, &self.directory)
            .and_then(|()| fs::File::open(&self.parent)?.sync_all())
            .with_context(|| {
                format!(
                    "cannot move the new database to {}",
                    self.directory.display()
                )
            })
    }

    /// A directory for the socket that only `user` (and root) can enter.
    pub fn socket_directory(&self, user: Option<&User>) -> anyhow::Result<PathBuf> {
        let mut path = self.parent.join("postgres-socket");
        if path.as_os_str().len() > SOCKET_DIRECTORY_LIMIT {
            let hash = short_hash(&self.parent);
            let uid = rustix::process::getuid();
            path = if uid.is_root() {
                make_directories(Path::new(SHORT))?;
                Path::new(SHORT).join(hash)
            } else {
                Path::new("/tmp").join(format!("berth-{}-{hash}", uid.as_raw()))
            };
        }
        make_private(&path, user)?;
        Ok(path)
    }

    /// The server's log.
    pub fn log(&self) -> PathBuf {
        self.parent.join("postgres.log")
    }

    /// The end of the server's log, for an error's sentence.
    pub fn last_words(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(LAST_WORDS)..];
        format!("{} (see {})", last.join(" / "), self.log().display())
    }

    /// The server that runs on these files, by its lock file. That file outlives a crash and
    /// process ids are used again, so the process must also stand in our directory, as every
    /// Postgres does; a dead one that nobody has reaped stands nowhere.
    pub fn running(&self) -> Option<Running> {
        let lock = fs::read_to_string(self.directory.join("postmaster.pid")).ok()?;
        let lines: Vec<&str> = lock.lines().collect();
        // Line 1 the process, line 5 the first socket directory (miscadmin.h, LOCK_FILE_LINE_*).
        let pid: i32 = lines.first()?.trim().parse().ok()?;
        let socket = PathBuf::from(lines.get(4)?.trim());
        let stands = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
        if stands != self.directory.canonicalize().ok()? {
            return None;
        }
        Some(Running {
            pid: Pid::from_raw(pid)?,
            socket,
        })
    }
}

/// Where it is noted that the files lie elsewhere.
fn note(data: &Path) -> PathBuf {
    data.join("postgres.location")
}

fn canonical(path: &Path) -> anyhow::Result<PathBuf> {
    path.canonicalize()
        .with_context(|| format!("cannot find {}", path.display()))
}

/// 64 bits of a path's hash: short, and the same at every start.
fn short_hash(path: &Path) -> String {
    hex(&sha256(path.as_os_str().as_bytes())[..8])
}

/// Makes a directory, and those above it, that others can pass through and not list.
fn make_directories(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)
        .with_context(|| format!("cannot make {}", path.display()))
}

/// Makes or takes over a directory that only `user` can enter. In a place like /tmp someone else
/// may have been there first; what is not ours is refused.
fn make_private(path: &Path, user: Option<&User>) -> anyhow::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        made => made.with_context(|| format!("cannot make {}", path.display()))?,
    }
    let metadata = fs::symlink_metadata(path)?;
    let ours = [
        rustix::process::getuid().as_raw(),
        user.map_or(u32::MAX, |user| user.uid),
    ];
    if !metadata.is_dir() || !ours.contains(&metadata.uid()) {
        bail!("{} belongs to someone else; remove it", path.display());
    }
    if let Some(user) = user {
        chown(path, Some(user.uid), Some(user.gid))
            .with_context(|| format!("cannot give {} to {}", path.display(), user.name))?;
    }
    fs::set_permissions(path, Permissions::from_mode(0o700))
        .with_context(|| format!("cannot close {}", path.display()))
}

/// Writes a file whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let partial = path.with_extension(format!("part-{}", crate::ids::new_id()));
    let write = || {
        let mut file = fs::File::create_new(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
