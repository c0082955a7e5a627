//! Public keys of clients (RFC 7517): which sets are taken, and which key may have signed.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header};
use serde_json::Value;

/// The algorithms of assertions that are taken: asymmetric ones, and none that is out of favour.
pub const ALGORITHMS: &[&str] = &["ES256", "RS256", "PS256", "EdDSA"];

/// Keys of a set that are tried for one assertion. Sets name one or two, and one more while they
/// change.
const MAX_KEYS: usize = 10;

/// The most keys of a set that are looked at.
const MAX_SET: usize = 100;

/// Whether a set holds a key that can be used, and nothing private; the error is the reason.
pub fn check(set: &Value) -> Result<(), &'static str> {
    let keys = set
        .get("keys")
        .and_then(Value::as_array)
        .ok_or("jwks must be a JSON object with the member keys, a list")?;
    let private = |key: &Value| {
        ["d", "p", "q", "k"]
            .iter()
            .any(|name| key.get(name).is_some())
    };
    if keys.iter().any(private) {
        return Err(
            "jwks holds a private or symmetric key; make a new pair, and give its public key only",
        );
    }
    // Postgres refuses it in any text.
    if set.to_string().contains("\\u0000") {
        return Err("jwks holds a NUL character");
    }
    let usable = keys
        .iter()
        .take(MAX_SET)
        .filter_map(parse)
        .any(|key| algorithms(&key).next().is_some());
    if usable {
        Ok(())
    } else {
        Err("jwks holds no public key for ES256, RS256, PS256 or EdDSA")
    }
}

/// What is kept of a set that was fetched: the keys that are understood, without whatever else a
/// stranger put there.
pub fn kept(set: &Value) -> Value {
    let keys: Vec<Jwk> = set
        .get("keys")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .take(MAX_SET)
        .filter_map(parse)
        .filter(|key| algorithms(key).next().is_some())
        .collect();
    serde_json::json!({ "keys": keys })
}

/// Keys of a set that may have signed something with this header, in the order of the set.
pub fn candidates(set: &Value, header: &Header) -> Vec<DecodingKey> {
    let keys = set.get("keys").and_then(Value::as_array);
    keys.into_iter()
        .flatten()
        .take(MAX_SET)
        .filter_map(parse)
        .filter(|key| {
            let named = header.kid.is_none() || key.common.key_id == header.kid;
            named && algorithms(key).any(|algorithm| algorithm == header.alg)
        })
        .filter_map(|key| DecodingKey::from_jwk(&key).ok())
        .take(MAX_KEYS)
        .collect()
}

/// Keys of kinds that are unknown here are passed over (RFC 7517 section 5).
fn parse(key: &Value) -> Option<Jwk> {
    serde_json::from_value(key.clone()).ok()
}

/// The algorithms that a key is for: what its kind allows, and of that what it says itself.
fn algorithms(key: &Jwk) -> impl Iterator<Item = Algorithm> {
    let of_kind: &[Algorithm] = match &key.algorithm {
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
            &[Algorithm::ES256]
        }
        AlgorithmParameters::RSA(_) => &[Algorithm::RS256, Algorithm::PS256],
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            &[Algorithm::EdDSA]
        }
        _ => &[],
    };
    let signs = matches!(
        key.common.public_key_use,
        None | Some(PublicKeyUse::Signature)
    );
    let said = key.common.key_algorithm;
    of_kind.iter().copied().filter(move |algorithm| {
        signs && said.is_none_or(|said| said == KeyAlgorithm::from(*algorithm))
    })
}
