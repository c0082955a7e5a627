//! MCP sessions across a restart of the edge: kept in a file, so that clients which cannot start a
//! session anew (most SDKs) go on, and draining instances are not given up.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::clock;
use crate::session::{Kept, SessionKey};
use crate::snapshot::write_whole;
use crate::table::Routes;

/// The file is written at most this often.
const PAUSE: Duration = Duration::from_secs(3);

/// What only tells when a session was used last is written this often: a crash then costs a
/// session no more than this part of the time for which it counts as live.
const TOUCHED: Duration = Duration::from_mins(1);

/// The file's text.
#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    sessions: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    project: Uuid,
    /// SHA-256 of the id, hexadecimal: the id itself lets whoever knows it speak in the session.
    id: String,
    deployment: Uuid,
    principal: Option<String>,
    /// Last use, milliseconds since 1970.
    used_ms: i64,
}

/// Takes back the sessions that an earlier run kept in `file`, for the projects of the routes in
/// use.
pub(crate) async fn restore(file: &Path, routes: &Routes) {
    let text = match tokio::fs::read(file).await {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "the kept MCP sessions cannot be read; their clients must start new ones");
            return;
        }
    };
    let kept: File = match serde_json::from_slice(&text) {
        Ok(kept) => kept,
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "the kept MCP sessions are damaged; their clients must start new ones");
            return;
        }
    };
    let sites = routes.sites();
    let projects: HashMap<Uuid, _> = sites
        .iter()
        .map(|site| (site.project.id, &site.project))
        .collect();
    let (now, now_ms) = (Instant::now(), clock::millis());
    for entry in kept.sessions {
        if let (Some(project), Some(key)) = (projects.get(&entry.project), unhex(&entry.id)) {
            let unused = u64::try_from(now_ms.saturating_sub(entry.used_ms)).unwrap_or(0);
            let kept = Kept {
                key,
                deployment: entry.deployment,
                principal: entry.principal.map(Into::into),
                unused_for: Duration::from_millis(unused),
            };
            project.sessions.restore(kept, now);
        }
    }
}

/// Keeps the sessions of `routes` in `file` until `shutdown`, and once more then.
pub(crate) async fn follow(
    file: PathBuf,
    routes: Arc<Routes>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
) {
    let mut written = Instant::now();
    loop {
        let stops = tokio::time::timeout(PAUSE, shutdown.cancelled())
            .await
            .is_ok();
        // Every project is asked, so that one change is not written twice.
        let changed = routes
            .sites()
            .iter()
            .filter(|site| site.project.sessions.take_changed())
            .count();
        if changed > 0 || stops || written.elapsed() >= TOUCHED {
            let kept = collect(&routes);
            if changed > 0 || !kept.sessions.is_empty() {
                save(&file, &kept, &tasks).await;
            }
            written = Instant::now();
        }
        if stops {
            return;
        }
    }
}

async fn save(file: &Path, kept: &File, tasks: &TaskTracker) {
    let text = match serde_json::to_vec(kept) {
        Ok(text) => text,
        Err(error) => return warn(file, &error),
    };
    let path = file.to_owned();
    let saved = tasks
        .spawn_blocking(move || write_whole(&path, &text))
        .await;
    match saved {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn(file, &format!("{error:#}")),
        Err(error) => warn(file, &error),
    }
}

fn collect(routes: &Routes) -> File {
    let (now, now_ms) = (Instant::now(), clock::millis());
    let mut sessions = Vec::new();
    for site in routes.sites() {
        for kept in site.project.sessions.keep(now) {
            let unused = i64::try_from(kept.unused_for.as_millis()).unwrap_or(i64::MAX);
            sessions.push(Entry {
                project: site.project.id,
                id: hex(&kept.key),
                deployment: kept.deployment,
                principal: kept.principal.as_deref().map(str::to_owned),
                used_ms: now_ms.saturating_sub(unused),
            });
        }
    }
    File { sessions }
}

fn warn(file: &Path, error: &dyn std::fmt::Display) {
    tracing::warn!(file = %file.display(), %error, "the MCP sessions cannot be kept; a restart of the edge would end them");
}

fn hex(key: &SessionKey) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(key.len() * 2);
    for byte in key {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn unhex(text: &str) -> Option<SessionKey> {
    let mut key = SessionKey::default();
    if text.len() != key.len() * 2 {
        return None;
    }
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_and_read() {
        let mut key = SessionKey::default();
        (key[0], key[31]) = (0xab, 1);
        assert_eq!(unhex(&hex(&key)), Some(key));
        for damaged in ["", "ab", &"zz".repeat(32), &"é".repeat(32)] {
            assert_eq!(unhex(damaged), None, "{damaged}");
        }
    }
}
