//! Browser sessions in Postgres. The cookie holds 128 random bits; the table holds their SHA-256,
//! so a copy of the database opens no session.

use anyhow::anyhow;
use async_trait::async_trait;
use sqlx::{PgConnection, PgPool};
use time::{Duration, OffsetDateTime};
use tower_sessions::cookie::SameSite;
use tower_sessions::session::{Id, Record};
use tower_sessions::session_store::{Error as StoreError, Result as StoreResult};
use tower_sessions::{Expiry, Session, SessionManagerLayer, SessionStore};
use uuid::Uuid;

use super::csrf;
use crate::app::App;
use crate::clock::Clock;
use crate::crypto::sha256;
use crate::error::{Error, Result};
use crate::users::User;

/// The cookie. The prefix makes browsers insist on Secure, Path=/ and no Domain, so no other host
/// can set it (RFC 6265bis section 4.1.3.2).
pub const COOKIE: &str = "__Host-berth";

/// A session ends when it is not used for this long.
pub const IDLE: Duration = Duration::hours(12);

/// A session ends this long after signing in, used or not.
pub const LONGEST: Duration = Duration::days(7);

/// How long a visitor who has not signed in may take to fill in a form.
pub const ANONYMOUS: Duration = Duration::hours(1);

/// The idle end is moved at most this often: reading must not cost a write per request.
const RENEW_EVERY: Duration = Duration::minutes(5);

/// The session's key of the person who signed in.
pub(super) const USER: &str = "user";

/// What gives every request below it its session.
pub fn session_layer(app: &App) -> SessionManagerLayer<Sessions> {
    // The cookie outlives the session; when that ends is decided here and not in the browser.
    SessionManagerLayer::new(Sessions {
        db: app.db.clone(),
        clock: app.clock.clone(),
    })
    .with_name(COOKIE)
    .with_secure(true)
    .with_http_only(true)
    .with_same_site(SameSite::Lax)
    .with_path("/")
    .with_expiry(Expiry::OnInactivity(LONGEST))
}

/// Signs someone in: everything the session held is dropped, and it gets a new id and a new CSRF
/// token, so that what was known of it before is worth nothing.
pub async fn establish(session: &Session, user: &User) -> Result<()> {
    session.clear().await;
    session.cycle_id().await.map_err(internal)?;
    session.insert(USER, user.id).await.map_err(internal)?;
    csrf::renew(session).await?;
    Ok(())
}

/// A session's failure as ours.
pub(crate) fn internal(error: tower_sessions::session::Error) -> Error {
    match error {
        tower_sessions::session::Error::Store(StoreError::Backend(_)) => Error::Unavailable(
            "The database does not answer just now; try again in a moment. Deployed servers keep answering.".into(),
        ),
        other => Error::Internal(anyhow!(other)),
    }
}

/// Whether a session has not ended. Asking does not move its end.
pub async fn is_alive(db: &mut PgConnection, id: &Id, now: OffsetDateTime) -> Result<bool> {
    let found = sqlx::query_scalar!(
        "select 1 from sessions where id_hash = $1 and expires_at > $2",
        hash(id),
        now,
    )
    .fetch_optional(db)
    .await?;
    Ok(found.is_some())
}

/// Ends someone's sessions.
pub async fn end_of(db: &mut PgConnection, user: Uuid) -> Result<()> {
    // What is read from a session by `USER`.
    sqlx::query!(
        "delete from sessions where data->>'user' = $1",
        user.to_string(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Forgets sessions that have ended.
pub async fn purge_expired(db: &mut PgConnection, now: OffsetDateTime) -> Result<()> {
    sqlx::query!("delete from sessions where expires_at <= $1", now)
        .execute(db)
        .await?;
    Ok(())
}

/// The store. Ends are reckoned here, with our clock; those that records carry are not used.
#[derive(Clone, Debug)]
pub struct Sessions {
    db: PgPool,
    clock: Clock,
}

/// When a session ends that is used now.
fn end(record: &Record, created_at: OffsetDateTime, now: OffsetDateTime) -> OffsetDateTime {
    if record.data.contains_key(USER) {
        (now + IDLE).min(created_at + LONGEST)
    } else {
        now + ANONYMOUS
    }
}

fn hash(id: &Id) -> Vec<u8> {
    sha256(id.to_string())
}

fn backend(error: &sqlx::Error) -> StoreError {
    tracing::warn!(%error, "the session store failed");
    StoreError::Backend(error.to_string())
}

#[async_trait]
impl SessionStore for Sessions {
    async fn create(&self, record: &mut Record) -> StoreResult<()> {
        let now = self.clock.now();
        let data =
            serde_json::to_value(&record.data).map_err(|e| StoreError::Encode(e.to_string()))?;
        sqlx::query!(
            "insert into sessions (id_hash, data, created_at, expires_at) values ($1, $2, $3, $4)",
            hash(&record.id),
            data,
            now,
            end(record, now, now),
        )
        .execute(&self.db)
        .await
        .map_err(|error| backend(&error))?;
        Ok(())
    }

    // A session that was deleted meanwhile stays deleted: signing out wins over a slower request.
    async fn save(&self, record: &Record) -> StoreResult<()> {
        let now = self.clock.now();
        let data =
            serde_json::to_value(&record.data).map_err(|e| StoreError::Encode(e.to_string()))?;
        sqlx::query!(
            "update sessions set data = $2, expires_at = least($3, created_at + make_interval(secs => $4)) where id_hash = $1",
            hash(&record.id),
            data,
            end(record, now, now),
            LONGEST.as_seconds_f64(),
        )
        .execute(&self.db)
        .await
        .map_err(|error| backend(&error))?;
        Ok(())
    }

    async fn load(&self, id: &Id) -> StoreResult<Option<Record>> {
        let now = self.clock.now();
        let found = sqlx::query!(
            "select data, created_at, expires_at from sessions where id_hash = $1 and expires_at > $2",
            hash(id),
            now,
        )
        .fetch_optional(&self.db)
        .await
        .map_err(|error| backend(&error))?;
        let Some(row) = found else { return Ok(None) };
        let data =
            serde_json::from_value(row.data).map_err(|e| StoreError::Decode(e.to_string()))?;
        let record = Record {
            id: *id,
            data,
            expiry_date: row.expires_at,
        };
        let renewed = end(&record, row.created_at, now);
        if renewed - row.expires_at > RENEW_EVERY {
            sqlx::query!(
                "update sessions set expires_at = $2 where id_hash = $1",
                hash(id),
                renewed
            )
            .execute(&self.db)
            .await
            .map_err(|error| backend(&error))?;
        }
        Ok(Some(record))
    }

    async fn delete(&self, id: &Id) -> StoreResult<()> {
        sqlx::query!("delete from sessions where id_hash = $1", hash(id))
            .execute(&self.db)
            .await
            .map_err(|error| backend(&error))?;
        Ok(())
    }
}
