//! Which person an account at GitHub is. Numbers decide: a login can be given up, and pass to
//! somebody else. E-mail addresses decide nothing.

use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::registration::{self, Registration, SignUp};
use super::rest::{self, Account};
use crate::app::App;
use crate::audit::{self, Actor};
use crate::config::Secret;
use crate::error::{Error, Result, invalid, violates};
use crate::ids;
use crate::organizations::{self, Role};
use crate::users::{self, User};

/// Most accounts on the list of who may sign up; whoever wants more wants an organization.
const MAX_LISTED: i64 = 200;

/// Longest login at GitHub is 39; Enterprise Servers add a suffix.
const MAX_LOGIN: usize = 60;

/// An account at GitHub that is tied to a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its number.
    pub github_id: i64,
    /// Its name, as of the last sign-in.
    pub login: String,
    /// Since when.
    pub linked_at: OffsetDateTime,
}

/// A person's account.
pub async fn find_of(db: &mut PgConnection, user: Uuid) -> Result<Option<Identity>> {
    Ok(sqlx::query_as!(
        Identity,
        "select github_id, login, linked_at from github_identities where user_id = $1",
        user,
    )
    .fetch_optional(db)
    .await?)
}

/// The person of an account; the account's name as it is now is noted.
pub async fn find_person(db: &mut PgConnection, account: &Account) -> Result<Option<User>> {
    let user = sqlx::query_scalar!(
        "update github_identities set login = $2 where github_id = $1 returning user_id",
        account.id,
        login_of(account),
    )
    .fetch_optional(&mut *db)
    .await?;
    match user {
        Some(user) => users::find(db, user).await,
        None => Ok(None),
    }
}

/// Ties an account to a person who is signed in. Fails when it is another person's, and when the
/// person has another account.
pub async fn link(
    db: &mut PgConnection,
    user: Uuid,
    account: &Account,
    now: OffsetDateTime,
) -> Result<()> {
    if let Some(present) = find_of(db, user).await? {
        if present.github_id == account.id {
            return Ok(());
        }
        return Err(Error::Conflict(format!(
            "You are connected to GitHub as {} already; disconnect that account first.",
            present.login
        )));
    }
    sqlx::query!(
        "insert into github_identities (user_id, github_id, login, linked_at) values ($1, $2, $3, $4)",
        user,
        account.id,
        login_of(account),
        now,
    )
    .execute(&mut *db)
    .await
    .map_err(|error| {
        if violates(&error, "github_identities_github_id_key") {
            Error::Conflict(
                "This account at GitHub belongs to another person here; sign in with GitHub to be them.".into(),
            )
        } else {
            error.into()
        }
    })?;
    audit::record_person(
        db,
        &Actor::User(user),
        "user.link_github",
        json!({ "github_id": account.id }),
        now,
    )
    .await
}

/// Unties a person's account. Fails when it is their only way to sign in.
pub async fn unlink(db: &mut PgConnection, user: Uuid, now: OffsetDateTime) -> Result<()> {
    if !users::has_password(db, user).await? {
        return Err(Error::Conflict(
            "GitHub is your only way to sign in, so it stays connected.".into(),
        ));
    }
    let gone = forget(db, user)
        .await?
        .ok_or(Error::NotFound("connected account"))?;
    audit::record_person(
        db,
        &Actor::User(user),
        "user.unlink_github",
        json!({ "github_id": gone }),
        now,
    )
    .await
}

/// Unties a person's account, whatever else they sign in by; its number, if they had one.
pub async fn forget(db: &mut PgConnection, user: Uuid) -> Result<Option<i64>> {
    Ok(sqlx::query_scalar!(
        "delete from github_identities where user_id = $1 returning github_id",
        user,
    )
    .fetch_optional(db)
    .await?)
}

/// Whether the rule lets an account sign up. Asks GitHub for memberships, by the person's token.
pub async fn may_sign_up(
    app: &App,
    registration: &Registration,
    token: &Secret,
    account: &Account,
) -> Result<bool> {
    match registration.sign_up {
        SignUp::Nobody => return Ok(false),
        // The setting may have been taken back since.
        SignUp::Anyone => return Ok(app.config.allow_strangers),
        SignUp::Listed => {}
    }
    let listed = list_allowed(&mut *app.db.acquire().await?).await?;
    if listed
        .iter()
        .any(|it| it.kind == "user" && it.account_id == account.id)
    {
        return Ok(true);
    }
    for it in listed.iter().filter(|it| it.kind == "organization") {
        if rest::is_member(app, token, it.account_id, &it.login).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes a person of an account: with an organization of their own, and no password.
pub async fn sign_up(
    db: &mut PgConnection,
    account: &Account,
    now: OffsetDateTime,
) -> Result<User> {
    let login = login_of(account);
    // A placeholder that nobody receives mail at, and by which nobody is found. Who untied the
    // account after they signed up still has the first.
    let mut email = format!("{login}.{}@github.invalid", account.id);
    if users::find_by_email(db, &email).await?.is_some() {
        email = format!("{login}.{}@github.invalid", ids::new_id());
    }
    let user = users::create(db, &email, now).await?;
    let mut name = login.to_owned();
    if organizations::is_taken(db, &name).await? {
        name = format!("{login}-{}", ids::new_id());
    }
    let organization = organizations::create(db, &name, now).await?;
    organizations::add_member(db, organization, user.id, Role::Owner).await?;
    let user = users::rename(db, user.id, login).await?;
    let entry = audit::Entry {
        at: now,
        actor: &Actor::User(user.id),
        action: "user.create",
        organization: Some(organization),
        project: None,
        subject: json!({ "user": user.id, "role": "owner", "by": "github", "github_id": account.id }),
    };
    audit::record(db, entry).await?;
    link(db, user.id, account, now).await?;
    Ok(user)
}

/// An account whose person, or whose people, may sign up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// Its number.
    pub account_id: i64,
    /// Its name when it was added.
    pub login: String,
    /// `user` or `organization`.
    pub kind: String,
}

/// The list of who may sign up, by name.
pub async fn list_allowed(db: &mut PgConnection) -> Result<Vec<Allowed>> {
    Ok(sqlx::query_as!(
        Allowed,
        "select account_id, login, kind from github_sign_up order by lower(login), account_id",
    )
    .fetch_all(db)
    .await?)
}

/// Puts an account on the list, which GitHub is asked for.
pub async fn allow(app: &App, login: &str, actor: &Actor) -> Result<()> {
    let login = login.trim().trim_start_matches('@');
    let plausible = !login.is_empty()
        && login.len() <= MAX_LOGIN
        && login
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    let found = if plausible {
        rest::find_account(app, login).await?
    } else {
        None
    };
    let Some(account) = found else {
        return Err(invalid(
            "login",
            "GitHub has no such user or organization; check the spelling.",
        ));
    };
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let count = sqlx::query_scalar!(r#"select count(*) as "count!" from github_sign_up"#)
        .fetch_one(&mut *tx)
        .await?;
    if count >= MAX_LISTED {
        return Err(Error::Conflict(format!(
            "{MAX_LISTED} accounts are the most on this list; name an organization instead."
        )));
    }
    sqlx::query!(
        "insert into github_sign_up (account_id, login, kind, added_at) values ($1, $2, $3, $4)
         on conflict (account_id) do update set login = excluded.login",
        account.id,
        account.login,
        account.kind(),
        now,
    )
    .execute(&mut *tx)
    .await?;
    let subject = json!({ "account": account.id, "login": account.login });
    registration::note(&mut tx, "github_app.allow", actor, subject, now).await?;
    tx.commit().await?;
    Ok(())
}

/// Takes an account off the list. Who has signed up stays.
pub async fn disallow(
    db: &mut PgConnection,
    account: i64,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<()> {
    let gone = sqlx::query!("delete from github_sign_up where account_id = $1", account)
        .execute(&mut *db)
        .await?
        .rows_affected();
    if gone == 0 {
        return Err(Error::NotFound("account on this list"));
    }
    let subject = json!({ "account": account });
    registration::note(db, "github_app.disallow", actor, subject, now).await
}

fn login_of(account: &Account) -> &str {
    let login = account.login.as_str();
    // GitHub's own rule is narrower; this keeps anything else out of names and addresses.
    let plain = !login.is_empty()
        && login.len() <= MAX_LOGIN
        && login
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if plain { login } else { "someone" }
}
