//! Where the routes come from: the control plane by a long poll, and the disk while it is away.

use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use http::StatusCode;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Config;
use crate::control::ControlPlane;
use crate::protocol::{MAX_WAIT_SECONDS, RouteSnapshot};
use crate::table::Routes;

/// How much longer than the control plane holds a poll the edge waits for it.
const SLACK: Duration = Duration::from_secs(10);

/// First and longest pause after a failure; doubled each time, and up to half of it is left out by
/// chance so that many edges do not come back at once.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// An empty answer that came sooner than this was no long poll; asking again at once would spin.
const TOO_SOON: Duration = Duration::from_millis(200);

/// Routes are saved before they are in use, but a disk that takes longer than this holds none up.
const SAVED_FIRST: Duration = Duration::from_secs(1);

/// A version that no snapshot has: asks for whatever is current.
const ANY: i64 = -1;

/// The control plane's routes and their copy on disk.
#[derive(Debug)]
pub(crate) struct Source {
    control: Arc<ControlPlane>,
    file: PathBuf,
}

impl Source {
    /// Reads settings; asks nothing yet.
    pub(crate) fn new(config: &Config, control: Arc<ControlPlane>) -> Self {
        Self {
            control,
            file: config.snapshot_file(),
        }
    }

    /// The snapshot that follows version `after`, or `None` if there was none for a while.
    async fn poll(&self, after: i64) -> anyhow::Result<Option<RouteSnapshot>> {
        let target = format!("/internal/edge/routes?after={after}");
        let longest = Duration::from_secs(MAX_WAIT_SECONDS) + SLACK;
        match self.control.get(&target, longest).await? {
            (StatusCode::OK, text) => Ok(Some(
                serde_json::from_slice(&text).context("the routes cannot be understood")?,
            )),
            (StatusCode::NO_CONTENT, _) => Ok(None),
            (status, _) => bail!("the control plane answered {status}"),
        }
    }
}

/// Puts the routes of an earlier run in use.
pub(crate) async fn restore(source: &Source, routes: &Routes) {
    let text = match tokio::fs::read(&source.file).await {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        Err(error) => {
            tracing::warn!(file = %source.file.display(), %error, "the saved routes cannot be read");
            return;
        }
    };
    match serde_json::from_slice::<RouteSnapshot>(&text) {
        Ok(snapshot) => {
            routes.reset(&snapshot);
            tracing::info!(
                version = snapshot.version,
                routes = snapshot.routes.len(),
                "serving the saved routes"
            );
        }
        Err(error) => {
            tracing::warn!(file = %source.file.display(), %error, "the saved routes are damaged and ignored");
        }
    }
}

/// Follows the control plane until `shutdown`. Saving runs on `tasks`, so that it ends before the
/// edge does.
pub(crate) async fn follow(
    source: Source,
    routes: Arc<Routes>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
) {
    let follower = Follower {
        source,
        routes,
        tasks,
        last: None,
        in_touch: false,
        pause: FIRST_PAUSE,
    };
    tokio::select! {
        () = follower.run() => {}
        () = shutdown.cancelled() => {}
    }
}

struct Follower {
    source: Source,
    routes: Arc<Routes>,
    tasks: TaskTracker,
    /// The last snapshot put in use by this run.
    last: Option<RouteSnapshot>,
    /// Whether the last poll succeeded. After a silence the control plane's word counts whatever
    /// its version: its database may be another one, or restored.
    in_touch: bool,
    pause: Duration,
}

impl Follower {
    async fn run(mut self) {
        loop {
            let began = Instant::now();
            let after = match (self.in_touch, &self.last) {
                (true, Some(last)) => last.version,
                _ => ANY,
            };
            match self.source.poll(after).await {
                Ok(Some(snapshot)) => self.take(snapshot).await,
                Ok(None) => {
                    self.note_success();
                    if began.elapsed() < TOO_SOON {
                        tokio::time::sleep(TOO_SOON).await;
                    }
                }
                Err(error) => self.note_failure(&error).await,
            }
        }
    }

    async fn take(&mut self, snapshot: RouteSnapshot) {
        let unchanged = self.last.as_ref() == Some(&snapshot);
        if !unchanged {
            if self.in_touch && self.routes.is_older(&snapshot) {
                let error = anyhow::anyhow!(
                    "the control plane sent version {}, older than the one in use",
                    snapshot.version
                );
                self.note_failure(&error).await;
                return;
            }
            self.put_in_use(&snapshot).await;
            tracing::info!(
                version = snapshot.version,
                routes = snapshot.routes.len(),
                "routes changed"
            );
            self.last = Some(snapshot);
        } else if self.in_touch {
            // It should have waited.
            tokio::time::sleep(TOO_SOON).await;
        }
        self.note_success();
    }

    /// Saves it first: what was refused once is refused by the next run too, however soon this one
    /// ends.
    async fn put_in_use(&self, snapshot: &RouteSnapshot) {
        let mut saved = pin!(self.save(snapshot));
        let in_time = timeout(SAVED_FIRST, &mut saved).await.is_ok();
        self.routes.reset(snapshot);
        if !in_time {
            saved.await;
        }
    }

    fn note_success(&mut self) {
        self.in_touch = true;
        self.pause = FIRST_PAUSE;
    }

    async fn note_failure(&mut self, error: &anyhow::Error) {
        // The first failure of a row is told; the rest say the same.
        if self.in_touch || self.pause == FIRST_PAUSE {
            tracing::warn!(
                error = format!("{error:#}"),
                "the routes cannot be followed; serving the last ones"
            );
        }
        self.in_touch = false;
        tokio::time::sleep(with_jitter(self.pause)).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    async fn save(&self, snapshot: &RouteSnapshot) {
        let file = self.source.file.clone();
        let text = serde_json::to_vec(snapshot);
        let saved = self
            .tasks
            .spawn_blocking(move || write_whole(&file, &text?))
            .await;
        let error = match saved {
            Ok(Ok(())) => return,
            Ok(Err(error)) => format!("{error:#}"),
            Err(error) => error.to_string(),
        };
        tracing::warn!(error, file = %self.source.file.display(), "the routes cannot be saved; a restart without the control plane would serve older ones");
    }
}

/// Between half of `pause` and all of it.
fn with_jitter(pause: Duration) -> Duration {
    let mut byte = [0u8];
    // Without randomness there is no jitter, which is no harm.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    pause / 2 + pause / 2 * u32::from(byte[0]) / 255
}

/// Only the edge's own user may read what it keeps: who may call, and hashes of their tokens.
const PRIVATE: u32 = 0o600;

/// Replaces `file` so that a reader, or a crash at any time, finds the old or the new text whole.
pub(crate) fn write_whole(file: &Path, text: &[u8]) -> anyhow::Result<()> {
    let directory = file.parent().context("the file has no directory")?;
    std::fs::create_dir_all(directory)?;
    let draft = file.with_extension("json.new");
    let mut open = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(PRIVATE)
        .open(&draft)?;
    // A draft that a crash left may have another mode.
    open.set_permissions(Permissions::from_mode(PRIVATE))?;
    open.write_all(text)?;
    open.sync_all()?;
    drop(open);
    std::fs::rename(&draft, file)?;
    File::open(directory)?.sync_all()?;
    Ok(())
}
