//! Keep-alive connections to one upstream.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::body::RequestBody;
use crate::{clock, worker};

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

/// After a connection has broken off, a new one is opened this much later at the earliest. A process
/// that dies closes what it holds one after another: its port may still take a connection, to drop it,
/// and a call that was sent on one cannot be repeated safely, where one that waits is held.
const DYING: Duration = Duration::from_millis(50);

/// Most bytes of a response's head.
const MAX_HEAD: usize = 64 * 1024;

/// The idle connections of one upstream.
#[derive(Debug)]
pub(crate) struct Pool {
    address: String,
    /// A connection is used by the thread that opened it, on whose event loop it is.
    idle: [Mutex<VecDeque<Idle>>; worker::PLACES],
    /// When a connection broke off last.
    broke: Mutex<Option<Instant>>,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<RequestBody>,
    driver: Driver,
    /// By [`clock::uptime`].
    since: Duration,
}

/// What moves a connection's bytes. It is moved by whoever uses the connection, in the same task:
/// a task of its own would cost each request two more turns of the scheduler.
#[derive(Debug)]
enum Driver {
    Own(Pin<Box<http1::Connection<TokioIo<TcpStream>, RequestBody>>>),
    /// The connection has ended, or a task moves it.
    Gone,
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) {
        if let Self::Own(connection) = self
            && let Poll::Ready(ended) = connection.as_mut().poll(cx)
        {
            // The request in progress sees the same error and reports it.
            if let Err(error) = ended {
                tracing::debug!(%error, "upstream connection ended");
            }
            *self = Self::Gone;
        }
    }
}

/// A connection taken for one request. Dropping it closes the connection;
/// [`Connection::give_back`] keeps it.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<RequestBody>,
    driver: Driver,
    pool: Arc<Pool>,
}

impl Pool {
    /// A pool for `address` (`host:port`), whose connections run on `tasks`.
    pub(crate) fn new(address: String, tasks: TaskTracker) -> Arc<Self> {
        Arc::new(Self {
            address,
            idle: std::array::from_fn(|_| Mutex::default()),
            broke: Mutex::default(),
            tasks,
        })
    }

    /// The connection that was used last, if one is open and fresh.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Connection> {
        let mut idle = self.lock();
        while let Some(Idle {
            sender,
            mut driver,
            since,
        }) = idle.pop_back()
        {
            if clock::uptime().saturating_sub(since) > IDLE {
                // The rest waited longer still.
                idle.clear();
                return None;
            }
            // Sees what has come meanwhile: mostly nothing, else the end. A call that met it only when
            // it is sent could not be held any more for an instance that comes back.
            driver.poll(&mut Context::from_waker(Waker::noop()));
            if sender.is_ready() {
                return Some(Connection {
                    sender,
                    driver,
                    pool: Arc::clone(self),
                });
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
        let (sender, connection) = http1::Builder::new()
            .max_header_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        Ok(Connection {
            sender,
            driver: Driver::Own(Box::pin(connection)),
            pool: Arc::clone(self),
        })
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

    fn keep(&self, sender: SendRequest<RequestBody>, driver: Driver) {
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
                sender,
                driver,
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

impl Connection {
    /// Moves the connection's bytes; to be called before waiting for something of it.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        self.driver.poll(cx);
    }

    /// Sends a request and waits for the head of the answer, with which the connection comes back.
    pub(crate) fn send(
        mut self,
        request: http::Request<RequestBody>,
    ) -> impl Future<
        Output = Result<
            (http::Response<hyper::body::Incoming>, Self),
            hyper::client::conn::TrySendError<http::Request<RequestBody>>,
        >,
    > {
        // Boxed: it has room for the request, and moves a few times before it is waited for.
        let mut answer = Box::pin(self.sender.try_send_request(request));
        let mut connection = Some(self);
        std::future::poll_fn(move |cx| {
            connection
                .as_mut()
                .expect("polled after its end")
                .driver
                .poll(cx);
            answer
                .as_mut()
                .poll(cx)
                .map_ok(|response| (response, connection.take().expect("it was there just now")))
        })
    }

    /// Gives the connection a task of its own, for when its user may wait for other things while
    /// bytes must move.
    pub(crate) fn detach(&mut self) {
        if let Driver::Own(connection) = std::mem::replace(&mut self.driver, Driver::Gone) {
            self.pool.tasks.spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "upstream connection ended");
                }
            });
        }
    }

    /// Keeps the connection for the next request; called when the response has ended.
    pub(crate) fn give_back(mut self) {
        // Mostly it is ready since it was moved for the end of the response.
        if !self.sender.is_ready() {
            self.driver.poll(&mut Context::from_waker(Waker::noop()));
        }
        let Self {
            mut sender,
            mut driver,
            pool,
        } = self;
        if sender.is_ready() {
            pool.keep(sender, driver);
        } else if !sender.is_closed() {
            let tasks = pool.tasks.clone();
            tasks.spawn(async move {
                let ready = {
                    let mut ready = std::pin::pin!(sender.ready());
                    timeout(
                        SETTLE,
                        std::future::poll_fn(|cx| {
                            driver.poll(cx);
                            ready.as_mut().poll(cx)
                        }),
                    )
                    .await
                };
                if let Ok(Ok(())) = ready {
                    pool.keep(sender, driver);
                }
            });
        }
    }
}
