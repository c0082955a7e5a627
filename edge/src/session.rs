//! Which deployment owns an MCP session, and whether anybody still uses it.
//!
//! A legacy server keeps its sessions in memory, so a session's requests must reach the instance
//! that issued its id, also after a newer deployment took over (MCP 2025-11-25, Streamable HTTP,
//! session management). Ids are learned from responses and kept as hashes alone: whoever knows an
//! id may speak in its session. A session belongs to the person and client that opened it; for
//! anyone else it does not exist.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use uuid::Uuid;

/// Sessions remembered per project: as many as the Python SDK's server holds at most.
const MAX_SESSIONS: usize = 10_000;

/// Longest id remembered, in bytes; a server's longer ids go to the live instance.
const MAX_ID: usize = 256;

/// A session is forgotten after this long without a request. Servers drop idle ones after 30
/// minutes; an open stream may be the only sign of life for much longer.
const IDLE: Duration = Duration::from_hours(24);

/// A session counts as live for this long after its last request, stream or not: as long as the
/// SDKs' servers keep an idle one (1800 s), since most clients cannot start another. Clients that
/// keep an ear on the server hold a stream open and count for as long as that.
const LIVE: Duration = Duration::from_mins(30);

/// Who opened a session: user and client of the token; `None` where the platform asks for none.
pub(crate) type Principal = Option<Arc<str>>;

/// SHA-256 of a session's id.
pub(crate) type SessionKey = [u8; 32];

/// The sessions of one project.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    known: Mutex<HashMap<SessionKey, Arc<Session>>>,
    /// Whether one came or went since the last look.
    changed: AtomicBool,
}

#[derive(Debug)]
struct Session {
    deployment: Uuid,
    principal: Principal,
    /// Last use, see [`ticks`].
    used: AtomicI64,
    /// Responses that stream events in this session at the moment.
    streams: AtomicU32,
    /// A deprecated HTTP+SSE session (MCP 2024-11-05) is over when its one stream ends.
    is_stream: bool,
}

/// What is known of a session id.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Nothing: the live instance may know it.
    Unknown,
    /// This deployment issued it.
    Deployment(Uuid),
    /// It belongs to somebody else.
    Foreign,
}

/// A stream that is open in a session, until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenStream(Arc<Session>);

/// A session as it is kept across restarts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) key: SessionKey,
    pub(crate) deployment: Uuid,
    pub(crate) principal: Principal,
    /// How long ago it was used last.
    pub(crate) unused_for: Duration,
}

impl Sessions {
    /// Finds the owner of `id` and notes that it is in use.
    pub(crate) fn find(&self, id: &str, principal: &Principal) -> Owner {
        let known = self.lock();
        let Some(session) = known.get(&key(id)) else {
            return Owner::Unknown;
        };
        if session.principal != *principal {
            return Owner::Foreign;
        }
        session.touch();
        Owner::Deployment(session.deployment)
    }

    /// Remembers that `deployment` issued `id` to `principal`. The first to be seen with an id
    /// keeps it.
    pub(crate) fn learn(&self, id: &str, deployment: Uuid, principal: &Principal) {
        if !id.is_empty() && id.len() <= MAX_ID {
            self.insert(key(id), Session::new(deployment, principal.clone()));
        }
    }

    /// Remembers a deprecated HTTP+SSE session, which lives as long as what this returns; nothing
    /// where the id cannot be kept.
    pub(crate) fn learn_stream(
        &self,
        id: &str,
        deployment: Uuid,
        principal: &Principal,
    ) -> Option<OpenStream> {
        if id.is_empty() || id.len() > MAX_ID {
            return None;
        }
        let session = Session {
            is_stream: true,
            ..Session::new(deployment, principal.clone())
        };
        self.insert(key(id), session).then(|| self.open(id))?
    }

    /// Notes that a stream of events begins in session `id`.
    pub(crate) fn open(&self, id: &str) -> Option<OpenStream> {
        let session = Arc::clone(self.lock().get(&key(id))?);
        session.streams.fetch_add(1, Ordering::Relaxed);
        Some(OpenStream(session))
    }

    /// Forgets `id`: it was ended, or its instance is gone.
    pub(crate) fn forget(&self, id: &str) {
        if self.lock().remove(&key(id)).is_some() {
            self.changed.store(true, Ordering::Relaxed);
        }
    }

    /// Adds to `counts` how many sessions of each deployment are live at `now`.
    pub(crate) fn count_live(&self, now: Instant, counts: &mut HashMap<Uuid, u32>) {
        for session in self.lock().values() {
            if session.is_live(now) {
                *counts.entry(session.deployment).or_default() += 1;
            }
        }
    }

    /// Whether a session came or went since this was asked last.
    pub(crate) fn take_changed(&self) -> bool {
        self.changed.swap(false, Ordering::Relaxed)
    }

    /// The sessions that a restart of the edge leaves alive.
    pub(crate) fn keep(&self, now: Instant) -> Vec<Kept> {
        let known = self.lock();
        let lasting = known.iter().filter(|(_, session)| !session.is_stream);
        let kept = lasting.map(|(key, session)| Kept {
            key: *key,
            deployment: session.deployment,
            principal: session.principal.clone(),
            unused_for: session.unused_for(now),
        });
        kept.filter(|kept| kept.unused_for < IDLE).collect()
    }

    /// Takes back a session that an earlier run kept.
    pub(crate) fn restore(&self, kept: Kept, now: Instant) {
        let session = Session::new(kept.deployment, kept.principal);
        let unused = i64::try_from(kept.unused_for.as_millis()).unwrap_or(i64::MAX);
        session
            .used
            .store(ticks(now).saturating_sub(unused), Ordering::Relaxed);
        self.insert(kept.key, session);
    }

    /// Whether it was new.
    fn insert(&self, key: SessionKey, session: Session) -> bool {
        let mut known = self.lock();
        if known.contains_key(&key) {
            return false;
        }
        if known.len() >= MAX_SESSIONS {
            make_room(&mut known, Instant::now());
        }
        known.insert(key, Arc::new(session));
        self.changed.store(true, Ordering::Relaxed);
        true
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionKey, Arc<Session>>> {
        // No code panics while it holds the lock; if some did, the map would still be whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn new(deployment: Uuid, principal: Principal) -> Self {
        Self {
            deployment,
            principal,
            used: AtomicI64::new(ticks(Instant::now())),
            streams: AtomicU32::new(0),
            is_stream: false,
        }
    }

    fn touch(&self) {
        // Relaxed, here and below: each value protects nothing but itself.
        self.used.store(ticks(Instant::now()), Ordering::Relaxed);
    }

    fn unused_for(&self, now: Instant) -> Duration {
        if self.streams.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        let since = ticks(now).saturating_sub(self.used.load(Ordering::Relaxed));
        Duration::from_millis(u64::try_from(since).unwrap_or(0))
    }

    fn is_live(&self, now: Instant) -> bool {
        let open = self.streams.load(Ordering::Relaxed) > 0;
        open || (!self.is_stream && self.unused_for(now) < LIVE)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.touch();
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

fn key(id: &str) -> SessionKey {
    let mut key = SessionKey::default();
    key.copy_from_slice(digest::digest(&digest::SHA256, id.as_bytes()).as_ref());
    key
}

/// Milliseconds from a moment in this run to `at`; negative for what an earlier run saw.
fn ticks(at: Instant) -> i64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let start = *START;
    let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    match at.checked_duration_since(start) {
        Some(since) => millis(since),
        None => -millis(start.duration_since(at)),
    }
}

/// Drops idle sessions and, where that is not enough, the quarter that was used longest ago.
fn make_room(known: &mut HashMap<SessionKey, Arc<Session>>, now: Instant) {
    known.retain(|_, session| session.unused_for(now) < IDLE);
    if known.len() < MAX_SESSIONS {
        return;
    }
    let age = |session: &Session| session.unused_for(now);
    let mut ages: Vec<Duration> = known.values().map(|session| age(session)).collect();
    let quarter = ages.len() / 4;
    let (_, &mut limit, _) = ages.select_nth_unstable_by(quarter, |a, b| b.cmp(a));
    let mut leaving = quarter.max(1);
    known.retain(|_, session| {
        // The count is for ages that are all alike.
        let leaves = leaving > 0 && age(session) >= limit;
        leaving -= usize::from(leaves);
        !leaves
    });
}

/// The session id in the query of a deprecated HTTP+SSE POST.
pub(crate) fn id_in_query(query: &str) -> Option<&str> {
    query
        .split('&')
        .find_map(|pair| {
            pair.strip_prefix("session_id=")
                .or_else(|| pair.strip_prefix("sessionId="))
        })
        .filter(|id| !id.is_empty())
}

/// Whether every server finds the same session id in a query, or none: where a parameter is escaped,
/// repeated or ends at a semicolon, some find another.
pub(crate) fn is_named_once(query: &str) -> bool {
    let mut named = 0;
    let plain = query.split('&').all(|pair| {
        let key = pair.split('=').next().unwrap_or_default();
        let names_session = matches!(key, "session_id" | "sessionId");
        named += usize::from(names_session);
        let read = if names_session { pair } else { key };
        !read.contains(['%', '+'])
    });
    plain && named <= 1 && !query.contains(';')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(sessions: &Sessions, now: Instant) -> HashMap<Uuid, u32> {
        let mut counts = HashMap::new();
        sessions.count_live(now, &mut counts);
        counts
    }

    #[test]
    fn a_session_stays_with_its_deployment_and_its_principal() {
        let sessions = Sessions::default();
        let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let ada: Principal = Some("ada\nclaude".into());
        sessions.learn("s", first, &ada);
        sessions.learn("s", second, &None);
        assert_eq!(sessions.find("s", &ada), Owner::Deployment(first));
        assert_eq!(sessions.find("s", &None), Owner::Foreign);
        assert_eq!(
            sessions.find("s", &Some("ada\ncursor".into())),
            Owner::Foreign
        );
        assert_eq!(sessions.find("t", &ada), Owner::Unknown);
        sessions.forget("s");
        assert_eq!(sessions.find("s", &ada), Owner::Unknown);
    }

    #[test]
    fn memory_is_bounded_and_ids_beyond_measure_are_not_kept() {
        let sessions = Sessions::default();
        let id = Uuid::from_u128(1);
        for n in 0..=MAX_SESSIONS {
            sessions.learn(&n.to_string(), id, &None);
        }
        assert!(sessions.lock().len() <= MAX_SESSIONS);
        assert_eq!(
            sessions.find(&MAX_SESSIONS.to_string(), &None),
            Owner::Deployment(id)
        );
        let long = "x".repeat(MAX_ID + 1);
        sessions.learn(&long, id, &None);
        assert_eq!(sessions.find(&long, &None), Owner::Unknown);
    }

    #[test]
    fn what_was_used_longest_ago_makes_room() {
        let now = Instant::now();
        let sessions = Sessions::default();
        for n in 0..MAX_SESSIONS {
            let kept = Kept {
                key: key(&n.to_string()),
                deployment: Uuid::from_u128(1),
                principal: None,
                unused_for: Duration::from_secs(n as u64),
            };
            sessions.restore(kept, now);
        }
        sessions.learn("new", Uuid::from_u128(1), &None);
        for (id, stays) in [("0", true), ("5000", true), ("7000", true), ("7600", false)] {
            let found = sessions.find(id, &None) != Owner::Unknown;
            assert_eq!(found, stays, "{id}");
        }
    }

    #[test]
    fn a_session_is_live_while_it_streams_and_some_minutes_after() {
        let sessions = Sessions::default();
        let deployment = Uuid::from_u128(1);
        sessions.learn("s", deployment, &None);
        let now = Instant::now();
        let later = now + LIVE + Duration::from_secs(1);
        assert_eq!(live(&sessions, now), HashMap::from([(deployment, 1)]));
        assert_eq!(live(&sessions, later), HashMap::new());
        let stream = sessions.open("s");
        assert_eq!(live(&sessions, later), HashMap::from([(deployment, 1)]));
        drop(stream);
        assert_eq!(live(&sessions, now), HashMap::from([(deployment, 1)]));
        assert!(sessions.open("t").is_none());
    }

    #[test]
    fn a_session_of_the_first_revision_ends_with_its_stream() {
        let sessions = Sessions::default();
        let deployment = Uuid::from_u128(1);
        let now = Instant::now();
        let stream = sessions.learn_stream("s", deployment, &None).unwrap();
        assert!(sessions.learn_stream("s", deployment, &None).is_none());
        assert_eq!(sessions.find("s", &None), Owner::Deployment(deployment));
        assert_eq!(live(&sessions, now), HashMap::from([(deployment, 1)]));
        assert_eq!(sessions.keep(now), []);
        drop(stream);
        assert_eq!(live(&sessions, now), HashMap::new());
    }

    #[test]
    fn what_is_kept_is_the_same_after_a_restart() {
        let (before, after) = (Sessions::default(), Sessions::default());
        let deployment = Uuid::from_u128(1);
        let ada: Principal = Some("ada\nclaude".into());
        before.learn("s", deployment, &ada);
        assert!(before.take_changed());
        assert!(!before.take_changed());
        let now = Instant::now();
        for kept in before.keep(now + Duration::from_mins(1)) {
            after.restore(kept, now);
        }
        assert_eq!(live(&after, now), HashMap::from([(deployment, 1)]));
        let late = now + LIVE.saturating_sub(Duration::from_secs(30));
        assert_eq!(live(&after, late), HashMap::new());
        assert_eq!(after.find("s", &None), Owner::Foreign);
        assert_eq!(after.find("s", &ada), Owner::Deployment(deployment));
        assert_eq!(before.keep(now + IDLE + Duration::from_secs(1)), []);
    }

    #[test]
    fn a_query_names_one_session() {
        assert_eq!(id_in_query("a=1&session_id=0a1b"), Some("0a1b"));
        assert_eq!(id_in_query("a=1&sessionId=0a1b"), Some("0a1b"));
        assert_eq!(id_in_query("xsession_id=0a1b"), None);
        for query in ["", "session_id=0a1b", "a=%2F+&sessionId=0a-1b", "a"] {
            assert!(is_named_once(query), "{query}");
        }
        for query in [
            "session_id=a&session_id=b",
            "session_id=a&sessionId=b",
            "session%5Fid=a",
            "session_id=%61",
            "x=1;session_id=a",
            "session_id=a;b",
        ] {
            assert!(!is_named_once(query), "{query}");
        }
    }
}
