//! Wakes those who wait for a change: long polls of runners and edges, followers of logs.
//!
//! One task listens on Postgres' channel `berth`; the payload is a topic (`routes`, `sync`,
//! `logs:<deployment>`). A wake-up is only a hint to look again: waiters also look after
//! [`RECHECK`], so a lost notification costs a moment and never a change.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The Postgres channel.
pub const CHANNEL: &str = "berth";

/// Waiters look again after this long without a word.
const RECHECK: Duration = Duration::from_secs(5);

/// Topics kept for a slow waiter; one that falls further behind looks again, which is harmless.
const BACKLOG: usize = 1_024;

/// Hands wake-ups on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Changes {
    sender: broadcast::Sender<String>,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            sender: broadcast::channel(BACKLOG).0,
        }
    }
}

impl Changes {
    /// Listens until shut down; reconnects by itself when the database was away.
    pub async fn listen(self, db: PgPool, shutdown: CancellationToken) {
        loop {
            let stop = tokio::select! {
                () = shutdown.cancelled() => true,
                result = self.listen_once(&db) => {
                    if let Err(error) = result {
                        tracing::warn!(%error, "listening for changes was interrupted; trying again");
                    }
                    false
                }
            };
            if stop {
                return;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
    }

    async fn listen_once(&self, db: &PgPool) -> sqlx::Result<()> {
        let mut listener = PgListener::connect_with(db).await?;
        listener.listen(CHANNEL).await?;
        loop {
            let notification = listener.recv().await?;
            // No receiver is no error: nobody waits.
            let _ = self.sender.send(notification.payload().to_owned());
        }
    }

    /// Starts waiting now, so that nothing that happens after this call is missed.
    pub fn subscribe(&self) -> Waiter {
        Waiter {
            receiver: self.sender.subscribe(),
        }
    }
}

/// One who waits.
#[derive(Debug)]
pub struct Waiter {
    receiver: broadcast::Receiver<String>,
}

impl Waiter {
    /// Returns when `topic` was named, when it is time to look again, or at `deadline`.
    pub async fn changed(&mut self, topic: &str, deadline: Instant) {
        let until = deadline.min(Instant::now() + RECHECK);
        let named = async {
            loop {
                match self.receiver.recv().await {
                    Ok(name) if name == topic => return,
                    Ok(_) => {}
                    // Fell behind: what was missed may have been ours.
                    Err(broadcast::error::RecvError::Lagged(_)) => return,
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        let _ = tokio::time::timeout_at(until, named).await;
    }
}
