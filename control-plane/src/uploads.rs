//! Archives that `berth deploy PATH` sent. The row says whose; the bytes lie in the data
//! directory under their SHA-256, so the same tree is kept once.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use crate::crypto::hex;
use crate::error::{Error, Result};
use crate::ids;

/// Most bytes of an archive that is too large which are read past the limit, so that its sender
/// hears why it was refused: several times what anybody packs by mistake.
const DISCARDED: u64 = 1024 * 1024 * 1024;

/// Longest time for that: below the idle limits of proxies in front.
const DISCARD_TIME: std::time::Duration = std::time::Duration::from_secs(50);

/// Where the bytes of an upload lie.
pub fn path(data: &Path, sha256: &str) -> PathBuf {
    data.join("uploads").join(format!("{sha256}.tar.gz"))
}

/// Streams an archive to disk while hashing it; answers its SHA-256 in hex and its size.
/// More than `limit` bytes, an empty body or a broken connection keep nothing.
pub async fn receive<S, E>(data: &Path, body: S, limit: u64) -> Result<(String, u64)>
where
    S: Stream<Item = std::result::Result<Bytes, E>> + Send + Unpin,
    E: std::error::Error + Send + Sync + 'static,
{
    let directory = data.join("uploads");
    tokio::fs::create_dir_all(&directory)
        .await
        .context("making the uploads directory")?;
    let partial = directory.join(format!(".{}.part", ids::new_id()));
    let result = write(&partial, body, limit).await;
    match result {
        Ok((sha256, size)) => {
            tokio::fs::rename(&partial, path(data, &sha256))
                .await
                .context("keeping the upload")?;
            Ok((sha256, size))
        }
        Err(error) => {
            // Best effort: a leftover is only disk.
            let _ = tokio::fs::remove_file(&partial).await;
            Err(error)
        }
    }
}

async fn write<S, E>(path: &Path, mut body: S, limit: u64) -> Result<(String, u64)>
where
    S: Stream<Item = std::result::Result<Bytes, E>> + Send + Unpin,
    E: std::error::Error + Send + Sync + 'static,
{
    let mut file = tokio::fs::File::create(path)
        .await
        .context("opening the upload's file")?;
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut size = 0_u64;
    let mut head: Vec<u8> = Vec::with_capacity(2);
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| {
            tracing::info!(%error, "an upload broke off");
            Error::Conflict("The upload broke off before its end; send it again.".into())
        })?;
        size += chunk.len() as u64;
        if size > limit {
            discard(body).await;
            return Err(Error::TooLarge(format!(
                "The archive is larger than {} MiB; leave out what the server does not need with .gitignore or .dockerignore.",
                limit / (1024 * 1024)
            )));
        }
        if head.len() < 2 {
            head.extend(chunk.iter().take(2 - head.len()));
        }
        hash.update(&chunk);
        file.write_all(&chunk).await.context("writing the upload")?;
    }
    // RFC 1952 section 2.3.1: the first two octets of every gzip member.
    if head != [0x1f, 0x8b] {
        return Err(crate::error::invalid(
            "archive",
            "The upload is not a gzip-compressed tar archive; send it with `berth deploy PATH`.",
        ));
    }
    file.sync_all().await.context("writing the upload")?;
    Ok((hex(hash.finish().as_ref()), size))
}

/// Reads what is left of a body that is refused, within bounds. A client hears an answer that
/// comes before it has sent everything only by luck: the closed connection may reach it first.
async fn discard<S, E>(body: S)
where
    S: Stream<Item = std::result::Result<Bytes, E>> + Unpin,
{
    let mut left = DISCARDED;
    let mut chunks = body.take_while(|chunk| {
        let length = chunk.as_ref().map_or(u64::MAX, |chunk| chunk.len() as u64);
        let within = left.checked_sub(length);
        left = within.unwrap_or(0);
        std::future::ready(within.is_some())
    });
    let read = async { while chunks.next().await.is_some() {} };
    // Too slow is as good as too long: the answer goes out now.
    let _ = tokio::time::timeout(DISCARD_TIME, read).await;
}

/// Remembers that a project may be deployed from this archive.
pub async fn keep(
    db: &mut PgConnection,
    project: Uuid,
    sha256: &str,
    size: u64,
    now: OffsetDateTime,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into uploads (project_id, sha256, size_bytes, created_at) values ($1, $2, $3, $4)
         on conflict (project_id, sha256) do update set created_at = excluded.created_at",
        project,
        sha256,
        i64::try_from(size).unwrap_or(i64::MAX),
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Whether this project has sent that archive.
pub async fn exists(db: &mut PgConnection, project: Uuid, sha256: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists(select 1 from uploads where project_id = $1 and sha256 = $2) as "exists!""#,
        project,
        sha256,
    )
    .fetch_one(db)
    .await
}

/// Whether any project has sent that archive: what a runner may fetch.
pub async fn known(db: &mut PgConnection, sha256: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists(select 1 from uploads where sha256 = $1) as "exists!""#,
        sha256
    )
    .fetch_one(db)
    .await
}

/// How many deployments of a project keep their archive for promotion and roll back.
const KEPT_DEPLOYMENTS: i64 = 20;

/// An archive that was never deployed, or a file whose upload broke off, is kept this long.
const UNUSED: Duration = Duration::days(1);

/// Removes archives that nothing can deploy any more: rows first, then files without a row.
pub async fn sweep(db: &mut PgConnection, data: &Path, now: OffsetDateTime) -> Result<()> {
    sqlx::query!(
        "delete from uploads u where created_at < $1
             and sha256 <> (select sha256 from uploads
                 where project_id = u.project_id order by created_at desc limit 1)
             and not exists (
                 select 1 from (
                     select source from deployments where project_id = u.project_id and preview_id is null
                     order by number desc limit $2
                 ) kept where kept.source->>'sha256' = u.sha256)",
        now - UNUSED,
        KEPT_DEPLOYMENTS,
    )
    .execute(&mut *db)
    .await?;
    let directory = data.join("uploads");
    let mut entries = match tokio::fs::read_dir(&directory).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(anyhow::Error::new(error)
                .context("reading the uploads directory")
                .into());
        }
    };
    while let Some(entry) = entries
        .next_entry()
        .await
        .context("reading the uploads directory")?
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let kept = match name.strip_suffix(".tar.gz") {
            Some(sha256) => known(db, sha256).await?,
            None => false,
        };
        // A file is there before its row, and while it arrives.
        let modified = entry
            .metadata()
            .await
            .and_then(|m| m.modified())
            .context("reading an upload's age")?;
        if !kept && OffsetDateTime::from(modified) < now - UNUSED {
            tokio::fs::remove_file(entry.path())
                .await
                .context("removing an upload")?;
        }
    }
    Ok(())
}
