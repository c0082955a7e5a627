//! The keys that sign access tokens: ECDSA on P-256 (ES256, RFC 7518 section 3.4).

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

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

use crate::audit::{self, Actor};
use crate::crypto::{KeyEncryptionKey, sha256};
use crate::db::{Changed, bump};
use crate::error::Result;

/// Any number: keeps two control planes from both making the first key.
const FIRST_KEY_LOCK: i64 = 0x6265_7274_6802;

/// A retired key stays in the JWK set this long: well past the last token it signed.
const RETIRED_VISIBLE: Duration = Duration::hours(24);

/// A key signs when it has been published this long, so that every edge knows it before it meets
/// its first token: the longest that an edge waits for routes, and some. The first key of all has
/// nothing to wait for.
const PUBLISHED_FIRST: Duration = Duration::seconds(60);

/// The octets of one coordinate of a point on P-256.
pub const COORDINATE: usize = 32;

/// The key that signs, and every public key whose tokens may still be alive, as of the last look.
pub struct SigningKeys(RwLock<Arc<Known>>);

struct Known {
    kid: String,
    private: EncodingKey,
    jwks: Value,
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeys")
            .field("kid", &self.known().kid)
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
        let known = read(&mut tx, kek, now).await?;
        tx.commit().await?;
        Ok(Self(RwLock::new(Arc::new(known))))
    }

    /// Looks again: after [`rotate`] the new key signs, without a restart.
    pub async fn refresh(
        &self,
        db: &mut PgConnection,
        kek: &KeyEncryptionKey,
        now: OffsetDateTime,
    ) -> Result<()> {
        let known = Arc::new(read(db, kek, now).await?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    fn known(&self) -> Arc<Known> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Signs claims as an access token (RFC 9068 section 2.1: `typ` is `at+jwt`).
    pub fn sign<T: Serialize>(&self, claims: &T) -> Result<String> {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some("at+jwt".to_owned());
        let known = self.known();
        header.kid = Some(known.kid.clone());
        let token = jsonwebtoken::encode(&header, claims, &known.private)
            .context("signing a token failed")?;
        Ok(token)
    }

    /// The public keys as a JWK set (RFC 7517 section 5), as of the last look.
    pub fn jwks(&self) -> Value {
        self.known().jwks.clone()
    }
}

/// Every public key whose tokens may still be alive, newest first.
pub async fn public_keys(db: &mut PgConnection, now: OffsetDateTime) -> Result<Vec<Value>> {
    Ok(sqlx::query_scalar!(
        "select public_jwk from signing_keys where retired_at is null or retired_at > $1
         order by created_at desc, kid",
        now - RETIRED_VISIBLE,
    )
    .fetch_all(db)
    .await?)
}

async fn read(db: &mut PgConnection, kek: &KeyEncryptionKey, now: OffsetDateTime) -> Result<Known> {
    // The newest that edges know; else the only one.
    let signs = sqlx::query!(
        "select kid, private_sealed from signing_keys
         order by (created_at <= $1) desc, created_at desc, kid limit 1",
        now - PUBLISHED_FIRST,
    )
    .fetch_one(&mut *db)
    .await?;
    let der = kek
        .decrypt(&signs.private_sealed, &context(&signs.kid))
        .with_context(|| {
            format!(
                "signing key {} cannot be read; restore the key file that belongs to this database",
                signs.kid
            )
        })?;
    Ok(Known {
        private: EncodingKey::from_ec_der(&der),
        jwks: json!({ "keys": public_keys(db, now).await? }),
        kid: signs.kid,
    })
}

/// Makes a new key and retires the others, at edges too; answers its id. It signs after
/// [`PUBLISHED_FIRST`]; the others' tokens stay good for as long as they are.
pub async fn rotate(
    db: &mut PgConnection,
    kek: &KeyEncryptionKey,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<String> {
    // A key file that does not fit must fail here, before the database holds keys of two.
    read(db, kek, now).await?;
    sqlx::query!(
        "update signing_keys set retired_at = $1 where retired_at is null",
        now
    )
    .execute(&mut *db)
    .await?;
    let kid = create(db, kek, now).await?;
    let entry = audit::Entry {
        at: now,
        actor,
        action: "signing_key.rotate",
        organization: None,
        project: None,
        subject: json!({ "kid": kid }),
    };
    audit::record(db, entry).await?;
    bump(db, Changed::Routes).await?;
    Ok(kid)
}

/// What a private key is bound to when it is encrypted.
fn context(kid: &str) -> String {
    format!("signing-key:{kid}")
}

async fn create(
    db: &mut PgConnection,
    kek: &KeyEncryptionKey,
    now: OffsetDateTime,
) -> Result<String> {
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
    Ok(kid)
}

/// A new key: its public JWK, its id, and its private half as PKCS #8.
pub(crate) fn generate() -> anyhow::Result<(Value, String, Vec<u8>)> {
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
pub fn thumbprint(x: &str, y: &str) -> String {
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

    #[tokio::test]
    async fn a_new_key_signs_once_edges_know_it_and_the_old_one_stays_for_a_day() {
        let db = testing::database().await;
        let mut db = db.acquire().await.unwrap();
        let kek = KeyEncryptionKey::new(&[1; 32]);
        let start = testing::start();
        let keys = SigningKeys::load_or_create(&mut db, &kek, start)
            .await
            .unwrap();
        let signer = |keys: &SigningKeys| {
            let token = keys.sign(&json!({})).unwrap();
            jsonwebtoken::decode_header(&token).unwrap().kid.unwrap()
        };
        let first = signer(&keys);
        let rotated = start + Duration::hours(1);
        let second = rotate(&mut db, &kek, &Actor::System, rotated)
            .await
            .unwrap();
        let mut seen = Vec::new();
        for later in [Duration::ZERO, Duration::MINUTE, Duration::hours(25)] {
            keys.refresh(&mut db, &kek, rotated + later).await.unwrap();
            let published = keys.jwks()["keys"].as_array().unwrap().len();
            seen.push((signer(&keys), published));
        }
        assert_eq!(seen, [(first, 2), (second.clone(), 2), (second, 1)]);
        let wrong = KeyEncryptionKey::new(&[2; 32]);
        assert!(
            rotate(&mut db, &wrong, &Actor::System, rotated)
                .await
                .is_err()
        );
    }
}
