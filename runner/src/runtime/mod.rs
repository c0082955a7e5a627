//! What the runner asks of a container engine, whichever it is.
//!
//! Everything is found by label, never by memory: a runner that was killed finds what it left.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::limits::Bounds;

pub mod docker;
#[cfg(test)]
pub mod fake;

/// Label: the platform a container or network belongs to.
pub const LABEL_INSTALLATION: &str = "berth.installation";
/// Label: its project.
pub const LABEL_PROJECT: &str = "berth.project";
/// Label: its deployment.
pub const LABEL_DEPLOYMENT: &str = "berth.deployment";
/// Label: `instance`, `build`, `step`, `wheels` or `redis`.
pub const LABEL_ROLE: &str = "berth.role";

/// `HOME` in the images of the platform.
pub const HOME: &str = "/home/app";
/// `HOME` in an image of a repository's Dockerfile, which may keep its server in any usual one.
pub const OWN_IMAGE_HOME: &str = "/run/home";

/// Why an engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// There is no such container, network or image.
    #[error("{0} is not there")]
    NotFound(String),
    /// The engine refused or could not be reached.
    #[error("container engine: {0}")]
    Engine(String),
}

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs a project's server.
    Instance,
    /// Installs dependencies, once, to completion.
    Build,
    /// Does one step of a repository's Dockerfile, whose files are then kept as an image.
    Step,
    /// Installs wheels that projects share, once, to completion. It runs nothing of a project, as a
    /// user whom no other container has.
    Wheels,
    /// A project's Redis: one for all its deployments, whose place the project's id takes.
    Redis,
}

impl Role {
    /// The value of [`LABEL_ROLE`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Build => "build",
            Self::Step => "step",
            Self::Wheels => "wheels",
            Self::Redis => "redis",
        }
    }
}

/// Who a container or network belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The platform.
    pub installation: Uuid,
    /// The project.
    pub project: Uuid,
    /// The deployment.
    pub deployment: Uuid,
}

/// A directory or file of the host inside a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub target: String,
    /// Whether the container may only read it.
    pub read_only: bool,
}

/// A container as the runner wants it. How it is confined is not part of it: that is the same
/// for every container and decided by the driver in one place.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerSpec {
    /// Whose it is.
    pub owner: Owner,
    /// What for.
    pub role: Role,
    /// The runtime image, for example `python:3.11`.
    pub image: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Environment, beside what the image sets.
    pub environment: BTreeMap<String, String>,
    /// Where the program starts.
    pub working_dir: String,
    /// Where its `HOME` in memory is: a directory that the image keeps nothing in.
    pub home: &'static str,
    /// Host directories inside.
    pub mounts: Vec<Mount>,
    /// The project's network, as [`Runtime::ensure_network`] named it.
    pub network: String,
    /// Resolvers; empty means the engine's.
    pub dns: Vec<IpAddr>,
    /// What it may use.
    pub bounds: Bounds,
}

/// What a container does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Made, never started.
    Created,
    /// Running.
    Running,
    /// Running, but frozen.
    Frozen,
    /// Ended.
    Exited,
}

/// A container of ours, as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The engine's name for it.
    pub id: String,
    /// What for.
    pub role: Role,
    /// Whose.
    pub project: Uuid,
    /// Whose.
    pub deployment: Uuid,
    /// What it does.
    pub state: State,
    /// Its address on the project's network, while it runs and where the listing tells.
    pub address: Option<IpAddr>,
}

/// A network of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The engine's name for it.
    pub id: String,
    /// Whose.
    pub project: Uuid,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Exit status; 128 + n for signal n.
    pub code: i64,
    /// Whether the kernel killed it for its memory.
    pub out_of_memory: bool,
}

/// A container in detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detail {
    /// What it does.
    pub state: State,
    /// Its address on the project's network, while it runs.
    pub address: Option<IpAddr>,
    /// How it ended, once it has.
    pub exit: Option<Exit>,
}

/// One line a container wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputLine {
    /// When the engine read it.
    pub at: OffsetDateTime,
    /// Without its newline, capped; any bytes.
    pub bytes: Vec<u8>,
}

/// Something changed: look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event;

/// What a container uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Memory without page cache that can be dropped, bytes.
    pub memory_bytes: u64,
    /// Processor time since it started, nanoseconds.
    pub cpu_ns: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// A runtime image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// For example `python:3.11`.
    pub name: String,
    /// The digest of its content.
    pub id: String,
}

/// What an image that was pulled says of itself, as far as it counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageConfig {
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// Where it starts; empty for the root.
    pub working_dir: String,
    /// What it starts.
    pub entrypoint: Vec<String>,
    /// With which arguments.
    pub command: Vec<String>,
    /// `port/protocol`.
    pub ports: Vec<String>,
}

/// What an engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Engine {
    /// Its version.
    pub version: String,
    /// The version of its API.
    pub api_version: String,
    /// The version of runc, where it tells.
    pub runc: Option<String>,
    /// Whether container users are mapped to unprivileged ones of the host.
    pub user_namespaces: bool,
}

/// A container engine, or a cluster of them.
pub trait Runtime: Send + Sync + 'static {
    /// All containers of the installation.
    fn list(
        &self,
        installation: Uuid,
    ) -> impl Future<Output = Result<Vec<Container>, RuntimeError>> + Send;

    /// All networks of the installation.
    fn networks(
        &self,
        installation: Uuid,
    ) -> impl Future<Output = Result<Vec<Network>, RuntimeError>> + Send;

    /// Finds or makes the project's network; returns the engine's name for it.
    fn ensure_network(
        &self,
        installation: Uuid,
        project: Uuid,
    ) -> impl Future<Output = Result<String, RuntimeError>> + Send;

    /// Removes a network. One that is gone is no error; one in use is.
    fn remove_network(&self, id: &str) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Creates and starts a container, replacing one left by an earlier attempt. Returns the
    /// engine's name for it. If it cannot start it is removed again.
    fn start(
        &self,
        spec: &ContainerSpec,
    ) -> impl Future<Output = Result<String, RuntimeError>> + Send;

    /// A container in detail; `None` when it is gone.
    fn inspect(
        &self,
        id: &str,
    ) -> impl Future<Output = Result<Option<Detail>, RuntimeError>> + Send;

    /// SIGTERM, and SIGKILL after `grace`. One that is gone or stopped is no error.
    fn stop(
        &self,
        id: &str,
        grace: Duration,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Kills and removes. One that is gone is no error.
    fn remove(&self, id: &str) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Kills and removes in the background: the engine may take seconds while the disk is busy
    /// with what the container has just written.
    fn discard(&self, id: String);

    /// Stops its processes where they are; memory stays.
    fn freeze(&self, id: &str) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Lets a frozen one go on.
    fn thaw(&self, id: &str) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Resolves when the container has ended: none of its processes is left. Whoever needs to
    /// know soon asks before it ends.
    fn wait(&self, id: &str) -> impl Future<Output = Result<Exit, RuntimeError>> + Send;

    /// Its output from `since` on (to the second), followed until it ends.
    fn output(
        &self,
        id: &str,
        since: Option<OffsetDateTime>,
    ) -> BoxStream<'static, Result<OutputLine, RuntimeError>>;

    /// Ticks when a container of the installation starts, ends or goes. Ends when the engine's
    /// connection does.
    fn events(&self, installation: Uuid) -> BoxStream<'static, Result<Event, RuntimeError>>;

    /// What a container uses now.
    fn stats(&self, id: &str) -> impl Future<Output = Result<Stats, RuntimeError>> + Send;

    /// Where the processes of a running container listen, by their own table of sockets.
    fn listening(
        &self,
        id: &str,
    ) -> impl Future<Output = Result<Vec<SocketAddr>, RuntimeError>> + Send;

    /// The runtime images that are there.
    fn images(&self) -> impl Future<Output = Result<Vec<Image>, RuntimeError>> + Send;

    /// Makes an image: another one with the files of a tar archive above its own. Nothing of it
    /// is run.
    fn derive(
        &self,
        owner: &Owner,
        base: &str,
        layer: tokio::fs::File,
        name: &str,
    ) -> impl Future<Output = Result<Image, RuntimeError>> + Send;

    /// The images that were made so for an installation.
    fn derived(
        &self,
        installation: Uuid,
    ) -> impl Future<Output = Result<Vec<Image>, RuntimeError>> + Send;

    /// Makes an image of what a container that has ended left: its files, and nothing that its
    /// environment held.
    fn keep(
        &self,
        owner: &Owner,
        container: &str,
        name: &str,
    ) -> impl Future<Output = Result<Image, RuntimeError>> + Send;

    /// How many bytes a container has written to its own files so far.
    fn written(&self, id: &str) -> impl Future<Output = Result<u64, RuntimeError>> + Send;

    /// How many bytes an image has, those of its base included.
    fn image_size(&self, name: &str) -> impl Future<Output = Result<u64, RuntimeError>> + Send;

    /// Pulls an image without credentials and makes one of its files alone, so that none of its
    /// volumes, health checks and the like is left; also tells what it says of itself.
    fn pull(
        &self,
        owner: &Owner,
        reference: &str,
        name: &str,
    ) -> impl Future<Output = Result<(Image, ImageConfig), RuntimeError>> + Send;

    /// Removes such an image. One that is gone is no error; one in use is.
    fn remove_image(&self, name: &str) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// What the engine says of itself.
    fn engine(&self) -> impl Future<Output = Result<Engine, RuntimeError>> + Send;
}

/// How a one-off container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildEnd {
    /// By itself.
    Exited(Exit),
    /// It was killed at the deadline.
    TimedOut,
    /// It was killed because the work was called off.
    Canceled,
    /// It was killed because it wrote more than it may.
    WroteTooMuch,
}

/// How often what a container has written is looked at: an engine counts it file by file.
const WRITTEN_INTERVAL: Duration = Duration::from_secs(2);

/// Runs a one-off container to its end, giving every line of output to `on_line`, and removes it.
pub async fn run_build<R: Runtime>(
    runtime: &R,
    spec: &ContainerSpec,
    deadline: Instant,
    canceled: &CancellationToken,
    on_line: impl FnMut(OutputLine) + Send,
) -> Result<BuildEnd, RuntimeError> {
    let (id, end) = run_to_end(runtime, spec, deadline, canceled, u64::MAX, on_line).await?;
    if matches!(end, BuildEnd::Exited(_)) {
        runtime.discard(id);
    } else {
        runtime.remove(&id).await?;
    }
    Ok(end)
}

/// The same, and the container stays, to be kept or removed; unless the engine fails. It may write
/// `most_bytes` to its own files, and a little more before that is seen.
pub async fn run_to_end<R: Runtime>(
    runtime: &R,
    spec: &ContainerSpec,
    deadline: Instant,
    canceled: &CancellationToken,
    most_bytes: u64,
    mut on_line: impl FnMut(OutputLine) + Send,
) -> Result<(String, BuildEnd), RuntimeError> {
    let id = runtime.start(spec).await?;
    let mut output = runtime.output(&id, None);
    let follow = async {
        let read = async {
            while let Some(line) = output.next().await {
                on_line(line?);
            }
            Ok(())
        };
        let ((), exit) = tokio::try_join!(read, runtime.wait(&id))?;
        Ok(exit)
    };
    let end = tokio::select! {
        exit = follow => exit.map(BuildEnd::Exited),
        () = tokio::time::sleep_until(deadline) => Ok(BuildEnd::TimedOut),
        () = canceled.cancelled() => Ok(BuildEnd::Canceled),
        () = writes_more(runtime, &id, most_bytes) => Ok(BuildEnd::WroteTooMuch),
    };
    match end {
        Ok(BuildEnd::Exited(_)) => {}
        Ok(_) => {
            // Nothing of it goes on while it is decided what to do with it.
            runtime.stop(&id, Duration::ZERO).await?;
        }
        Err(error) => {
            runtime.remove(&id).await?;
            return Err(error);
        }
    }
    Ok((id, end?))
}

/// Resolves when a container has written more than so many bytes.
async fn writes_more<R: Runtime>(runtime: &R, id: &str, most_bytes: u64) {
    if most_bytes == u64::MAX {
        std::future::pending::<()>().await;
    }
    loop {
        tokio::time::sleep(WRITTEN_INTERVAL).await;
        match runtime.written(id).await {
            Ok(written) if written > most_bytes => return,
            Ok(_) => {}
            // It may have ended just now; the other limits hold.
            Err(error) => tracing::debug!(%error, "what a build writes could not be seen"),
        }
    }
}
