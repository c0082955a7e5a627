//! Whom the command line is signed in as, on which servers.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};
use url::Url;

/// The file `berth/credentials.json` in the person's configuration directory.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Credentials {
    #[serde(default)]
    servers: BTreeMap<String, Entry>,
    /// The server used when none is named: the last one signed in to.
    #[serde(default)]
    default: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    token: String,
}

impl Credentials {
    /// Reads the file; nothing is there before the first sign-in.
    pub fn load() -> anyhow::Result<Self> {
        Self::read(&file()?)
    }

    /// Writes the file, for its owner's eyes only.
    pub fn save(&self) -> anyhow::Result<PathBuf> {
        let path = file()?;
        self.write(&path)?;
        Ok(path)
    }

    /// The server to use when none is named.
    pub fn default_server(&self) -> Option<Url> {
        self.default.as_deref()?.parse().ok()
    }

    /// The token for `server`.
    pub fn token(&self, server: &Url) -> Option<&str> {
        self.servers
            .get(&key(server))
            .map(|entry| entry.token.as_str())
    }

    /// Keeps a token and makes its server the default.
    pub fn keep(&mut self, server: &Url, token: &str) {
        self.servers.insert(
            key(server),
            Entry {
                token: token.to_owned(),
            },
        );
        self.default = Some(key(server));
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!(
                    "cannot understand {}; remove it and run `berth login`",
                    path.display()
                )
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn write(&self, path: &Path) -> anyhow::Result<()> {
        let directory = path
            .parent()
            .context("the credentials lie in a directory")?;
        let partial = path.with_extension("part");
        let bytes = serde_json::to_vec_pretty(self)?;
        let write = || {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)?;
            // A file that is there already would keep its mode.
            let _ = fs::remove_file(&partial);
            let mut file = OpenOptions::new()
                .create_new(true)
                .write(true)
                .mode(0o600)
                .open(&partial)?;
            file.write_all(&bytes)?;
            fs::rename(&partial, path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

fn key(server: &Url) -> String {
    server.as_str().trim_end_matches('/').to_owned()
}

/// XDG Base Directory Specification: `$XDG_CONFIG_HOME`, else `~/.config`.
#[expect(
    clippy::disallowed_methods,
    reason = "where a person keeps settings is no setting of ours"
)]
fn file() -> anyhow::Result<PathBuf> {
    let given = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let directory = given("XDG_CONFIG_HOME")
        .or_else(|| given("HOME").map(|home| home.join(".config")))
        .ok_or_else(|| anyhow!("neither XDG_CONFIG_HOME nor HOME says where credentials go"))?;
    Ok(directory.join("berth").join("credentials.json"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_kept_is_found_again_by_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("berth/credentials.json");
        let server: Url = "http://localhost:8080".parse().unwrap();
        let mut credentials = Credentials::read(&path).unwrap();
        assert!(credentials.default_server().is_none());
        credentials.keep(&server, "brt_1");
        credentials.write(&path).unwrap();
        let credentials = Credentials::read(&path).unwrap();
        assert_eq!(credentials.token(&server), Some("brt_1"));
        assert_eq!(credentials.default_server(), Some(server));
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}
