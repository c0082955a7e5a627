//! Tokens of installations: one for each, minted when it is needed and shared until it nears its
//! end, by all tasks and processes. They read the repositories of their installation and nothing
//! more; see docs/security-model.md for why they are not narrower.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde_json::json;
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::client::{Call, Credential};
use super::failure::Failure;
use super::{installations, registration};
use crate::app::App;
use crate::config::Secret;

/// A token is replaced this long before its end (GitHub gives them for an hour), so that one that
/// was just handed out lasts for the longest fetch.
const BEFORE_END: Duration = Duration::minutes(5);

/// One that GitHub refused is replaced at most this often: minting is what GitHub limits most.
const REPLACED_AT_MOST: Duration = Duration::MINUTE;

/// Names what is encrypted.
fn context(installation: i64) -> String {
    format!("github-token:{installation}")
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

/// A token of an installation.
pub async fn of_installation(app: &App, installation: i64) -> Result<Token, Failure> {
    if let Some(token) = find(&mut *app.db.acquire().await?, app, installation).await? {
        return Ok(token);
    }
    let turn = app.github.turns.of(installation);
    let _turn = turn.lock().await;
    let mut tx = app.db.begin().await?;
    sqlx::query!(
        "insert into github_tokens (installation_id) values ($1) on conflict do nothing",
        installation,
    )
    .execute(&mut *tx)
    .await?;
    // Other processes wait here, and then find what this one minted.
    sqlx::query!(
        "select installation_id from github_tokens where installation_id = $1 for update",
        installation,
    )
    .fetch_one(&mut *tx)
    .await?;
    if let Some(token) = find(&mut tx, app, installation).await? {
        return Ok(token);
    }
    let token = match mint(app, &mut tx, installation).await {
        Ok(token) => token,
        Err(failure) => {
            drop(tx);
            installations::note_refusal(app, installation, &failure).await?;
            return Err(failure);
        }
    };
    sqlx::query!(
        "update github_tokens set token = $2, minted_at = $3, expires_at = $4 where installation_id = $1",
        installation,
        app.kek
            .encrypt(token.secret.expose().as_bytes(), &context(installation)),
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
) -> Result<Option<Token>, Failure> {
    let row = sqlx::query!(
        r#"select token as "token!", expires_at as "expires_at!" from github_tokens
         where installation_id = $1 and token is not null and expires_at > $2"#,
        installation,
        app.clock.now() + BEFORE_END,
    )
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    // One of another key is as good as none: the next is minted.
    let Ok(plain) = app.kek.decrypt(&row.token, &context(installation)) else {
        return Ok(None);
    };
    Ok(String::from_utf8(plain).ok().map(|text| Token {
        secret: Secret::new(text),
        expires_at: row.expires_at,
    }))
}

async fn mint(app: &App, db: &mut PgConnection, installation: i64) -> Result<Token, Failure> {
    let registration = registration::get(db, &app.kek).await?;
    let assertion = registration.assertion(app.clock.now())?;
    let id = installation.to_string();
    let path = ["app", "installations", &id, "access_tokens"];
    let ask = async |permissions: serde_json::Value| -> Result<Minted, Failure> {
        let body = json!({ "permissions": permissions });
        let who = Credential::App(&assertion);
        let call = Call::post(&path, Some(body));
        app.github.client.ask(&who, call).await
    };
    let wanted = json!({ "contents": "read", "metadata": "read", "pull_requests": "read" });
    let minted = match ask(wanted).await {
        // An App that may not read pull requests has no previews; its pushes come live all the same.
        Err(Failure::Refused(_)) => ask(json!({ "contents": "read", "metadata": "read" })).await?,
        other => other?,
    };
    tracing::info!(installation, "minted a token of a GitHub installation");
    Ok(Token {
        secret: Secret::new(minted.token),
        expires_at: minted.expires_at,
    })
}

/// Forgets a token that GitHub refused, so that the next one who asks gets another.
pub async fn forget(app: &App, installation: i64) -> Result<(), Failure> {
    let mut db = app.db.acquire().await?;
    sqlx::query!(
        "update github_tokens set token = null where installation_id = $1 and minted_at < $2",
        installation,
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
