//! Tokens of installations: one for each purpose, minted when it is needed and shared until it nears
//! its end, by all tasks and processes. Those that runners get read the repositories of their
//! installation and nothing more; those that write what GitHub shows never leave the control plane.
//! See docs/security-model.md for why they are not narrower.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::client::{Call, Credential};
use super::failure::Failure;
use super::feedback::permissions;
use super::{installations, registration};
use crate::app::App;
use crate::config::Secret;

/// A token is replaced this long before its end (GitHub gives them for an hour), so that one that
/// was just handed out lasts for the longest fetch.
const BEFORE_END: Duration = Duration::minutes(5);

/// One that GitHub refused is replaced at most this often: minting is what GitHub limits most.
const REPLACED_AT_MOST: Duration = Duration::MINUTE;

/// What a token is for, and so what it may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Reading branches and sources.
    Fetch,
    /// Writing checks, deployments and comments.
    Feedback,
}

impl Purpose {
    /// As it stands in the database.
    const fn name(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Feedback => "feedback",
        }
    }

    fn turns(self, app: &App) -> &Turns {
        match self {
            Self::Fetch => &app.github.turns,
            Self::Feedback => &app.github.feedback_turns,
        }
    }

    /// Names what is encrypted.
    fn context(self, installation: i64) -> String {
        match self {
            Self::Fetch => format!("github-token:{installation}"),
            Self::Feedback => format!("github-token:{installation}:feedback"),
        }
    }
}

/// One at a time per installation in this process, so that those who wait hold no connection.
#[derive(Debug, Default)]
pub struct Turns(Mutex<HashMap<i64, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// The turn of an installation.
    pub(super) fn of(&self, installation: i64) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(installation).or_default())
    }
}

/// A token and its end.
#[derive(Debug, Clone)]
pub struct Token {
    /// The token.
    pub secret: Secret,
    /// When GitHub stops to take it.
    pub expires_at: OffsetDateTime,
}

#[derive(Deserialize)]
struct Minted {
    token: String,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
}

/// A token of an installation that reads its repositories.
pub async fn of_installation(app: &App, installation: i64) -> Result<Token, Failure> {
    get(app, installation, Purpose::Fetch).await
}

/// A token of an installation for a purpose.
pub async fn get(app: &App, installation: i64, purpose: Purpose) -> Result<Token, Failure> {
    if let Some(token) = find(&mut *app.db.acquire().await?, app, installation, purpose).await? {
        return Ok(token);
    }
    let turn = purpose.turns(app).of(installation);
    let _turn = turn.lock().await;
    let mut tx = app.db.begin().await?;
    sqlx::query!(
        "insert into github_tokens (installation_id, purpose) values ($1, $2) on conflict do nothing",
        installation,
        purpose.name(),
    )
    .execute(&mut *tx)
    .await?;
    // Other processes wait here, and then find what this one minted.
    sqlx::query!(
        "select installation_id from github_tokens where installation_id = $1 and purpose = $2 for update",
        installation,
        purpose.name(),
    )
    .fetch_one(&mut *tx)
    .await?;
    if let Some(token) = find(&mut tx, app, installation, purpose).await? {
        return Ok(token);
    }
    let registration = registration::get(&mut tx, &app.kek).await?;
    let assertion = registration.assertion(app.clock.now())?;
    let token = match mint(app, &assertion, installation, purpose).await {
        Ok(token) => token,
        Err(failure) => {
            drop(tx);
            installations::note_refusal(app, installation, &failure).await?;
            return Err(failure);
        }
    };
    sqlx::query!(
        "update github_tokens set token = $3, minted_at = $4, expires_at = $5
         where installation_id = $1 and purpose = $2",
        installation,
        purpose.name(),
        app.kek.encrypt(
            token.secret.expose().as_bytes(),
            &purpose.context(installation)
        ),
        app.clock.now(),
        token.expires_at,
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(token)
}

async fn find(
    db: &mut PgConnection,
    app: &App,
    installation: i64,
    purpose: Purpose,
) -> Result<Option<Token>, Failure> {
    let row = sqlx::query!(
        r#"select token as "token!", expires_at as "expires_at!" from github_tokens
         where installation_id = $1 and purpose = $2 and token is not null and expires_at > $3"#,
        installation,
        purpose.name(),
        app.clock.now() + BEFORE_END,
    )
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    // One of another key is as good as none: the next is minted.
    let Ok(plain) = app.kek.decrypt(&row.token, &purpose.context(installation)) else {
        return Ok(None);
    };
    Ok(String::from_utf8(plain).ok().map(|text| Token {
        secret: Secret::new(text),
        expires_at: row.expires_at,
    }))
}

/// GitHub gives nothing if any of what is asked for is not granted, so it is asked what is, then.
async fn mint(
    app: &App,
    assertion: &Secret,
    installation: i64,
    purpose: Purpose,
) -> Result<Token, Failure> {
    if purpose == Purpose::Fetch {
        let with = json!({ "contents": "read", "metadata": "read", "pull_requests": "read" });
        let without = json!({ "contents": "read", "metadata": "read" });
        return match mint_with(app, assertion, installation, &with).await {
            // An App that may not read pull requests has no previews; its pushes come live all the same.
            Err(Failure::Refused(_)) => mint_with(app, assertion, installation, &without).await,
            minted => minted,
        };
    }
    let minted = mint_with(app, assertion, installation, &permissions::wanted()).await;
    let Err(Failure::Refused(why)) = minted else {
        if minted.is_ok() {
            permissions::note(app, installation, &[]).await?;
        }
        return minted;
    };
    match permissions::find_granted(app, installation).await? {
        Some(granted) => mint_with(app, assertion, installation, &granted).await,
        None => Err(Failure::Refused(why)),
    }
}

async fn mint_with(
    app: &App,
    assertion: &Secret,
    installation: i64,
    permissions: &Value,
) -> Result<Token, Failure> {
    let id = installation.to_string();
    let path = ["app", "installations", &id, "access_tokens"];
    let body = json!({ "permissions": permissions });
    let minted: Minted = app
        .github
        .client
        .ask(&Credential::App(assertion), Call::post(&path, Some(body)))
        .await?;
    tracing::info!(installation, "minted a token of a GitHub installation");
    Ok(Token {
        secret: Secret::new(minted.token),
        expires_at: minted.expires_at,
    })
}

/// Forgets a token that GitHub refused, so that the next one who asks gets another.
pub async fn forget(app: &App, installation: i64, purpose: Purpose) -> Result<(), Failure> {
    let mut db = app.db.acquire().await?;
    sqlx::query!(
        "update github_tokens set token = null
         where installation_id = $1 and purpose = $2 and minted_at < $3",
        installation,
        purpose.name(),
        app.clock.now() - REPLACED_AT_MOST,
    )
    .execute(&mut *db)
    .await?;
    Ok(())
}

/// Forgets what has ended.
pub async fn purge_expired(db: &mut PgConnection, now: OffsetDateTime) -> crate::error::Result<()> {
    sqlx::query!("delete from github_tokens where expires_at <= $1", now)
        .execute(db)
        .await?;
    Ok(())
}
