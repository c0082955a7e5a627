//! What an instance finds in its environment, and how it gets there.
//!
//! What the platform says of itself is plain container environment. What the project's owner set
//! is not: it would show in the engine's listing and lie on its disk. It goes in a file in memory
//! that only the instance's user can read, mounted where the launcher looks.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::Context;
use percent_encoding::percent_decode_str;
use url::Url;
use uuid::Uuid;

use crate::keys::Keys;
use crate::protocol::{DeploymentSpec, Source, Variable, VariableValue};
use crate::record::Built;
use crate::redis;
use crate::runtime::docker::CONTAINER_USER;
use crate::runtime::{HOME, OWN_IMAGE_HOME};

/// The port a server listens on inside its instance.
pub const PORT: u16 = 8080;
/// Where an instance finds its variables.
pub const VARIABLES_FILE: &str = "/run/berth/variables.json";

/// What the file of an instance's variables is called in memory.
pub const OF_INSTANCE: &str = "variables.json";
/// What that of a build's is called.
pub const OF_BUILD: &str = "build-variables.json";

/// Directories in memory, in order of preference.
const PLACES: &[&str] = &["/run/berth", "/dev/shm/berth"];

/// The variables of a deployment, opened. Never logged, never written to a disk.
pub struct Opened {
    /// Name and value of each that the instance gets.
    pub all: BTreeMap<String, String>,
    /// Name and value of each that its build gets, and the instance does not.
    pub build: BTreeMap<String, String>,
    /// The values that were sealed, and what in them opens a door by itself.
    pub secrets: Vec<String>,
}

/// Opens the sealed variables of a deployment. The error is the name of the one that cannot be
/// opened; nothing is ever said of a value.
pub fn open(keys: &Keys, spec: &DeploymentSpec) -> Result<Opened, String> {
    let mut secrets = Vec::new();
    let mut open_all = |variables: &[Variable]| {
        let opened = variables.iter().map(|variable| {
            let value = match &variable.value {
                VariableValue::Plain(value) => value.clone(),
                VariableValue::Sealed(sealed) => {
                    let value = keys.open(sealed).map_err(|error| {
                        tracing::warn!(deployment.id = %spec.deployment, variable.name, %error, "a variable cannot be opened");
                        variable.name.clone()
                    })?;
                    secrets.extend(credentials(&value));
                    secrets.push(value.clone());
                    value
                }
            };
            Ok((variable.name.clone(), value))
        });
        opened.collect::<Result<BTreeMap<String, String>, String>>()
    };
    let (mut all, build) = (open_all(&spec.variables)?, open_all(&spec.build_variables)?);
    if spec.redis {
        let password = redis::password(keys, spec.project);
        for (name, value) in redis::variables(&password) {
            // What the project's owner set goes first.
            all.entry(name.to_owned()).or_insert(value);
        }
        secrets.push(password);
    }
    Ok(Opened {
        all,
        build,
        secrets,
    })
}

/// User and password of each address in a value, as they stand and decoded: programs print an
/// address in other forms than it was given.
fn credentials(value: &str) -> Vec<String> {
    let mut found = Vec::new();
    for url in value
        .split_whitespace()
        .filter_map(|word| Url::parse(word).ok())
    {
        for part in [url.username(), url.password().unwrap_or_default()] {
            let decoded = percent_decode_str(part).decode_utf8_lossy().into_owned();
            found.extend([part.to_owned(), decoded]);
        }
    }
    found.retain(|part| !part.is_empty());
    found
}

/// Tells the variables of one build from another's, by how they were sealed and not by their
/// values: a value that is set again counts as changed.
pub fn mark(spec: &DeploymentSpec) -> Vec<u8> {
    if spec.build_variables.is_empty() {
        return Vec::new();
    }
    serde_json::to_vec(&spec.build_variables).unwrap_or_default()
}

/// What every instance is told beside its variables.
pub fn platform(spec: &DeploymentSpec, commit: &str, built: &Built) -> BTreeMap<String, String> {
    let repository = match &spec.source {
        Source::Git { url, .. } => url.as_str(),
        Source::Upload { .. } | Source::Package(_) => "",
    };
    let mut environment: BTreeMap<String, String> = [
        ("PORT", built.port().to_string().as_str()),
        ("HOST", "0.0.0.0"),
        (
            "HOME",
            match built.own_image {
                None => HOME,
                Some(_) => OWN_IMAGE_HOME,
            },
        ),
        ("FASTMCP_HOME", "/data/fastmcp"),
        ("PYTHONUNBUFFERED", "1"),
        ("BERTH_PROJECT", &spec.project_name),
        ("BERTH_DEPLOYMENT", &spec.deployment.to_string()),
        ("BERTH_COMMIT", commit),
        ("BERTH_PUBLIC_URL", &spec.public_url),
        // For servers written for the other service.
        ("FASTMCP_CLOUD_URL", &spec.public_url),
        ("FASTMCP_CLOUD_GIT_COMMIT_SHA", commit),
        ("FASTMCP_CLOUD_GIT_REPO", repository),
        // For the launcher.
        ("BERTH_ENTRYPOINT", &built.entrypoint),
        (
            "BERTH_APP_DIR",
            format!("/app/{}", built.root).trim_end_matches('/'),
        ),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    if !built.start_command.is_empty() {
        let command = serde_json::Value::from(built.start_command.as_slice());
        environment.insert("BERTH_START_COMMAND".to_owned(), command.to_string());
    }
    for (name, value) in &built.variables {
        environment
            .entry(name.clone())
            .or_insert_with(|| value.clone());
    }
    environment
}

/// The directory in memory that holds the variables of an installation's instances.
#[derive(Debug, Clone)]
pub struct Memory {
    root: PathBuf,
}

impl Memory {
    /// Finds a place in memory that can be written.
    pub fn find() -> anyhow::Result<Self> {
        let mounts = fs::read_to_string("/proc/mounts").context("reading /proc/mounts")?;
        let root = PLACES
            .iter()
            .map(Path::new)
            .find(|place| is_memory(&mounts, place) && private_directory(place).is_ok())
            .context(
                "neither /run nor /dev/shm is a writable tmpfs, so secrets would lie on a disk",
            )?;
        Ok(Self {
            root: root.to_owned(),
        })
    }

    /// Writes the variables of a deployment that `file` is for; returns the file to mount.
    pub fn write(
        &self,
        installation: Uuid,
        deployment: Uuid,
        file: &str,
        variables: &BTreeMap<String, String>,
    ) -> anyhow::Result<PathBuf> {
        let bytes = serde_json::to_vec(variables)?;
        self.write_bytes(installation, deployment, file, &bytes)
    }

    /// Writes a file that only a container's user may read; returns what to mount.
    pub fn write_bytes(
        &self,
        installation: Uuid,
        deployment: Uuid,
        file: &str,
        bytes: &[u8],
    ) -> anyhow::Result<PathBuf> {
        let directory = self.directory(installation, deployment);
        private_directory(&directory)?;
        let path = directory.join(file);
        // A new file each time: the old one may be mounted in an instance that is ending.
        let _ = fs::remove_file(&path);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(&path)?;
        file.write_all(bytes)?;
        chown(&path, Some(CONTAINER_USER), Some(CONTAINER_USER))
            .context("giving the variables to the instance's user (the runner must be root)")?;
        Ok(path)
    }

    /// Removes the variables of a deployment's build, which has ended.
    pub fn remove_build(&self, installation: Uuid, deployment: Uuid) {
        let path = self.directory(installation, deployment).join(OF_BUILD);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %path.display(), "variables could not be removed");
        }
    }

    /// Removes the variables of a deployment that has no instance any more.
    pub fn remove(&self, installation: Uuid, deployment: Uuid) {
        remove_directory(&self.directory(installation, deployment));
    }

    /// Removes the variables of all deployments.
    pub fn remove_all(&self, installation: Uuid) {
        remove_directory(&self.root.join(installation.to_string()));
    }

    fn directory(&self, installation: Uuid, deployment: Uuid) -> PathBuf {
        self.root
            .join(installation.to_string())
            .join(deployment.to_string())
    }
}

/// Makes a directory, or accepts one that nobody else can have prepared: `/dev/shm` is open to
/// all users of the host.
fn private_directory(path: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)?;
    let found = fs::symlink_metadata(path)?;
    let own = fs::metadata("/proc/self")?.uid();
    if !found.is_dir() || found.uid() != own {
        return Err(std::io::Error::other(format!(
            "{} belongs to somebody else",
            path.display()
        )));
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

fn remove_directory(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "variables could not be removed");
    }
}

/// Whether the path lies on a tmpfs, by the text of `/proc/mounts`: the longest mount point that
/// begins it decides, and of equal ones the last.
fn is_memory(mounts: &str, path: &Path) -> bool {
    let mut best = (0, false);
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(point), Some(kind)) = (fields.next(), fields.next()) else {
            continue;
        };
        let depth = Path::new(point).components().count();
        if path.starts_with(point) && depth >= best.0 {
            best = (depth, kind == "tmpfs");
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_addresses_are_secrets_of_their_own() {
        assert_eq!(
            credentials("https://__token__:p%40ss@index.example/simple https://key@other.example"),
            ["__token__", "__token__", "p%40ss", "p@ss", "key", "key"]
        );
        assert!(credentials("not an address, https://plain.example").is_empty());
    }

    #[test]
    fn memory_is_told_from_disks() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n\
            devtmpfs /dev devtmpfs rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\n\
            /dev/vdb /run/berth ext4 rw 0 0\n";
        assert!(is_memory(mounts, Path::new("/run/x")));
        assert!(is_memory(mounts, Path::new("/dev/shm/berth")));
        assert!(!is_memory(mounts, Path::new("/run/berth")));
        assert!(!is_memory(mounts, Path::new("/runner")));
        assert!(!is_memory("", Path::new("/run")));
    }
}
