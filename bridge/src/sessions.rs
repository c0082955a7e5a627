//! All sessions of the instance.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::child::Child;
use crate::limits::{FRESH, IDLE, most_sessions};
use crate::report;
use crate::session::Session;
use crate::settings::Settings;

/// Why there is no new session.
pub enum Refusal {
    /// There is no room, and none can be made.
    Full(usize),
    /// The server cannot be started; for people.
    Unstartable(String),
}

/// The sessions, and how to begin one.
pub struct Sessions {
    settings: Settings,
    most: usize,
    open: Mutex<HashMap<String, Arc<Session>>>,
    tasks: TaskTracker,
}

impl Sessions {
    /// None yet.
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            settings,
            most: most_sessions(),
            open: Mutex::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// Begins one with a process of its own. Where there is no room, the one that was idle longest
    /// makes room.
    pub fn begin(self: &Arc<Self>) -> Result<Arc<Session>, Refusal> {
        let mut open = self.open();
        if open.len() >= self.most {
            let idle = longest_idle(open.values()).ok_or(Refusal::Full(self.most))?;
            report::say("All sessions are taken: the one that was idle longest ends.");
            idle.close();
            open.remove(&idle.id);
        }
        let child = Child::start(&self.settings)
            .map_err(|error| Refusal::Unstartable(format!("{error:#}.")))?;
        let (session, lines) = Session::new();
        open.insert(session.id.clone(), Arc::clone(&session));
        let (all, running) = (Arc::clone(self), Arc::clone(&session));
        self.tasks.spawn(async move {
            running.run(child, lines).await;
            all.open().remove(&running.id);
        });
        Ok(session)
    }

    /// By id.
    pub fn find(&self, id: &str) -> Option<Arc<Session>> {
        let found = self.open().get(id).cloned();
        found.filter(|session| session.ended().is_none())
    }

    /// Ends one that its client has left; says whether it was there.
    pub fn end(&self, id: &str) -> bool {
        let found = self.open().remove(id);
        if let Some(session) = &found {
            session.leave();
        }
        found.is_some()
    }

    /// Ends those that nobody uses any more, and what nobody waits for.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.open().retain(|_, session| {
            session.forget_canceled(now);
            let is_idle = session
                .unused()
                .is_some_and(|(since, is_listening)| !is_listening && now > since + IDLE);
            if is_idle {
                session.close();
            }
            !is_idle
        });
    }

    /// Ends all and waits for their processes.
    pub async fn close(&self) {
        for (_, session) in self.open().drain() {
            session.close();
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The session that was idle longest, first among those whose client does not listen.
fn longest_idle<'a>(sessions: impl Iterator<Item = &'a Arc<Session>>) -> Option<Arc<Session>> {
    sessions
        .filter_map(|session| {
            let (since, is_listening) = session.unused()?;
            (since + FRESH < Instant::now()).then_some((is_listening, since, session))
        })
        .min_by_key(|(is_listening, since, _)| (*is_listening, *since))
        .map(|(_, _, session)| Arc::clone(session))
}
