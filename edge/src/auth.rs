//! Access tokens: verified once, remembered until they expire.
//!
//! Tokens are JWTs of the platform's authorization server (RFC 9068) signed with ES256, bound to
//! one project by their audience (RFC 8707) and its id. Verification costs some 60 µs and a remembered
//! verdict below 1 µs, so each token is verified once per snapshot of keys and revoked grants.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use uuid::Uuid;

use crate::protocol::RouteSnapshot;

/// How far this machine's clock may be ahead of the authorization server's.
const LEEWAY_SECONDS: u64 = 60;

/// Longest token looked at, in bytes; the platform's own have some 700.
const MAX_TOKEN: usize = 8 * 1024;

/// Verdicts remembered, good ones and bad ones each.
const MAX_VERDICTS: usize = 50_000;

/// A bad verdict is remembered this long: it spares the work of a client that repeats itself.
const BAD_FOR: Duration = Duration::from_secs(30);

/// Locks over which the verdicts are spread.
const SHARDS: usize = 16;

/// Verifies tokens for one set of keys and revoked grants.
#[derive(Debug)]
pub(crate) struct Verifier {
    issuer: String,
    jwks: serde_json::Value,
    keys: HashMap<String, DecodingKey>,
    revoked: HashSet<Uuid>,
    validation: Validation,
    cache: Cache,
}

/// What a verified token says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Token {
    audience: String,
    project: Uuid,
    scope: String,
    /// Seconds since 1970.
    expires: u64,
    /// Subject and client: whom an MCP session belongs to.
    pub(crate) principal: Arc<str>,
}

/// Why a request may not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It carries no bearer token.
    Missing,
    /// The token is malformed, forged, expired, revoked or meant for something else.
    Invalid,
    /// The token does not cover the scope.
    Scope,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    exp: u64,
    #[serde(default)]
    sub: String,
    #[serde(default)]
    client_id: String,
    #[serde(default)]
    scope: String,
    /// The grant.
    gid: Uuid,
    /// The project: its name, and so the audience, may be another one's later.
    pid: Uuid,
}

impl Verifier {
    /// The verifier for `snapshot`; keys that cannot be used are left out with a warning.
    pub(crate) fn new(snapshot: &RouteSnapshot) -> Self {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[&snapshot.issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        // Compared by hand, since one verdict serves the right project and all others.
        validation.validate_aud = false;
        Self {
            issuer: snapshot.issuer.clone(),
            keys: decoding_keys(&snapshot.keys),
            jwks: snapshot.keys.clone(),
            revoked: snapshot.revoked_grants.iter().copied().collect(),
            validation,
            cache: Cache::new(),
        }
    }

    /// Whether this verifier, and all it remembers, is right for `snapshot` too.
    pub(crate) fn serves(&self, snapshot: &RouteSnapshot) -> bool {
        self.issuer == snapshot.issuer
            && self.jwks == snapshot.keys
            && self.revoked == snapshot.revoked_grants.iter().copied().collect()
    }

    /// Checks the token in `headers` for `resource`, which `project` is at the moment, and `scope`.
    pub(crate) fn check(
        &self,
        headers: &HeaderMap,
        resource: &str,
        project: Uuid,
        scope: &str,
    ) -> Result<Arc<Token>, Denied> {
        let bearer = bearer_token(headers)?;
        let token = self.verify(bearer).ok_or(Denied::Invalid)?;
        if token.audience != resource || token.project != project || token.expired() {
            return Err(Denied::Invalid);
        }
        if !token.scope.split(' ').any(|granted| granted == scope) {
            return Err(Denied::Scope);
        }
        Ok(token)
    }

    fn verify(&self, bearer: &str) -> Option<Arc<Token>> {
        let id = self.cache.id(bearer);
        match self.cache.find(&id) {
            Remembered::Good(token) => return Some(token),
            Remembered::Bad => return None,
            Remembered::Nothing => {}
        }
        let verdict = self.decode(bearer).map(Arc::new);
        self.cache.insert(id, verdict.clone());
        verdict
    }

    /// Verifies signature, type, issuer, time and grant (RFC 9068 section 4).
    fn decode(&self, bearer: &str) -> Option<Token> {
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
        if claims.iss != self.issuer || self.revoked.contains(&claims.gid) {
            return None;
        }
        Some(Token {
            audience: claims.aud,
            project: claims.pid,
            scope: claims.scope,
            expires: claims.exp,
            // Neither half contains a line feed, so two pairs never look alike.
            principal: format!("{}\n{}", claims.sub, claims.client_id).into(),
        })
    }
}

impl Token {
    fn expired(&self) -> bool {
        now() > self.expires.saturating_add(LEEWAY_SECONDS)
    }
}

/// Seconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the clock of the edge: signatures are checked against the machine's time as well"
)]
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(u64::MAX, |since| since.as_secs())
}

/// The token of the one `Authorization: Bearer` header (RFC 6750 section 2.1). Another scheme is
/// no token; two headers are a malformed one.
fn bearer_token(headers: &HeaderMap) -> Result<&str, Denied> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Denied::Missing)?;
    if values.next().is_some() {
        return Err(Denied::Invalid);
    }
    let value = value.to_str().map_err(|_| Denied::Invalid)?;
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
    good: HashMap<TokenId, Arc<Token>>,
    bad: HashMap<TokenId, Instant>,
}

/// What the cache says of a token.
enum Remembered {
    Good(Arc<Token>),
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
        if let Some(token) = shard.good.get(id) {
            return Remembered::Good(Arc::clone(token));
        }
        match shard.bad.get(id) {
            Some(since) if since.elapsed() < BAD_FOR => Remembered::Bad,
            _ => Remembered::Nothing,
        }
    }

    fn insert(&self, id: TokenId, verdict: Option<Arc<Token>>) {
        const MOST: usize = MAX_VERDICTS / SHARDS;
        let mut shard = self.shard(&id);
        if let Some(token) = verdict {
            if shard.good.len() >= MOST {
                shard.good.retain(|_, token| !token.expired());
            }
            if shard.good.len() >= MOST {
                shard.good.clear();
            }
            shard.good.insert(id, token);
        } else {
            if shard.bad.len() >= MOST {
                shard.bad.clear();
            }
            shard.bad.insert(id, Instant::now());
        }
    }

    fn shard(&self, id: &TokenId) -> MutexGuard<'_, Shard> {
        self.shards[usize::from(id[0]) % SHARDS]
            .lock()
            // No code panics while it holds the lock.
            .unwrap_or_else(PoisonError::into_inner)
    }
}
