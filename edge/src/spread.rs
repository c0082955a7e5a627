//! Clients' connections, spread evenly over the threads. The kernel gives a new one to whichever thread
//! asks first, which may be the same one for all that come at once; the others would stand idle while
//! it serves them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::connections::Place;

/// A thread passes a new connection on where it serves this many more than another. Passing on costs
/// some 20 µs, and a thread serves a few connections no slower than one.
const UNEVEN: usize = 8;

/// How many connections each thread serves.
#[derive(Debug)]
pub(crate) struct Spread(Box<[Thread]>);

#[derive(Debug)]
struct Thread {
    open: AtomicUsize,
    /// Takes connections from other threads: never more than there are places.
    inbox: UnboundedSender<Passed>,
}

/// A connection that another thread has accepted.
#[derive(Debug)]
pub(crate) struct Passed {
    stream: std::net::TcpStream,
    pub(crate) peer: IpAddr,
    pub(crate) seat: Seat,
}

/// A connection's place in the process and on its thread; given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    spread: Arc<Spread>,
    thread: usize,
    _place: Place,
}

impl Spread {
    /// For `count` threads, with what each of them is passed.
    pub(crate) fn over(count: usize) -> (Arc<Self>, Vec<UnboundedReceiver<Passed>>) {
        let (threads, inboxes): (Vec<_>, Vec<_>) = (0..count)
            .map(|_| {
                let (inbox, passed) = unbounded_channel();
                let open = AtomicUsize::new(0);
                (Thread { open, inbox }, passed)
            })
            .unzip();
        (Arc::new(Self(threads.into())), inboxes)
    }

    /// Gives a connection that `thread` has accepted to the thread that is to serve it: back, where
    /// that is this one.
    pub(crate) fn seat(
        self: &Arc<Self>,
        thread: usize,
        stream: TcpStream,
        peer: IpAddr,
        place: Place,
    ) -> std::io::Result<Option<(TcpStream, Seat)>> {
        let seat = Seat {
            spread: Arc::clone(self),
            thread: self.least_busy(thread),
            _place: place,
        };
        let chosen = &self.0[seat.thread];
        chosen.open.fetch_add(1, Ordering::Relaxed);
        if seat.thread == thread {
            return Ok(Some((stream, seat)));
        }
        let stream = stream.into_std()?;
        // A thread that is gone is gone because the edge stops, which ends the connection too.
        let _ = chosen.inbox.send(Passed { stream, peer, seat });
        Ok(None)
    }

    /// `own`, unless another serves clearly fewer.
    fn least_busy(&self, own: usize) -> usize {
        let open = |thread: usize| self.0[thread].open.load(Ordering::Relaxed);
        let least = (0..self.0.len()).min_by_key(|&thread| open(thread));
        least
            .filter(|&least| open(least) + UNEVEN <= open(own))
            .unwrap_or(own)
    }
}

impl Passed {
    /// The connection, on the event loop of this thread.
    pub(crate) fn stream(self) -> std::io::Result<(TcpStream, IpAddr, Seat)> {
        Ok((TcpStream::from_std(self.stream)?, self.peer, self.seat))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.spread.0[self.thread]
            .open
            .fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::connections::Connections;

    #[tokio::test]
    async fn what_one_thread_accepts_is_served_by_all() {
        const EACH: usize = 10;
        let (spread, mut inboxes) = Spread::over(3);
        let connections = Connections::new(u64::MAX, Vec::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mut kept, mut clients) = (Vec::new(), Vec::new());
        for _ in 0..3 * EACH {
            clients.push(TcpStream::connect(address).await.unwrap());
            let (stream, peer) = listener.accept().await.unwrap();
            let place = connections.give(connections.vacant().await, peer.ip());
            let seated = spread.seat(1, stream, peer.ip(), place.unwrap());
            kept.extend(seated.unwrap());
        }
        let passed: Vec<Passed> = [0, 2]
            .into_iter()
            .flat_map(|thread| {
                std::iter::from_fn(|| inboxes[thread].try_recv().ok()).collect::<Vec<_>>()
            })
            .collect();
        assert!(inboxes[1].try_recv().is_err());
        assert_eq!(kept.len() + passed.len(), 3 * EACH);
        assert!(kept.len().abs_diff(EACH) <= UNEVEN, "{}", kept.len());
        for passed in passed {
            passed.stream().unwrap();
        }
        drop(kept);
        assert!(
            spread
                .0
                .iter()
                .all(|thread| thread.open.load(Ordering::Relaxed) == 0)
        );
    }
}
