//! What clients did on their way to a connection, until the next report. Like steps are counted
//! together.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue};
use uuid::Uuid;

use crate::clock;
use crate::connections::customer;
use crate::protocol::{ConnectionStep, EdgeStep};

/// Different steps of users kept until they are reported, and as many of strangers; more of them are
/// counted as dropped. Far above what people do, and a bound for what a scanner can make the edge
/// remember (some 0.5 MiB).
const MAX_STEPS: u32 = 1000;

/// Different steps of one user among them, or of one stranger's network address. Behind the address
/// of an office or a hosted client are many people; one program that makes up names for itself must
/// not drown them all.
const MAX_OF_ONE: u32 = 100;

/// Most of a `User-Agent` that is told, in bytes.
const MAX_USER_AGENT: usize = 200;

/// The steps since the last report.
#[derive(Debug, Default)]
pub(crate) struct Steps(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    seen: HashMap<Step, Times>,
    users: Share<Uuid>,
    strangers: Share<IpAddr>,
    dropped: u64,
}

/// How many steps a kind of people has,
#[derive(Debug)]
struct Share<K> {
    all: u32,
    /// and each of them.
    of_one: HashMap<K, u32>,
}

/// What makes two steps alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Step {
    project: Uuid,
    taken: EdgeStep,
    address: String,
    user_agent: Option<String>,
    client_id: Option<String>,
    user: Option<Uuid>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Times {
    count: u32,
    at_ms: i64,
}

/// Who took a step.
#[derive(Debug)]
pub(crate) struct Walker<'a> {
    pub(crate) address: &'a HeaderValue,
    /// The request's.
    pub(crate) headers: &'a HeaderMap,
    /// The token's client and user, where one was verified.
    pub(crate) caller: Option<(&'a str, Uuid)>,
}

impl Steps {
    /// Notes a step that `walker` took at `project`.
    pub(crate) fn record(&self, project: Uuid, step: EdgeStep, walker: &Walker<'_>) {
        let user_agent = walker.headers.get(USER_AGENT).map(user_agent);
        let step = Step {
            project,
            taken: step,
            address: walker.address.to_str().unwrap_or_default().to_owned(),
            user_agent,
            client_id: walker.caller.map(|(client, _)| client.to_owned()),
            user: walker.caller.map(|(_, user)| user),
        };
        self.lock().add(step, clock::millis());
    }

    /// Whether there is something to report.
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.lock();
        state.seen.is_empty() && state.dropped == 0
    }

    /// The steps since the last time, and how many more there were.
    pub(crate) fn take(&self) -> (Vec<ConnectionStep>, u64) {
        let state = std::mem::take(&mut *self.lock());
        let steps = state.seen.into_iter().map(|(step, times)| ConnectionStep {
            project: step.project,
            step: step.taken,
            at_ms: times.at_ms,
            count: times.count,
            address: step.address,
            user_agent: step.user_agent,
            client_id: step.client_id,
            user: step.user,
        });
        (steps.collect(), state.dropped)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, step: Step, at_ms: i64) {
        if !self.seen.contains_key(&step) && !self.has_room_for(&step) {
            self.dropped += 1;
            return;
        }
        let known = self.seen.entry(step).or_default();
        known.count = known.count.saturating_add(1);
        known.at_ms = known.at_ms.max(at_ms);
    }

    /// Counts one more step, if there is room for it.
    fn has_room_for(&mut self, step: &Step) -> bool {
        match (step.user, step.address.parse().map(customer)) {
            (Some(user), _) => self.users.take(user),
            (None, Ok(address)) => self.strangers.take(address),
            (None, Err(_)) => false,
        }
    }
}

impl<K> Default for Share<K> {
    fn default() -> Self {
        Self {
            all: 0,
            of_one: HashMap::new(),
        }
    }
}

impl<K: Eq + Hash> Share<K> {
    fn take(&mut self, one: K) -> bool {
        if self.all >= MAX_STEPS {
            return false;
        }
        let own = self.of_one.entry(one).or_default();
        if *own >= MAX_OF_ONE {
            return false;
        }
        *own += 1;
        self.all += 1;
        true
    }
}

/// As text that can be shown, cut at a character's end.
fn user_agent(value: &HeaderValue) -> String {
    let text = String::from_utf8_lossy(value.as_bytes());
    text[..text.floor_char_boundary(MAX_USER_AGENT)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(agent: &[u8]) -> HeaderMap {
        HeaderMap::from_iter([(USER_AGENT, HeaderValue::from_bytes(agent).unwrap())])
    }

    fn walker<'a>(headers: &'a HeaderMap, address: &'a HeaderValue) -> Walker<'a> {
        Walker {
            address,
            headers,
            caller: None,
        }
    }

    #[test]
    fn like_steps_are_counted_together() {
        let steps = Steps::default();
        let address = HeaderValue::from_static("203.0.113.7");
        let (one, other) = (headers(b"claude/1"), headers(b"cursor/1"));
        let project = Uuid::from_u128(1);
        assert!(steps.is_empty());
        for _ in 0..3 {
            steps.record(project, EdgeStep::Challenged, &walker(&one, &address));
        }
        steps.record(project, EdgeStep::Challenged, &walker(&other, &address));
        let (mut taken, dropped) = steps.take();
        assert!(steps.is_empty());
        assert_eq!((taken.len(), dropped), (2, 0));
        taken.sort_by_key(|step| step.count);
        let counts: Vec<_> = taken.iter().map(|step| step.count).collect();
        assert_eq!(counts, [1, 3]);
        assert_eq!(taken[1].user_agent.as_deref(), Some("claude/1"));
        assert_eq!(taken[1].address, "203.0.113.7");
        assert!(taken[1].at_ms > 0);
    }

    #[test]
    fn no_crowd_makes_it_remember_more() {
        let steps = Steps::default();
        let headers = headers(b"scanner/1");
        for number in 0..MAX_STEPS + 5 {
            let address = format!("198.51.{}.{}", number / 256, number % 256);
            let address = HeaderValue::try_from(address).unwrap();
            let walker = walker(&headers, &address);
            steps.record(Uuid::nil(), EdgeStep::TokenInvalid, &walker);
        }
        // Nor does it keep a user's step out.
        let address = HeaderValue::from_static("203.0.113.7");
        let user = Walker {
            caller: Some(("claude", Uuid::from_u128(1))),
            ..walker(&headers, &address)
        };
        steps.record(Uuid::nil(), EdgeStep::Called, &user);
        let (taken, dropped) = steps.take();
        assert_eq!((taken.len(), dropped), (1001, 5));
        assert!(taken.iter().any(|step| step.step == EdgeStep::Called));
    }

    #[test]
    fn one_address_does_not_drown_the_others() {
        let steps = Steps::default();
        let loud = |number: u32| {
            let headers = headers(format!("scanner/{number}").as_bytes());
            // All of one customer's network.
            let address = HeaderValue::try_from(format!("2001:db8::{number:x}")).unwrap();
            let walker = walker(&headers, &address);
            steps.record(Uuid::nil(), EdgeStep::TokenInvalid, &walker);
        };
        (0..MAX_OF_ONE + 5).for_each(loud);
        // What is known already is still counted.
        loud(0);
        let (headers, other) = (
            headers(b"claude/1"),
            HeaderValue::from_static("203.0.113.7"),
        );
        steps.record(Uuid::nil(), EdgeStep::Challenged, &walker(&headers, &other));
        let (taken, dropped) = steps.take();
        assert_eq!((taken.len(), dropped), (101, 5));
        assert_eq!(taken.iter().map(|step| step.count).max(), Some(2));
        (0..MAX_OF_ONE).for_each(loud);
        assert_eq!(steps.take().1, 0);
    }

    #[test]
    fn a_user_agent_is_cut_between_characters() {
        let long = HeaderValue::from_bytes("é".repeat(150).as_bytes()).unwrap();
        assert_eq!(user_agent(&long), "é".repeat(100));
        let odd = HeaderValue::from_bytes(b"a\xffb").unwrap();
        assert_eq!(user_agent(&odd), "a\u{fffd}b");
    }
}
