//! From a request to the database without the request waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use super::{Seen, keep_all};
use crate::app::App;
use crate::error::{Error, Result};

/// Steps that may wait. At 300 bytes each this is a megabyte; more arrive only in a flood, or while
/// the database is away.
const WAITING: usize = 4_096;

/// Steps written in one transaction.
const BATCH: usize = 256;

/// Where steps wait to be written. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Seen>,
    receiver: Arc<Mutex<mpsc::Receiver<Seen>>>,
    dropped: Arc<AtomicU64>,
}

impl Default for Recorder {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self {
            sender,
            receiver: Arc::new(Mutex::new(receiver)),
            dropped: Arc::default(),
        }
    }
}

/// Takes a step to be written soon. Never waits, never fails; where too many wait, this one is
/// dropped and counted.
pub fn record(app: &App, seen: Seen) {
    if app.connections.sender.try_send(seen).is_err() {
        app.connections.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes steps until shut down, and then what still waits.
pub async fn keep(app: App, shutdown: CancellationToken) {
    let mut receiver = app.connections.receiver.lock().await;
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let received = tokio::select! {
            // What waits is written before the end is noticed.
            biased;
            received = receiver.recv_many(&mut batch, BATCH) => received,
            () = shutdown.cancelled() => 0,
        };
        if received == 0 {
            return;
        }
        if let Err(error) = write(&app, &batch).await {
            let cause = match &error {
                Error::Internal(cause) => format!("{cause:#}"),
                other => other.to_string(),
            };
            tracing::warn!(
                error = cause,
                steps = received,
                "steps of the connection timeline are lost"
            );
        }
        batch.clear();
        let dropped = app.connections.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(
                steps = dropped,
                "too many steps at once; some of the connection timeline are lost"
            );
        }
    }
}

async fn write(app: &App, batch: &[Seen]) -> Result<()> {
    let mut tx = app.db.begin().await?;
    keep_all(&mut tx, &app.kek, batch).await?;
    tx.commit().await?;
    Ok(())
}

/// Writes what waits, for tests: no task does it there.
#[cfg(test)]
pub async fn flush(app: &App) {
    let mut receiver = app.connections.receiver.lock().await;
    let mut batch = Vec::new();
    while let Ok(seen) = receiver.try_recv() {
        batch.push(seen);
    }
    write(app, &batch).await.unwrap();
}
