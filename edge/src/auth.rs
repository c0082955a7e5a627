//! Access tokens: verified once, remembered until they expire.
//!
//! Tokens are JWTs of the platform's authorization server (RFC 9068) signed with ES256. Verification
//! costs some 60 µs and a remembered verdict below 1 µs, so each token is verified once per set of
//! signing keys. What a token is good for, and whether it still is, is asked on every request; see
//! `admit`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use uuid::Uuid;

use crate::caller::{Caller, Credential};
use crate::protocol::{EdgeStep, RouteSnapshot};

/// How far this machine's clock may be ahead of the authorization server's, in seconds.
pub(crate) const LEEWAY: u64 = 60;

/// Longest token looked at, in bytes; the platform's own have some 700.
const MAX_TOKEN: usize = 8 * 1024;

/// Verdicts remembered, good ones and bad ones each.
const MAX_VERDICTS: usize = 50_000;

/// A bad verdict is remembered this long: it spares the work of a client that repeats itself.
const BAD_FOR: Duration = Duration::from_secs(30);

/// Locks over which the verdicts are spread.
const SHARDS: usize = 16;

/// Verifies access tokens for one issuer and its keys.
#[derive(Debug)]
pub(crate) struct Verifier {
    issuer: String,
    jwks: serde_json::Value,
    keys: HashMap<String, DecodingKey>,
    validation: Validation,
    cache: Cache,
}

/// Why a request may not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It carries no bearer token.
    Missing,
    /// The token is malformed, forged or unknown.
    Invalid,
    /// The token has expired.
    Expired,
    /// The token's grant was revoked.
    Revoked,
    /// The token is meant for another project.
    Foreign,
    /// The token does not cover the scope.
    Scope,
    /// The token is good, but its user may not call this project.
    NotAllowed,
}

impl Denied {
    /// The step of a client's connection that it is.
    pub(crate) fn step(self) -> EdgeStep {
        match self {
            Self::Missing => EdgeStep::Challenged,
            Self::Invalid => EdgeStep::TokenInvalid,
            Self::Expired => EdgeStep::TokenExpired,
            Self::Revoked => EdgeStep::TokenRevoked,
            Self::Foreign => EdgeStep::TokenForeign,
            Self::Scope => EdgeStep::ScopeMissing,
            Self::NotAllowed => EdgeStep::CallerNotAllowed,
        }
    }
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    exp: u64,
    /// The user.
    sub: Uuid,
    #[serde(default)]
    client_id: String,
    #[serde(default)]
    scope: String,
    /// The grant.
    gid: Uuid,
    /// The project.
    pid: Uuid,
}

impl Verifier {
    /// The verifier for `snapshot`; keys that cannot be used are left out with a warning.
    pub(crate) fn new(snapshot: &RouteSnapshot) -> Self {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[&snapshot.issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        // Asked on every request, since one verdict serves all of them: who holds a token that has
        // ended, or is for another project, can then be told so.
        validation.validate_exp = false;
        validation.validate_aud = false;
        Self {
            issuer: snapshot.issuer.clone(),
            keys: decoding_keys(&snapshot.keys),
            jwks: snapshot.keys.clone(),
            validation,
            cache: Cache::new(),
        }
    }

    /// Whether this verifier, and all it remembers, is right for `snapshot` too.
    pub(crate) fn serves(&self, snapshot: &RouteSnapshot) -> bool {
        self.issuer == snapshot.issuer && self.jwks == snapshot.keys
    }

    /// The holder of an access token of this issuer, expired or not.
    pub(crate) fn verify(&self, bearer: &str) -> Option<Arc<Caller>> {
        let id = self.cache.id(bearer);
        match self.cache.find(&id) {
            Remembered::Good(caller) => return Some(caller),
            Remembered::Bad => return None,
            Remembered::Nothing => {}
        }
        let verdict = self.decode(bearer).map(Arc::new);
        self.cache.insert(id, verdict)
    }

    /// Verifies signature, type and issuer (RFC 9068 section 4).
    fn decode(&self, bearer: &str) -> Option<Caller> {
        let header = jsonwebtoken::decode_header(bearer).ok()?;
        let is_access_token = header.typ.as_deref().is_some_and(|typ| {
            typ.eq_ignore_ascii_case("at+jwt") || typ.eq_ignore_ascii_case("application/at+jwt")
        });
        // An extension that must be understood is not (RFC 7515 section 4.1.11).
        if !is_access_token || header.crit.is_some() {
            return None;
        }
        let key = self.keys.get(header.kid.as_deref()?)?;
        let claims = jsonwebtoken::decode::<Claims>(bearer, key, &self.validation)
            .ok()?
            .claims;
        if claims.iss != self.issuer {
            return None;
        }
        let credential = Credential::AccessToken {
            grant: claims.gid,
            project: claims.pid,
            audience: claims.aud.into(),
            scope: HeaderValue::try_from(claims.scope).ok()?,
        };
        Caller::new(claims.sub, &claims.client_id, credential, claims.exp)
    }
}

/// The good credentials that a connection showed last, with the verdict on them: most connections
/// show the same with every call, and comparing costs less than reading and finding them.
#[derive(Debug, Default)]
pub(crate) struct Shown(Mutex<Option<LastShown>>);

#[derive(Debug)]
struct LastShown {
    credentials: Box<[u8]>,
    caller: Arc<Caller>,
    /// Whose verdict it is. Weak: an idle connection must not keep all that an old one remembers.
    verifier: Weak<Verifier>,
}

impl Shown {
    /// The holder of the access token in `credentials`, if they came last and `verifier` found them
    /// good.
    pub(crate) fn find(
        &self,
        verifier: &Arc<Verifier>,
        credentials: &HeaderValue,
    ) -> Option<Arc<Caller>> {
        let last = self.lock();
        let same = last.as_ref().filter(|last| {
            std::ptr::eq(last.verifier.as_ptr(), Arc::as_ptr(verifier))
                // In constant time: behind a proxy, others may use the connection too.
                && verify_slices_are_equal(&last.credentials, credentials.as_bytes()).is_ok()
        })?;
        Some(Arc::clone(&same.caller))
    }

    /// Keeps `credentials` that `verifier` has found good.
    pub(crate) fn keep(
        &self,
        verifier: &Arc<Verifier>,
        credentials: &HeaderValue,
        caller: &Arc<Caller>,
    ) {
        *self.lock() = Some(LastShown {
            credentials: credentials.as_bytes().into(),
            caller: Arc::clone(caller),
            verifier: Arc::downgrade(verifier),
        });
    }

    fn lock(&self) -> MutexGuard<'_, Option<LastShown>> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one `Authorization` header; two are a malformed one.
pub(crate) fn credentials(headers: &HeaderMap) -> Result<&HeaderValue, Denied> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Denied::Missing)?;
    if values.next().is_some() {
        return Err(Denied::Invalid);
    }
    Ok(value)
}

/// The token of `Authorization: Bearer` (RFC 6750 section 2.1). Another scheme is no token.
pub(crate) fn bearer_token(credentials: &HeaderValue) -> Result<&str, Denied> {
    let value = credentials.to_str().map_err(|_| Denied::Invalid)?;
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Denied::Missing);
    }
    let token = token.trim();
    if token.is_empty() || token.len() > MAX_TOKEN {
        return Err(Denied::Invalid);
    }
    Ok(token)
}

fn decoding_keys(jwks: &serde_json::Value) -> HashMap<String, DecodingKey> {
    let set: JwkSet = match JwkSet::deserialize(jwks) {
        Ok(set) => set,
        Err(error) => {
            tracing::warn!(%error, "the signing keys in the routes cannot be read: no token will be accepted");
            return HashMap::new();
        }
    };
    let mut keys = HashMap::new();
    for jwk in &set.keys {
        match (jwk.common.key_id.clone(), DecodingKey::from_jwk(jwk)) {
            (Some(id), Ok(key)) => {
                keys.insert(id, key);
            }
            (id, _) => tracing::warn!(key.id = ?id, "a signing key in the routes cannot be used"),
        }
    }
    keys
}

/// A token's name in the cache: its HMAC under a key of this process, so that neither the memory
/// nor the time of a lookup tells anything about other tokens.
type TokenId = [u8; 32];

#[derive(Debug)]
struct Cache {
    key: hmac::Key,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    good: HashMap<TokenId, Arc<Caller>>,
    bad: HashMap<TokenId, Instant>,
}

/// What the cache says of a token.
enum Remembered {
    Good(Arc<Caller>),
    Bad,
    Nothing,
}

impl Cache {
    fn new() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &aws_lc_rs::rand::SystemRandom::new())
            .expect("the operating system has randomness");
        Self {
            key,
            shards: Default::default(),
        }
    }

    fn id(&self, bearer: &str) -> TokenId {
        let mut id = TokenId::default();
        id.copy_from_slice(hmac::sign(&self.key, bearer.as_bytes()).as_ref());
        id
    }

    fn find(&self, id: &TokenId) -> Remembered {
        let shard = self.shard(id);
        if let Some(caller) = shard.good.get(id) {
            return Remembered::Good(Arc::clone(caller));
        }
        match shard.bad.get(id) {
            Some(since) if since.elapsed() < BAD_FOR => Remembered::Bad,
            _ => Remembered::Nothing,
        }
    }

    /// Remembers a verdict, unless another request came to it first: theirs is the one in use then.
    fn insert(&self, id: TokenId, verdict: Option<Arc<Caller>>) -> Option<Arc<Caller>> {
        const MOST: usize = MAX_VERDICTS / SHARDS;
        let mut shard = self.shard(&id);
        let Some(caller) = verdict else {
            if shard.bad.len() >= MOST {
                shard.bad.clear();
            }
            shard.bad.insert(id, Instant::now());
            return None;
        };
        if shard.good.len() >= MOST {
            shard.good.retain(|_, caller| !caller.expired(LEEWAY));
        }
        if shard.good.len() >= MOST {
            shard.good.clear();
        }
        Some(Arc::clone(shard.good.entry(id).or_insert(caller)))
    }

    fn shard(&self, id: &TokenId) -> MutexGuard<'_, Shard> {
        self.shards[usize::from(id[0]) % SHARDS]
            .lock()
            // No code panics while it holds the lock.
            .unwrap_or_else(PoisonError::into_inner)
    }
}
