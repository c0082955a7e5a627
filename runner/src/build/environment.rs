//! Environments: what a project's dependencies install to, kept by content and shared by all
//! deployments of a project that need the same.
//!
//! ```text
//! environments/<key>/         the environment, mounted read-only at /env; never written again
//! environments/<key>.lock     the lock it was installed from
//! locks/<inputs>              the lock that these inputs resolved to
//! cache/<project>/            uv's downloads and bytecode
//! builds/<deployment>/        a build in progress
//! ```
//! A key is the hash of project, runtime image, platform and lock. Nothing is shared between
//! projects: what a dependency's build step runs could plant something for the others there. A change of code alone
//! finds its lock by its inputs and its environment by its lock, and runs nothing.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::OFlags;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::Settings;
use crate::hash::{Hash, sha256};
use crate::launcher;
use crate::limits::Bounds;
use crate::logs::LogWriter;
use crate::record;
use crate::runtime::docker::CONTAINER_USER;
use crate::runtime::{
    self, BuildEnd, ContainerSpec, Exit, Image, Mount, Owner, Role, Runtime, RuntimeError,
};
use crate::store;

/// A lock of a thousand packages with hashes of every wheel is far smaller.
const MAX_LOCK_BYTES: u64 = 16 * 1024 * 1024;
/// Lines remembered for a diagnosis.
const TAIL_LINES: usize = 60;
/// A lock with such a line was made from the project's own files: the same inputs may not give
/// the same lock again.
const LOCAL_NOTE: &str = "# berth:local ";

/// What an environment is made from.
pub struct Request<'a> {
    /// Whose build this is.
    pub owner: Owner,
    /// The runtime image.
    pub image: &'a Image,
    /// The program that builds it, in [`launcher::MOUNTED_AT`].
    pub program: &'a str,
    /// What is made, and where it stands in the container.
    pub layout: Layout<'a>,
    /// `3.11` for Python, `22` for Node.
    pub version: &'a str,
    /// `source` of the build program's plan.
    pub declared: Value,
    /// The bytes that decide what the declaration resolves to.
    pub inputs: Vec<u8>,
    /// The source tree.
    pub source: &'a Path,
    /// The project's network.
    pub network: &'a str,
    /// The programs for containers.
    pub programs: &'a Path,
}

/// What a build makes.
#[derive(Debug, Clone, Copy)]
pub enum Layout<'a> {
    /// Packages at `/env`, beside the source at `/app`.
    Beside,
    /// A built copy of the source at `/app`, from the source at `/source`, with the packages of
    /// this environment at `/env` where it has any.
    Built(Option<&'a Path>),
}

/// Why there is no environment.
#[derive(Debug)]
pub enum Failure {
    /// The build program's account.
    Said(Value),
    /// It ended without one: how, and its last lines.
    Ended(Exit, Vec<String>),
    /// It was not done in time.
    TimedOut,
    /// Nobody wants it any more.
    Canceled,
    /// The platform's own fault.
    Platform(anyhow::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Platform(error.into())
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        Self::Platform(error.into())
    }
}

/// An environment that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obtained {
    /// Its directory.
    pub path: PathBuf,
    /// How long each stage took, milliseconds; empty when nothing had to be done.
    pub timings: Vec<(String, u64)>,
}

impl Obtained {
    /// The lock it was installed from.
    pub fn lock(&self) -> io::Result<String> {
        fs::read_to_string(self.path.with_extension("lock"))
    }
}

/// All environments of this machine.
pub struct Environments {
    directory: PathBuf,
    variables: BTreeMap<String, String>,
    ca_bundle: PathBuf,
    dns: Vec<std::net::IpAddr>,
    /// One build for each set of inputs; who comes second finds what the first made.
    building: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// The directories of one build; removed with everything in them.
struct Workplace(PathBuf);

impl Drop for Workplace {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.0);
        // Tens of thousands of files; nobody waits for it.
        std::thread::spawn(move || remove(&path));
    }
}

/// What a build's output told.
#[derive(Default)]
struct Heard {
    timings: Vec<(String, u64)>,
    failure: Option<Value>,
    is_done: bool,
    is_reused: bool,
    tail: std::collections::VecDeque<String>,
}

impl Heard {
    fn event(&mut self, event: Value) {
        match event["phase"].as_str() {
            Some(stage @ ("resolve" | "install" | "compile")) => {
                let ms = event["ms"].as_u64().unwrap_or_default();
                self.timings.push((stage.to_owned(), ms));
            }
            Some("done") => {
                self.is_done = true;
                self.is_reused = event["reused"].as_bool().unwrap_or_default();
            }
            Some("fail") if self.failure.is_none() => self.failure = Some(event),
            _ => {}
        }
    }

    fn line(&mut self, line: &[u8]) {
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail
            .push_back(String::from_utf8_lossy(line).into_owned());
    }
}

impl Environments {
    /// Opens the stores below `directory`, and removes what interrupted builds left.
    pub fn open(directory: &Path, settings: &Settings) -> anyhow::Result<Self> {
        for name in ["environments", "locks", "cache"] {
            fs::create_dir_all(directory.join(name))?;
        }
        remove(&directory.join("builds"));
        Ok(Self {
            directory: directory.to_owned(),
            variables: settings.build_variables(),
            ca_bundle: settings.ca_bundle.clone(),
            dns: settings.dns.clone(),
            building: Mutex::default(),
        })
    }

    /// Finds the environment, or builds it until `deadline`.
    pub async fn obtain<R: Runtime>(
        &self,
        runtime: &R,
        request: &Request<'_>,
        log: &LogWriter,
        deadline: Instant,
        canceled: &CancellationToken,
    ) -> Result<Obtained, Failure> {
        let inputs = inputs_key(request);
        if let Some(path) = self.find(request, &inputs) {
            log.line("The dependencies have not changed: their environment is already here.");
            return Ok(Obtained {
                path,
                timings: Vec::new(),
            });
        }
        let turn = self.turn(&inputs);
        let _turn = tokio::select! {
            turn = turn.lock() => turn,
            () = tokio::time::sleep_until(deadline) => return Err(Failure::TimedOut),
            () = canceled.cancelled() => return Err(Failure::Canceled),
        };
        if let Some(path) = self.find(request, &inputs) {
            log.line("Another deployment has just built the same environment.");
            return Ok(Obtained {
                path,
                timings: Vec::new(),
            });
        }
        let built = self
            .build(runtime, request, &inputs, log, deadline, canceled)
            .await;
        self.release_turns();
        built
    }

    fn find(&self, request: &Request<'_>, inputs: &str) -> Option<PathBuf> {
        let lock = fs::read(self.lock_path(inputs)).ok()?;
        let path = self.environment_path(request, &sha256(&lock));
        if !path.is_dir() {
            return None;
        }
        for used in [&self.lock_path(inputs), &path, &path.with_extension("lock")] {
            store::touch(used);
        }
        Some(path)
    }

    fn lock_path(&self, inputs: &str) -> PathBuf {
        self.directory.join("locks").join(inputs)
    }

    fn environment_path(&self, request: &Request<'_>, lock_hash: &str) -> PathBuf {
        let key = scope(request).part(lock_hash.as_bytes()).hex();
        self.directory.join("environments").join(key)
    }

    fn turn(&self, inputs: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(building.entry(inputs.to_owned()).or_default())
    }

    fn release_turns(&self) {
        let mut building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        building.retain(|_, turn| Arc::strong_count(turn) > 1);
    }

    async fn build<R: Runtime>(
        &self,
        runtime: &R,
        request: &Request<'_>,
        inputs: &str,
        log: &LogWriter,
        deadline: Instant,
        canceled: &CancellationToken,
    ) -> Result<Obtained, Failure> {
        let place = self.prepare(request, inputs)?;
        let heard = self
            .run(runtime, request, &place, log, deadline, canceled)
            .await?;
        let path = self.keep(request, inputs, &place.0, heard.is_reused)?;
        Ok(Obtained {
            path,
            timings: heard.timings,
        })
    }

    /// Runs the build container to its end.
    async fn run<R: Runtime>(
        &self,
        runtime: &R,
        request: &Request<'_>,
        place: &Workplace,
        log: &LogWriter,
        deadline: Instant,
        canceled: &CancellationToken,
    ) -> Result<Heard, Failure> {
        let mut heard = Heard::default();
        let spec = self.container(request, &place.0);
        let end = runtime::run_build(runtime, &spec, deadline, canceled, |line| {
            let (text, event) = launcher::split_line(&line.bytes);
            if let Some(text) = text {
                heard.line(text);
                log.output(line.at, text);
            }
            if let Some(event) = event {
                heard.event(event);
            }
        })
        .await?;
        match end {
            BuildEnd::TimedOut => return Err(Failure::TimedOut),
            BuildEnd::Canceled => return Err(Failure::Canceled),
            BuildEnd::Exited(exit) => {
                // A process that memory ended may have said something that only follows from it.
                if !exit.out_of_memory
                    && let Some(failure) = heard.failure.take()
                {
                    return Err(Failure::Said(failure));
                }
                if exit.code != 0 || !heard.is_done {
                    return Err(Failure::Ended(exit, heard.tail.into()));
                }
            }
        }
        Ok(heard)
    }

    /// Makes the directories of a build and writes its plan.
    fn prepare(&self, request: &Request<'_>, inputs: &str) -> io::Result<Workplace> {
        // A name of its own each time: a build that was called off may still be cleaned up.
        let place = self.directory.join("builds").join(format!(
            "{}-{}",
            request.owner.deployment,
            Uuid::new_v4().simple()
        ));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&place)?;
        let place = Workplace(place);
        for name in ["env", "out"] {
            tenant_directory(&place.0.join(name))?;
        }
        tenant_directory(&self.cache(request))?;
        store::touch(&self.cache(request));
        let plan = json!({
            "python": request.version,
            "source": request.declared,
            "lock": fs::read_to_string(self.lock_path(inputs)).ok(),
            "known": self.known(request)?,
        });
        let path = place.0.join("plan.json");
        fs::write(&path, plan.to_string())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        Ok(place)
    }

    fn cache(&self, request: &Request<'_>) -> PathBuf {
        self.directory
            .join("cache")
            .join(request.owner.project.to_string())
    }

    /// The hashes of the locks whose environments this project has on this image.
    fn known(&self, request: &Request<'_>) -> io::Result<Vec<String>> {
        let mut known = Vec::new();
        for entry in fs::read_dir(self.directory.join("environments"))? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "lock")
            {
                let hash = sha256(&fs::read(&path)?);
                if self.environment_path(request, &hash).is_dir() {
                    known.push(hash);
                }
            }
        }
        Ok(known)
    }

    fn container(&self, request: &Request<'_>, place: &Path) -> ContainerSpec {
        let mount = |source: PathBuf, target: &str, read_only| Mount {
            source,
            target: target.to_owned(),
            read_only,
        };
        let mut mounts = vec![
            mount(request.programs.to_owned(), launcher::MOUNTED_AT, true),
            mount(place.join("plan.json"), "/run/berth/plan.json", true),
            mount(place.join("out"), "/out", false),
            mount(self.cache(request), "/cache", false),
        ];
        match request.layout {
            Layout::Beside => {
                mounts.push(mount(request.source.to_owned(), "/app", true));
                mounts.push(mount(place.join("env"), "/env", false));
            }
            Layout::Built(packages) => {
                mounts.push(mount(request.source.to_owned(), "/source", true));
                mounts.push(mount(place.join("env"), "/app", false));
                if let Some(packages) = packages {
                    mounts.push(mount(packages.to_owned(), "/env", true));
                }
            }
        }
        if self.ca_bundle.is_file() {
            mounts.push(mount(
                self.ca_bundle.clone(),
                "/etc/ssl/certs/ca-certificates.crt",
                true,
            ));
        }
        let mut environment = self.variables.clone();
        environment.insert("HOME".to_owned(), "/home/app".to_owned());
        ContainerSpec {
            owner: request.owner,
            role: Role::Build,
            image: request.image.name.clone(),
            command: vec![
                "/usr/bin/python3".to_owned(),
                format!("{}/{}", launcher::MOUNTED_AT, request.program),
            ],
            environment,
            working_dir: "/app".to_owned(),
            mounts,
            network: request.network.to_owned(),
            dns: self.dns.clone(),
            bounds: Bounds::build(),
        }
    }

    /// Takes what a build made into the stores.
    fn keep(
        &self,
        request: &Request<'_>,
        inputs: &str,
        place: &Path,
        is_reused: bool,
    ) -> Result<PathBuf, Failure> {
        let lock = read_tenant_file(&place.join("out/lock.txt"))?;
        let path = self.environment_path(request, &sha256(&lock));
        if !is_reused {
            match fs::rename(place.join("env"), &path) {
                // A build of other inputs with the same result was faster; both are the same.
                Err(_) if path.is_dir() => {}
                other => other?,
            }
            record::replace(&path.with_extension("lock"), &lock)?;
        } else if !path.is_dir() {
            return Err(Failure::Platform(anyhow::anyhow!(
                "an environment was removed while a build relied on it"
            )));
        }
        let is_local = lock
            .split(|byte| *byte == b'\n')
            .any(|line| line.starts_with(LOCAL_NOTE.as_bytes()));
        if !is_local {
            record::replace(&self.lock_path(inputs), &lock)?;
        }
        Ok(path)
    }
}

/// What nothing is shared beyond: project, image and platform.
fn scope(request: &Request<'_>) -> Hash {
    Hash::new()
        .part(request.owner.project.as_bytes())
        .part(request.image.id.as_bytes())
        .part(std::env::consts::OS.as_bytes())
        .part(std::env::consts::ARCH.as_bytes())
}

fn inputs_key(request: &Request<'_>) -> String {
    scope(request)
        .part(request.version.as_bytes())
        .part(&request.inputs)
        .hex()
}

/// Makes a directory that the user in containers may write to.
fn tenant_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)?;
    chown(path, Some(CONTAINER_USER), Some(CONTAINER_USER)).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!(
                "giving {} to the user of containers (the runner must be root): {error}",
                path.display()
            ),
        )
    })
}

/// Reads a file that a tenant's code wrote: never through a link, and no more than a lock is.
fn read_tenant_file(path: &Path) -> io::Result<Vec<u8>> {
    // No link, and no waiting on a pipe.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("the build's lock is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_LOCK_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_LOCK_BYTES {
        return Err(io::Error::other("the build's lock is too large"));
    }
    Ok(bytes)
}

fn remove(path: &Path) {
    if let Err(error) = store::remove_tree(path) {
        tracing::warn!(%error, path = %path.display(), "a directory could not be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let secret = directory.path().join("secret");
        fs::write(&secret, "s").unwrap();
        let link = directory.path().join("lock.txt");
        std::os::unix::fs::symlink(&secret, &link).unwrap();
        assert!(read_tenant_file(&link).is_err());
        assert!(read_tenant_file(directory.path()).is_err());
        assert_eq!(read_tenant_file(&secret).unwrap(), b"s");
    }

    #[test]
    fn what_a_build_says_is_understood() {
        let mut heard = Heard::default();
        for event in [
            json!({"phase": "resolve", "ms": 5}),
            json!({"phase": "unknown", "ms": 5}),
            json!({"phase": "done", "reused": true}),
        ] {
            heard.event(event);
        }
        assert_eq!(heard.timings, [("resolve".to_owned(), 5)]);
        assert!(heard.is_done && heard.is_reused && heard.failure.is_none());
    }
}
