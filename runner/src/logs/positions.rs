//! How far the log of each deployment's instance was sent, so that a restarted runner goes on
//! from there. Saved now and then: what is sent twice after a crash is recognised by its number.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::protocol::{LogLine, LogStream};
use crate::record;

/// How often they are saved at most.
const INTERVAL: Duration = Duration::from_secs(2);

/// The positions and the file they are kept in.
pub struct Positions {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The sequence of the last line sent.
    sent: HashMap<Uuid, i64>,
    changed: bool,
    saved: Option<Instant>,
}

impl Positions {
    /// Reads the file. Without a readable one, some lines are sent again.
    pub fn load(path: PathBuf) -> Self {
        let sent = std::fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self {
            path,
            inner: Mutex::new(Inner {
                sent: sent.unwrap_or_default(),
                ..Inner::default()
            }),
        }
    }

    /// The sequence of the last line sent of a deployment's instance; 0 when none was.
    pub fn get(&self, deployment: Uuid) -> i64 {
        self.lock().sent.get(&deployment).copied().unwrap_or(0)
    }

    /// Takes note of lines that have arrived.
    pub fn sent(&self, batch: &[LogLine]) {
        let mut inner = self.lock();
        for line in batch {
            if line.stream == LogStream::Instance {
                let sent = inner.sent.entry(line.deployment).or_default();
                *sent = (*sent).max(line.sequence);
                inner.changed = true;
            }
        }
    }

    /// Forgets a deployment.
    pub fn forget(&self, deployment: Uuid) {
        let mut inner = self.lock();
        let was_there = inner.sent.remove(&deployment).is_some();
        inner.changed |= was_there;
    }

    /// Saves what changed, unless it was saved a moment ago and `now` is not set.
    pub fn save(&self, now: bool) {
        let bytes = {
            let mut inner = self.lock();
            let is_due = inner.saved.is_none_or(|at| at.elapsed() >= INTERVAL);
            if !inner.changed || !(is_due || now) {
                return;
            }
            inner.changed = false;
            inner.saved = Some(Instant::now());
            serde_json::to_vec(&inner.sent).expect("a map of numbers is JSON")
        };
        if let Err(error) = record::replace(&self.path, &bytes) {
            tracing::warn!(%error, "positions in logs could not be saved");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn positions_survive_a_restart_and_only_instances_have_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("positions.json");
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let line = |deployment, stream, sequence| LogLine {
            deployment,
            stream,
            sequence,
            at: clock::now(),
            text: String::new(),
        };
        let positions = Positions::load(path.clone());
        positions.sent(&[
            line(a, LogStream::Instance, 7),
            line(a, LogStream::Instance, 5),
            line(b, LogStream::Build, 9),
        ]);
        positions.save(true);
        let positions = Positions::load(path.clone());
        assert_eq!((positions.get(a), positions.get(b)), (7, 0));
        positions.forget(a);
        positions.save(true);
        assert_eq!(Positions::load(path).get(a), 0);
    }
}
