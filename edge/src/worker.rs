//! The threads that serve clients. Each has an event loop of its own and keeps its connections, to
//! clients and to instances, so that no request wakes another thread; see `spread` for which gets a
//! new client.

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::thread;

use anyhow::Context as _;
use tokio::sync::oneshot;

use crate::config::Threads;

/// Places for what each thread keeps for itself: one for each of [`crate::config::MAX_THREADS`], and
/// one for all other threads.
pub(crate) const PLACES: usize = 64;

thread_local! {
    static PLACE: Cell<usize> = const { Cell::new(0) };
}

/// The place of the thread at hand.
pub(crate) fn place() -> usize {
    PLACE.get()
}

/// How many threads serve: as many as were asked for, else one a processor.
pub(crate) fn count(asked: Threads) -> usize {
    let processors = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
    asked
        .edge_threads
        .map_or_else(processors, usize::from)
        .min(PLACES - 1)
}

/// Runs what `work` gives on a thread and an event loop of its own; the receiver ends with it.
pub(crate) fn start<F>(
    number: usize,
    work: impl FnOnce() -> F + Send + 'static,
) -> anyhow::Result<oneshot::Receiver<()>>
where
    F: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("a thread of the edge gets no event loop")?;
    let (ended, receiver) = oneshot::channel();
    thread::Builder::new()
        .name(format!("edge-{number}"))
        .spawn(move || {
            PLACE.set(number);
            runtime.block_on(work());
            drop(ended);
        })
        .context("a thread of the edge cannot be started")?;
    Ok(receiver)
}
