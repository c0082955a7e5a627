//! What a runner and the control plane say to each other.
//!
//! Level-triggered: a runner reports everything it sees and receives everything it should have;
//! it works on the difference. Nothing is acknowledged and nothing is replayed, so a restart of
//! either side loses nothing. Every message may arrive late or twice without harm.
//!
//! | call | by | answer |
//! |---|---|---|
//! | `POST /internal/runner/sync` [`SyncRequest`] | runner | [`SyncResponse`], held up to `wait_ms` while nothing changed |
//! | `POST /internal/runner/logs` `Vec<`[`LogLine`]`>` | runner | 204 |
//! | `GET /internal/runner/uploads/{sha256}` | runner | the archive, gzip-compressed tar |
//! | `PUT /internal/runner/locks/{sha256}` text | runner | 204 |
//! | `POST /internal/runner/plans` [`PlanAnswer`] | runner | 204 |
//! | `POST /internal/runner/repositories/{id}/access` | runner | [`RepositoryAccess`], or 404 |
//!
//! All carry `Authorization: Bearer <runner's role token>`.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

pub use crate::catalogue::{Package, Registry};

mod build_settings;

pub use build_settings::{BuildSettings, MAX_PACKAGES, check_package};

/// Raised when a message changes in a way the other side cannot ignore.
pub const PROTOCOL_VERSION: u32 = 1;

/// The longest a sync is held, in milliseconds. Well below common proxy idle limits (60 s), and
/// a third of the lease so that two lost polls do not lose it.
pub const MAX_WAIT_MS: u32 = 20_000;

/// What the runner knows and has. One that is not held carries what it observes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SyncRequest {
    /// [`PROTOCOL_VERSION`] of the runner.
    pub protocol: u32,
    /// Chosen by the runner at its first start and kept in its data directory.
    pub runner: Uuid,
    /// Grows with every sync, also across restarts of the runner: microseconds since 1970. A
    /// request that is older than one already seen is late, and what it observed is not taken.
    pub sequence: i64,
    /// A name for people, by default the host's name.
    pub name: String,
    /// X25519 public key, standard base64: secrets are sealed to it (libsodium sealed box).
    pub public_key: String,
    /// Runtime images present, for example `python:3.11`.
    pub images: Vec<String>,
    /// Most builds this runner works on at once.
    pub build_slots: u32,
    /// Everything known of every deployment the runner has anything of; nothing in a sync that is
    /// held and only waits for news.
    pub observed: Vec<Report>,
    /// The persistent files that the runner has, all of them; `None` in a sync that is held.
    #[serde(default)]
    pub volumes: Option<Vec<VolumeReport>>,
    /// The version of the last [`SyncResponse`], 0 at first. The answer is held while it is current.
    pub after: i64,
    /// How long the answer may be held, in milliseconds; capped at [`MAX_WAIT_MS`].
    pub wait_ms: u32,
}

/// What a volume is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeKind {
    /// `/data` of a project's production instances.
    Data,
    /// What the project's Redis keeps.
    Redis,
}

/// The variables that a server finds beside its own when it has a Redis: the first for what it
/// stores, the second for its background tasks.
pub const REDIS_VARIABLES: [&str; 2] = ["REDIS_URL", "FASTMCP_DOCKET_URL"];

/// One volume as the runner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeReport {
    /// Whose it is.
    pub project: Uuid,
    /// What it is for.
    pub kind: VolumeKind,
    /// What is in it, bytes; `None` while that cannot be seen, for example while nothing uses it.
    pub used_bytes: Option<u64>,
    /// What it holds at the most, bytes; `None` while that cannot be seen, and where nothing
    /// enforces it.
    pub size_bytes: Option<u64>,
    /// Why its size is only watched and not limited, if so.
    pub watched: Option<String>,
}

/// What the runner should have.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SyncResponse {
    /// Names this platform; the label on everything the runner creates.
    pub installation: Uuid,
    /// Changes whenever `desired` may have changed.
    pub version: i64,
    /// Every deployment this runner is to have. What it has beyond that, it removes.
    pub desired: Vec<DeploymentSpec>,
    /// Sources to plan without building them, until they are answered.
    #[serde(default)]
    pub plans: Vec<PlanRequest>,
    /// Projects that were deleted, and of which the runner reported volumes: to be removed for good.
    #[serde(default)]
    pub removed_projects: Vec<Uuid>,
    /// Locks that were reported and are to be sent, by their SHA-256.
    #[serde(default)]
    pub wanted_locks: Vec<String>,
}

/// A source that somebody wants to see the plan of before it is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRequest {
    /// Names the question.
    pub id: Uuid,
    /// Where the code comes from.
    pub source: Source,
    /// As in [`DeploymentSpec`].
    pub entrypoint: Option<String>,
    /// As in [`DeploymentSpec`].
    #[serde(default)]
    pub build: BuildSettings,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanAnswer {
    /// The question's.
    pub id: Uuid,
    /// What exactly was planned, if it could be fetched.
    pub commit: Option<Commit>,
    /// The plan.
    pub plan: Option<Plan>,
    /// Why there is none.
    pub diagnosis: Option<Diagnosis>,
}

/// One deployment as the runner is to bring it about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeploymentSpec {
    /// The deployment.
    pub deployment: Uuid,
    /// Its project: one network and one persistent directory each.
    pub project: Uuid,
    /// The project's name, for `BERTH_PROJECT` and log lines.
    pub project_name: String,
    /// Whose project it is.
    pub organization: Uuid,
    /// What to do with it now.
    pub goal: Goal,
    /// Where the code comes from.
    pub source: Source,
    /// As the user wrote it: `file.py`, `file.py:object`, `module:object`; `None` means detect.
    pub entrypoint: Option<String>,
    /// How else it is to be built and started.
    #[serde(default)]
    pub build: BuildSettings,
    /// `https://project.domain/mcp`.
    pub public_url: String,
    /// Whether the server itself decides who may call (access mode `tenant`): it is then healthy
    /// when it asks to sign in.
    #[serde(default)]
    pub own_sign_in: bool,
    /// What the server finds in its environment; fixed when a runner first gets the deployment.
    pub variables: Vec<Variable>,
    /// Whether the project's Redis is to be there for it.
    #[serde(default)]
    pub redis: bool,
    /// What its build finds in its environment, and the server does not.
    #[serde(default)]
    pub build_variables: Vec<Variable>,
    /// A deployment whose source and environment this one runs: nothing is built for it while the
    /// runner has that one's.
    #[serde(default)]
    pub reuse: Option<Uuid>,
    /// Bounds of the instance.
    pub limits: Limits,
}

/// What is wanted of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Build it if need be, start it, check it, keep it running.
    Run,
    /// Stop it with SIGTERM and ten seconds' grace, and report [`Phase::Stopped`].
    Stop,
}

/// Where the code of a deployment comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Source {
    /// A Git repository.
    Git {
        /// `https://…`, or `file://…` where the runner allows it.
        url: String,
        /// Branch or tag; `None` means the remote's HEAD.
        reference: Option<String>,
        /// The exact commit once known (40 hex digits): resolved at the first fetch, fixed after.
        commit: Option<String>,
        /// GitHub's number of the repository, when it is read by the platform's App: the runner
        /// then asks for a [`RepositoryAccess`] before it fetches.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository: Option<i64>,
    },
    /// An archive that `berth deploy PATH` sent.
    Upload {
        /// SHA-256 of the archive, lower-case hex; also its name at `/internal/runner/uploads/`.
        sha256: String,
    },
    /// A package of a registry; its version is filled in once it is known.
    Package(Package),
}

/// What reads a repository of GitHub, for less than an hour. Never stored and never logged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryAccess {
    /// The one origin that may get the token.
    pub origin: String,
    /// A token that reads the repositories of one installation.
    pub token: String,
}

impl std::fmt::Debug for RepositoryAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RepositoryAccess({}, …)", self.origin)
    }
}

/// One environment variable of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// `[A-Za-z_][A-Za-z0-9_]*`.
    pub name: String,
    /// Its value.
    pub value: VariableValue,
}

/// A variable's value, readable or sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VariableValue {
    /// Readable by the platform; for what is not secret.
    Plain(String),
    /// A libsodium sealed box to the runner's public key, standard base64.
    Sealed(String),
}

/// Bounds of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory, bytes.
    pub memory_bytes: i64,
    /// Thousandths of a core.
    pub cpu_millis: i64,
    /// Processes and threads.
    pub pids: i64,
    /// Longest build, seconds.
    pub build_seconds: u64,
    /// Longest wait for the server to answer, seconds.
    pub start_seconds: u64,
    /// Largest `/data`, bytes.
    pub data_bytes: u64,
}

/// How far a deployment has come on the runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Fetching, planning, installing.
    Building,
    /// The instance is being created and started.
    Starting,
    /// The port and the MCP probe are being tried.
    Checking,
    /// It answers MCP; `upstream` says where.
    Healthy,
    /// It ended as wanted; nothing of it is left running.
    Stopped,
    /// It cannot go on; `diagnosis` says why.
    Failed,
}

/// What the runner knows of one deployment. Fields once reported stay reported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The deployment.
    pub deployment: Uuid,
    /// How far it is.
    pub phase: Phase,
    /// The exact commit or content hash, once known.
    pub commit: Option<Commit>,
    /// `address:port` on the project's network, while [`Phase::Healthy`].
    pub upstream: Option<String>,
    /// Which host the instance has to be told, as the probe found.
    #[serde(default)]
    pub host_header: HostHeader,
    /// What the build decided and why, one entry a choice.
    pub plan: Option<Plan>,
    /// The SHA-256 of the lock that its environment was installed from, lower-case hex.
    #[serde(default)]
    pub lock: Option<String>,
    /// What the server says of itself, from the probe.
    pub surface: Option<Surface>,
    /// Why it failed.
    pub diagnosis: Option<Diagnosis>,
    /// How long each stage took, in order.
    pub timings: Vec<Timing>,
}

/// The `Host` that an instance is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostHeader {
    /// The public one.
    #[default]
    Public,
    /// `localhost:<its port>`, and no `Origin`: it refuses the public one.
    Localhost,
}

/// What exactly was deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Git: 40 hex digits. Upload: SHA-256 of the archive, 64 hex digits. Package: its version.
    pub id: String,
    /// First line of the commit message, at most 200 characters.
    pub subject: Option<String>,
    /// The author's name.
    pub author: Option<String>,
}

/// What the build decided.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// For example `python:3.11`.
    pub runtime: String,
    /// For example `main.py:mcp`, or `main.py` when the launcher is to look.
    pub entrypoint: String,
    /// Where the dependencies come from, for example `requirements.txt`.
    pub dependencies: String,
    /// The Debian packages that are added to the runtime, as they were asked for.
    #[serde(default)]
    pub system_packages: Vec<String>,
    /// The build command, if there is one.
    #[serde(default)]
    pub build_command: Vec<String>,
    /// The start command, if there is one.
    #[serde(default)]
    pub start_command: Vec<String>,
    /// One sentence for each choice: what, and why.
    pub reasons: Vec<String>,
    /// The environment variables that the source seems to read, by name; and those that it was seen
    /// to fail for.
    #[serde(default)]
    pub reads: Vec<EnvironmentRead>,
    /// What the repository's `.env.example` lists.
    #[serde(default)]
    pub example: Vec<ExampleVariable>,
}

/// An environment variable that a source reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentRead {
    /// Its name.
    pub name: String,
    /// Whether the source can do without.
    pub need: Need,
    /// `file:line` of some reads.
    pub places: Vec<String>,
}

/// Whether a source can do without a variable; the later, the less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// The source says what to take instead.
    Default,
    /// It is asked for, and nothing says what happens without.
    Optional,
    /// Without it, the source fails.
    Required,
}

/// A variable as an example file lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExampleVariable {
    /// Its name.
    pub name: String,
    /// The value in the example: shows the form, and is never used as a value.
    pub example: String,
    /// The remark above it.
    pub about: Option<String>,
    /// It is commented out.
    pub optional: bool,
}

/// What a server offers, as it answered the probe. The runner keeps it small (a quarter of a
/// mebibyte in all) and free of NUL, because it travels with every sync and Postgres keeps it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Surface {
    /// The MCP revision the probe spoke, for example `2025-11-25`.
    pub protocol_version: String,
    /// Every revision it says that it speaks, where it says so (`server/discover`).
    #[serde(default)]
    pub protocol_versions: Vec<String>,
    /// How it was reached, and so where clients connect.
    #[serde(default)]
    pub transport: Transport,
    /// `serverInfo`, as sent: name, version, icons.
    pub server_info: serde_json::Value,
    /// `capabilities`, as sent.
    pub capabilities: serde_json::Value,
    /// `instructions`, as sent.
    pub instructions: Option<String>,
    /// The tools, as `tools/list` gave them, all pages.
    pub tools: Vec<serde_json::Value>,
    /// The prompts.
    pub prompts: Vec<serde_json::Value>,
    /// The resources.
    pub resources: Vec<serde_json::Value>,
    /// The resource templates.
    pub resource_templates: Vec<serde_json::Value>,
}

/// How messages reach a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Streamable HTTP at `/mcp`, from MCP 2025-03-26.
    #[default]
    StreamableHttp,
    /// HTTP+SSE at `/sse`, of MCP 2024-11-05; there is nothing at `/mcp`.
    Sse,
}

/// Why something failed and what to do about it. From one catalogue, deterministic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// Stable, for example `entrypoint_not_found`.
    pub code: String,
    /// One sentence: what is wrong.
    pub cause: String,
    /// One sentence: the next step.
    pub fix: String,
    /// `file:line` in the user's source, where known.
    pub location: Option<String>,
    /// The lines to change, where they can be known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<Edit>,
}

/// One change to the user's source. Without `old` a line is added at the end of the file, which
/// is made if it is not there; without `new` the line goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// Relative to the source.
    pub file: String,
    /// From 1.
    pub line: Option<u64>,
    /// The line as it is.
    pub old: Option<String>,
    /// What stands in its place; it may be several lines.
    pub new: Option<String>,
}

/// How long one stage took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// `fetch`, `plan`, `resolve`, `install`, `compile`, `start`, `import`, `check`.
    pub stage: String,
    /// Milliseconds.
    pub duration_ms: u64,
}

/// One line of a build's or an instance's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// The deployment.
    pub deployment: Uuid,
    /// Where it comes from.
    pub stream: LogStream,
    /// Grows within a deployment's stream and never repeats: the line may be sent twice and is
    /// kept once. Microseconds since 1970, made unique by the runner.
    pub sequence: i64,
    /// When it was written.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Without its newline; valid UTF-8, control characters removed, at most 16 KiB.
    pub text: String,
}

/// Which output a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Fetching, planning, installing, and what the platform says of the deployment.
    Build,
    /// The server's own stdout and stderr.
    Instance,
}
