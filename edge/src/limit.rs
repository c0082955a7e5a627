//! What one project may take of the edge.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Requests of one project being answered at once; the next one gets 429. An instance has one or
/// two processors: what exceeds this would wait in it, and other projects share the edge.
pub(crate) const MAX_REQUESTS: usize = 256;

/// Streams that a project's clients hold open to hear from the server (a GET, or
/// `subscriptions/listen`). They cost memory and no work, so more of them are allowed.
pub(crate) const MAX_STREAMS: usize = 2048;

/// Requests without a token for a project's public paths, answered at once. They are counted apart,
/// so that a stranger who holds them all keeps no caller with a token out.
pub(crate) const MAX_OPEN: usize = 256;

/// Requests of one project that are held for an instance which does not take connections yet. Each
/// tries again several times a second, and all of them come at once when it does: a FastMCP server
/// answers some 200 calls a second.
pub(crate) const MAX_HELD: usize = 128;

/// Largest request body of a call in bytes: above the 4 MiB that the MCP SDKs accept themselves.
pub(crate) const MAX_BODY: u64 = 10 * 1024 * 1024;

/// What a project's requests take at the moment.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    requests: AtomicUsize,
    streams: AtomicUsize,
    open: AtomicUsize,
    held: AtomicUsize,
}

/// What is limited apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A call: short, makes work.
    Request,
    /// An open ear: long, makes none.
    Stream,
    /// A request of anybody's for a public path.
    Open,
    /// Any of these, while it is held.
    Held,
}

/// One place among a project's requests; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    usage: Arc<Usage>,
    kind: Kind,
}

impl Usage {
    /// Takes a place, or `None` when the project uses all it may.
    pub(crate) fn enter(self: &Arc<Self>, kind: Kind) -> Option<Permit> {
        let (count, most) = self.counter(kind);
        // Relaxed: the count protects nothing but itself.
        if count.fetch_add(1, Ordering::Relaxed) >= most {
            count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Permit {
            usage: Arc::clone(self),
            kind,
        })
    }

    fn counter(&self, kind: Kind) -> (&AtomicUsize, usize) {
        match kind {
            Kind::Request => (&self.requests, MAX_REQUESTS),
            Kind::Stream => (&self.streams, MAX_STREAMS),
            Kind::Open => (&self.open, MAX_OPEN),
            Kind::Held => (&self.held, MAX_HELD),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.usage
            .counter(self.kind)
            .0
            .fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many requests an instance is answering.
#[derive(Debug, Default)]
pub(crate) struct Answering(AtomicU32);

/// One request that an instance is answering, until it is dropped.
#[derive(Debug)]
pub(crate) struct Answer(Arc<Answering>);

impl Answering {
    /// Counts a request.
    pub(crate) fn begin(self: &Arc<Self>) -> Answer {
        self.0.fetch_add(1, Ordering::Relaxed);
        Answer(Arc::clone(self))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_place_is_given_once_and_returned() {
        let usage = Arc::new(Usage::default());
        let mut held: Vec<_> = (0..MAX_REQUESTS)
            .map(|_| usage.enter(Kind::Request).expect("a place"))
            .collect();
        assert!(usage.enter(Kind::Request).is_none());
        assert!(usage.enter(Kind::Stream).is_some());
        assert!(usage.enter(Kind::Open).is_some());
        held.pop();
        assert!(usage.enter(Kind::Request).is_some());
    }

    #[test]
    fn answers_are_counted_while_they_last() {
        let answering = Arc::new(Answering::default());
        let (one, two) = (answering.begin(), answering.begin());
        assert_eq!(answering.count(), 2);
        drop(one);
        assert_eq!(answering.count(), 1);
        drop(two);
        assert_eq!(answering.count(), 0);
    }
}
