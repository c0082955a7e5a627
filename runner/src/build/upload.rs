//! Archives that `berth deploy PATH` sent: received within bounds, and checked to be the one that
//! was named.

use std::fmt::Write as _;
use std::fs::File;
use std::io;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use super::archive::Refusal;
use crate::diagnose::{self, Code, diagnosis};
use crate::protocol::{Diagnosis, RepositoryAccess};

/// Most bytes of an upload, compressed.
pub const MAX_UPLOAD_BYTES: u64 = 50 * 1024 * 1024;

/// The bytes of an uploaded archive, in order.
pub type UploadStream = BoxStream<'static, io::Result<Bytes>>;

/// Where uploaded archives come from, and access to repositories.
pub trait UploadSource: Send + Sync {
    /// Opens the archive with this SHA-256 (64 lower-case hex digits); `None` when there is none.
    /// The bytes need not be checked: the store does.
    fn open<'a>(&'a self, sha256: &'a str) -> BoxFuture<'a, anyhow::Result<Option<UploadStream>>>;

    /// What reads a repository that the platform's GitHub App reads; `None` when it may not. The
    /// error is a sentence for the build's log.
    fn access(&self, repository: i64) -> BoxFuture<'_, anyhow::Result<Option<RepositoryAccess>>> {
        let _ = repository;
        Box::pin(async { Ok(None) })
    }
}

/// Writes an upload to a file while checking its size and its hash.
pub(super) async fn receive(
    uploads: &dyn UploadSource,
    sha256: &str,
    file: File,
) -> Result<File, Diagnosis> {
    let broken = |error: &dyn std::fmt::Display| {
        diagnose::platform_failure(format!(
            "The runner cannot receive the upload from the control plane: {error}."
        ))
    };
    let mut stream = uploads
        .open(sha256)
        .await
        .map_err(|error| broken(&format!("{error:#}")))?
        .ok_or_else(upload_missing)?;
    let mut file = tokio::fs::File::from_std(file);
    let mut hash = Context::new(&SHA256);
    let mut total = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| broken(&error))?;
        total += chunk.len() as u64;
        if total > MAX_UPLOAD_BYTES {
            return Err(upload_too_large());
        }
        hash.update(&chunk);
        tokio::io::AsyncWriteExt::write_all(&mut file, &chunk)
            .await
            .map_err(disk)?;
    }
    if hex(hash.finish().as_ref()) != sha256 {
        return Err(diagnosis(
            Code::ArchiveCorrupt,
            "The uploaded archive is not the one that was sent: its checksum differs.",
            "Run `berth deploy` again.",
        ));
    }
    tokio::io::AsyncSeekExt::rewind(&mut file)
        .await
        .map_err(disk)?;
    Ok(file.into_std().await)
}

pub(super) fn upload_missing() -> Diagnosis {
    diagnosis(
        Code::UploadMissing,
        "The uploaded archive is not on the platform any more.",
        "Run `berth deploy` again.",
    )
}

pub(super) fn upload_timeout() -> Diagnosis {
    diagnosis(
        Code::FetchTimeout,
        "Receiving the uploaded archive took longer than a minute.",
        "Run `berth deploy` again.",
    )
}

fn upload_too_large() -> Diagnosis {
    diagnosis(
        Code::SourceTooLarge,
        format!(
            "The uploaded archive is larger than {} MiB.",
            MAX_UPLOAD_BYTES / 1024 / 1024
        ),
        "Leave out what the server does not need at run time, with a .dockerignore or .gitignore file.",
    )
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}"); // writing to a string cannot fail
            text
        })
}

fn disk(error: io::Error) -> Diagnosis {
    diagnose::from_archive_refusal(&Refusal::Disk(error), Code::PlatformFailure)
}
