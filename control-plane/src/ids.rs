//! Identifiers and random tokens.

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use uuid::Uuid;

/// A new time-ordered identifier (UUID version 7, RFC 9562).
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}

/// 256 random bits in URL-safe base64, behind `prefix`. For tokens, codes and links.
pub fn random_token(prefix: &str) -> String {
    let mut bytes = [0_u8; 32];
    crate::crypto::fill_random(&mut bytes);
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// 256 random bits in URL-safe base64 with padding: a key as `cryptography.fernet.Fernet` takes it.
pub fn random_key() -> String {
    let mut bytes = [0_u8; 32];
    crate::crypto::fill_random(&mut bytes);
    URL_SAFE.encode(bytes)
}
