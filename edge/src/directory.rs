//! What one snapshot says of callers, for all projects.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use aws_lc_rs::digest;
use http::HeaderValue;
use uuid::Uuid;

use crate::auth::Verifier;
use crate::caller::Caller;
use crate::protocol::{ApiToken, RouteSnapshot};

/// SHA-256 of an API token: under it, and never in plain text, a snapshot names the token. It is
/// also what makes the lookup's time tell nothing about other tokens.
type TokenHash = [u8; digest::SHA256_OUTPUT_LEN];

/// What one snapshot says of callers, for all projects.
#[derive(Debug)]
pub(crate) struct Directory {
    /// As it stands in tokens and assertions.
    pub(crate) issuer: Box<str>,
    pub(crate) verifier: Arc<Verifier>,
    users: HashMap<Uuid, Known>,
    api_tokens: HashMap<TokenHash, Arc<Caller>>,
    revoked_grants: HashSet<Uuid>,
}

/// A person or a service account.
#[derive(Debug)]
struct Known {
    /// A person's e-mail address, as a header.
    email: Option<HeaderValue>,
    /// A service account's organization.
    organization: Option<Uuid>,
}

impl Directory {
    /// The directory of `snapshot`; what is remembered of tokens in `before` is kept.
    pub(crate) fn new(snapshot: &RouteSnapshot, before: Option<&Self>) -> Self {
        let verifier = before
            .map(|before| &before.verifier)
            .filter(|verifier| verifier.serves(snapshot))
            .map_or_else(|| Arc::new(Verifier::new(snapshot)), Arc::clone);
        let users = snapshot.users.iter().map(|user| {
            let email = user.email.as_deref().map(str::as_bytes);
            // An address that no header can hold is left out.
            let email = email.and_then(|email| HeaderValue::from_bytes(email).ok());
            let organization = user.organization;
            (
                user.id,
                Known {
                    email,
                    organization,
                },
            )
        });
        let api_tokens = snapshot.api_tokens.iter().filter_map(|token| {
            let Some(hash) = parse_hash(&token.hash) else {
                tracing::warn!(token.id = %token.id, "the hash of an API token cannot be read");
                return None;
            };
            let kept = before
                .and_then(|before| before.api_tokens.get(&hash))
                .filter(|caller| caller.holds(token))
                .map(Arc::clone);
            let caller = match kept {
                Some(caller) => caller,
                None => Arc::new(Caller::with_api_token(token)?),
            };
            Some((hash, caller))
        });
        Self {
            issuer: snapshot.issuer.as_str().into(),
            verifier,
            users: users.collect(),
            api_tokens: api_tokens.collect(),
            revoked_grants: snapshot.revoked_grants.iter().copied().collect(),
        }
    }

    /// The holder of an API token.
    pub(crate) fn api_token(&self, token: &str) -> Option<Arc<Caller>> {
        let digest = digest::digest(&digest::SHA256, token.as_bytes());
        self.api_tokens.get(digest.as_ref()).cloned()
    }

    /// Whether this API token is still good for `project`.
    pub(crate) fn takes(&self, token: &ApiToken, project: Uuid) -> bool {
        parse_hash(&token.hash)
            .and_then(|hash| self.api_tokens.get(&hash))
            .is_some_and(|caller| caller.covers(project))
    }

    /// Whether there is such a person, or such a service account of `organization`.
    pub(crate) fn knows(&self, user: Uuid, organization: Uuid) -> bool {
        let belongs = |own: Uuid| own == organization;
        self.users
            .get(&user)
            .is_some_and(|known| known.organization.is_none_or(belongs))
    }

    /// The e-mail address of a person.
    pub(crate) fn email(&self, user: Uuid) -> Option<&HeaderValue> {
        self.users.get(&user)?.email.as_ref()
    }

    /// Whether the tokens of `grant` are no longer accepted.
    pub(crate) fn is_revoked(&self, grant: Uuid) -> bool {
        self.revoked_grants.contains(&grant)
    }
}

fn parse_hash(hex: &str) -> Option<TokenHash> {
    let mut hash = TokenHash::default();
    if hex.len() != hash.len() * 2 || !hex.is_ascii() {
        return None;
    }
    for (position, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[position * 2..position * 2 + 2], 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::User;

    fn snapshot(tokens: &[ApiToken]) -> RouteSnapshot {
        RouteSnapshot {
            version: 1,
            issuer: "http://berth.test".to_owned(),
            keys: serde_json::json!({ "keys": [] }),
            revoked_grants: vec![Uuid::from_u128(9)],
            users: vec![User {
                id: Uuid::from_u128(1),
                email: Some("ada@example.com".to_owned()),
                organization: None,
            }],
            api_tokens: tokens.to_vec(),
            routes: Vec::new(),
        }
    }

    fn token(text: &str) -> ApiToken {
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        ApiToken {
            id: Uuid::from_u128(5),
            hash: hash
                .as_ref()
                .iter()
                .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}")),
            user: Uuid::from_u128(1),
            projects: None,
            expires_at: None,
        }
    }

    #[test]
    fn an_api_token_is_found_by_its_hash_and_remembered_across_snapshots_until_it_changes() {
        let first = Directory::new(&snapshot(&[token("brt_a")]), None);
        assert!(first.api_token("brt_b").is_none());
        let caller = first.api_token("brt_a").unwrap();
        assert_eq!(
            caller.client_id(),
            "api-token:00000000-0000-0000-0000-000000000005"
        );
        assert!(caller.calls_first(Uuid::from_u128(100)));
        assert!(!caller.calls_first(Uuid::from_u128(100)));
        assert!(caller.calls_first(Uuid::from_u128(101)));

        let second = Directory::new(&snapshot(&[token("brt_a")]), Some(&first));
        assert!(Arc::ptr_eq(&caller, &second.api_token("brt_a").unwrap()));
        assert!(Arc::ptr_eq(&first.verifier, &second.verifier));
        let mut shorter = token("brt_a");
        shorter.expires_at = Some(1);
        let third = Directory::new(&snapshot(&[shorter]), Some(&second));
        let caller = third.api_token("brt_a").unwrap();
        assert!(caller.expired(0));
        assert!(
            Directory::new(&snapshot(&[]), Some(&third))
                .api_token("brt_a")
                .is_none()
        );
    }

    #[test]
    fn a_hash_is_sixty_four_hex_digits() {
        assert!(parse_hash(&"0f".repeat(32)).is_some());
        for damaged in [
            "",
            "0f",
            &"zz".repeat(32),
            &"0f".repeat(33),
            &"é".repeat(32),
        ] {
            assert!(parse_hash(damaged).is_none(), "{damaged}");
        }
    }
}
