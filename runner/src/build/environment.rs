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
//! A key is the hash of project, runtime image, platform and lock. No environment is shared between
//! projects, nor is anything that a dependency's build step could have made: it could plant something
//! for the others there. The files of wheels are, see [`super::wheels`]. A change of code alone finds
//! its lock by its inputs and its environment by its lock, and runs nothing.

use std::collections::HashMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use uuid::Uuid;

use super::container::{
    BuildHost, Failure, Heard, Site, mount, read_tenant_file, run, tenant_directory,
};
use super::wheels::{self, Job, Wheels};
use crate::hash::{Hash, sha256};
use crate::record;
use crate::runtime::{ContainerSpec, Image, Runtime};
use crate::store;

/// A lock of a thousand packages with hashes of every wheel is far smaller.
const MAX_LOCK_BYTES: u64 = 16 * 1024 * 1024;
/// A lock with such a line was made from the project's own files: the same inputs may not give
/// the same lock again.
const LOCAL_NOTE: &str = "# berth:local ";

/// What an environment is made from.
pub struct Request<'a> {
    /// The runtime image, with the system packages in it.
    pub image: &'a Image,
    /// The runtime image as it was made, where what is installed may be shared wheels.
    pub wheels_on: Option<&'a str>,
    /// The program that builds it, in [`crate::launcher::MOUNTED_AT`].
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

/// An environment that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obtained {
    /// Its directory.
    pub path: PathBuf,
    /// The SHA-256 of its lock, lower-case hex.
    pub lock: String,
    /// How long each stage took, milliseconds; empty when nothing had to be done.
    pub timings: Vec<(String, u64)>,
}

impl Obtained {
    /// The lock it was installed from.
    pub fn read_lock(&self) -> io::Result<String> {
        fs::read_to_string(self.path.with_extension("lock"))
    }
}

/// All environments of this machine.
pub struct Environments {
    directory: PathBuf,
    wheels: Wheels,
    /// One build for each set of inputs; who comes second finds what the first made.
    building: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// The directories of one build; removed with everything in them.
pub struct Workplace(pub PathBuf);

impl Workplace {
    /// A new one below the runner's directory. A name of its own each time: a build that was
    /// called off may still be cleaned up.
    pub fn new(directory: &Path, site: &Site<'_>) -> io::Result<Self> {
        let name = format!("{}-{}", site.owner.deployment, Uuid::new_v4().simple());
        let place = directory.join("builds").join(name);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&place)?;
        Ok(Self(place))
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.0);
        // Tens of thousands of files; nobody waits for it.
        std::thread::spawn(move || remove(&path));
    }
}

impl Environments {
    /// Opens the stores below `directory`, and removes what interrupted builds left.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        for name in ["environments", "locks", "cache"] {
            fs::create_dir_all(directory.join(name))?;
        }
        remove(&directory.join("builds"));
        Ok(Self {
            directory: directory.to_owned(),
            wheels: Wheels::open(directory)?,
            building: Mutex::default(),
        })
    }

    /// Finds the environment, or builds it.
    pub async fn obtain<R: Runtime>(
        &self,
        runtime: &R,
        host: &BuildHost,
        site: &Site<'_>,
        request: &Request<'_>,
    ) -> Result<Obtained, Failure> {
        let inputs = inputs_key(site, request);
        if let Some(found) = self.find(site, request, &inputs) {
            site.log
                .line("The dependencies have not changed: their environment is already here.");
            return Ok(found);
        }
        let turn = self.turn(&inputs);
        let _turn = tokio::select! {
            turn = turn.lock() => turn,
            () = tokio::time::sleep_until(site.deadline) => return Err(Failure::TimedOut),
            () = site.canceled.cancelled() => return Err(Failure::Canceled),
        };
        if let Some(found) = self.find(site, request, &inputs) {
            site.log
                .line("Another deployment has just built the same environment.");
            return Ok(found);
        }
        let built = self.build(runtime, host, site, request, &inputs).await;
        self.release_turns();
        built
    }

    fn find(&self, site: &Site<'_>, request: &Request<'_>, inputs: &str) -> Option<Obtained> {
        let lock = sha256(&fs::read(self.lock_path(inputs)).ok()?);
        let path = self.environment_path(site, request, &lock);
        if !path.is_dir() {
            return None;
        }
        for used in [&self.lock_path(inputs), &path, &path.with_extension("lock")] {
            store::touch(used);
        }
        Some(Obtained {
            path,
            lock,
            timings: Vec::new(),
        })
    }

    fn lock_path(&self, inputs: &str) -> PathBuf {
        self.directory.join("locks").join(inputs)
    }

    fn environment_path(&self, site: &Site<'_>, request: &Request<'_>, lock_hash: &str) -> PathBuf {
        let key = scope(site, request).part(lock_hash.as_bytes()).hex();
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
        host: &BuildHost,
        site: &Site<'_>,
        request: &Request<'_>,
        inputs: &str,
    ) -> Result<Obtained, Failure> {
        let place = self.prepare(site)?;
        let work = Work {
            runtime,
            host,
            site,
            request,
            place: &place.0,
        };
        let shared = request.wheels_on.filter(|_| site.shares_wheels);
        let made = if let Some(image) = shared {
            self.make_of_wheels(&work, inputs, image).await?
        } else {
            let lock = fs::read_to_string(self.lock_path(inputs)).ok();
            let known = self.known(site, request)?;
            let plan = json!({ "lock": lock, "known": known });
            let heard = self.run(&work, plan).await?;
            Made {
                is_reused: heard.is_reused,
                timings: heard.timings,
            }
        };
        let (path, lock) = self.keep(site, request, inputs, &place.0, made.is_reused)?;
        Ok(Obtained {
            path,
            lock,
            timings: made.timings,
        })
    }

    /// Makes an environment of shared wheels, and what they leave by the project's own build. Both
    /// containers start at once: the one for wheels is ready when the lock is known.
    async fn make_of_wheels<R: Runtime>(
        &self,
        work: &Work<'_, R>,
        inputs: &str,
        image: &str,
    ) -> Result<Made, Failure> {
        let mut job = self.wheels.job(work.request.version)?;
        let spec = job.container(work.host, work.site, image);
        let environment = job.environment();
        let (installed, resolved) = tokio::join!(
            run(work.runtime, work.site, &spec),
            self.resolve(work, inputs, &mut job)
        );
        let (lock, mut timings) = match resolved? {
            Resolved::New(lock, timings) => (lock, timings),
            Resolved::There(timings) => {
                return Ok(Made {
                    is_reused: true,
                    timings,
                });
            }
        };
        let is_begun = match installed {
            Ok(heard) => {
                add(&mut timings, heard.timings);
                // What resolving may have written there: a build backend is the project's.
                store::remove_tree(&work.place.join("env"))?;
                fs::rename(&environment, work.place.join("env"))?;
                if heard.left == 0 {
                    return Ok(Made {
                        is_reused: false,
                        timings,
                    });
                }
                wheels::open_for_builds(&work.place.join("env"))?;
                true
            }
            Err(stopped @ (Failure::TimedOut | Failure::Canceled)) => return Err(stopped),
            // Sharing is for speed: the project's own build says what is wrong, if anything is.
            Err(failure) => {
                tracing::warn!(?failure, "shared wheels could not be installed");
                false
            }
        };
        let heard = self
            .run(work, json!({"lock": lock, "begun": is_begun}))
            .await?;
        add(&mut timings, heard.timings);
        Ok(Made {
            is_reused: false,
            timings,
        })
    }

    /// Finds out the lock, and opens the job's gate: also when there is nothing for it to do.
    async fn resolve<R: Runtime>(
        &self,
        work: &Work<'_, R>,
        inputs: &str,
        job: &mut Job,
    ) -> Result<Resolved, Failure> {
        let resolved = self.resolve_only(work, inputs).await;
        match &resolved {
            Ok(Resolved::New(lock, _)) => job.install(lock)?,
            Ok(Resolved::There(_)) | Err(_) => job.call_off()?,
        }
        resolved
    }

    async fn resolve_only<R: Runtime>(
        &self,
        work: &Work<'_, R>,
        inputs: &str,
    ) -> Result<Resolved, Failure> {
        let path = work.place.join("out/lock.txt");
        if let Ok(lock) = fs::read_to_string(self.lock_path(inputs)) {
            fs::write(&path, &lock)?;
            return Ok(Resolved::New(lock, Vec::new()));
        }
        let heard = self.run(work, json!({"lock_only": true})).await?;
        let lock = read_tenant_file(&path, MAX_LOCK_BYTES)?;
        let there = self.environment_path(work.site, work.request, &sha256(&lock));
        if there.is_dir() {
            return Ok(Resolved::There(heard.timings));
        }
        let lock = String::from_utf8(lock)
            .map_err(|_| io::Error::other("the build left a lock that is no text"))?;
        Ok(Resolved::New(lock, heard.timings))
    }

    /// Runs the build program with a plan.
    async fn run<R: Runtime>(&self, work: &Work<'_, R>, mut plan: Value) -> Result<Heard, Failure> {
        plan["python"] = work.request.version.into();
        plan["source"] = work.request.declared.clone();
        let path = work.place.join("plan.json");
        fs::write(&path, plan.to_string())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        let spec = self.container(work.host, work.site, work.request, work.place);
        run(work.runtime, work.site, &spec).await
    }

    /// Makes the directories of a build.
    fn prepare(&self, site: &Site<'_>) -> io::Result<Workplace> {
        let place = Workplace::new(&self.directory, site)?;
        for name in ["env", "out"] {
            tenant_directory(&place.0.join(name))?;
        }
        tenant_directory(&self.cache(site))?;
        store::touch(&self.cache(site));
        Ok(place)
    }

    fn cache(&self, site: &Site<'_>) -> PathBuf {
        self.directory
            .join("cache")
            .join(site.owner.project.to_string())
    }

    /// The hashes of the locks whose environments this project has on this image.
    fn known(&self, site: &Site<'_>, request: &Request<'_>) -> io::Result<Vec<String>> {
        let mut known = Vec::new();
        for entry in fs::read_dir(self.directory.join("environments"))? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "lock")
            {
                let hash = sha256(&fs::read(&path)?);
                if self.environment_path(site, request, &hash).is_dir() {
                    known.push(hash);
                }
            }
        }
        Ok(known)
    }

    fn container(
        &self,
        host: &BuildHost,
        site: &Site<'_>,
        request: &Request<'_>,
        place: &Path,
    ) -> ContainerSpec {
        let mut mounts = vec![
            mount(&place.join("plan.json"), "/run/berth/plan.json", true),
            mount(&place.join("out"), "/out", false),
            mount(&self.cache(site), "/cache", false),
        ];
        match request.layout {
            Layout::Beside => {
                mounts.push(mount(request.source, "/app", true));
                mounts.push(mount(&place.join("env"), "/env", false));
            }
            Layout::Built(packages) => {
                mounts.push(mount(request.source, "/source", true));
                mounts.push(mount(&place.join("env"), "/app", false));
                if let Some(packages) = packages {
                    mounts.push(mount(packages, "/env", true));
                }
            }
        }
        host.container(site, &request.image.name, request.program, mounts)
    }

    /// Takes what a build made into the stores; gives its directory and the hash of its lock.
    fn keep(
        &self,
        site: &Site<'_>,
        request: &Request<'_>,
        inputs: &str,
        place: &Path,
        is_reused: bool,
    ) -> Result<(PathBuf, String), Failure> {
        let lock = read_tenant_file(&place.join("out/lock.txt"), MAX_LOCK_BYTES)?;
        let hash = sha256(&lock);
        let path = self.environment_path(site, request, &hash);
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
        Ok((path, hash))
    }
}

/// A build at work.
struct Work<'a, R> {
    runtime: &'a R,
    host: &'a BuildHost,
    site: &'a Site<'a>,
    request: &'a Request<'a>,
    place: &'a Path,
}

/// What a build came to.
struct Made {
    is_reused: bool,
    timings: Vec<(String, u64)>,
}

/// What resolving came to, and how long it took.
enum Resolved {
    /// A lock that is to be installed.
    New(String, Vec<(String, u64)>),
    /// One whose environment is there.
    There(Vec<(String, u64)>),
}

/// Adds up how long each stage took: two containers may have had a part in it.
fn add(timings: &mut Vec<(String, u64)>, more: Vec<(String, u64)>) {
    for (stage, ms) in more {
        match timings.iter_mut().find(|(name, _)| *name == stage) {
            Some((_, total)) => *total += ms,
            None => timings.push((stage, ms)),
        }
    }
}

/// What nothing is shared beyond: project, image and platform.
fn scope(site: &Site<'_>, request: &Request<'_>) -> Hash {
    Hash::new()
        .part(site.owner.project.as_bytes())
        .part(request.image.id.as_bytes())
        .part(std::env::consts::OS.as_bytes())
        .part(std::env::consts::ARCH.as_bytes())
}

fn inputs_key(site: &Site<'_>, request: &Request<'_>) -> String {
    scope(site, request)
        .part(request.version.as_bytes())
        .part(&request.inputs)
        .part(site.variables_mark)
        .hex()
}

fn remove(path: &Path) {
    if let Err(error) = store::remove_tree(path) {
        tracing::warn!(%error, path = %path.display(), "a directory could not be removed");
    }
}
