//! Hashing, sealing and encryption, all from aws-lc and RustCrypto; nothing is invented here.

use anyhow::{Context as _, anyhow};
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{digest, hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Fills `bytes` from the operating system's randomness.
pub fn fill_random(bytes: &mut [u8]) {
    rand::fill(bytes).expect("the operating system gives randomness");
}

/// SHA-256. Right for tokens with 256 random bits; passwords take argon2.
pub fn sha256(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes.as_ref())
        .as_ref()
        .to_vec()
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a string does not fail");
            text
        })
}

/// The octets of a pseudonym: too many for two values to share one.
const PSEUDONYM: usize = 16;

/// The key that encrypts signing keys at rest. It lives in a file or a key service, never in the
/// database.
pub struct KeyEncryptionKey {
    seal: RandomizedNonceKey,
    pseudonyms: hmac::Key,
}

impl std::fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyEncryptionKey(…)")
    }
}

impl KeyEncryptionKey {
    /// From 32 random bytes.
    pub fn new(bytes: &[u8; 32]) -> Self {
        // A key of its own for each purpose (NIST SP 800-108: a PRF over a fixed label).
        let derive = hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let pseudonyms = hmac::sign(&derive, b"berth pseudonyms");
        Self {
            seal: RandomizedNonceKey::new(&AES_256_GCM, bytes)
                .expect("32 bytes are an AES-256 key"),
            pseudonyms: hmac::Key::new(hmac::HMAC_SHA256, pseudonyms.as_ref()),
        }
    }

    /// Stands for `value` where only "the same or another" matters. Without this key nobody finds
    /// the value by trying all there are, of which an address has few.
    pub fn pseudonym(&self, value: &[u8]) -> Vec<u8> {
        hmac::sign(&self.pseudonyms, value).as_ref()[..PSEUDONYM].to_vec()
    }

    /// Encrypts with AES-256-GCM; `context` names what it is and must be given again to decrypt.
    pub fn encrypt(&self, plain: &[u8], context: &str) -> Vec<u8> {
        let mut buffer = plain.to_vec();
        let nonce = self
            .seal
            .seal_in_place_append_tag(Aad::from(context), &mut buffer)
            .expect("a plaintext of a few kilobytes is within AES-GCM's limit");
        let mut out = nonce.as_ref().to_vec();
        out.append(&mut buffer);
        out
    }

    /// Decrypts what [`Self::encrypt`] gave. Fails when key, context or bytes are not the same.
    pub fn decrypt(&self, sealed: &[u8], context: &str) -> anyhow::Result<Vec<u8>> {
        let (nonce, body) = sealed
            .split_at_checked(NONCE_LEN)
            .ok_or_else(|| anyhow!("the sealed value is too short"))?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).context("bad nonce")?;
        let mut buffer = body.to_vec();
        let plain = self
            .seal
            .open_in_place(nonce, Aad::from(context), &mut buffer)
            .map_err(|_| anyhow!("the key encryption key does not fit the database"))?;
        Ok(plain.to_vec())
    }
}

/// Seals `plain` to a runner's public key: a libsodium sealed box, standard base64.
/// Only that runner can open it.
pub fn seal_to_runner(public_key: &str, plain: &[u8]) -> anyhow::Result<String> {
    let key = STANDARD
        .decode(public_key)
        .context("the runner's public key is not base64")?;
    let key = crypto_box::PublicKey::from_slice(&key)
        .context("the runner's public key is not 32 bytes")?;
    let sealed = key
        .seal(&mut crypto_box::aead::OsRng, plain)
        .map_err(|_| anyhow!("sealing failed"))?;
    Ok(STANDARD.encode(sealed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encrypted_decrypts_only_with_the_same_key_and_context() {
        let key = KeyEncryptionKey::new(&[7; 32]);
        let sealed = key.encrypt(b"secret", "signing-key:1");
        assert_eq!(key.decrypt(&sealed, "signing-key:1").unwrap(), b"secret");
        assert!(key.decrypt(&sealed, "signing-key:2").is_err());
        assert!(
            KeyEncryptionKey::new(&[8; 32])
                .decrypt(&sealed, "signing-key:1")
                .is_err()
        );
        assert!(key.decrypt(b"short", "signing-key:1").is_err());
    }

    #[test]
    fn a_pseudonym_tells_values_apart_and_nothing_else() {
        let key = KeyEncryptionKey::new(&[7; 32]);
        let one = key.pseudonym(b"192.0.2.1");
        assert_eq!(one, key.pseudonym(b"192.0.2.1"));
        assert_ne!(one, key.pseudonym(b"192.0.2.2"));
        assert_ne!(one, KeyEncryptionKey::new(&[8; 32]).pseudonym(b"192.0.2.1"));
    }

    #[test]
    fn a_sealed_secret_opens_with_the_runners_key() {
        let secret = crypto_box::SecretKey::generate(&mut crypto_box::aead::OsRng);
        let public = STANDARD.encode(secret.public_key().as_bytes());
        let sealed = seal_to_runner(&public, b"hunter2").unwrap();
        assert!(!sealed.contains("hunter2"));
        let opened = secret.unseal(&STANDARD.decode(sealed).unwrap()).unwrap();
        assert_eq!(opened, b"hunter2");
    }
}
