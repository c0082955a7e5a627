//! Ways to GitHub that a browser was sent on. Whoever comes back must be the browser that went,
//! once, and within minutes.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use tower_sessions::Session;
use uuid::Uuid;

use super::creation::Order;
use crate::crypto::{KeyEncryptionKey, sha256};
use crate::error::{Error, Result};
use crate::ids;
use crate::signin::sessions::internal;

/// Time to sign in at GitHub, with a second factor, and to read what an App may do.
pub const LIFETIME: Duration = Duration::minutes(15);

/// The session's key of what ties ways to this browser.
const BROWSER: &str = "github";

/// Names the encrypted PKCE verifier.
const VERIFIER: &str = "github-attempt:verifier";

/// What a way to GitHub is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Purpose {
    /// Making the App from a manifest.
    Create {
        /// The operator who began.
        user: Uuid,
    },
    /// Signing in.
    SignIn {
        /// Where to go on, a path of ours.
        next: String,
    },
    /// Tying an account to the person who is signed in.
    Link {
        /// Who began.
        user: Uuid,
    },
    /// Installing the App; GitHub comes back to the setup address.
    Install {
        /// Who began.
        user: Uuid,
        /// For which organization.
        organization: Uuid,
    },
    /// Making a repository from a bundled example.
    CreateRepository {
        /// Who began.
        user: Uuid,
        /// For which organization.
        organization: Uuid,
        /// What is to be made.
        order: Order,
    },
    /// Learning which installations a person may use.
    Connect {
        /// Who began.
        user: Uuid,
        /// For which organization.
        organization: Uuid,
    },
}

/// A way that was gone to its end.
#[derive(Debug)]
pub struct Attempt {
    /// What it was for.
    pub purpose: Purpose,
    /// The PKCE verifier, where there was a challenge.
    pub verifier: Option<String>,
}

/// Writes a new way down and gives its state.
pub async fn begin(
    db: &mut PgConnection,
    kek: &KeyEncryptionKey,
    session: &Session,
    purpose: &Purpose,
    verifier: Option<&str>,
    now: OffsetDateTime,
) -> Result<String> {
    let browser = if let Some(known) = browser_of(session).await? {
        known
    } else {
        let new = ids::random_token("");
        session.insert(BROWSER, &new).await.map_err(internal)?;
        new
    };
    let state = ids::random_token("");
    sqlx::query!(
        "insert into github_attempts (state_hash, browser_hash, purpose, verifier, expires_at)
         values ($1, $2, $3, $4, $5)",
        sha256(&state),
        sha256(&browser),
        serde_json::to_value(purpose)?,
        verifier.map(|text| kek.encrypt(text.as_bytes(), VERIFIER)),
        now + LIFETIME,
    )
    .execute(db)
    .await?;
    Ok(state)
}

/// Ends the way of this state. Fails when there is none, when it is over, and for every browser but
/// the one that began it, for which it then stays.
pub async fn finish(
    db: &mut PgConnection,
    kek: &KeyEncryptionKey,
    session: &Session,
    state: &str,
    now: OffsetDateTime,
) -> Result<Attempt> {
    let refused = || {
        Error::Invalid(vec![crate::error::Field {
            name: "state",
            message: "This answer from GitHub belongs to no request of this browser, or came too late or twice; begin again from the page here.".into(),
        }])
    };
    let browser = browser_of(session).await?.ok_or_else(refused)?;
    let row = sqlx::query!(
        r#"delete from github_attempts where state_hash = $1 and browser_hash = $2
           returning purpose, verifier, expires_at > $3 as "in_time!""#,
        sha256(state),
        sha256(&browser),
        now,
    )
    .fetch_optional(db)
    .await?
    .filter(|row| row.in_time)
    .ok_or_else(refused)?;
    let verifier = row
        .verifier
        .map(|sealed| kek.decrypt(&sealed, VERIFIER))
        .transpose()?
        .and_then(|plain| String::from_utf8(plain).ok());
    Ok(Attempt {
        purpose: purpose_of(row.purpose)?,
        verifier,
    })
}

fn purpose_of(value: Value) -> Result<Purpose> {
    Ok(serde_json::from_value(value)?)
}

async fn browser_of(session: &Session) -> Result<Option<String>> {
    session.get(BROWSER).await.map_err(internal)
}

/// Forgets ways that nobody came back from.
pub async fn purge_expired(db: &mut PgConnection, now: OffsetDateTime) -> Result<()> {
    sqlx::query!("delete from github_attempts where expires_at <= $1", now)
        .execute(db)
        .await?;
    Ok(())
}
