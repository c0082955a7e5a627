//! Password hashing: argon2id with the parameters OWASP recommends (19 MiB, two passes), off the
//! async threads and only a few at a time.

use std::sync::LazyLock;

use anyhow::{Context as _, anyhow};
use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use tokio::sync::Semaphore;

/// Shortest password. Length is what counts (NIST SP 800-63B); sign-in attempts are limited too.
pub const MIN_LENGTH: usize = 10;

/// Longest password in bytes, so that hashing a megabyte cannot be asked of us.
pub const MAX_LENGTH: usize = 1_024;

/// Hashes at the same time. Each takes 19 MiB and one core for some 50 ms.
const CONCURRENT: usize = 2;

/// Random bytes of a salt (RFC 9106 section 3.1 recommends 16).
const SALT_LENGTH: usize = 16;

static TURN: Semaphore = Semaphore::const_new(CONCURRENT);

/// What is verified when there is no such person, so that the answer takes the same time.
static NOBODY: LazyLock<String> =
    LazyLock::new(|| hash_now("nobody").expect("hashing a constant works"));

/// Hashes a new password into PHC form.
pub async fn hash(password: String) -> anyhow::Result<String> {
    let _turn = TURN.acquire().await.expect("the semaphore is never closed");
    tokio::task::spawn_blocking(move || hash_now(&password))
        .await
        .context("hashing was interrupted")?
}

/// Whether `password` is the one that was hashed. Without a hash it takes as long and says no.
pub async fn verify(password: String, hash: Option<String>) -> anyhow::Result<bool> {
    if password.len() > MAX_LENGTH {
        return Ok(false);
    }
    let _turn = TURN.acquire().await.expect("the semaphore is never closed");
    tokio::task::spawn_blocking(move || {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| NOBODY.clone());
        let parsed = PasswordHash::new(&hash)
            .map_err(|e| anyhow!("the stored password hash is unreadable: {e}"))?;
        Ok(Argon2::default()
            .verify_password(password.as_bytes(), &parsed)
            .is_ok()
            && known)
    })
    .await
    .context("hashing was interrupted")?
}

fn hash_now(password: &str) -> anyhow::Result<String> {
    let mut salt = [0_u8; SALT_LENGTH];
    crate::crypto::fill_random(&mut salt);
    let salt = SaltString::encode_b64(&salt).map_err(|e| anyhow!("making a salt failed: {e}"))?;
    let hash = Argon2::default()
        .hash_password(password.as_bytes(), &salt)
        .map_err(|e| anyhow!("hashing the password failed: {e}"))?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_same_password_verifies() {
        let hashed = hash("correct horse".into()).await.unwrap();
        assert!(hashed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(
            verify("correct horse".into(), Some(hashed.clone()))
                .await
                .unwrap()
        );
        assert!(!verify("wrong horse".into(), Some(hashed)).await.unwrap());
        assert!(!verify("nobody".into(), None).await.unwrap());
    }
}
