//! Clients of service accounts: for programs that ask for tokens by themselves
//! (`client_credentials`, RFC 6749 section 4.4), with a secret or with keys of their own.

use serde_json::{Value, json};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{AuthMethod, Client, Kind, find, keys};
use crate::audit::{self, Actor};
use crate::crypto::sha256;
use crate::error::{Error, Result, invalid};
use crate::{grants, ids};

/// Clients of one service account: one for each place it runs in, and one more while a secret
/// changes.
const MOST: i64 = 20;

/// Longest name, characters.
const MAX_NAME: usize = 80;

/// How a new client will show who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// By a secret that we make.
    Secret,
    /// By assertions signed with keys of which this is the public half (RFC 7517, a JWK set).
    Jwks(Value),
}

/// What [`create`] needs.
#[derive(Debug)]
pub struct NewServiceClient<'a> {
    /// What it is called.
    pub name: &'a str,
    /// How it will show who it is.
    pub auth: Auth,
    /// When it ends; `None` for one that goes on until it is deleted.
    pub expires_at: Option<OffsetDateTime>,
}

/// A client as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ServiceClient {
    /// Its `client_id`.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// `client_secret_basic`, which stands for both ways to send a secret, or `private_key_jwt`.
    pub auth_method: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it was last given a token.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_used_at: Option<OffsetDateTime>,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
}

/// Makes a client of a service account. The secret, if it has one, is never shown again. The
/// caller has checked that the actor manages the service account.
pub async fn create(
    db: &mut PgConnection,
    service_account: Uuid,
    new: NewServiceClient<'_>,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<(Client, Option<String>)> {
    let name = new.name.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(invalid(
            "name",
            format!("A client's name has 1 to {MAX_NAME} characters in one line."),
        ));
    }
    let organization = organization_of(db, service_account).await?;
    if count(db, service_account).await? >= MOST {
        return Err(Error::Conflict(format!(
            "A service account has at most {MOST} clients; delete one that is not used."
        )));
    }
    let (auth_method, secret, jwks) = match new.auth {
        Auth::Secret => {
            let secret = ids::random_token("brs_");
            (AuthMethod::ClientSecretBasic, Some(secret), None)
        }
        Auth::Jwks(jwks) => {
            keys::check(&jwks).map_err(|why| {
                invalid("jwks", format!("The set of keys cannot be used: {why}."))
            })?;
            (AuthMethod::PrivateKeyJwt, None, Some(jwks))
        }
    };
    let id = ids::random_token("brc_");
    sqlx::query!(
        "insert into clients
             (id, kind, name, redirect_uris, grant_types, token_endpoint_auth_method, secret_hash, jwks,
              metadata, created_at, service_account_id, expires_at)
         values ($1, $2, $3, '{}', '{client_credentials}', $4, $5, $6, '{}', $7, $8, $9)",
        id,
        Kind::Service.name(),
        name,
        auth_method.name(),
        secret.as_ref().map(sha256),
        jwks,
        now,
        service_account,
        new.expires_at,
    )
    .execute(&mut *db)
    .await?;
    let entry = audit::Entry {
        at: now,
        actor,
        action: "client.create",
        organization: Some(organization),
        project: None,
        subject: json!({
            "client": id, "name": name, "service_account": service_account, "auth": auth_method.name(),
        }),
    };
    audit::record(db, entry).await?;
    let client = find(db, &id).await?.ok_or(Error::NotFound("client"))?;
    Ok((client, secret))
}

/// The clients of a service account, oldest first.
pub async fn list(db: &mut PgConnection, service_account: Uuid) -> Result<Vec<ServiceClient>> {
    Ok(sqlx::query_as!(
        ServiceClient,
        "select id, name, token_endpoint_auth_method as auth_method, created_at, last_used_at,
             expires_at
         from clients where service_account_id = $1 and deleted_at is null order by created_at, id",
        service_account,
    )
    .fetch_all(db)
    .await?)
}

/// Deletes a client of a service account; its tokens end at once, at edges too.
pub async fn delete(
    db: &mut PgConnection,
    service_account: Uuid,
    id: &str,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<()> {
    let organization = organization_of(db, service_account).await?;
    let deleted = sqlx::query!(
        "update clients set deleted_at = $3
         where id = $1 and service_account_id = $2 and deleted_at is null",
        id,
        service_account,
        now,
    )
    .execute(&mut *db)
    .await?;
    if deleted.rows_affected() == 0 {
        return Err(Error::NotFound("client"));
    }
    // The row stays until the purge: edges are told to refuse grants that are still there.
    let alive = sqlx::query_scalar!(
        "select id from grants where client_id = $1 and revoked_at is null",
        id
    )
    .fetch_all(&mut *db)
    .await?;
    for grant in alive {
        grants::revoke(db, grant, actor, "its client was deleted", now).await?;
    }
    let entry = audit::Entry {
        at: now,
        actor,
        action: "client.delete",
        organization: Some(organization),
        project: None,
        subject: json!({ "client": id, "service_account": service_account }),
    };
    Ok(audit::record(db, entry).await?)
}

async fn organization_of(db: &mut PgConnection, service_account: Uuid) -> Result<Uuid> {
    sqlx::query_scalar!(
        r#"select service_account_of as "organization!" from users
         where id = $1 and service_account_of is not null"#,
        service_account,
    )
    .fetch_optional(db)
    .await?
    .ok_or(Error::NotFound("service account"))
}

async fn count(db: &mut PgConnection, service_account: Uuid) -> Result<i64> {
    Ok(sqlx::query_scalar!(
        r#"select count(*) as "count!" from clients where service_account_id = $1 and deleted_at is null"#,
        service_account,
    )
    .fetch_one(db)
    .await?)
}

#[cfg(test)]
mod tests;
