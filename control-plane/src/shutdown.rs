//! Ending in order: signals become one token that everything watches, and background tasks are
//! started here so that none outlives the process' end unseen.

use std::future::Future;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Cancelled at the first SIGTERM, SIGINT or SIGHUP. A second signal ends the process at once,
/// for a person who does not want to wait.
pub fn on_signals() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot watch SIGHUP")?;
    let cancelled = token.clone();
    spawn("signals", async move {
        for times in 0_u32.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {}
            }
            if times > 0 {
                // 130 = ended by SIGINT, as shells say it.
                std::process::exit(130);
            }
            tracing::info!("shutting down; a second signal ends at once");
            cancelled.cancel();
        }
    });
    Ok(token)
}

/// Starts a task on its own. Its panic is logged under `name`, and does not go unseen as with a
/// bare `tokio::spawn` whose handle is dropped.
pub fn spawn(name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    #[expect(clippy::disallowed_methods, reason = "this is the helper")]
    let handle = tokio::spawn(task);
    #[expect(clippy::disallowed_methods, reason = "this is the helper")]
    tokio::spawn(async move {
        if let Err(error) = handle.await {
            tracing::error!(task = name, %error, "a background task ended badly");
        }
    });
}

/// Background tasks that share one end.
#[derive(Clone, Debug)]
pub struct Tasks {
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

impl Tasks {
    /// Tasks that end when `shutdown` is cancelled.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self {
            tracker: TaskTracker::new(),
            shutdown,
        }
    }

    /// The token that tells them to end.
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Starts a task that [`Self::finish`] waits for.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        spawn(name, self.tracker.track_future(task));
    }

    /// Waits until all have ended, at most `grace`.
    pub async fn finish(&self, grace: Duration) {
        self.tracker.close();
        if tokio::time::timeout(grace, self.tracker.wait())
            .await
            .is_err()
        {
            tracing::warn!(tasks = self.tracker.len(), "some tasks did not end in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finish_waits_for_tasks_that_watch_the_token() {
        let tasks = Tasks::new(CancellationToken::new());
        let token = tasks.shutdown();
        let (ended, mut saw) = tokio::sync::mpsc::channel(1);
        tasks.spawn("test", async move {
            token.cancelled().await;
            ended.send(()).await.unwrap();
        });
        tasks.shutdown().cancel();
        tasks.finish(Duration::from_secs(5)).await;
        assert!(saw.try_recv().is_ok());
    }
}
