//! Keep-alive connections to one upstream.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::body::BodyError;
use crate::sending::{Sending, Unsent};
use crate::{clock, worker};

/// A connection idle for longer is not used again. Uvicorn closes after 5 s and gunicorn after 2 s,
/// and a call that meets the closing cannot be repeated safely; a new connection to an instance
/// costs some 50 µs.
const IDLE: Duration = Duration::from_millis(1500);

/// Idle connections kept per upstream: as many as may be in use (`limit::MAX_REQUESTS`).
const MAX_IDLE: usize = 256;

/// Longest time for the TCP handshake; instances are on this machine or in its network.
const CONNECT: Duration = Duration::from_secs(2);

/// A request whose response has ended, or whose client is gone, may go on for this long.
const SETTLE: Duration = Duration::from_secs(1);

/// After a connection has broken off, a new one is opened this much later at the earliest. A process
/// that dies closes what it holds one after another: its port may still take a connection, to drop it,
/// and a call that was sent on one cannot be repeated safely, where one that waits is held.
const DYING: Duration = Duration::from_millis(50);

/// Most bytes read at once.
const SCRATCH_BYTES: usize = 32 * 1024;

/// The idle connections of one upstream.
#[derive(Debug)]
pub(crate) struct Pool {
    address: String,
    /// A connection is used by the thread that opened it, on whose event loop it is.
    idle: [Mutex<VecDeque<Idle>>; worker::PLACES],
    /// When a connection broke off last.
    broke: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Idle {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    /// By [`clock::uptime`].
    since: Duration,
}

thread_local! {
    /// Where a thread reads into, before what came gets room of its own size: answers are small, and
    /// room for a large one with each of them would be cold in the processor's caches.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
}

/// A connection taken for one request. Dropping it closes the connection;
/// [`Connection::give_back`] keeps it.
pub(crate) struct Connection {
    read: OwnedReadHalf,
    /// `None` once a task writes what is left of the request.
    write: Option<OwnedWriteHalf>,
    /// What has been read and not used.
    pub(crate) unused: Bytes,
    pool: Arc<Pool>,
}

impl Pool {
    /// A pool for `address` (`host:port`).
    pub(crate) fn new(address: String) -> Arc<Self> {
        Arc::new(Self {
            address,
            idle: std::array::from_fn(|_| Mutex::default()),
            broke: Mutex::default(),
        })
    }

    /// The connection that was used last, if one is open and fresh.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Connection> {
        let mut idle = self.lock();
        while let Some(Idle { read, write, since }) = idle.pop_back() {
            if clock::uptime().saturating_sub(since) > IDLE {
                // The rest waited longer still.
                idle.clear();
                return None;
            }
            // Sees what has come meanwhile: mostly nothing, else the end. A call that met it only when
            // it is sent could not be held any more for an instance that comes back.
            if is_quiet(&read) {
                return Some(Connection::new(read, write, self));
            }
        }
        None
    }

    /// Waits until what broke off a connection is gone.
    async fn outlive_dying(&self) {
        // No code panics while it holds the lock.
        let broke = *self.broke.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(broke) = broke {
            tokio::time::sleep(DYING.saturating_sub(broke.elapsed())).await;
        }
    }

    /// Opens a connection.
    pub(crate) async fn connect(self: &Arc<Self>) -> io::Result<Connection> {
        self.outlive_dying().await;
        let stream = timeout(CONNECT, TcpStream::connect(self.address.as_str())).await??;
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        Ok(Connection::new(read, write, self))
    }

    /// Closes what is idle, since the other side has broken a connection off: what dies closes one
    /// after another, and a call sent on one that is next cannot be repeated safely.
    pub(crate) fn distrust(&self) {
        // No code panics while it holds the lock.
        *self.broke.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        for idle in &self.idle {
            // No code panics while it holds the lock.
            idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// Closes what has been idle for too long: nobody else notices, while no request comes, that the
    /// other side has closed it.
    pub(crate) fn sweep(&self) {
        let now = clock::uptime();
        for idle in &self.idle {
            // No code panics while it holds the lock.
            let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|kept| now.saturating_sub(kept.since) <= IDLE);
        }
    }

    fn keep(&self, read: OwnedReadHalf, write: OwnedWriteHalf) {
        let now = clock::uptime();
        let mut idle = self.lock();
        while idle
            .front()
            .is_some_and(|oldest| now.saturating_sub(oldest.since) > IDLE)
        {
            idle.pop_front();
        }
        if idle.len() < MAX_IDLE {
            idle.push_back(Idle {
                read,
                write,
                since: now,
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        // No code panics while it holds the lock.
        self.idle[worker::place()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether nothing has come on an idle connection, nor its end.
fn is_quiet(read: &OwnedReadHalf) -> bool {
    // Asks the kernel only where the event loop has heard of something.
    matches!(read.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// The rest of a request that goes on by itself while its answer is read.
#[derive(Debug)]
pub(crate) struct Rest {
    task: JoinHandle<Result<(), BodyError>>,
    /// Tells the task by being dropped that the answer is over.
    _answered: oneshot::Sender<()>,
}

impl Rest {
    /// Ready once it has ended, with an error if its body broke off. Not to be asked again then.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        // It is never aborted, and what it does does not panic.
        Pin::new(&mut self.task)
            .poll(cx)
            .map(|ended| ended.unwrap_or(Ok(())))
    }
}

impl fmt::Debug for Connection {
    // Without what instances answer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("stream", &self.read.as_ref())
            .finish_non_exhaustive()
    }
}

impl Connection {
    fn new(read: OwnedReadHalf, write: OwnedWriteHalf, pool: &Arc<Pool>) -> Self {
        Self {
            read,
            write: Some(write),
            unused: Bytes::new(),
            pool: Arc::clone(pool),
        }
    }

    /// Writes what can be written now of a request; ready when that is all.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        sending: &mut Sending,
    ) -> Poll<Result<(), Unsent>> {
        match &mut self.write {
            Some(write) => sending.poll(cx, Pin::new(write)),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Reads more than is `unused` and says how much; nothing at the end.
    pub(crate) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.read).poll_read(cx, &mut buffer))?;
            let came = buffer.filled();
            if self.unused.is_empty() {
                self.unused = Bytes::copy_from_slice(came);
            } else {
                let before = std::mem::take(&mut self.unused).try_into_mut();
                let mut grown = before.unwrap_or_else(|shared| BytesMut::from(&*shared));
                grown.extend_from_slice(came);
                self.unused = grown.freeze();
            }
            Poll::Ready(Ok(came.len()))
        })
    }

    /// Gives the rest of a request a task of its own, since nobody may read the answer meanwhile. The
    /// connection will not be kept.
    pub(crate) fn go_on(&mut self, mut sending: Sending) -> Option<Rest> {
        let mut write = self.write.take()?;
        let (answered, over) = oneshot::channel();
        let send = async move {
            let rest = std::future::poll_fn(|cx| sending.poll(cx, Pin::new(&mut write)));
            let longest = async {
                // Ends by being dropped.
                let _ = over.await;
                tokio::time::sleep(SETTLE).await;
            };
            tokio::select! {
                sent = rest => match sent {
                    Err(Unsent::Body(error)) => return Err(error),
                    // A server that takes no more of a request may still answer it.
                    Err(Unsent::Connection(_)) | Ok(()) => write.forget(),
                },
                () = longest => {}
            }
            Ok(())
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "whoever reads the answer asks how it ended"
        )]
        let task = tokio::spawn(send);
        Some(Rest {
            task,
            _answered: answered,
        })
    }

    /// Keeps the connection for the next request; called when the response has ended, and nothing is
    /// left of the request.
    pub(crate) fn give_back(self) {
        let Self {
            read,
            write,
            unused,
            pool,
        } = self;
        if let Some(write) = write
            && unused.is_empty()
        {
            pool.keep(read, write);
        }
    }
}
