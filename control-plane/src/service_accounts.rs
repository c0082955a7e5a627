//! Service accounts: callers that are no person. One is a user of one organization, without
//! password and membership; it calls MCP servers with API tokens or as an OAuth client of its own,
//! and never uses the API.

#[cfg(test)]
mod tests;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::audit::{self, Actor};
use crate::db::{Changed, bump};
use crate::error::{Error, Result, invalid, violates};
use crate::ids;
use crate::organizations::Organization;

/// Longest name, bytes: as for projects, so that lists line up.
pub const MAX_NAME: usize = 40;

/// A service account.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ServiceAccount {
    /// Its id: the `sub` of its access tokens, and what servers are told.
    pub id: Uuid,
    /// Its name, unique in its organization.
    pub name: String,
    /// Its organization.
    #[serde(rename = "organization")]
    pub organization_id: Uuid,
    /// When it was created.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// Creates one.
pub async fn create(
    db: &mut PgConnection,
    organization: &Organization,
    name: &str,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<ServiceAccount> {
    let name = name.trim();
    check_name(name)?;
    let account = ServiceAccount {
        id: ids::new_id(),
        name: name.to_owned(),
        organization_id: organization.id,
        created_at: now,
    };
    sqlx::query!(
        "insert into users (id, email, name, service_account_of, created_at) values ($1, $2, $3, $4, $5)",
        account.id,
        format!("{name}@{}.service.invalid", organization.id),
        name,
        organization.id,
        now,
    )
    .execute(&mut *db)
    .await
    .map_err(|error| {
        if violates(&error, "users_email") {
            Error::Conflict(format!(
                "There is a service account called {name} already; choose another name."
            ))
        } else {
            error.into()
        }
    })?;
    told(db, &account, actor, "service_account.create", now).await?;
    Ok(account)
}

fn check_name(name: &str) -> Result<()> {
    let usable = !name.is_empty()
        && name.len() <= MAX_NAME
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if usable {
        return Ok(());
    }
    Err(invalid(
        "name",
        format!(
            "A service account's name has 1 to {MAX_NAME} lower-case letters, digits and hyphens, \
             with a letter or digit at both ends."
        ),
    ))
}

/// Those of an organization, by name.
pub async fn list(db: &mut PgConnection, organization: Uuid) -> Result<Vec<ServiceAccount>> {
    Ok(sqlx::query_as!(
        ServiceAccount,
        r#"select id, name, service_account_of as "organization_id!", created_at
         from users where service_account_of = $1 order by name"#,
        organization,
    )
    .fetch_all(db)
    .await?)
}

/// By name or id, if the person manages its organization; otherwise as if it were not there. Of
/// two of the same name, in different organizations, the older is meant.
pub async fn get_for(
    db: &mut PgConnection,
    user: Uuid,
    name_or_id: &str,
) -> Result<ServiceAccount> {
    sqlx::query_as!(
        ServiceAccount,
        r#"select u.id, u.name, u.service_account_of as "organization_id!", u.created_at
         from users u join members m on m.organization_id = u.service_account_of
         where m.user_id = $1 and m.role in ('owner', 'admin') and (u.name = $2 or u.id = $3)
         order by u.created_at, u.id limit 1"#,
        user,
        name_or_id,
        Uuid::parse_str(name_or_id).ok(),
    )
    .fetch_optional(db)
    .await?
    .ok_or(Error::NotFound("service account"))
}

/// Deletes one, with its tokens, its OAuth clients and what they were granted; edges refuse it at
/// once, since they no longer know it.
pub async fn delete(
    db: &mut PgConnection,
    account: &ServiceAccount,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "delete from users where id = $1 and service_account_of is not null",
        account.id
    )
    .execute(&mut *db)
    .await?;
    told(db, account, actor, "service_account.delete", now).await
}

/// Writes the audit row, and has edges hear of it.
async fn told(
    db: &mut PgConnection,
    account: &ServiceAccount,
    actor: &Actor,
    action: &str,
    at: OffsetDateTime,
) -> Result<()> {
    let entry = audit::Entry {
        at,
        actor,
        action,
        organization: Some(account.organization_id),
        project: None,
        subject: serde_json::json!({ "service_account": account.id, "name": account.name }),
    };
    audit::record(db, entry).await?;
    bump(db, Changed::Routes).await?;
    Ok(())
}
