//! Which deployment owns an MCP session.
//!
//! A legacy server keeps its sessions in memory, so a session's requests must reach the instance
//! that issued its id, also after a newer deployment took over (MCP 2025-11-25, Streamable HTTP,
//! session management). Ids are learned from responses. A session belongs to the person and client
//! that opened it; for anyone else it does not exist.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

/// Sessions remembered per project: as many as the Python SDK's server holds at most.
const MAX_SESSIONS: usize = 10_000;

/// Longest id remembered, in bytes; a server's longer ids go to the live instance.
const MAX_ID: usize = 256;

/// A session is forgotten after this long without a request. Servers drop idle ones after 30
/// minutes; an open stream may be the only sign of life for much longer.
const IDLE: Duration = Duration::from_hours(24);

/// Who opened a session: subject and client of the access token; `None` in a public project.
pub(crate) type Principal = Option<Arc<str>>;

/// The sessions of one project.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    known: Mutex<HashMap<Box<str>, Session>>,
}

#[derive(Debug)]
struct Session {
    deployment: Uuid,
    principal: Principal,
    used: Instant,
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

impl Sessions {
    /// Finds the owner of `id` and notes that it is in use.
    pub(crate) fn find(&self, id: &str, principal: &Principal) -> Owner {
        let mut known = self.lock();
        let Some(session) = known.get_mut(id) else {
            return Owner::Unknown;
        };
        if session.principal != *principal {
            return Owner::Foreign;
        }
        session.used = Instant::now();
        Owner::Deployment(session.deployment)
    }

    /// Remembers that `deployment` issued `id` to `principal`. The first to be seen with an id
    /// keeps it.
    pub(crate) fn learn(&self, id: &str, deployment: Uuid, principal: &Principal) {
        if id.is_empty() || id.len() > MAX_ID {
            return;
        }
        let mut known = self.lock();
        if known.contains_key(id) {
            return;
        }
        let now = Instant::now();
        if known.len() >= MAX_SESSIONS {
            make_room(&mut known, now);
        }
        known.insert(
            id.into(),
            Session {
                deployment,
                principal: principal.clone(),
                used: now,
            },
        );
    }

    /// Forgets `id`: it was ended, or its server no longer knows it.
    pub(crate) fn forget(&self, id: &str) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Session>> {
        // No code panics while it holds the lock; if some did, the map would still be whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops idle sessions and, where that is not enough, the quarter that was used longest ago.
fn make_room(known: &mut HashMap<Box<str>, Session>, now: Instant) {
    known.retain(|_, session| now.duration_since(session.used) < IDLE);
    if known.len() < MAX_SESSIONS {
        return;
    }
    let mut used: Vec<Instant> = known.values().map(|session| session.used).collect();
    let quarter = used.len() / 4;
    let (_, &mut limit, _) = used.select_nth_unstable(quarter);
    known.retain(|_, session| session.used > limit);
}

/// The session id in the first event of a deprecated HTTP+SSE stream (MCP 2024-11-05), which
/// names the address to post to: `data: /messages/?session_id=…`.
pub(crate) fn id_in_endpoint_event(chunk: &[u8]) -> Option<&str> {
    const KEY: &str = "session_id=";
    let text = std::str::from_utf8(chunk).ok()?;
    if !text.starts_with("event: endpoint") {
        return None;
    }
    let start = text.find(KEY)? + KEY.len();
    let id = text[start..]
        .split(|c: char| c == '&' || c.is_whitespace())
        .next()?;
    (!id.is_empty()).then_some(id)
}

/// The session id in the query of a deprecated HTTP+SSE POST.
pub(crate) fn id_in_query(query: &str) -> Option<&str> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("session_id="))
        .filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_stays_with_its_deployment_and_its_principal() {
        let sessions = Sessions::default();
        let (old, new) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let ada: Principal = Some("ada claude".into());
        sessions.learn("s", old, &ada);
        sessions.learn("s", new, &ada);
        assert_eq!(sessions.find("s", &ada), Owner::Deployment(old));
        assert_eq!(sessions.find("s", &Some("eve".into())), Owner::Foreign);
        assert_eq!(sessions.find("s", &None), Owner::Foreign);
        sessions.forget("s");
        assert_eq!(sessions.find("s", &ada), Owner::Unknown);
    }

    #[test]
    fn memory_is_bounded_and_the_newest_stay() {
        let sessions = Sessions::default();
        let id = Uuid::from_u128(1);
        for n in 0..=MAX_SESSIONS {
            sessions.learn(&n.to_string(), id, &None);
        }
        assert!(sessions.lock().len() <= MAX_SESSIONS);
        assert_eq!(sessions.find("0", &None), Owner::Unknown);
        assert_eq!(
            sessions.find(&MAX_SESSIONS.to_string(), &None),
            Owner::Deployment(id)
        );
        sessions.learn(&"x".repeat(MAX_ID + 1), id, &None);
        assert!(sessions.lock().len() <= MAX_SESSIONS);
    }

    #[test]
    fn the_endpoint_event_names_the_session() {
        let event = b"event: endpoint\r\ndata: /messages/?session_id=0a1b\r\n\r\n";
        assert_eq!(id_in_endpoint_event(event), Some("0a1b"));
        assert_eq!(
            id_in_endpoint_event(b"event: message\r\ndata: session_id=1\r\n\r\n"),
            None
        );
        assert_eq!(id_in_query("a=1&session_id=0a1b"), Some("0a1b"));
        assert_eq!(id_in_query("xsession_id=0a1b"), None);
    }
}
