//! Keep-alive connections to one upstream.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::body::RequestBody;

/// A connection idle for longer is not used again. Uvicorn closes after 5 s and gunicorn after 2 s,
/// and a call that meets the closing cannot be repeated safely; a new connection to an instance
/// costs some 50 µs.
const IDLE: Duration = Duration::from_millis(1500);

/// Idle connections kept per upstream: as many as may be in use (`limit::MAX_REQUESTS`).
const MAX_IDLE: usize = 256;

/// Longest time for the TCP handshake; instances are on this machine or in its network.
const CONNECT: Duration = Duration::from_secs(2);

/// After a response has ended its connection is normally free at once; it is given this long (the
/// request body may still be on its way), then closed.
const SETTLE: Duration = Duration::from_secs(1);

/// Most bytes of a response's head.
const MAX_HEAD: usize = 64 * 1024;

/// The idle connections of one upstream.
#[derive(Debug)]
pub(crate) struct Pool {
    address: String,
    idle: Mutex<VecDeque<Idle>>,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<RequestBody>,
    since: Instant,
}

/// A connection taken for one request. Dropping it closes the connection;
/// [`Connection::give_back`] keeps it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<RequestBody>,
    pool: Arc<Pool>,
}

impl Pool {
    /// A pool for `address` (`host:port`), whose connections run on `tasks`.
    pub(crate) fn new(address: String, tasks: TaskTracker) -> Arc<Self> {
        Arc::new(Self {
            address,
            idle: Mutex::default(),
            tasks,
        })
    }

    /// The connection that was used last, if one is open and fresh.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Connection> {
        let mut idle = self.lock();
        while let Some(Idle { sender, since }) = idle.pop_back() {
            if since.elapsed() > IDLE {
                // The rest waited longer still.
                idle.clear();
                return None;
            }
            if sender.is_ready() {
                return Some(Connection {
                    sender,
                    pool: Arc::clone(self),
                });
            }
        }
        None
    }

    /// Opens a connection.
    pub(crate) async fn connect(self: &Arc<Self>) -> io::Result<Connection> {
        let stream = timeout(CONNECT, TcpStream::connect(self.address.as_str())).await??;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::Builder::new()
            .max_header_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        self.tasks.spawn(async move {
            // The request in progress sees the same error and reports it.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        Ok(Connection {
            sender,
            pool: Arc::clone(self),
        })
    }

    fn keep(&self, sender: SendRequest<RequestBody>) {
        let mut idle = self.lock();
        while idle
            .front()
            .is_some_and(|oldest| oldest.since.elapsed() > IDLE)
        {
            idle.pop_front();
        }
        if idle.len() < MAX_IDLE {
            idle.push_back(Idle {
                sender,
                since: Instant::now(),
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        // No code panics while it holds the lock.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Keeps the connection for the next request; called when the response has ended.
    pub(crate) fn give_back(self) {
        let Self { mut sender, pool } = self;
        if sender.is_ready() {
            pool.keep(sender);
        } else if !sender.is_closed() {
            let tasks = pool.tasks.clone();
            tasks.spawn(async move {
                if let Ok(Ok(())) = timeout(SETTLE, sender.ready()).await {
                    pool.keep(sender);
                }
            });
        }
    }
}
