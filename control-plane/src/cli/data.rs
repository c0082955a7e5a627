//! The data directory of `berth all`: one process at a time, keys made once.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use url::Url;

use crate::config::{DEFAULT_URL, Secret, ServeConfig};
use crate::crypto::fill_random;
use crate::ids;

/// The data directory, held by this process. The kernel lets go of it however the process ends.
#[derive(Debug)]
pub struct Data {
    path: PathBuf,
    _lock: File,
}

impl Data {
    /// Makes the directory if need be and takes it. Fails when another process has it.
    pub fn take(path: &Path) -> anyhow::Result<Self> {
        // Others pass through: the private Postgres runs as another user. What lies in it is
        // closed one by one.
        make_directory(path, 0o711)?;
        make_directory(&path.join("uploads"), 0o700)?;
        make_directory(&path.join("keys"), 0o700)?;
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot find {}", path.display()))?;
        let lock = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))
            .with_context(|| format!("cannot write in {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => bail!(
                "another berth runs with the data directory {}; stop it first, or choose another \
                 with --data",
                path.display()
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }

    /// The directory, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives `config` the keys and role tokens that it lacks, making them at the first start.
    pub fn provide_keys(&self, config: &mut ServeConfig) -> anyhow::Result<()> {
        config.data.clone_from(&self.path);
        if config.kek_file.is_none() {
            let mut key = [0; 32];
            fill_random(&mut key);
            keep(&config.kek_path(), &key)?;
        }
        if config.runner_token.is_none() {
            config.runner_token = Some(self.role_token("runner-token")?);
        }
        if config.edge_token.is_none() {
            config.edge_token = Some(self.role_token("edge-token")?);
        }
        Ok(())
    }

    /// Notes where people reach this platform, for commands on this machine.
    pub fn note_url(&self, url: &Url) -> anyhow::Result<()> {
        let path = self.path.join("url");
        fs::write(&path, format!("{url}\n"))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    fn role_token(&self, name: &str) -> anyhow::Result<Secret> {
        let path = self.path.join("keys").join(name);
        let token = keep(&path, ids::random_token("").as_bytes())?;
        let token = String::from_utf8(token)
            .with_context(|| format!("{} holds no token", path.display()))?;
        Ok(Secret::new(token.trim()))
    }
}

/// Gives `config` the URL that the platform of its data directory noted, unless another is set.
pub fn adopt_noted_url(config: &mut ServeConfig) {
    if config.issuer() != DEFAULT_URL {
        return;
    }
    let noted = fs::read_to_string(config.data.join("url")).ok();
    if let Some(url) = noted.and_then(|url| url.trim().parse().ok()) {
        config.url = url;
    }
}

fn make_directory(path: &Path, mode: u32) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .with_context(|| format!("cannot make the directory {}", path.display()))
}

/// What `path` holds; where it is missing, it is written with `new` first, whole or not at all.
fn keep(path: &Path, new: &[u8]) -> anyhow::Result<Vec<u8>> {
    match fs::read(path) {
        Ok(bytes) => return Ok(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    }
    let partial = path.with_extension("part");
    let write = || {
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        file.write_all(new)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(new.to_vec())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_directory_is_taken_once_and_free_again_after() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let first = Data::take(&path).unwrap();
        let error = Data::take(&path).unwrap_err().to_string();
        assert!(error.contains("another berth runs"), "{error}");
        drop(first);
        Data::take(&path).unwrap();
    }

    #[test]
    fn keys_are_made_once_and_closed_to_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        assert_eq!(keep(&path, b"one").unwrap(), b"one");
        assert_eq!(keep(&path, b"two").unwrap(), b"one");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
