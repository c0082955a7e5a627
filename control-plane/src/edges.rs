//! Edges as they report themselves: their keys, and who still depends on which instance.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edge::protocol::{InstanceUse, ReportId};
use serde_json::{Value, json};
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::error::{Result, invalid};
use crate::signing_keys::{COORDINATE, thumbprint};

/// An edge whose report is no older counts as running. It reports every
/// [`edge::protocol::REPORT_SECONDS`], so this outlasts a few lost reports.
pub const LATELY: Duration = Duration::seconds(30);

/// What an edge said of instances is forgotten after this long without a word.
const FORGOTTEN: Duration = Duration::minutes(10);

/// An edge's key is published this long after its last report: far beyond the five minutes that an
/// assertion is good for, and an edge that was away for a night finds its key known.
const KEY_VISIBLE: Duration = Duration::DAY;

/// What a public EC key for signatures may have (RFC 7517 section 4, RFC 7518 section 6.2.1).
const MEMBERS: [&str; 7] = ["kty", "crv", "x", "y", "kid", "use", "alg"];

/// A checked public key of an edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeKey {
    kid: String,
    jwk: Value,
}

impl EdgeKey {
    /// Accepts an ES256 key whose thumbprint is `edge`, and nothing else: what is published here is
    /// believed by every instance.
    pub fn read(edge: &str, jwk: &Value) -> Result<Self> {
        Self::check(edge, jwk).ok_or_else(|| {
            invalid(
                "key",
                "The edge's key is not a public ES256 key named by its RFC 7638 thumbprint; start the edge anew with an empty identity file.",
            )
        })
    }

    fn check(edge: &str, jwk: &Value) -> Option<Self> {
        let members = jwk.as_object()?;
        if !members.keys().all(|name| MEMBERS.contains(&name.as_str())) {
            return None;
        }
        let is = |name: &str, wanted: &str| members.get(name).is_some_and(|it| it == wanted);
        let may = |name: &str, wanted: &str| members.get(name).is_none_or(|it| it == wanted);
        if !(is("kty", "EC") && is("crv", "P-256") && may("use", "sig") && may("alg", "ES256")) {
            return None;
        }
        let (x, y) = (coordinate(jwk, "x")?, coordinate(jwk, "y")?);
        let point = [&[4], x.as_slice(), y.as_slice()].concat();
        ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok()?;
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let kid = thumbprint(&x, &y);
        if !is("kid", &kid) || edge != kid {
            return None;
        }
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": kid, "use": "sig", "alg": "ES256" });
        Some(Self { kid, jwk })
    }
}

/// One coordinate of the point: exactly 32 octets, in base64url without padding.
fn coordinate(jwk: &Value, name: &str) -> Option<Vec<u8>> {
    let octets = URL_SAFE_NO_PAD.decode(jwk[name].as_str()?).ok()?;
    (octets.len() == COORDINATE).then_some(octets)
}

/// Takes over what an edge says of itself, of the snapshot it has in use (`version`) and of the
/// instances on its table, in place of what it said before.
pub async fn saw(
    db: &mut PgConnection,
    key: &EdgeKey,
    version: i64,
    instances: &[InstanceUse],
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "insert into edges (kid, public_jwk, first_seen_at, last_seen_at, version)
         values ($1, $2, $3, $3, $4)
         on conflict (kid) do update
             set last_seen_at = greatest(edges.last_seen_at, $3), version = $4",
        key.kid,
        key.jwk,
        now,
        version,
    )
    .execute(&mut *db)
    .await?;
    let used: Vec<&InstanceUse> = instances
        .iter()
        .filter(|it| it.sessions > 0 || it.requests > 0)
        .collect();
    let deployments: Vec<Uuid> = used.iter().map(|it| it.deployment).collect();
    let count = |of: fn(&InstanceUse) -> u32| -> Vec<i32> {
        let whole = |it: &&InstanceUse| i32::try_from(of(it)).unwrap_or(i32::MAX);
        used.iter().map(whole).collect()
    };
    sqlx::query!(
        "delete from edge_instances where edge = $1 and not deployment_id = any($2)",
        key.kid,
        &deployments,
    )
    .execute(&mut *db)
    .await?;
    // A deployment may be gone by now; and one that is named twice counts once.
    sqlx::query!(
        "insert into edge_instances (edge, deployment_id, sessions, requests)
         select distinct on (d.id) $1, d.id, u.sessions, u.requests
         from unnest($2::uuid[], $3::int[], $4::int[]) as u (deployment, sessions, requests)
         join deployments d on d.id = u.deployment
         on conflict (edge, deployment_id) do update
             set sessions = excluded.sessions, requests = excluded.requests
             where (edge_instances.sessions, edge_instances.requests)
                 is distinct from (excluded.sessions, excluded.requests)",
        key.kid,
        &deployments,
        &count(|it| it.sessions),
        &count(|it| it.requests),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Whether what a report counts is new: notes its id, unless it or a later one of the same run was
/// noted before. Holds the edge's row until the caller commits, so that of two at once one is new.
pub async fn counts(db: &mut PgConnection, key: &EdgeKey, id: Option<ReportId>) -> Result<bool> {
    // An older edge, which names none.
    let Some(id) = id else { return Ok(true) };
    let noted = sqlx::query!(
        "update edges set report_run = $2, report_number = $3
         where kid = $1 and (report_run is distinct from $2 or report_number < $3)",
        key.kid,
        id.run,
        id.number,
    )
    .execute(db)
    .await?;
    Ok(noted.rows_affected() == 1)
}

/// The oldest version of the routes that a running edge has in use; `None` while no edge runs.
pub async fn oldest_in_use(db: &mut PgConnection, now: OffsetDateTime) -> Result<Option<i64>> {
    Ok(sqlx::query_scalar!(
        "select min(version) from edges where last_seen_at > $1",
        now - LATELY,
    )
    .fetch_one(db)
    .await?)
}

/// The public keys of the edges that may have signed something that is still good.
pub async fn public_keys(db: &mut PgConnection, now: OffsetDateTime) -> Result<Vec<Value>> {
    Ok(sqlx::query_scalar!(
        "select public_jwk from edges where last_seen_at > $1 order by first_seen_at desc, kid",
        now - KEY_VISIBLE,
    )
    .fetch_all(db)
    .await?)
}

/// Forgets what silent edges said.
pub async fn forget_silent(db: &mut PgConnection, now: OffsetDateTime) -> Result<()> {
    sqlx::query!(
        "delete from edge_instances where edge in (select kid from edges where last_seen_at < $1)",
        now - FORGOTTEN,
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "delete from edges where last_seen_at < $1",
        now - KEY_VISIBLE
    )
    .execute(db)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing_keys::generate;
    use crate::testing::app;

    fn edge_key() -> Value {
        generate().unwrap().0
    }

    #[test]
    fn only_a_public_es256_key_under_its_own_name_is_taken() {
        let jwk = edge_key();
        let kid = jwk["kid"].as_str().unwrap().to_owned();
        let with = |name: &str, value: Value| {
            let mut changed = jwk.clone();
            changed[name] = value;
            changed
        };
        assert_eq!(EdgeKey::read(&kid, &jwk).unwrap().jwk, jwk);
        let other = edge_key();
        for (bad, why) in [
            (with("d", json!("AAAA")), "a private member"),
            (with("k", json!("AAAA")), "a secret member"),
            (with("x5c", json!([])), "an unknown member"),
            (with("kty", json!("RSA")), "another type"),
            (with("crv", json!("P-384")), "another curve"),
            (with("alg", json!("none")), "another algorithm"),
            (with("use", json!("enc")), "another use"),
            (with("kid", json!("mine")), "a name of its own choice"),
            (with("x", other["x"].clone()), "no point of the curve"),
            (
                with("x", json!(format!("{}=", jwk["x"].as_str().unwrap()))),
                "padding",
            ),
            (with("y", json!("AAAA")), "a short coordinate"),
            (json!([]), "no object"),
            (other, "another edge's"),
        ] {
            assert!(EdgeKey::read(&kid, &bad).is_err(), "{why}: {bad}");
        }
        assert!(EdgeKey::read("other", &jwk).is_err(), "under another name");
    }

    #[tokio::test]
    async fn keys_are_published_for_a_day_and_then_forgotten() {
        let app = app().await;
        let jwk = edge_key();
        let key = EdgeKey::read(jwk["kid"].as_str().unwrap(), &jwk).unwrap();
        let mut db = app.db.acquire().await.unwrap();
        saw(&mut db, &key, 1, &[], app.clock.now()).await.unwrap();
        app.clock.advance(Duration::hours(23));
        assert_eq!(
            public_keys(&mut db, app.clock.now()).await.unwrap(),
            std::slice::from_ref(&jwk)
        );
        app.clock.advance(Duration::hours(2));
        assert!(
            public_keys(&mut db, app.clock.now())
                .await
                .unwrap()
                .is_empty()
        );
        forget_silent(&mut db, app.clock.now()).await.unwrap();
        let left: Option<i64> = sqlx::query_scalar("select count(*) from edges")
            .fetch_one(&mut *db)
            .await
            .unwrap();
        assert_eq!(left, Some(0));
    }
}
