//! The calls that were passed to instances, until the next report.
//!
//! Writing one down costs a lock that nobody else wants and a slot that is there already: each
//! worker thread has a shard, on most machines its own, and the reporter takes what is in it.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::protocol::CallEvent;

/// Shards over which worker threads are spread: more than most machines have processors.
const SHARDS: usize = 16;

/// Calls that one shard holds: what its thread answers at most between two looks of the reporter
/// (200 ms, some 20,000 calls a second), twice over. Some 0.6 MiB each, touched only as it is used.
const SHARD_CAPACITY: usize = 8192;

/// Calls since the last look.
#[derive(Debug)]
pub(crate) struct Calls {
    shards: [Mutex<Vec<CallEvent>>; SHARDS],
    dropped: AtomicU64,
}

impl Calls {
    /// Room for as many as there may be between two looks.
    pub(crate) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::new(Vec::with_capacity(SHARD_CAPACITY))),
            dropped: AtomicU64::new(0),
        }
    }

    /// Notes a call, or that there was no room to.
    pub(crate) fn record(&self, call: CallEvent) {
        let mut shard = lock(&self.shards[own_shard()]);
        if shard.len() < SHARD_CAPACITY {
            shard.push(call);
        } else {
            drop(shard);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Gives what was noted since the last time to `take`, and says how many were not.
    pub(crate) fn drain(&self, mut take: impl FnMut(CallEvent)) -> u64 {
        for shard in &self.shards {
            // The copy is short; its thread may wait for it.
            lock(shard).drain(..).for_each(&mut take);
        }
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

/// The shard of the thread at hand.
fn own_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
    }
    OWN.with(Cell::get)
}

fn lock(shard: &Mutex<Vec<CallEvent>>) -> MutexGuard<'_, Vec<CallEvent>> {
    // No code panics while it holds the lock.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn call(at_ms: i64) -> CallEvent {
        CallEvent {
            project: Uuid::from_u128(1),
            deployment: Uuid::from_u128(2),
            grant: None,
            api_token: None,
            at_ms,
            duration_us: 1,
            status: 200,
        }
    }

    #[test]
    fn what_is_noted_is_given_once_and_what_is_too_much_is_counted() {
        let calls = Calls::new();
        let most = i64::try_from(SHARD_CAPACITY).unwrap();
        for at in 0..most + 3 {
            calls.record(call(at));
        }
        let mut taken = Vec::new();
        assert_eq!(calls.drain(|call| taken.push(call.at_ms)), 3);
        assert!(taken.into_iter().eq(0..most));
        assert_eq!(calls.drain(|_| panic!("it was given before")), 0);
        calls.record(call(7));
        assert_eq!(calls.drain(|call| assert_eq!(call.at_ms, 7)), 0);
    }

    #[test]
    fn a_slot_is_used_again_and_never_moved() {
        let calls = Calls::new();
        let shard = &calls.shards[own_shard()];
        let at = lock(shard).as_ptr();
        for _ in 0..3 {
            (0..100).for_each(|at| calls.record(call(at)));
            calls.drain(drop);
        }
        assert_eq!(lock(shard).as_ptr(), at);
    }
}
