//! People: the owner of the first start, passwords, and the one-time links that set them.

pub mod password;

use sqlx::{Connection as _, PgConnection, PgPool};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::audit::{self, Actor};
use crate::config::ServeConfig;
use crate::crypto::sha256;
use crate::error::{Error, Result, invalid, violates};
use crate::ids;
use crate::organizations::{self, Role};

/// How long a one-time link works.
pub const SETUP_LINK_LIFETIME: Duration = Duration::hours(24);

/// Longest e-mail address, bytes (RFC 5321 section 4.5.3.1.3: a path holds 256 with its brackets).
const MAX_EMAIL: usize = 254;

/// Any number: serialises the first start of several control planes on one database.
const FIRST_START_LOCK: i64 = 0x6265_7274_6801;

/// A person. Service accounts are users too ([`crate::service_accounts`]) and never one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Their id: the `sub` of their access tokens.
    pub id: Uuid,
    /// Their e-mail address, as they wrote it.
    pub email: String,
    /// How they are called in pages.
    pub name: String,
}

/// Creates the owner and their organization when nobody is there yet. A password in the settings
/// is set as long as the owner has none; later it is theirs to change.
pub async fn ensure_owner(
    db: &mut PgConnection,
    config: &ServeConfig,
    now: OffsetDateTime,
) -> Result<()> {
    let mut tx = db.begin().await?;
    sqlx::query!("select pg_advisory_xact_lock($1)", FIRST_START_LOCK)
        .execute(&mut *tx)
        .await?;
    let owner = if let Some(owner) = find_owner(&mut tx).await? {
        owner
    } else {
        let owner = create(&mut tx, &config.owner_email, now).await?;
        let organization = organizations::create(&mut tx, &owner.name, now).await?;
        organizations::add_member(&mut tx, organization, owner.id, Role::Owner).await?;
        let entry = audit::Entry {
            at: now,
            actor: &Actor::System,
            action: "user.create",
            organization: Some(organization),
            project: None,
            subject: serde_json::json!({ "user": owner.id, "role": "owner" }),
        };
        audit::record(&mut tx, entry).await?;
        owner
    };
    if let Some(password) = &config.owner_password
        && !has_password(&mut tx, owner.id).await?
    {
        set_password(&mut tx, owner.id, password.expose().to_owned()).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Creates someone who belongs to no organization and has no password.
/// Fails when the address is taken.
pub async fn create(db: &mut PgConnection, email: &str, now: OffsetDateTime) -> Result<User> {
    let email = email.trim();
    let name = email
        .split('@')
        .next()
        .filter(|part| !part.is_empty())
        .unwrap_or("main");
    let user = User {
        id: ids::new_id(),
        email: email.to_owned(),
        name: name.to_owned(),
    };
    sqlx::query!(
        "insert into users (id, email, name, created_at) values ($1, $2, $3, $4)",
        user.id,
        user.email,
        user.name,
        now,
    )
    .execute(db)
    .await
    .map_err(|error| {
        if violates(&error, "users_email") {
            Error::Conflict(format!(
                "Someone with the address {email} was just added; try again."
            ))
        } else {
            error.into()
        }
    })?;
    Ok(user)
}

/// Changes how someone is called.
pub async fn rename(db: &mut PgConnection, id: Uuid, name: &str) -> Result<User> {
    Ok(sqlx::query_as!(
        User,
        "update users set name = $2 where id = $1 returning id, email, name",
        id,
        name,
    )
    .fetch_one(db)
    .await?)
}

/// The first owner of the platform's own organization ([`organizations::first`]), whom `berth admin`
/// speaks for. Who owns another runs nothing.
pub async fn find_owner(db: &mut PgConnection) -> Result<Option<User>> {
    Ok(sqlx::query_as!(
        User,
        "select u.id, u.email, u.name from users u join members m on m.user_id = u.id
         where m.role = 'owner' and m.organization_id = (
             select id from organizations order by created_at, id limit 1)
         order by u.created_at, u.id limit 1",
    )
    .fetch_optional(db)
    .await?)
}

/// By id.
pub async fn find(db: &mut PgConnection, id: Uuid) -> Result<Option<User>> {
    Ok(sqlx::query_as!(
        User,
        "select id, email, name from users where id = $1 and service_account_of is null",
        id
    )
    .fetch_optional(db)
    .await?)
}

/// By e-mail address; letter case does not matter.
pub async fn find_by_email(db: &mut PgConnection, email: &str) -> Result<Option<User>> {
    Ok(sqlx::query_as!(
        User,
        "select id, email, name from users
         where lower(email) = lower($1) and service_account_of is null",
        email.trim(),
    )
    .fetch_optional(db)
    .await?)
}

/// Refuses what is no e-mail address anyone could have here; the sentence says what to do.
pub fn check_email(email: &str) -> Result<()> {
    check_known_email(email)?;
    // RFC 2606 section 2; service accounts and who signed up by GitHub have their placeholders there.
    if email.to_ascii_lowercase().ends_with(".invalid") {
        return Err(no_address());
    }
    Ok(())
}

fn no_address() -> Error {
    invalid("email", "Give an e-mail address, like ada@example.com.")
}

/// The same for somebody who may be here already, perhaps under a placeholder.
pub fn check_known_email(email: &str) -> Result<()> {
    let (local, domain) = email.split_once('@').unwrap_or_default();
    let usable = !local.is_empty()
        && !domain.is_empty()
        && !domain.contains('@')
        && email.len() <= MAX_EMAIL
        && !email
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || "<>,;\"\\".contains(c));
    if usable { Ok(()) } else { Err(no_address()) }
}

/// The person whose e-mail address and password these are. An unknown address takes as long as a
/// wrong password. Takes the pool because hashing waits its turn, and whoever waits must not hold
/// a connection.
pub async fn verify_password(db: &PgPool, email: &str, password: String) -> Result<Option<User>> {
    let row = sqlx::query!(
        "select id, email, name, password_hash from users
         where lower(email) = lower($1) and service_account_of is null",
        email.trim(),
    )
    .fetch_optional(db)
    .await?;
    let (user, hash) = match row {
        Some(row) => (
            Some(User {
                id: row.id,
                email: row.email,
                name: row.name,
            }),
            row.password_hash,
        ),
        None => (None, None),
    };
    let right = password::verify(password, hash).await?;
    Ok(user.filter(|_| right))
}

/// Whether someone has set a password.
pub async fn has_password(db: &mut PgConnection, user: Uuid) -> Result<bool> {
    Ok(find_password(db, user).await?.is_some())
}

/// Whether someone has a way to sign in: a password, or an account at GitHub.
pub async fn can_sign_in(db: &mut PgConnection, user: Uuid) -> Result<bool> {
    Ok(sqlx::query_scalar!(
        r#"select (password_hash is not null
             or exists (select from github_identities i where i.user_id = u.id)) as "can!"
         from users u where id = $1"#,
        user,
    )
    .fetch_one(db)
    .await?)
}

/// Refuses a password that is too short or too long; the sentence says what to do.
pub fn check_password(password: &str) -> Result<()> {
    if password.chars().count() < password::MIN_LENGTH {
        return Err(invalid(
            "password",
            format!(
                "A password has at least {} characters; choose a longer one.",
                password::MIN_LENGTH
            ),
        ));
    }
    if password.len() > password::MAX_LENGTH {
        return Err(invalid(
            "password",
            format!(
                "A password has at most {} bytes; choose a shorter one.",
                password::MAX_LENGTH
            ),
        ));
    }
    Ok(())
}

/// Sets someone's password. Fails when it is too short or too long.
pub async fn set_password(db: &mut PgConnection, user: Uuid, password: String) -> Result<()> {
    check_password(&password)?;
    let hash = password::hash(password).await?;
    store_password(db, user, &hash).await
}

/// Has changes of how someone signs in wait for each other, until the transaction ends.
pub async fn lock(db: &mut PgConnection, user: Uuid) -> Result<()> {
    sqlx::query!("select 1 as one from users where id = $1 for update", user)
        .fetch_one(db)
        .await?;
    Ok(())
}

/// The hash of someone's password.
pub async fn find_password(db: &mut PgConnection, user: Uuid) -> Result<Option<String>> {
    Ok(
        sqlx::query_scalar!("select password_hash from users where id = $1", user)
            .fetch_one(db)
            .await?,
    )
}

/// Keeps the hash of someone's password in the place of `before`; says whether that was still there.
pub async fn replace_password(
    db: &mut PgConnection,
    user: Uuid,
    before: Option<&str>,
    hash: &str,
) -> Result<bool> {
    let done = sqlx::query!(
        "update users set password_hash = $3
         where id = $1 and password_hash is not distinct from $2",
        user,
        before,
        hash,
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Keeps the hash of someone's password.
pub async fn store_password(db: &mut PgConnection, user: Uuid, hash: &str) -> Result<()> {
    sqlx::query!(
        "update users set password_hash = $2 where id = $1",
        user,
        hash
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A one-time token for `/setup/{token}` while the owner has no password; `None` once they do.
/// Earlier links stay good until they expire or a password is set.
pub async fn create_setup_link(
    db: &mut PgConnection,
    now: OffsetDateTime,
) -> Result<Option<String>> {
    let Some(owner) = find_owner(db).await? else {
        return Ok(None);
    };
    if has_password(db, owner.id).await? {
        return Ok(None);
    }
    Ok(Some(create_setup_link_for(db, owner.id, now).await?))
}

/// A one-time token for `/setup/{token}` for someone who has no password, good for
/// [`SETUP_LINK_LIFETIME`]; it is worth nothing once they have one.
pub async fn create_setup_link_for(
    db: &mut PgConnection,
    user: Uuid,
    now: OffsetDateTime,
) -> Result<String> {
    create_link(db, user, false, now).await
}

/// The same for someone whose password it replaces. Only whoever runs the platform may have it made.
pub async fn create_replacing_link(
    db: &mut PgConnection,
    user: Uuid,
    now: OffsetDateTime,
) -> Result<String> {
    create_link(db, user, true, now).await
}

async fn create_link(
    db: &mut PgConnection,
    user: Uuid,
    replaces: bool,
    now: OffsetDateTime,
) -> Result<String> {
    let token = ids::random_token("");
    sqlx::query!(
        "insert into setup_links (token_hash, user_id, expires_at, replaces) values ($1, $2, $3, $4)",
        sha256(&token),
        user,
        now + SETUP_LINK_LIFETIME,
        replaces,
    )
    .execute(db)
    .await?;
    Ok(token)
}

/// Ends the links of someone that were not used.
pub async fn delete_setup_links(db: &mut PgConnection, user: Uuid) -> Result<()> {
    sqlx::query!(
        "delete from setup_links where user_id = $1 and used_at is null",
        user
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Whose link this is, while it can still be used.
pub async fn find_setup_link(
    db: &mut PgConnection,
    token: &str,
    now: OffsetDateTime,
) -> Result<Option<User>> {
    Ok(sqlx::query_as!(
        User,
        "select u.id, u.email, u.name from setup_links l join users u on u.id = l.user_id
         where l.token_hash = $1 and l.used_at is null and l.expires_at > $2
           and (l.replaces or u.password_hash is null
               and not exists (select from github_identities i where i.user_id = u.id))",
        sha256(token),
        now,
    )
    .fetch_optional(db)
    .await?)
}

/// Uses a link up and sets the password. `None` when the link is unknown, used or too old.
pub async fn use_setup_link(
    db: &mut PgConnection,
    token: &str,
    password: String,
    now: OffsetDateTime,
) -> Result<Option<User>> {
    check_password(&password)?;
    let used = sqlx::query_scalar!(
        "update setup_links l set used_at = $2 from users u
         where l.token_hash = $1 and l.used_at is null and l.expires_at > $2
           and u.id = l.user_id
           and (l.replaces or u.password_hash is null
               and not exists (select from github_identities i where i.user_id = u.id))
         returning l.user_id",
        sha256(token),
        now,
    )
    .fetch_optional(&mut *db)
    .await?;
    let Some(id) = used else { return Ok(None) };
    set_password(db, id, password).await?;
    delete_setup_links(db, id).await?;
    let subject = serde_json::json!({ "by": "setup link" });
    audit::record_person(db, &Actor::User(id), "user.set_password", subject, now).await?;
    find(db, id).await
}

/// Forgets links that can no longer be used.
pub async fn purge_setup_links(db: &mut PgConnection, now: OffsetDateTime) -> Result<u64> {
    Ok(
        sqlx::query!("delete from setup_links where expires_at <= $1", now)
            .execute(db)
            .await?
            .rows_affected(),
    )
}
