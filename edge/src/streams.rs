//! Streams of events that are open, so that one ends when its caller may call no more. Tokens are
//! looked at when a request comes in; a stream may go on for days after that.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::access::{Access, Passing};
use crate::caller::{Caller, Credential};
use crate::site::Site;
use crate::table::Routes;

/// The open streams of one project.
#[derive(Debug, Default)]
pub(crate) struct Streams(Mutex<HashMap<usize, Arc<Stream>>>);

/// By which right a stream is open.
#[derive(Debug)]
enum Right {
    /// A caller's with a token.
    Caller(Arc<Caller>),
    /// Anybody's, on a path that the project opens although it asks for tokens elsewhere.
    Path(Box<str>),
    /// Anybody's: the project asks for no token.
    Anybody,
}

/// An open stream.
#[derive(Debug)]
struct Stream {
    right: Right,
    over: AtomicBool,
    /// Who reads it, to be told.
    reader: Mutex<Option<Waker>>,
}

/// A stream's place among the open ones, until it is dropped.
#[derive(Debug)]
pub(crate) struct Open {
    streams: Arc<Streams>,
    stream: Arc<Stream>,
}

/// Enters an answer that streams events and was let in by the routes of `site`. Where the routes
/// have changed since, it is over at once if the present ones would not let it in.
pub(crate) fn open(
    routes: &Routes,
    site: &Site,
    caller: Option<&Arc<Caller>>,
    open_path: Option<Box<str>>,
) -> Open {
    let right = match (caller, open_path) {
        (Some(caller), _) => Right::Caller(Arc::clone(caller)),
        (None, Some(path)) => Right::Path(path),
        (None, None) => Right::Anybody,
    };
    let stream = Arc::new(Stream {
        right,
        over: AtomicBool::new(false),
        reader: Mutex::default(),
    });
    let streams = Arc::clone(&site.project.streams);
    // Before the look: a change is seen by this, or it sees the stream.
    streams.lock().insert(key(&stream), Arc::clone(&stream));
    if !routes.hold(site) {
        let now = routes.find_project(site.project.id);
        if !stream.right.holds(now.as_deref()) {
            stream.end();
        }
    }
    Open { streams, stream }
}

impl Streams {
    /// Ends every stream that `now` would not let in; all of them where the project is gone.
    pub(crate) fn end_withdrawn(&self, now: Option<&Site>) {
        // Those who read take this lock when they leave.
        let open: Vec<Arc<Stream>> = self.lock().values().cloned().collect();
        for stream in open {
            if !stream.right.holds(now) {
                stream.end();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<usize, Arc<Stream>>> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Right {
    /// Whether a stream may go on by the routes of `site`. A token's end is none of a stream: its
    /// client renews the token and goes on.
    fn holds(&self, site: Option<&Site>) -> bool {
        let Some(site) = site else { return false };
        match (self, &*site.access) {
            (_, Access::Public | Access::Tenant) => true,
            (Self::Anybody, Access::Platform(_)) => false,
            (Self::Path(path), Access::Platform(_)) => {
                site.passing(path) == Some(Passing::PublicPath)
            }
            (Self::Caller(caller), Access::Platform(rules)) => {
                is_good(caller, site) && rules.admit(caller.user, &site.directory)
            }
        }
    }
}

/// Whether a token that was let in is still good for `site`, expired or not.
fn is_good(caller: &Arc<Caller>, site: &Site) -> bool {
    match &caller.credential {
        Credential::AccessToken {
            grant, audience, ..
        } => {
            !site.directory.is_revoked(*grant)
                && caller.covers(site.project.named)
                && **audience == *site.resource
        }
        Credential::ApiToken { stated, .. } => site.directory.takes(stated, site.project.named),
    }
}

impl Stream {
    fn end(&self) {
        self.over.store(true, Ordering::Release);
        if let Some(reader) = self.reader().take() {
            reader.wake();
        }
    }

    fn reader(&self) -> MutexGuard<'_, Option<Waker>> {
        // No code panics while it holds the lock.
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Whether the stream must end, which its reader is told of otherwise.
    pub(crate) fn poll_over(&self, cx: &Context<'_>) -> Poll<()> {
        {
            let mut reader = self.stream.reader();
            if !reader
                .as_ref()
                .is_some_and(|known| known.will_wake(cx.waker()))
            {
                *reader = Some(cx.waker().clone());
            }
        }
        // After the waker is there: an end is seen by this, or it sees the waker.
        if self.stream.over.load(Ordering::Acquire) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.streams.lock().remove(&key(&self.stream));
    }
}

/// Names a stream while it lives.
fn key(stream: &Arc<Stream>) -> usize {
    Arc::as_ptr(stream).addr()
}
