//! What a build writes to the disk of the host: the directories that its containers may write to are
//! plain ones, so their growth is watched.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::runtime::{ContainerSpec, Role};
use crate::store;

/// Between two looks, at the least.
const INTERVAL: Duration = Duration::from_secs(2);
/// A look at a large tree takes long: the pause is so many times as long as the look.
const PAUSE: u32 = 20;

/// Resolves when what a build's container may write to has grown by more than `most_bytes`. What installs
/// shared wheels bounds itself, and steps of a Dockerfile write to files of their own.
pub async fn outgrown(spec: &ContainerSpec, most_bytes: u64) {
    let writable = spec.mounts.iter().filter(|mount| !mount.read_only);
    let directories: Vec<PathBuf> = writable.map(|mount| mount.source.clone()).collect();
    if spec.role != Role::Build || directories.is_empty() {
        std::future::pending::<()>().await;
    }
    // A cache may be there from builds before.
    let before = measure(directories.clone()).await;
    loop {
        let begun = Instant::now();
        if measure(directories.clone()).await > before.saturating_add(most_bytes) {
            return;
        }
        sleep(INTERVAL.max(begun.elapsed() * PAUSE)).await;
    }
}

/// Bytes on the disk; what cannot be looked at counts nothing.
async fn measure(directories: Vec<PathBuf>) -> u64 {
    let sum = move || {
        directories
            .iter()
            .filter_map(|at| store::tree_bytes(at))
            .sum()
    };
    tokio::task::spawn_blocking(sum).await.unwrap_or_default()
}
