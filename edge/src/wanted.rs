//! Routes whose instance is asleep and for which calls are held, until the next report.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// The routes that calls wait for. There are no more than there are routes.
#[derive(Debug, Default)]
pub(crate) struct Wanted(Mutex<BTreeSet<Uuid>>);

impl Wanted {
    /// Notes that a call waits for a route.
    pub(crate) fn note(&self, route: Uuid) {
        self.lock().insert(route);
    }

    /// Whether there is something to report.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// The routes since the last time.
    pub(crate) fn take(&self) -> Vec<Uuid> {
        std::mem::take(&mut *self.lock()).into_iter().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Uuid>> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
