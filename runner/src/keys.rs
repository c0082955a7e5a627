//! What identifies this runner: its id, and the key pair that secrets are sealed to.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crypto_box::aead::OsRng;
use crypto_box::{KEY_SIZE, SecretKey};
use uuid::Uuid;

use crate::hash::hex;

/// The X25519 key pair of this runner. Only who holds it can open a sealed variable.
pub struct Keys {
    secret: SecretKey,
}

impl Keys {
    /// Reads `directory/secret-key`, or makes it. The file is readable by its owner only; one
    /// that others can read is refused.
    pub fn load_or_create(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join("secret-key");
        if path.exists() {
            let mode = fs::metadata(&path)?.permissions().mode();
            if mode & 0o077 != 0 {
                bail!(
                    "{} can be read by others (mode {:o}): run `chmod 600` on it",
                    path.display(),
                    mode & 0o777
                );
            }
            let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            let bytes: [u8; KEY_SIZE] = bytes
                .try_into()
                .map_err(|_| anyhow!("{} is not a key of {KEY_SIZE} bytes", path.display()))?;
            return Ok(Self {
                secret: SecretKey::from_bytes(bytes),
            });
        }
        let secret = SecretKey::generate(&mut OsRng);
        write_private(&path, &secret.to_bytes())
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(Self { secret })
    }

    /// The public half, standard base64.
    pub fn public_base64(&self) -> String {
        STANDARD.encode(self.secret.public_key().as_bytes())
    }

    /// A secret of this runner's for one purpose and one thing, lower-case hexadecimal: the same at
    /// every start, so that it need not be kept, and unknown to all others (NIST SP 800-108: a
    /// PRF over a label and a context).
    pub fn derive(&self, purpose: &str, of: Uuid) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.secret.to_bytes());
        hex(hmac::sign(&key, format!("berth {purpose} {of}").as_bytes()).as_ref())
    }

    /// Opens a libsodium sealed box (standard base64) that holds UTF-8 text. The error names
    /// neither the box nor what is in it.
    pub fn open(&self, sealed: &str) -> anyhow::Result<String> {
        let bytes = STANDARD
            .decode(sealed)
            .map_err(|_| anyhow!("the sealed value is not base64"))?;
        let plain = self
            .secret
            .unseal(&bytes)
            .map_err(|_| anyhow!("the value is not sealed to this runner's key"))?;
        String::from_utf8(plain).map_err(|_| anyhow!("the sealed value is not UTF-8"))
    }
}

/// Reads `directory/id`, or chooses one: the runner keeps its name over restarts.
pub fn runner_id(directory: &Path) -> anyhow::Result<Uuid> {
    let path = directory.join("id");
    match fs::read_to_string(&path) {
        Ok(text) => text
            .trim()
            .parse()
            .with_context(|| format!("{} holds no UUID", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let id = Uuid::now_v7();
            write_private(&path, id.to_string().as_bytes())
                .with_context(|| format!("writing {}", path.display()))?;
            Ok(id)
        }
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Writes a new file of mode 0600 in one step: a crash leaves the whole file or none.
fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let unfinished = path.with_extension("new");
    let _ = fs::remove_file(&unfinished);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

/// Seals as the control plane does.
#[cfg(test)]
pub fn seal_for_tests(public_base64: &str, value: &str) -> String {
    let bytes = STANDARD.decode(public_base64).unwrap();
    let public = crypto_box::PublicKey::from_slice(&bytes).unwrap();
    STANDARD.encode(public.seal(&mut OsRng, value.as_bytes()).unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_what_was_sealed_to_it_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let keys = Keys::load_or_create(directory.path()).unwrap();
        let sealed = seal_for_tests(&keys.public_base64(), "pässword");
        let again = Keys::load_or_create(directory.path()).unwrap();
        assert_eq!(again.public_base64(), keys.public_base64());
        assert_eq!(again.open(&sealed).unwrap(), "pässword");
    }

    #[test]
    fn refuses_what_is_sealed_to_another_or_broken() {
        let keys = Keys::load_or_create(tempfile::tempdir().unwrap().path()).unwrap();
        let other = SecretKey::generate(&mut OsRng);
        let sealed = other.public_key().seal(&mut OsRng, b"x").unwrap();
        for text in [STANDARD.encode(sealed), "!".into(), String::new()] {
            assert!(keys.open(&text).is_err());
        }
    }

    #[test]
    fn the_key_is_private_and_a_public_one_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        Keys::load_or_create(directory.path()).unwrap();
        let path = directory.path().join("secret-key");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Keys::load_or_create(directory.path()).is_err());
    }

    #[test]
    fn a_derived_secret_stays_and_is_no_other_things() {
        let directory = tempfile::tempdir().unwrap();
        let derive = |purpose, of| {
            let keys = Keys::load_or_create(directory.path()).unwrap();
            keys.derive(purpose, Uuid::from_u128(of))
        };
        let first = derive("redis", 1);
        assert_eq!(first.len(), 64);
        assert_eq!(derive("redis", 1), first);
        assert!(derive("redis", 2) != first && derive("other", 1) != first);
    }

    #[test]
    fn the_id_stays() {
        let directory = tempfile::tempdir().unwrap();
        let id = runner_id(directory.path()).unwrap();
        assert_eq!(runner_id(directory.path()).unwrap(), id);
    }
}
