//! The Postgres that `berth all` brings along when no database is named.
//!
//! It runs from the installed binaries as an unprivileged user, listens on a unix socket that
//! only that user and root can reach, and is a process of its own: after a `kill -9` of berth it
//! goes on, and the next start adopts it. Every step can be cut off and done again.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

mod binaries;
mod location;
mod unprivileged;

use binaries::Binaries;
use location::Location;
use unprivileged::User;

/// The database role, the cluster's only one.
const ROLE: &str = "berth";

/// The one database of the cluster, made by initdb.
const DATABASE: &str = "postgres";

/// Part of the socket's name only; nothing listens on TCP.
const PORT: u16 = 5432;

/// Recovery after a power cut replays the log since the last checkpoint; minutes on a slow disk.
const START_LIMIT: Duration = Duration::from_mins(5);

/// Starts that end at once before we give up. Of a predecessor that was killed, a process may go on
/// until its statement ends (10 s at most), or stand there dead until init has noticed.
const START_ATTEMPTS: u32 = 7;

/// Pause after the first of them; each later one is twice as long, 15 s in all.
const START_AGAIN: Duration = Duration::from_millis(250);

/// Between two looks at a server that is starting or stopping.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Between two looks at a server that runs.
const WATCH: Duration = Duration::from_secs(1);

/// A connection that is not there by then never will be (a stopped process, say).
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// A fast shutdown writes a checkpoint; after this long we settle for a crash-safe immediate one.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The server's log is started anew beyond this size, bytes.
const LOG_LIMIT: u64 = 10 * 1024 * 1024;

/// A private Postgres that answers.
#[derive(Debug)]
pub struct PrivatePostgres {
    location: Location,
    user: Option<User>,
    socket: PathBuf,
    /// Ours to reap; `None` when it was adopted.
    child: Option<Child>,
}

impl PrivatePostgres {
    /// Adopts the one that runs for `data`, or makes and starts it; returns when it answers.
    pub async fn start(data: &Path) -> anyhow::Result<Self> {
        let user = unprivileged::user()?;
        let location = Location::choose(data, user.as_ref())?;
        let binaries = Binaries::find(location.version()?)?;
        location.remove_leftovers();
        if !location.is_initialized() {
            initialize(&binaries, &location, user.as_ref()).await?;
        }
        let socket = location.socket_directory(user.as_ref())?;
        let mut server = Self {
            location,
            user,
            socket,
            child: None,
        };
        server.bring_up(&binaries).await?;
        Ok(server)
    }

    /// The one that runs for `data`, answering or not.
    pub fn find_running(data: &Path) -> anyhow::Result<Option<Self>> {
        let Some(location) = Location::find(data)? else {
            return Ok(None);
        };
        let Some(running) = location.running() else {
            return Ok(None);
        };
        let user = unprivileged::user()?;
        Ok(Some(Self {
            location,
            user,
            socket: running.socket,
            child: None,
        }))
    }

    /// How to connect.
    pub fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.socket)
            .port(PORT)
            .username(ROLE)
            .database(DATABASE)
            .ssl_mode(PgSslMode::Disable)
            // What it connects to is our own child; a failed attempt while it starts is no news.
            .log_statements(tracing::log::LevelFilter::Off)
    }

    /// Where its files lie.
    pub fn directory(&self) -> &Path {
        &self.location.directory
    }

    /// Keeps it running until `shutdown`, then stops it. Deployed servers do not need it, so
    /// its death does not end the process: it is started again.
    pub async fn supervise(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = sleep(WATCH) => {}
            }
            if self.is_running() {
                continue;
            }
            tracing::error!("the private Postgres ended; starting it again");
            let binaries = Binaries::find(self.location.version()?)?;
            let again = tokio::select! {
                () = shutdown.cancelled() => break,
                again = self.bring_up(&binaries) => again,
            };
            if let Err(error) = again {
                tracing::error!(
                    error = format!("{error:#}"),
                    "the private Postgres does not start"
                );
            }
        }
        self.stop().await
    }

    /// Stops it: fast, and after a while at once. Either way nothing committed is lost.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        for signal in [Signal::INT, Signal::QUIT] {
            let Some(running) = self.location.running() else {
                return Ok(());
            };
            // It may have ended since we looked; the wait below tells.
            let _ = kill_process(running.pid, signal);
            let deadline = Instant::now() + STOP_LIMIT;
            while Instant::now() < deadline {
                if !self.is_running() {
                    return Ok(());
                }
                sleep(LOOK_AGAIN).await;
            }
        }
        bail!(
            "the private Postgres in {} does not stop",
            self.location.directory.display()
        )
    }

    fn is_running(&mut self) -> bool {
        if let Some(child) = &mut self.child
            && matches!(child.try_wait(), Ok(Some(_)))
        {
            self.child = None;
        }
        self.location.running().is_some()
    }

    /// Adopts or starts, and waits until it answers.
    async fn bring_up(&mut self, binaries: &Binaries) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        let (mut attempts, mut next) = (0, Instant::now());
        while Instant::now() < deadline {
            if let Some(running) = self.location.running() {
                self.socket = running.socket;
                if self.answers().await {
                    return Ok(());
                }
            } else if self.child_has_ended() && Instant::now() >= next {
                if attempts == START_ATTEMPTS {
                    bail!(
                        "the private Postgres does not start: {}",
                        self.location.last_words()
                    );
                }
                next = Instant::now() + START_AGAIN * 2_u32.pow(attempts);
                attempts += 1;
                self.child = Some(self.spawn(binaries)?);
            }
            sleep(LOOK_AGAIN).await;
        }
        bail!(
            "the private Postgres does not answer: {}",
            self.location.last_words()
        )
    }

    fn child_has_ended(&mut self) -> bool {
        self.child
            .as_mut()
            .is_none_or(|child| matches!(child.try_wait(), Ok(Some(_)) | Err(_)))
    }

    async fn answers(&self) -> bool {
        let connected = timeout(CONNECT_LIMIT, PgConnection::connect_with(&self.options())).await;
        match connected {
            Ok(Ok(connection)) => {
                // Whether the farewell arrives does not matter.
                let _ = connection.close().await;
                true
            }
            Ok(Err(_)) | Err(_) => false,
        }
    }

    fn spawn(&self, binaries: &Binaries) -> anyhow::Result<Child> {
        let socket = self.socket.display().to_string().replace('"', "\"\"");
        let mut command = command(&binaries.postgres(), self.user.as_ref());
        command
            .arg("-D")
            .arg(&self.location.directory)
            .args(["-c", "listen_addresses="])
            .args(["-c", &format!("port={PORT}")])
            .args(["-c", &format!("unix_socket_directories=\"{socket}\"")])
            .args(["-c", "unix_socket_permissions=0700"])
            .args(["-c", "fsync=on"])
            .args(["-c", "log_checkpoints=off"])
            // A signal meant for berth's group (Ctrl-C) must not stop the database first.
            .process_group(0)
            .stdout(self.log_file()?)
            .stderr(self.log_file()?);
        command
            .spawn()
            .with_context(|| format!("cannot run {}", binaries.postgres().display()))
    }

    fn log_file(&self) -> anyhow::Result<Stdio> {
        let path = self.location.log();
        let full = fs::metadata(&path).is_ok_and(|file| file.len() > LOG_LIMIT);
        let mut options = OpenOptions::new();
        if full {
            options.write(true).truncate(true);
        } else {
            options.append(true).create(true);
        }
        let file = options
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(file.into())
    }
}

/// The major version that would run for `data`; fails when none that fits is installed.
pub fn installed_version(data: &Path) -> anyhow::Result<u32> {
    let version = match Location::find(data)? {
        Some(location) => location.version()?,
        None => None,
    };
    Ok(Binaries::find(version)?.major())
}

/// Makes a cluster beside its place and moves it there whole, so that a cut leaves no half of one.
async fn initialize(
    binaries: &Binaries,
    location: &Location,
    user: Option<&User>,
) -> anyhow::Result<()> {
    tracing::info!(directory = %location.directory.display(), "making a private Postgres");
    let new = location.new_directory(user)?;
    let output = command(&binaries.initdb(), user)
        .arg("-D")
        .arg(&new)
        .arg(format!("--username={ROLE}"))
        // Reaching the socket is the permission: its directory is closed to everyone else.
        .args(["--auth-local=trust", "--auth-host=reject"])
        // Byte order: the same on every machine, and no library upgrade can break an index.
        .args(["--encoding=UTF8", "--locale=C", "--no-instructions"])
        .output()
        .await
        .with_context(|| format!("cannot run {}", binaries.initdb().display()))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("initdb failed in {}: {}", new.display(), words.trim());
    }
    location.keep(&new)
}

/// A program that runs as `user` (as ourselves when `None`) and inherits none of our secrets.
fn command(program: &Path, user: Option<&User>) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null());
    if let Some(user) = user {
        // The standard library drops the supplementary groups with the user.
        command.uid(user.uid).gid(user.gid);
    }
    command
}

/// A server as its lock file names it.
#[derive(Debug)]
struct Running {
    pid: Pid,
    socket: PathBuf,
}

#[cfg(test)]
mod tests;
