//! The App without its secrets, which can be shown when they cannot be read, and taking them up anew.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{NewRegistration, context, note};
use crate::audit::Actor;
use crate::config::Secret;
use crate::crypto::KeyEncryptionKey;
use crate::error::{Error, Result};

/// The App as it may be shown to anyone who runs the platform: nothing secret, and nothing that the
/// key encryption key is needed for.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Its number.
    pub id: i64,
    /// Its name in addresses.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// Its page at GitHub.
    pub page: String,
    /// Who may sign up: [`super::SignUp::name`].
    pub sign_up: String,
    /// When it was set up here.
    pub created_at: OffsetDateTime,
    /// Until when a former webhook secret is accepted.
    pub former_until: Option<OffsetDateTime>,
}

/// The App as it may be shown, if one is set up.
pub async fn find_shown(db: &mut PgConnection) -> Result<Option<Shown>> {
    Ok(sqlx::query_as!(
        Shown,
        "select id, slug, name, page, sign_up, created_at,
             (select max(until) from github_former_secrets) as former_until
         from github_app",
    )
    .fetch_optional(db)
    .await?)
}

/// Whether the App's secrets can be read with this key encryption key.
pub async fn is_readable(db: &mut PgConnection, kek: &KeyEncryptionKey) -> Result<bool> {
    let sealed = sqlx::query_scalar!("select private_key from github_app")
        .fetch_optional(db)
        .await?;
    Ok(sealed.is_none_or(|sealed| kek.decrypt(&sealed, context::PRIVATE_KEY).is_ok()))
}

/// Takes the secrets of an App up anew that is set up and whose secrets cannot be read.
pub async fn enter_again(
    db: &mut PgConnection,
    kek: &KeyEncryptionKey,
    new: &NewRegistration,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<()> {
    let seal = |secret: &Secret, context: &str| kek.encrypt(secret.expose().as_bytes(), context);
    let changed = sqlx::query!(
        "update github_app set client_id = $2, client_secret = $3, private_key = $4, webhook_secret = $5
         where id = $1",
        new.id,
        new.client_id,
        seal(&new.client_secret, context::CLIENT_SECRET),
        seal(&new.private_key, context::PRIVATE_KEY),
        seal(&new.webhook_secret, context::WEBHOOK_SECRET),
    )
    .execute(&mut *db)
    .await?
    .rows_affected();
    if changed == 0 {
        return Err(Error::Conflict(
            "Another GitHub App is set up here; remove it first.".into(),
        ));
    }
    // They are of the former key too.
    sqlx::query!("delete from github_former_secrets")
        .execute(&mut *db)
        .await?;
    sqlx::query!("delete from github_tokens")
        .execute(&mut *db)
        .await?;
    note(
        db,
        "github_app.enter_again",
        actor,
        serde_json::json!({ "app": new.id }),
        now,
    )
    .await
}
