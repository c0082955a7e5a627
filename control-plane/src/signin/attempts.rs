//! Counting in memory what must not be tried too often. A restart forgets; that is fine for limits
//! of minutes.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{LazyLock, Mutex, PoisonError};

use http::HeaderMap;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::address::client_address;
use crate::app::App;
use crate::crypto::sha256;
use crate::error::{Error, Result};

/// Keys kept; beyond it those whose window is over are dropped, and if that does not help all.
const MAX_KEYS: usize = 20_000;

/// At most so many events per key within a window that begins with the first.
#[derive(Debug)]
pub struct Limiter<K> {
    limit: u32,
    window: Duration,
    counts: Mutex<HashMap<K, (OffsetDateTime, u32)>>,
}

impl<K: Eq + Hash> Limiter<K> {
    /// `limit` events per `window`.
    pub fn new(limit: u32, window: Duration) -> Self {
        Self {
            limit,
            window,
            counts: Mutex::default(),
        }
    }

    /// Refuses with the seconds to wait when there were too many; counts nothing.
    pub fn check(&self, key: &K, now: OffsetDateTime) -> Result<()> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get(key) {
            Some((since, count)) if *count >= self.limit && now - *since < self.window => {
                Err(self.refusal(*since, now))
            }
            _ => Ok(()),
        }
    }

    fn refusal(&self, since: OffsetDateTime, now: OffsetDateTime) -> Error {
        let wait = (self.window - (now - since)).whole_seconds();
        Error::TooMany {
            retry_after: u64::try_from(wait).unwrap_or(0).max(1),
        }
    }

    /// Counts an event; refuses it with the seconds to wait when there were too many.
    pub fn admit(&self, key: K, now: OffsetDateTime) -> Result<()> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= MAX_KEYS && !counts.contains_key(&key) {
            counts.retain(|_, (since, _)| now - *since < self.window);
            if counts.len() >= MAX_KEYS {
                counts.clear();
            }
        }
        let (since, count) = counts.entry(key).or_insert((now, 0));
        if now - *since >= self.window {
            (*since, *count) = (now, 0);
        }
        if *count >= self.limit {
            return Err(self.refusal(*since, now));
        }
        *count += 1;
        Ok(())
    }

    /// Forgets what was counted for a key.
    pub fn forget(&self, key: &K) {
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }
}

/// The window of both limits on sign-in.
const WINDOW: Duration = Duration::minutes(5);

/// Failed attempts on one account from one address: room for a person who has forgotten which
/// password it was, nothing for a guesser against ten characters.
const PER_ACCOUNT: u32 = 20;

/// Attempts from one address on any account; offices share an address.
const PER_ADDRESS: u32 = 300;

/// The platform is part of each key, for a process that holds more than one.
static ACCOUNTS: LazyLock<Limiter<(Uuid, IpAddr, Vec<u8>)>> =
    LazyLock::new(|| Limiter::new(PER_ACCOUNT, WINDOW));
static ADDRESSES: LazyLock<Limiter<(Uuid, IpAddr)>> =
    LazyLock::new(|| Limiter::new(PER_ADDRESS, WINDOW));

/// Counts an attempt to sign in. Fails with [`Error::TooMany`] when there were too many; call it
/// before looking at the password.
pub fn admit_attempt(app: &App, headers: &HeaderMap, email: &str) -> Result<()> {
    let now = app.clock.now();
    let address = client_address(headers);
    ADDRESSES.admit((app.installation, address), now)?;
    ACCOUNTS.admit(account(app, address, email), now)
}

/// Counts an attempt that names no account. Fails with [`Error::TooMany`] when there were too many.
pub fn admit_address(app: &App, headers: &HeaderMap) -> Result<()> {
    ADDRESSES.admit((app.installation, client_address(headers)), app.clock.now())
}

/// Forgets an account's failed attempts after the right password.
pub fn forget_attempts(app: &App, headers: &HeaderMap, email: &str) {
    ACCOUNTS.forget(&account(app, client_address(headers), email));
}

/// E-mail addresses are counted by their hash, so that an endless one costs no memory.
fn account(app: &App, address: IpAddr, email: &str) -> (Uuid, IpAddr, Vec<u8>) {
    (
        app.installation,
        address,
        sha256(email.trim().to_lowercase()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limiter_refuses_the_event_after_the_last_and_admits_again_when_the_window_is_over() {
        let limiter = Limiter::new(2, Duration::MINUTE);
        let start = OffsetDateTime::UNIX_EPOCH;
        assert!(limiter.admit("a", start).is_ok());
        assert!(limiter.check(&"a", start).is_ok());
        assert!(limiter.admit("a", start + Duration::seconds(10)).is_ok());
        assert!(limiter.check(&"a", start + Duration::seconds(20)).is_err());
        assert!(limiter.check(&"a", start + Duration::MINUTE).is_ok());
        let refused = limiter.admit("a", start + Duration::seconds(20));
        assert!(
            matches!(refused, Err(Error::TooMany { retry_after: 40 })),
            "{refused:?}"
        );
        assert!(limiter.admit("b", start).is_ok());
        assert!(limiter.admit("a", start + Duration::MINUTE).is_ok());
        limiter.forget(&"a");
        assert!(limiter.admit("a", start + Duration::MINUTE).is_ok());
        assert!(limiter.admit("a", start + Duration::MINUTE).is_ok());
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = Limiter::new(1, Duration::MINUTE);
        for key in 0..MAX_KEYS + 10 {
            limiter.admit(key, OffsetDateTime::UNIX_EPOCH).unwrap();
        }
        assert!(limiter.counts.lock().unwrap().len() <= MAX_KEYS);
    }
}
