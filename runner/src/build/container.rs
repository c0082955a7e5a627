//! Build containers: what each of them has, and what its output tells. What runs in one is either a
//! program of ours or what the source asks for; both are confined in the same way.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::OFlags;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::disk::{self, Outgrown};
use super::wheels;
use crate::config::Settings;
use crate::launcher;
use crate::launcher::bridge::{self, Bridge};
use crate::limits::{self, Bounds};
use crate::logs::LogWriter;
use crate::runtime::docker::CONTAINER_USER;
use crate::runtime::{
    self, BuildEnd, ContainerSpec, Exit, Mount, Owner, Role, Runtime, RuntimeError,
};

/// Lines remembered for a diagnosis.
const TAIL_LINES: usize = 60;
/// Where a build finds the project's variables for builds.
pub const VARIABLES_FILE: &str = "/run/berth/build-variables.json";

/// Why a build container did not do its work.
#[derive(Debug)]
pub enum Failure {
    /// The program's own account.
    Said(Value),
    /// It ended without one: how, and its last lines.
    Ended(Exit, Vec<String>),
    /// It was not done in time.
    TimedOut,
    /// Nobody wants it any more.
    Canceled,
    /// It wrote more than so many bytes.
    TooLarge(u64),
    /// It made too many files, or left too little of the disk.
    DiskUsedUp,
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

/// What every build container of this machine has.
pub struct BuildHost {
    /// Bytes that a build may add to the disk.
    pub disk_bytes: u64,
    variables: BTreeMap<String, String>,
    ca_bundle: PathBuf,
    dns: Vec<IpAddr>,
}

/// Whose build it is and where it runs.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    /// Whose.
    pub owner: Owner,
    /// The project's network.
    pub network: &'a str,
    /// The programs for containers.
    pub programs: &'a Path,
    /// The file with the project's variables for builds, if there are any.
    pub variables_file: Option<&'a Path>,
    /// Tells one set of them from another, and nothing of their values.
    pub variables_mark: &'a [u8],
    /// Whether all its packages come from where every project's come from.
    pub shares_wheels: bool,
    /// When it must be done.
    pub deadline: Instant,
    /// Bytes that each of its containers may add to the disk.
    pub disk_bytes: u64,
    /// Calls it off.
    pub canceled: &'a CancellationToken,
    /// Where its output goes.
    pub log: &'a LogWriter,
}

impl BuildHost {
    /// Reads what the settings say.
    pub fn new(settings: &Settings) -> Self {
        Self {
            disk_bytes: settings.build_disk_mib << 20,
            variables: settings.build_variables(),
            ca_bundle: settings.ca_bundle.clone(),
            dns: settings.dns.clone(),
        }
    }

    /// Whether projects may share wheels from this machine's index.
    pub fn shares_wheels(&self) -> bool {
        wheels::may_be_shared(&self.variables)
    }

    /// A container of `image` that runs one of our programs, with further mounts.
    pub fn container(
        &self,
        site: &Site<'_>,
        image: &str,
        program: &str,
        mut mounts: Vec<Mount>,
    ) -> ContainerSpec {
        mounts.push(mount(site.programs, launcher::MOUNTED_AT, true));
        if self.ca_bundle.is_file() {
            mounts.push(mount(
                &self.ca_bundle,
                "/etc/ssl/certs/ca-certificates.crt",
                true,
            ));
        }
        let mut environment = self.variables.clone();
        environment.insert("HOME".to_owned(), "/home/app".to_owned());
        if let Some(file) = site.variables_file {
            mounts.push(mount(file, VARIABLES_FILE, true));
            environment.insert("BERTH_VARIABLES_FILE".to_owned(), VARIABLES_FILE.to_owned());
        }
        ContainerSpec {
            owner: site.owner,
            role: Role::Build,
            image: image.to_owned(),
            command: vec![
                "/usr/bin/python3".to_owned(),
                format!("{}/{program}", launcher::MOUNTED_AT),
            ],
            environment,
            working_dir: "/".to_owned(),
            home: runtime::HOME,
            mounts,
            network: site.network.to_owned(),
            dns: self.dns.clone(),
            bounds: Bounds::build(),
        }
    }
}

impl BuildHost {
    /// What leads a build to the machine's package registries.
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    /// The certificates of authorities that builds trust, where there are some.
    pub fn ca_bundle(&self) -> Option<&Path> {
        Some(self.ca_bundle.as_path()).filter(|bundle| bundle.is_file())
    }

    /// A container that does one step of a Dockerfile: nothing is in its environment, because that
    /// would become the image's.
    pub fn step(
        &self,
        site: &Site<'_>,
        image: &str,
        bridge: &Bridge,
        mut mounts: Vec<Mount>,
    ) -> ContainerSpec {
        mounts.push(mount(bridge.directory(), bridge::MOUNTED_AT, true));
        ContainerSpec {
            owner: site.owner,
            role: Role::Step,
            image: image.to_owned(),
            command: bridge.guarded(&bridge.step()),
            environment: BTreeMap::new(),
            working_dir: "/".to_owned(),
            home: runtime::HOME,
            mounts,
            network: site.network.to_owned(),
            dns: self.dns.clone(),
            bounds: Bounds::build(),
        }
    }
}

/// A directory or file of this machine in a container.
pub fn mount(source: &Path, target: &str, read_only: bool) -> Mount {
    Mount {
        source: source.to_owned(),
        target: target.to_owned(),
        read_only,
    }
}

/// What a build's output told.
#[derive(Default)]
pub struct Heard {
    /// How long each stage took, milliseconds.
    pub timings: Vec<(String, u64)>,
    /// What was to be made is there already.
    pub is_reused: bool,
    /// Packages that were left to the project's own build.
    pub left: u64,
    failure: Option<Value>,
    is_done: bool,
    tail: VecDeque<String>,
}

impl Heard {
    fn event(&mut self, event: Value) {
        match event["phase"].as_str() {
            Some(stage @ ("system" | "resolve" | "install" | "compile" | "command" | "step")) => {
                let ms = event["ms"].as_u64().unwrap_or_default();
                self.timings.push((stage.to_owned(), ms));
            }
            Some("done") => {
                self.is_done = true;
                self.is_reused = event["reused"].as_bool().unwrap_or_default();
                self.left = event["left"].as_u64().unwrap_or_default();
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

/// Runs a container of one of our programs to its `done`.
pub async fn run<R: Runtime>(
    runtime: &R,
    site: &Site<'_>,
    spec: &ContainerSpec,
) -> Result<Heard, Failure> {
    let (container, heard) = run_kept(runtime, site, spec, u64::MAX).await?;
    runtime.discard(container);
    Ok(heard)
}

/// The same, and the container stays, for its files to be kept. It may write `most_bytes` of them.
pub async fn run_kept<R: Runtime>(
    runtime: &R,
    site: &Site<'_>,
    spec: &ContainerSpec,
    most_bytes: u64,
) -> Result<(String, Heard), Failure> {
    let mut heard = Heard::default();
    let over = site.canceled.child_token();
    let run = runtime::run_to_end(runtime, spec, site.deadline, &over, most_bytes, |line| {
        let (text, event) = launcher::split_line(&line.bytes);
        if let Some(text) = text {
            heard.line(text);
            site.log.output(line.at, text);
        }
        if let Some(event) = event {
            site.log.event(line.at, &event);
            heard.event(event);
        }
    });
    let outgrown = OnceLock::new();
    let watch = async {
        let reason = disk::outgrown(spec, site.disk_bytes).await;
        // It is set once: nothing comes after it.
        let _ = outgrown.set(reason);
        over.cancel();
        std::future::pending::<()>().await;
    };
    let (container, end) = tokio::select! {
        ended = run => ended?,
        () = watch => unreachable!("it waits for the run to end"),
    };
    let end = match (end, outgrown.get()) {
        (BuildEnd::Canceled, Some(Outgrown::Bytes)) => BuildEnd::WroteTooMuch,
        (BuildEnd::Canceled, Some(Outgrown::Disk)) => {
            runtime.discard(container);
            return Err(Failure::DiskUsedUp);
        }
        (end, _) => end,
    };
    match judge(site, spec.role, heard, end) {
        Ok(heard) => Ok((container, heard)),
        Err(failure) => {
            // Nobody waits for that; a build that was called off or is too large has ended already.
            runtime.discard(container);
            Err(failure)
        }
    }
}

/// Whether a container did its work.
fn judge(site: &Site<'_>, role: Role, mut heard: Heard, end: BuildEnd) -> Result<Heard, Failure> {
    let exit = match end {
        BuildEnd::TimedOut => return Err(Failure::TimedOut),
        BuildEnd::Canceled => return Err(Failure::Canceled),
        BuildEnd::WroteTooMuch if role == Role::Step => {
            return Err(Failure::TooLarge(limits::IMAGE_BYTES));
        }
        BuildEnd::WroteTooMuch => return Err(Failure::TooLarge(site.disk_bytes)),
        BuildEnd::Exited(exit) => exit,
    };
    let tail: Vec<String> = heard.tail.iter().map(|line| site.log.mask(line)).collect();
    // A process that memory ended may have said something that only follows from it.
    if !exit.out_of_memory
        && let Some(mut failure) = heard.failure.take()
    {
        // Before it is cut to a sentence: half a secret is still a secret.
        site.log.mask_all(&mut failure);
        failure["tail"] = tail.into();
        return Err(Failure::Said(failure));
    }
    // A step's status is that of this project's own program: it says all, also where an engine that
    // is busy loses the last line of a container that lived for a moment.
    let is_done = heard.is_done || role == Role::Step;
    if exit.code != 0 || !is_done {
        return Err(Failure::Ended(exit, tail));
    }
    Ok(heard)
}

/// Makes a directory that the user in containers may write to.
pub fn tenant_directory(path: &Path) -> io::Result<()> {
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

/// Opens a file that a tenant's code wrote: never through a link, and never waiting on a pipe.
pub fn open_tenant_file(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("what the build left is not a file"));
    }
    Ok(file)
}

/// Reads such a file, if it has at most so many bytes.
pub fn read_tenant_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_tenant_file(path)?
        .take(most + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other("what the build left is too large"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_tenants_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let secret = directory.path().join("secret");
        fs::write(&secret, "s").unwrap();
        let link = directory.path().join("lock.txt");
        std::os::unix::fs::symlink(&secret, &link).unwrap();
        assert!(read_tenant_file(&link, 9).is_err());
        assert!(read_tenant_file(directory.path(), 9).is_err());
        assert_eq!(read_tenant_file(&secret, 9).unwrap(), b"s");
        assert!(read_tenant_file(&secret, 0).is_err());
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
