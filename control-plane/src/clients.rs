//! OAuth clients: registered by themselves (RFC 7591), and one built in for the command line.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use crate::crypto::sha256;
use crate::error::Result;

/// The command line's own client.
pub const CLI_CLIENT: &str = "berth-cli";

/// Where the command line listens while it signs in; any port (RFC 8252 section 7.3).
const CLI_REDIRECT_URIS: &[&str] = &[
    "http://127.0.0.1/callback",
    "http://[::1]/callback",
    "http://localhost/callback",
];

/// A client that registered and was never used is forgotten after this long: many clients
/// register anew for every connection.
pub const UNUSED_LIFETIME: Duration = Duration::hours(24);

/// A client that was used is forgotten when it has held no grant for this long.
pub const IDLE_LIFETIME: Duration = Duration::days(90);

/// How a client shows at the token endpoint who it is (RFC 7591 section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// Not at all: a public client. PKCE protects it.
    None,
    /// `client_id` and `client_secret` in the form.
    ClientSecretPost,
    /// HTTP Basic.
    ClientSecretBasic,
}

impl AuthMethod {
    /// As metadata, requests and the database write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ClientSecretPost => "client_secret_post",
            Self::ClientSecretBasic => "client_secret_basic",
        }
    }
}

/// A client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its `client_id`.
    pub id: String,
    /// What it calls itself. Nobody checked it.
    pub name: String,
    /// Where answers may go.
    pub redirect_uris: Vec<String>,
    /// `authorization_code`, `refresh_token`.
    pub grant_types: Vec<String>,
    /// SHA-256 of its secret; `None` for a public client.
    pub secret_hash: Option<Vec<u8>>,
}

impl Client {
    /// Whether it may use a grant type.
    pub fn allows(&self, grant_type: &str) -> bool {
        self.grant_types.iter().any(|known| known == grant_type)
    }

    /// Whether `secret` is its secret. A public client has none to show.
    pub fn accepts(&self, secret: Option<&str>) -> bool {
        match (&self.secret_hash, secret) {
            (None, _) => true,
            (Some(hash), Some(secret)) => {
                aws_lc_rs::constant_time::verify_slices_are_equal(hash, &sha256(secret)).is_ok()
            }
            (Some(_), None) => false,
        }
    }
}

/// What is kept of a registration.
#[derive(Debug)]
pub struct NewClient<'a> {
    /// Its `client_id`, hard to guess.
    pub id: &'a str,
    /// What it calls itself.
    pub name: &'a str,
    /// Where answers may go, checked.
    pub redirect_uris: &'a [String],
    /// `authorization_code`, `refresh_token`.
    pub grant_types: &'a [String],
    /// How it shows who it is.
    pub auth_method: AuthMethod,
    /// Its secret, for the methods that need one.
    pub secret: Option<&'a str>,
    /// The rest of what it sent and we know.
    pub metadata: serde_json::Value,
}

/// Keeps a registration.
pub async fn create(
    db: &mut PgConnection,
    client: NewClient<'_>,
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "insert into clients
             (id, name, redirect_uris, grant_types, token_endpoint_auth_method, secret_hash, metadata, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        client.id,
        client.name,
        client.redirect_uris,
        client.grant_types,
        client.auth_method.name(),
        client.secret.map(sha256),
        client.metadata,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// By `client_id`.
pub async fn find(db: &mut PgConnection, id: &str) -> Result<Option<Client>> {
    Ok(sqlx::query_as!(
        Client,
        "select id, name, redirect_uris, grant_types, secret_hash from clients where id = $1",
        id,
    )
    .fetch_optional(db)
    .await?)
}

/// Makes sure that the command line's client is there; done once, at the start.
pub async fn ensure_cli(db: &mut PgConnection, now: OffsetDateTime) -> Result<()> {
    let redirect_uris: Vec<String> = CLI_REDIRECT_URIS.iter().map(ToString::to_string).collect();
    sqlx::query!(
        "insert into clients
             (id, name, redirect_uris, grant_types, token_endpoint_auth_method, metadata, created_at)
         values ($1, 'Berth command line', $2, '{authorization_code,refresh_token}', 'none', '{}', $3)
         on conflict (id) do nothing",
        CLI_CLIENT,
        &redirect_uris,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Notes that a client was used, so that it is not purged.
pub async fn touch(db: &mut PgConnection, id: &str, now: OffsetDateTime) -> Result<()> {
    sqlx::query!(
        "update clients set last_used_at = $2 where id = $1",
        id,
        now
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Forgets clients that nobody uses; returns how many.
pub async fn purge_unused(db: &mut PgConnection, now: OffsetDateTime) -> Result<u64> {
    let purged = sqlx::query!(
        "delete from clients c
         where c.id <> $1
           and (c.last_used_at is null and c.created_at < $2 or c.last_used_at < $3)
           and not exists (select 1 from grants g where g.client_id = c.id)",
        CLI_CLIENT,
        now - UNUSED_LIFETIME,
        now - IDLE_LIFETIME,
    )
    .execute(db)
    .await?;
    Ok(purged.rows_affected())
}
