//! OAuth clients: who asks for tokens. Most register themselves (RFC 7591) or are described by a
//! document at the URL that is their name (Client ID Metadata Document); service accounts have
//! clients of their own, and one is built in for the command line.

pub mod assertions;
pub mod documents;
mod fetched;
pub mod keys;
pub mod metadata;
pub mod redirect_uri;
pub mod service;

use serde_json::Value;
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use url::Url;
use uuid::Uuid;

use crate::crypto::sha256;
use crate::error::{Error, Result};

pub use documents::{Unresolved, resolve};
pub use fetched::{Documents, Source};

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

/// Most registrations that nobody has used yet: each may have 64 KiB, and anybody may make one.
pub const MOST_UNUSED: i64 = 20_000;

/// Where there are as many, the unused ones that are older than this make room: a client that
/// registers is used within minutes.
const HASTY_LIFETIME: Duration = Duration::HOUR;

/// A client that was used is forgotten when it has held no grant for this long.
pub const IDLE_LIFETIME: Duration = Duration::days(90);

/// Declares an enum that stands in the database by its name.
macro_rules! named {
    ($(#[$outer:meta])* $type:ident { $($(#[$inner:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $type { $($(#[$inner])* $variant,)* }

        impl $type {
            /// As requests and the database write it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            fn from_name(name: &str) -> anyhow::Result<Self> {
                match name {
                    $($name => Ok(Self::$variant),)*
                    other => anyhow::bail!("{other} stands in the table of clients, which is not known"),
                }
            }
        }
    };
}

named! {
    /// Where what is known of a client comes from.
    Kind {
        /// It registered itself. Nothing it says was checked.
        Registered = "registered",
        /// Its id is the URL of a document that describes it: its host stands for it.
        Document = "document",
        /// It is part of Berth.
        BuiltIn = "built_in",
        /// Somebody made it for a service account.
        Service = "service",
    }
}

named! {
    /// How a client shows at the token endpoint who it is (RFC 7591 section 2).
    AuthMethod {
        /// Not at all: a public client. PKCE protects it.
        None = "none",
        /// `client_id` and `client_secret` in the form.
        ClientSecretPost = "client_secret_post",
        /// HTTP Basic.
        ClientSecretBasic = "client_secret_basic",
        /// An assertion signed with a key of its own (RFC 7523 section 2.2).
        PrivateKeyJwt = "private_key_jwt",
    }
}

/// A client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its `client_id`.
    pub id: String,
    /// Where what is known of it comes from.
    pub kind: Kind,
    /// What it calls itself. Nobody checked it.
    pub name: String,
    /// Where answers may go. Of a document, those of the current one.
    pub redirect_uris: Vec<String>,
    /// `authorization_code`, `refresh_token`, or `client_credentials` alone.
    pub grant_types: Vec<String>,
    /// How it shows who it is.
    pub auth_method: AuthMethod,
    /// SHA-256 of its secret, if it has one.
    pub secret_hash: Option<Vec<u8>>,
    /// Its public keys, where it has some and gave them itself.
    pub jwks: Option<Value>,
    /// Where its public keys are, otherwise.
    pub jwks_uri: Option<String>,
    /// As whom it calls, for a service client.
    pub service_account_id: Option<Uuid>,
    /// When its document was fetched.
    fetched_at: Option<OffsetDateTime>,
    /// Until when its document is used without asking again.
    fresh_until: Option<OffsetDateTime>,
    /// From when on it gets no tokens.
    pub expires_at: Option<OffsetDateTime>,
}

impl Client {
    /// Whether it may use a grant type.
    pub fn allows(&self, grant_type: &str) -> bool {
        self.grant_types.iter().any(|known| known == grant_type)
    }

    /// Whether `secret` is its secret. A client without one accepts none.
    pub fn accepts(&self, secret: &str) -> bool {
        self.secret_hash.as_ref().is_some_and(|hash| {
            aws_lc_rs::constant_time::verify_slices_are_equal(hash, &sha256(secret)).is_ok()
        })
    }

    /// Whether its end has come.
    pub fn is_over(&self, now: OffsetDateTime) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// Whether a document at the URL that is its id describes it.
    pub fn is_document(&self) -> bool {
        self.kind == Kind::Document
    }

    /// The host that vouches for it: that of its document's URL. `None` for the other kinds,
    /// which nobody vouches for.
    pub fn host(&self) -> Option<String> {
        host_of(&self.id).filter(|_| self.is_document())
    }

    /// SHA-256 over its redirect URIs, whatever their order. When it changes, answers could go
    /// elsewhere than to what a person has allowed, so they are asked again.
    pub fn redirect_set_hash(&self) -> Vec<u8> {
        let mut uris = self.redirect_uris.clone();
        uris.sort_unstable();
        uris.dedup();
        // No redirect URI holds a newline.
        sha256(uris.join("\n"))
    }
}

/// The host of a `client_id` that is a URL.
pub fn host_of(id: &str) -> Option<String> {
    Url::parse(id).ok()?.host_str().map(str::to_owned)
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
    /// Its keys, for the method that needs them.
    pub keys: &'a metadata::Keys,
    /// The rest of what it sent and we know.
    pub metadata: Value,
}

/// Fails where too many registrations are unused, after those that are old enough made room.
pub async fn ensure_room(db: &mut PgConnection, now: OffsetDateTime) -> Result<()> {
    if count_unused(db).await? < MOST_UNUSED {
        return Ok(());
    }
    sqlx::query!(
        "delete from clients c where c.kind = 'registered' and c.last_used_at is null
             and c.created_at < $1
             and not exists (select 1 from grants g where g.client_id = c.id)",
        now - HASTY_LIFETIME,
    )
    .execute(&mut *db)
    .await?;
    if count_unused(db).await? < MOST_UNUSED {
        return Ok(());
    }
    Err(Error::Unavailable(
        "too many clients have registered within the last hour and were not used; try again in an hour, or ask whoever runs this platform"
            .to_owned(),
    ))
}

async fn count_unused(db: &mut PgConnection) -> Result<i64> {
    Ok(sqlx::query_scalar!(
        r#"select count(*) as "count!" from clients where kind = 'registered' and last_used_at is null"#
    )
    .fetch_one(db)
    .await?)
}

/// Keeps a registration.
pub async fn create(
    db: &mut PgConnection,
    client: NewClient<'_>,
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "insert into clients
             (id, kind, name, redirect_uris, grant_types, token_endpoint_auth_method, secret_hash, jwks, jwks_uri, metadata, created_at)
         values ($1, 'registered', $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        client.id,
        client.name,
        client.redirect_uris,
        client.grant_types,
        client.auth_method.name(),
        client.secret.map(sha256),
        client.keys.jwks,
        client.keys.jwks_uri,
        client.metadata,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// By `client_id`, as it is kept: a document may have changed since. Where a client asks for
/// something, use [`resolve`].
pub async fn find(db: &mut PgConnection, id: &str) -> Result<Option<Client>> {
    // Postgres refuses it in any text, and no client is called so.
    if id.contains('\0') {
        return Ok(None);
    }
    let row = sqlx::query!(
        "select id, kind, name, redirect_uris, grant_types, token_endpoint_auth_method, secret_hash,
             jwks, jwks_uri, service_account_id, fetched_at, fresh_until, expires_at
         from clients where id = $1 and deleted_at is null",
        id,
    )
    .fetch_optional(db)
    .await?;
    let client = row.map(|row| -> Result<Client> {
        Ok(Client {
            id: row.id,
            kind: Kind::from_name(&row.kind)?,
            name: row.name,
            redirect_uris: row.redirect_uris,
            grant_types: row.grant_types,
            auth_method: AuthMethod::from_name(&row.token_endpoint_auth_method)?,
            secret_hash: row.secret_hash,
            jwks: row.jwks,
            jwks_uri: row.jwks_uri,
            service_account_id: row.service_account_id,
            fetched_at: row.fetched_at,
            fresh_until: row.fresh_until,
            expires_at: row.expires_at,
        })
    });
    client.transpose()
}

/// Makes sure that the command line's client is there; done once, at the start.
pub async fn ensure_cli(db: &mut PgConnection, now: OffsetDateTime) -> Result<()> {
    let redirect_uris: Vec<String> = CLI_REDIRECT_URIS.iter().map(ToString::to_string).collect();
    sqlx::query!(
        "insert into clients
             (id, kind, name, redirect_uris, grant_types, token_endpoint_auth_method, metadata, created_at)
         values ($1, 'built_in', 'Berth command line', $2, '{authorization_code,refresh_token}', 'none', '{}', $3)
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

/// Forgets assertions that have expired, and clients that nobody uses; returns how many clients.
/// Those that people made stay until people delete them.
pub async fn purge_unused(db: &mut PgConnection, now: OffsetDateTime) -> Result<u64> {
    assertions::purge_expired(db, now).await?;
    let purged = sqlx::query!(
        "delete from clients c
         where not exists (select 1 from grants g where g.client_id = c.id)
           and (c.deleted_at is not null
             or c.kind in ('registered', 'document')
               and (c.last_used_at is null and c.created_at < $1 or c.last_used_at < $2))",
        now - UNUSED_LIFETIME,
        now - IDLE_LIFETIME,
    )
    .execute(db)
    .await?;
    Ok(purged.rows_affected())
}
