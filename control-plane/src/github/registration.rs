//! The GitHub App of this platform: its identity, its secrets, and who may sign up by it.

mod host;
mod shown;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use crate::audit::{self, Actor};
use crate::config::Secret;
use crate::crypto::KeyEncryptionKey;
use crate::error::{Error, Result, invalid};
use crate::ids;

pub use shown::{Shown, enter_again, find_shown, is_readable};

/// How long the former webhook secret is accepted: GitHub lets deliveries be sent again for three
/// days.
pub const FORMER_SECRET: Duration = Duration::days(3);

/// Former webhook secrets that are accepted at once; each costs a delivery one more computation.
const FORMER_AT_ONCE: i64 = 5;

/// An assertion's longest life that GitHub takes is ten minutes; clocks differ.
const ASSERTION: Duration = Duration::minutes(8);

/// GitHub's advice, for clocks that differ.
const EARLIER: Duration = Duration::MINUTE;

/// Names what is encrypted, so that one secret does not pass for another.
mod context {
    pub const CLIENT_SECRET: &str = "github-app:client-secret";
    pub const PRIVATE_KEY: &str = "github-app:private-key";
    pub const WEBHOOK_SECRET: &str = "github-app:webhook-secret";
}

/// Who may sign up by GitHub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignUp {
    /// Only people who are members already.
    Nobody,
    /// Chosen accounts, and members of chosen organizations.
    Listed,
    /// Everyone.
    Anyone,
}

impl SignUp {
    /// As it stands in the database and in forms.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Listed => "listed",
            Self::Anyone => "anyone",
        }
    }

    /// The rule of this name.
    pub fn parse(name: &str) -> Result<Self> {
        [Self::Nobody, Self::Listed, Self::Anyone]
            .into_iter()
            .find(|rule| rule.name() == name)
            .ok_or_else(|| {
                invalid(
                    "sign_up",
                    "Choose who may sign up: nobody, listed or anyone.",
                )
            })
    }
}

/// The App.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Its number.
    pub id: i64,
    /// Its name in addresses.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// Its page at GitHub.
    pub page: String,
    /// Its name as an OAuth client.
    pub client_id: String,
    /// Its password as an OAuth client.
    pub client_secret: Secret,
    /// The key that signs its assertions, PEM.
    pub private_key: Secret,
    /// What signs its webhooks.
    pub webhook_secret: Secret,
    /// What signed them before changes, and until when each is accepted; newest first.
    pub former_webhook_secrets: Vec<(Secret, OffsetDateTime)>,
    /// Who may sign up.
    pub sign_up: SignUp,
    /// When it was set up here.
    pub created_at: OffsetDateTime,
}

/// An App as it is set up.
#[derive(Debug)]
pub struct NewRegistration {
    /// Its number.
    pub id: i64,
    /// Its name in addresses.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// Its page at GitHub.
    pub page: String,
    /// Its name as an OAuth client.
    pub client_id: String,
    /// Its password as an OAuth client.
    pub client_secret: Secret,
    /// The key that signs its assertions, PEM.
    pub private_key: Secret,
    /// What signs its webhooks.
    pub webhook_secret: Secret,
}

#[derive(Serialize)]
struct Claims {
    iat: i64,
    exp: i64,
    iss: String,
}

/// An assertion by which the App shows itself, good for minutes (RS256).
/// <https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app>
pub fn assertion(id: i64, private_key: &Secret, now: OffsetDateTime) -> Result<Secret> {
    let unreadable = || {
        invalid(
            "private_key",
            "The private key cannot be read; paste the whole .pem file that GitHub gave, with its first and last line.",
        )
    };
    let key =
        EncodingKey::from_rsa_pem(private_key.expose().as_bytes()).map_err(|_| unreadable())?;
    let claims = Claims {
        iat: (now - EARLIER).unix_timestamp(),
        exp: (now + ASSERTION).unix_timestamp(),
        iss: id.to_string(),
    };
    jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &key)
        .map(Secret::new)
        .map_err(|_| unreadable())
}

impl Registration {
    /// An assertion of this App.
    pub fn assertion(&self, now: OffsetDateTime) -> Result<Secret> {
        assertion(self.id, &self.private_key, now)
    }

    /// The secrets that a webhook may be signed with now.
    pub fn webhook_secrets(&self, now: OffsetDateTime) -> Vec<&Secret> {
        let former = self
            .former_webhook_secrets
            .iter()
            .filter(|(_, until)| *until > now)
            .map(|(secret, _)| secret);
        std::iter::once(&self.webhook_secret)
            .chain(former)
            .collect()
    }
}

/// The App, if one is set up.
pub async fn find(db: &mut PgConnection, kek: &KeyEncryptionKey) -> Result<Option<Registration>> {
    let Some(row) = sqlx::query!(
        "select id, slug, name, page, client_id, client_secret, private_key, webhook_secret,
             sign_up, created_at
         from github_app"
    )
    .fetch_optional(&mut *db)
    .await?
    else {
        return Ok(None);
    };
    let open = |sealed: &[u8], context: &str| -> Result<Secret> {
        let plain = kek.decrypt(sealed, context)?;
        let text = String::from_utf8(plain)
            .map_err(|_| Error::Internal(anyhow::anyhow!("a secret of the App is no text")))?;
        Ok(Secret::new(text))
    };
    let mut former = Vec::new();
    for one in sqlx::query!(
        "select webhook_secret, until from github_former_secrets order by number desc limit $1",
        FORMER_AT_ONCE,
    )
    .fetch_all(db)
    .await?
    {
        former.push((
            open(&one.webhook_secret, context::WEBHOOK_SECRET)?,
            one.until,
        ));
    }
    Ok(Some(Registration {
        id: row.id,
        slug: row.slug,
        name: row.name,
        page: row.page,
        client_id: row.client_id,
        client_secret: open(&row.client_secret, context::CLIENT_SECRET)?,
        private_key: open(&row.private_key, context::PRIVATE_KEY)?,
        webhook_secret: open(&row.webhook_secret, context::WEBHOOK_SECRET)?,
        former_webhook_secrets: former,
        sign_up: SignUp::parse(&row.sign_up)?,
        created_at: row.created_at,
    }))
}

/// The App. Fails with what to do when there is none.
pub async fn get(db: &mut PgConnection, kek: &KeyEncryptionKey) -> Result<Registration> {
    find(db, kek).await?.ok_or_else(|| {
        Error::Conflict("No GitHub App is set up on this platform; ask its operator to set one up on the page GitHub.".into())
    })
}

/// Whether one is set up.
pub async fn exists(db: &mut PgConnection) -> Result<bool> {
    Ok(
        sqlx::query_scalar!(r#"select exists(select from github_app) as "exists!""#)
            .fetch_one(db)
            .await?,
    )
}

/// Sets the App up at the GitHub of this address. Fails when there is one already. What is known of
/// another GitHub by its numbers goes: they are other accounts and repositories here.
pub async fn create(
    db: &mut PgConnection,
    kek: &KeyEncryptionKey,
    github: &str,
    new: &NewRegistration,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<()> {
    let seal = |secret: &Secret, context: &str| kek.encrypt(secret.expose().as_bytes(), context);
    let created = sqlx::query!(
        "insert into github_app (id, slug, name, page, client_id, client_secret, private_key, webhook_secret, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict (only_row) do nothing",
        new.id,
        new.slug,
        new.name,
        new.page,
        new.client_id,
        seal(&new.client_secret, context::CLIENT_SECRET),
        seal(&new.private_key, context::PRIVATE_KEY),
        seal(&new.webhook_secret, context::WEBHOOK_SECRET),
        now,
    )
    .execute(&mut *db)
    .await?
    .rows_affected();
    if created == 0 {
        return Err(Error::Conflict(
            "A GitHub App is set up already; remove it first.".into(),
        ));
    }
    host::arrive_at(db, github).await?;
    note(
        db,
        "github_app.create",
        actor,
        serde_json::json!({ "app": new.id, "slug": new.slug }),
        now,
    )
    .await
}

/// Takes a new webhook secret up; the present one is accepted for [`FORMER_SECRET`], and those before
/// it to their end: GitHub may never have heard of the last one. Gives the new one, to be shown once.
pub async fn rotate_webhook_secret(
    db: &mut PgConnection,
    kek: &KeyEncryptionKey,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<Secret> {
    let secret = Secret::new(ids::random_token(""));
    // One at a time, so that none is lost between the two statements.
    sqlx::query!("select id from github_app for update")
        .fetch_optional(&mut *db)
        .await?
        .ok_or(Error::NotFound("GitHub App"))?;
    sqlx::query!("delete from github_former_secrets where until <= $1", now)
        .execute(&mut *db)
        .await?;
    sqlx::query!(
        "insert into github_former_secrets (webhook_secret, until) select webhook_secret, $1 from github_app",
        now + FORMER_SECRET,
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "update github_app set webhook_secret = $1",
        kek.encrypt(secret.expose().as_bytes(), context::WEBHOOK_SECRET),
    )
    .execute(&mut *db)
    .await?;
    note(
        db,
        "github_app.rotate_webhook_secret",
        actor,
        serde_json::json!({}),
        now,
    )
    .await?;
    Ok(secret)
}

/// Changes who may sign up.
pub async fn set_sign_up(
    db: &mut PgConnection,
    rule: SignUp,
    allow_strangers: bool,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<()> {
    if rule == SignUp::Anyone && !allow_strangers {
        return Err(invalid(
            "sign_up",
            "Signing up stays closed to strangers: their code would share this machine's kernel. Start berth with \
             BERTH_ALLOW_STRANGERS=true if that is meant, or list who may sign up.",
        ));
    }
    let changed = sqlx::query!("update github_app set sign_up = $1", rule.name())
        .execute(&mut *db)
        .await?
        .rows_affected();
    if changed == 0 {
        return Err(Error::NotFound("GitHub App"));
    }
    note(
        db,
        "github_app.set_sign_up",
        actor,
        serde_json::json!({ "rule": rule.name() }),
        now,
    )
    .await
}

/// Forgets the App with its secrets, tokens and installations. Identities stay, for an App of the
/// same GitHub that comes after it; projects keep their source and say that they are cut off.
pub async fn remove(db: &mut PgConnection, actor: &Actor, now: OffsetDateTime) -> Result<()> {
    let slug = sqlx::query_scalar!("delete from github_app returning slug")
        .fetch_optional(&mut *db)
        .await?
        .ok_or(Error::NotFound("GitHub App"))?;
    sqlx::query!("delete from github_former_secrets")
        .execute(&mut *db)
        .await?;
    sqlx::query!("delete from github_tokens")
        .execute(&mut *db)
        .await?;
    // Another App can change nothing of what this one made.
    sqlx::query!("delete from github_feedback")
        .execute(&mut *db)
        .await?;
    sqlx::query!("delete from github_installations")
        .execute(&mut *db)
        .await?;
    sqlx::query!(
        "update github_links set problem = $1, problem_at = $2",
        "The platform's GitHub App was removed; pushes do not come live until there is one again.",
        now,
    )
    .execute(&mut *db)
    .await?;
    note(
        db,
        "github_app.remove",
        actor,
        serde_json::json!({ "slug": slug }),
        now,
    )
    .await
}

/// Writes an audit row of the platform's own organization.
pub(super) async fn note(
    db: &mut PgConnection,
    action: &str,
    actor: &Actor,
    subject: serde_json::Value,
    now: OffsetDateTime,
) -> Result<()> {
    let entry = audit::Entry {
        at: now,
        actor,
        action,
        organization: crate::organizations::first(db).await?,
        project: None,
        subject,
    };
    audit::record(db, entry).await?;
    Ok(())
}
