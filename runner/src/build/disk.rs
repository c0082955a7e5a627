//! What a build writes to the disk of the host: the directories that its containers may write to are
//! plain ones, so their growth is watched.

use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::statvfs;
use tokio::time::{Instant, sleep};

use crate::runtime::{ContainerSpec, Role};
use crate::store::{self, TreeSize};

/// Between two looks, at the least.
const INTERVAL: Duration = Duration::from_secs(2);
/// A look at a large tree takes long: the pause is so many times as long as the look.
const PAUSE: u32 = 20;

/// Files that a build may add: the largest environments have some hundred thousand. Each takes an inode,
/// of which a disk has a fixed number, and none of the bytes that are counted.
const MOST_FILES: u64 = 2_000_000;

/// What a build must leave on the disk, in bytes and in files: what is open and has no name any more is
/// found by no look at a directory, and a full disk would stop everybody.
const FREE_BYTES: u64 = 2 << 30;
const FREE_FILES: u64 = 50_000;

/// Why a build must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outgrown {
    /// It added more bytes than it may.
    Bytes,
    /// It added more files than it may, or leaves too little of the disk.
    Disk,
}

/// Resolves when what a build's container may write to has grown by more than `most_bytes`, or too
/// little of the disk is left. What installs shared wheels bounds itself; the files of a step are
/// watched where the engine keeps them.
pub async fn outgrown(spec: &ContainerSpec, most_bytes: u64) -> Outgrown {
    let places: Vec<PathBuf> = spec
        .mounts
        .iter()
        .map(|mount| mount.source.clone())
        .collect();
    let written: Vec<PathBuf> = match spec.role {
        Role::Build => spec
            .mounts
            .iter()
            .filter(|mount| !mount.read_only)
            .map(|mount| mount.source.clone())
            .collect(),
        _ => Vec::new(),
    };
    if !matches!(spec.role, Role::Build | Role::Step) {
        return std::future::pending().await;
    }
    // A cache may be there from builds before.
    let before = measure(written.clone()).await;
    loop {
        let begun = Instant::now();
        if places.iter().any(is_used_up) {
            return Outgrown::Disk;
        }
        let now = measure(written.clone()).await;
        if now.bytes > before.bytes.saturating_add(most_bytes) {
            return Outgrown::Bytes;
        }
        if now.files > before.files.saturating_add(MOST_FILES) {
            return Outgrown::Disk;
        }
        sleep(INTERVAL.max(begun.elapsed() * PAUSE)).await;
    }
}

/// Whether too little is left of the disk that `place` is on. What cannot be looked at is no reason to
/// end a build; nor is a disk that counts no files.
fn is_used_up(place: &PathBuf) -> bool {
    statvfs(place).is_ok_and(|disk| {
        let bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        bytes < FREE_BYTES || (disk.f_files > 0 && disk.f_favail < FREE_FILES)
    })
}

/// What is there; what cannot be looked at counts nothing.
async fn measure(directories: Vec<PathBuf>) -> TreeSize {
    let sum = move || {
        directories
            .iter()
            .filter_map(|at| store::tree_size(at))
            .fold(TreeSize::default(), |sum, size| TreeSize {
                bytes: sum.bytes + size.bytes,
                files: sum.files + size.files,
            })
    };
    tokio::task::spawn_blocking(sum).await.unwrap_or_default()
}
