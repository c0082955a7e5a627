//! What one project may take of the edge.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Requests of one project being answered at once; the next one gets 429. An instance has one or
/// two processors: what exceeds this would wait in it, and other projects share the edge.
pub(crate) const MAX_REQUESTS: usize = 256;

/// Streams that a project's clients hold open to hear from the server (a GET, or
/// `subscriptions/listen`). They cost memory and no work, so more of them are allowed.
pub(crate) const MAX_STREAMS: usize = 2048;

/// Largest request body of a call in bytes: above the 4 MiB that the MCP SDKs accept themselves.
pub(crate) const MAX_BODY: u64 = 10 * 1024 * 1024;

/// What a project's requests take at the moment.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    requests: AtomicUsize,
    streams: AtomicUsize,
}

/// The two kinds of request that are limited apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A call: short, makes work.
    Request,
    /// An open ear: long, makes none.
    Stream,
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
        held.pop();
        assert!(usage.enter(Kind::Request).is_some());
    }
}
