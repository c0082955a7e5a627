//! The keys that sign access tokens: ECDSA on P-256 (ES256, RFC 7518 section 3.4).

use std::fmt;

use anyhow::{Context as _, anyhow};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use time::{Duration, OffsetDateTime};

use crate::crypto::{KeyEncryptionKey, sha256};
use crate::error::Result;

/// Any number: keeps two control planes from both making the first key.
const FIRST_KEY_LOCK: i64 = 0x6265_7274_6802;

/// A retired key stays in the JWK set this long: well past the last token it signed.
const RETIRED_VISIBLE: Duration = Duration::hours(24);

/// The octets of one coordinate of a point on P-256.
const COORDINATE: usize = 32;

/// The key that signs, and every public key whose tokens may still be alive.
pub struct SigningKeys {
    kid: String,
    private: EncodingKey,
    jwks: Value,
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeys")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

impl SigningKeys {
    /// Reads the keys, making the first one at the first start. Fails when `kek` is not the key
    /// they were encrypted with.
    pub async fn load_or_create(
        db: &mut PgConnection,
        kek: &KeyEncryptionKey,
        now: OffsetDateTime,
    ) -> Result<Self> {
        let mut tx = db.begin().await?;
        sqlx::query!("select pg_advisory_xact_lock($1)", FIRST_KEY_LOCK)
            .execute(&mut *tx)
            .await?;
        let active =
            sqlx::query_scalar!("select count(*) from signing_keys where retired_at is null")
                .fetch_one(&mut *tx)
                .await?;
        if active == Some(0) {
            create(&mut tx, kek, now).await?;
        }
        let newest = sqlx::query!(
            "select kid, private_sealed from signing_keys where retired_at is null
             order by created_at desc, kid limit 1",
        )
        .fetch_one(&mut *tx)
        .await?;
        let public = sqlx::query_scalar!(
            "select public_jwk from signing_keys where retired_at is null or retired_at > $1
             order by created_at desc, kid",
            now - RETIRED_VISIBLE,
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        let der = kek.decrypt(&newest.private_sealed, &context(&newest.kid)).with_context(|| {
            format!("signing key {} cannot be read; restore the key file that belongs to this database", newest.kid)
        })?;
        Ok(Self {
            kid: newest.kid,
            private: EncodingKey::from_ec_der(&der),
            jwks: json!({ "keys": public }),
        })
    }

    /// Signs claims as an access token (RFC 9068 section 2.1: `typ` is `at+jwt`).
    pub fn sign<T: Serialize>(&self, claims: &T) -> Result<String> {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some(self.kid.clone());
        let token = jsonwebtoken::encode(&header, claims, &self.private)
            .context("signing a token failed")?;
        Ok(token)
    }

    /// The public keys as a JWK set (RFC 7517 section 5).
    pub fn jwks(&self) -> Value {
        self.jwks.clone()
    }
}

/// What a private key is bound to when it is encrypted.
fn context(kid: &str) -> String {
    format!("signing-key:{kid}")
}

async fn create(db: &mut PgConnection, kek: &KeyEncryptionKey, now: OffsetDateTime) -> Result<()> {
    let (jwk, kid, der) = generate()?;
    sqlx::query!(
        "insert into signing_keys (kid, public_jwk, private_sealed, created_at) values ($1, $2, $3, $4)",
        kid,
        jwk,
        kek.encrypt(&der, &context(&kid)),
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A new key: its public JWK, its id, and its private half as PKCS #8.
fn generate() -> anyhow::Result<(Value, String, Vec<u8>)> {
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new())
        .map_err(|_| anyhow!("making a signing key failed"))?;
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref())
        .map_err(|e| anyhow!("the new signing key is unreadable: {e}"))?;
    // An uncompressed point: 0x04, x, y (SEC 1 section 2.3.3).
    let (x, y) = pair
        .public_key()
        .as_ref()
        .get(1..)
        .and_then(|point| point.split_at_checked(COORDINATE))
        .ok_or_else(|| anyhow!("the new signing key has no public point"))?;
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    let kid = thumbprint(&x, &y);
    let jwk = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": kid, "use": "sig", "alg": "ES256" });
    Ok((jwk, kid, pkcs8.as_ref().to_vec()))
}

/// RFC 7638 section 3: SHA-256 of the required members in lexicographic order, without spaces.
fn thumbprint(x: &str, y: &str) -> String {
    URL_SAFE_NO_PAD.encode(sha256(format!(
        r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn a_key_is_made_once_and_its_signature_verifies_against_the_jwk_set() {
        let db = testing::database().await;
        let mut connection = db.acquire().await.unwrap();
        let kek = KeyEncryptionKey::new(&[1; 32]);
        let now = testing::start();
        let keys = SigningKeys::load_or_create(&mut connection, &kek, now)
            .await
            .unwrap();
        let again = SigningKeys::load_or_create(&mut connection, &kek, now)
            .await
            .unwrap();
        assert_eq!(keys.jwks(), again.jwks());

        let token = again
            .sign(&json!({ "sub": "me", "exp": now.unix_timestamp() + 60 }))
            .unwrap();
        let header = jsonwebtoken::decode_header(&token).unwrap();
        assert_eq!(header.typ.as_deref(), Some("at+jwt"));
        let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(keys.jwks()).unwrap();
        let jwk = set.find(&header.kid.unwrap()).unwrap();
        let key = jsonwebtoken::DecodingKey::from_jwk(jwk).unwrap();
        let mut rules = jsonwebtoken::Validation::new(Algorithm::ES256);
        rules.validate_exp = false;
        rules.validate_aud = false;
        let claims = jsonwebtoken::decode::<Value>(&token, &key, &rules)
            .unwrap()
            .claims;
        assert_eq!(claims["sub"], "me");

        let wrong =
            SigningKeys::load_or_create(&mut connection, &KeyEncryptionKey::new(&[2; 32]), now)
                .await;
        assert!(wrong.is_err());
    }
}
