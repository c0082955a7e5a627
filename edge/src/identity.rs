//! What the edge tells an instance about a caller, signed with the edge's own key.
//!
//! The instance can check the signature against the platform's published keys, so that it need not
//! trust whatever reaches its port. Only requests that came with a token of the platform carry these
//! headers; a client's own are dropped in every mode.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, anyhow};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use http::{HeaderName, HeaderValue};
use jsonwebtoken::jwk::{Jwk, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::access::Rules;
use crate::caller::{Assertion, Caller, Credential, now};
use crate::headers::Added;
use crate::site::Site;

const BERTH_USER: HeaderName = HeaderName::from_static("berth-user");
const BERTH_USER_EMAIL: HeaderName = HeaderName::from_static("berth-user-email");
const BERTH_CLIENT: HeaderName = HeaderName::from_static("berth-client");
const BERTH_SCOPES: HeaderName = HeaderName::from_static("berth-scopes");
const BERTH_ASSERTION: HeaderName = HeaderName::from_static("berth-assertion");

/// The `typ` of an assertion, so that it is never taken for an access token (RFC 8725 section 3.11).
const TYPE: &str = "berth-identity+jwt";

/// An assertion is good for this many seconds: short, since nothing revokes it.
const LIFETIME: u64 = 300;

/// One that ends in less than this many seconds is not given out: a call may wait before its
/// instance looks at it.
const LEFT: u64 = 60;

/// The edge's key (ECDSA on P-256, RFC 7518 section 3.4).
pub(crate) struct Identity {
    kid: String,
    public: Value,
    private: EncodingKey,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    client_id: &'a str,
    scope: &'a str,
    iat: u64,
    exp: u64,
}

impl Identity {
    /// Reads the key kept under `data`, or makes it at the first start. A damaged one is replaced:
    /// nothing depends on it for longer than an assertion lives.
    pub(crate) fn open(data: &Path) -> anyhow::Result<Self> {
        let file = data.join("edge").join("identity.key");
        match std::fs::read(&file) {
            Ok(key) => match Self::new(&key) {
                Ok(identity) => {
                    keep_private(&file)?;
                    return Ok(identity);
                }
                Err(error) => {
                    tracing::warn!(file = %file.display(), error = format!("{error:#}"), "the edge's key is damaged; making a new one");
                }
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("cannot read the edge's key from {}", file.display())
                });
            }
        }
        let key =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .map_err(|_| anyhow!("making the edge's key failed"))?;
        save(&file, key.as_ref())
            .with_context(|| format!("cannot save the edge's key to {}", file.display()))?;
        Self::new(key.as_ref())
    }

    /// The identity with this private key (PKCS #8).
    fn new(key: &[u8]) -> anyhow::Result<Self> {
        // Checks more than the JWT library does.
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key)
            .map_err(|error| anyhow!("it is no private key on P-256: {error}"))?;
        let private = EncodingKey::from_ec_der(key);
        let mut public = Jwk::from_encoding_key(&private, Algorithm::ES256)?;
        let kid = public.thumbprint(ThumbprintHash::SHA256)?;
        public.common.key_id = Some(kid.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self {
            kid,
            public: serde_json::to_value(public)?,
            private,
        })
    }

    /// Names the key, and so this edge: its thumbprint (RFC 7638).
    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    /// The public key as a JWK (RFC 7517).
    pub(crate) fn public_jwk(&self) -> &Value {
        &self.public
    }

    /// Tells the instance, by headers `added` to the request, who calls.
    pub(crate) fn introduce(&self, caller: &Caller, rules: &Rules, site: &Site, added: &mut Added) {
        let scope = match &caller.credential {
            Credential::AccessToken { scope, .. } => scope,
            // Good for calls, which is what the scope stands for.
            Credential::ApiToken { .. } => &rules.scope,
        };
        added.push(&BERTH_USER, &caller.user_header);
        if let Some(email) = site.directory.email(caller.user) {
            added.push(&BERTH_USER_EMAIL, email);
        }
        added.push(&BERTH_CLIENT, &caller.client);
        added.push(&BERTH_SCOPES, scope);
        let kept = caller.assertion(site.project.id, &site.resource);
        match kept.map_or_else(|| self.assert(caller, scope, site), Ok) {
            Ok(assertion) => added.push(&BERTH_ASSERTION, &assertion),
            // A server that asks for the assertion refuses the call, which is the safe side.
            Err(error) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "a caller's identity cannot be signed"
                );
            }
        }
    }

    /// Signs an assertion and keeps it with the caller's token.
    fn assert(
        &self,
        caller: &Caller,
        scope: &HeaderValue,
        site: &Site,
    ) -> anyhow::Result<HeaderValue> {
        let now = now();
        let email = site.directory.email(caller.user);
        let claims = Claims {
            iss: &site.directory.issuer,
            aud: &site.resource,
            sub: caller.user,
            email: email.and_then(|email| std::str::from_utf8(email.as_bytes()).ok()),
            client_id: caller.client_id(),
            scope: scope.to_str()?,
            iat: now,
            exp: now + LIFETIME,
        };
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some(TYPE.to_owned());
        header.kid = Some(self.kid.clone());
        let signed = jsonwebtoken::encode(&header, &claims, &self.private)?;
        let mut value = HeaderValue::try_from(signed)?;
        value.set_sensitive(true);
        let assertion = Assertion {
            resource: site.resource.clone(),
            value: value.clone(),
            renew_at: now + LIFETIME - LEFT,
        };
        caller.keep(site.project.id, assertion);
        Ok(value)
    }
}

/// Only the edge's own user may read it.
const PRIVATE: u32 = 0o600;

/// Takes away what others may do with a key that was, say, copied here.
fn keep_private(file: &Path) -> anyhow::Result<()> {
    let mode = std::fs::metadata(file)?.permissions().mode();
    if mode & 0o077 != 0 {
        std::fs::set_permissions(file, Permissions::from_mode(PRIVATE)).with_context(|| {
            format!(
                "others may read the edge's key in {}; give the file to the edge's user",
                file.display()
            )
        })?;
    }
    Ok(())
}

/// Writes the key so that a crash leaves none or a whole one.
fn save(file: &Path, key: &[u8]) -> anyhow::Result<()> {
    let directory = file.parent().context("the file has no directory")?;
    std::fs::create_dir_all(directory)?;
    let draft = file.with_extension("key.new");
    // A draft of an earlier run may have another mode.
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut open = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE)
        .open(&draft)?;
    open.write_all(key)?;
    open.sync_all()?;
    drop(open);
    std::fs::rename(&draft, file)?;
    File::open(directory)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_kept_from_others() {
        let data = tempfile::tempdir().unwrap();
        let first = Identity::open(data.path()).unwrap();
        let file = data.path().join("edge/identity.key");
        let mode = || std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        let second = Identity::open(data.path()).unwrap();
        assert_eq!(mode(), 0o600);
        assert_eq!(first.kid(), second.kid());
        assert_eq!(first.public_jwk(), second.public_jwk());
        let jwk = first.public_jwk();
        assert_eq!(jwk["kid"], first.kid());
        assert_eq!(
            (&jwk["kty"], &jwk["crv"], &jwk["alg"], &jwk["use"]),
            (
                &"EC".into(),
                &"P-256".into(),
                &"ES256".into(),
                &"sig".into()
            )
        );
        assert_eq!(jwk.get("d"), None);
    }

    #[test]
    fn a_damaged_key_is_replaced() {
        let data = tempfile::tempdir().unwrap();
        let first = Identity::open(data.path()).unwrap();
        let file = data.path().join("edge/identity.key");
        let mut damaged = std::fs::read(&file).unwrap();
        damaged.truncate(damaged.len() / 2);
        std::fs::write(&file, damaged).unwrap();
        let second = Identity::open(data.path()).unwrap();
        assert_ne!(first.kid(), second.kid());
        assert_eq!(Identity::open(data.path()).unwrap().kid(), second.kid());
    }
}
