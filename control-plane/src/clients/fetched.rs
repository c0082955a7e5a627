//! What clients publish, documents and key sets: fetched at most once at a time, within bounds for
//! each that asks, and not again right after a failure.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use outbound::{Document, Fault, Fetcher};
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use super::documents::{Unresolved, WHILE_AWAY, lifetime};
use super::keys;
use crate::error::Error;
use crate::signin::attempts::Limiter;

/// Fetches per address and minute. Hosted clients share one document among all people, so even
/// they cause a few in an hour.
const PER_ADDRESS: u32 = 10;

/// A failure is remembered this long before the next attempt.
const FAILED: Duration = Duration::MINUTE;

/// Key sets that are asked for anew because of an unknown key, at most this often each.
const KEYS_AGAIN: Duration = Duration::MINUTE;

/// Failures kept in memory; beyond it the old ones go.
const MAX_FAILURES: usize = 10_000;

/// Key sets kept in memory; beyond it the old ones go. Each may take as much as its document, 64
/// KiB, and strangers choose how many there are.
const MAX_KEY_SETS: usize = 500;

/// Where documents come from; tests have their own.
#[async_trait]
pub trait Source: Send + Sync {
    /// The JSON document at `url`.
    async fn json(&self, url: &str) -> Result<Document, Fault>;
}

#[async_trait]
impl Source for Fetcher {
    async fn json(&self, url: &str) -> Result<Document, Fault> {
        Fetcher::json(self, url).await
    }
}

/// Why a document could not be had.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    at: OffsetDateTime,
    why: String,
    is_temporary: bool,
}

#[derive(Debug, Clone)]
struct KeySet {
    keys: Value,
    fetched_at: OffsetDateTime,
    fresh_until: OffsetDateTime,
}

/// Fetches documents and key sets of clients, each at most once at a time.
pub struct Documents {
    source: Box<dyn Source>,
    per_address: Limiter<IpAddr>,
    flights: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    failures: Mutex<HashMap<String, Failure>>,
    key_sets: Mutex<HashMap<String, KeySet>>,
}

impl std::fmt::Debug for Documents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Documents(…)")
    }
}

impl Documents {
    /// Nothing is kept yet.
    pub fn new(source: impl Source + 'static) -> Self {
        Self {
            source: Box::new(source),
            per_address: Limiter::new(PER_ADDRESS, Duration::MINUTE),
            flights: Mutex::default(),
            failures: Mutex::default(),
            key_sets: Mutex::default(),
        }
    }

    /// Whoever holds this lock is the only one that fetches `url`.
    pub(super) fn flight(&self, url: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut flights = lock(&self.flights);
        if let Some(flight) = flights.get(url).and_then(Weak::upgrade) {
            return flight;
        }
        flights.retain(|_, flight| flight.strong_count() > 0);
        let flight = Arc::default();
        flights.insert(url.to_owned(), Arc::downgrade(&flight));
        flight
    }

    /// Fetches for `asking`, unless that failed a moment ago.
    pub(super) async fn fetch(&self, url: &str, asking: IpAddr, now: OffsetDateTime) -> Fetched {
        let failed = lock(&self.failures).get(url).cloned();
        if let Some(failure) = failed.filter(|failure| now - failure.at < FAILED) {
            return Fetched::Failed(failure);
        }
        if let Err(error) = self.per_address.admit(asking, now) {
            return Fetched::Refused(error);
        }
        match self.source.json(url).await {
            Ok(document) => Fetched::Document(document),
            Err(fault) => {
                Fetched::Failed(self.failed(url, fault.to_string(), fault.is_temporary(), now))
            }
        }
    }

    pub(super) fn failed(
        &self,
        url: &str,
        why: String,
        is_temporary: bool,
        at: OffsetDateTime,
    ) -> Failure {
        let failure = Failure {
            at,
            why,
            is_temporary,
        };
        let mut failures = lock(&self.failures);
        make_room(&mut failures, MAX_FAILURES, |kept| at - kept.at < FAILED);
        failures.insert(url.to_owned(), failure.clone());
        failure
    }

    /// The keys at `url`; with `newer`, not those kept when they are older than a minute.
    pub(super) async fn keys(
        &self,
        url: &str,
        asking: IpAddr,
        newer: bool,
        now: OffsetDateTime,
    ) -> Result<Value, Unresolved> {
        let kept = || {
            let kept = lock(&self.key_sets).get(url).cloned();
            let good = |kept: &KeySet| {
                now < kept.fresh_until && !(newer && now - kept.fetched_at >= KEYS_AGAIN)
            };
            kept.map(|kept| (good(&kept), kept))
        };
        if let Some((true, kept)) = kept() {
            return Ok(kept.keys);
        }
        let flight = self.flight(url);
        let _alone = flight.lock().await;
        let old = match kept() {
            Some((true, kept)) => return Ok(kept.keys),
            old => old.map(|(_, kept)| kept),
        };
        match self.fetch(url, asking, now).await {
            Fetched::Document(document) => {
                let set = KeySet {
                    fresh_until: now + lifetime(&document),
                    fetched_at: now,
                    keys: keys::kept(&document.body),
                };
                let mut sets = lock(&self.key_sets);
                make_room(&mut sets, MAX_KEY_SETS, |kept| now < kept.fresh_until);
                sets.insert(url.to_owned(), set.clone());
                Ok(set.keys)
            }
            other => match old {
                Some(old) if other.is_temporary() && now < old.fresh_until + WHILE_AWAY => {
                    Ok(old.keys)
                }
                _ => Err(other.unresolved("The key set at the client's jwks_uri")),
            },
        }
    }
}

/// What came of a fetch.
pub(super) enum Fetched {
    Document(Document),
    Failed(Failure),
    /// This address has asked too often.
    Refused(Error),
}

impl Fetched {
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            Self::Document(_) => false,
            Self::Failed(failure) => failure.is_temporary,
            Self::Refused(_) => true,
        }
    }

    /// Why there is no `what`.
    pub(super) fn unresolved(self, what: &str) -> Unresolved {
        match self {
            Self::Document(_) => Unresolved::Unknown,
            Self::Failed(failure) if failure.is_temporary => Unresolved::Away(format!(
                "{what} cannot be had just now: {}; try again in a minute.",
                failure.why
            )),
            Self::Failed(failure) => Unresolved::Unusable(format!(
                "{what} cannot be used: {}; its developer can mend that.",
                failure.why
            )),
            Self::Refused(error) => Unresolved::Failed(error),
        }
    }
}

/// Drops what is not `good` when there is too much, and if that does not help all.
fn make_room<T>(kept: &mut HashMap<String, T>, most: usize, good: impl Fn(&T) -> bool) {
    if kept.len() >= most {
        kept.retain(|_, value| good(value));
        if kept.len() >= most {
            kept.clear();
        }
    }
}

/// A panic while a lock was held leaves plain data behind, which stays usable.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
