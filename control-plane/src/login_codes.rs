//! Authorization codes of `berth login`. They work as those of grants do (RFC 6749 section 4.1.2),
//! but give an API token, which speaks for a person and is good for no project's MCP server.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::api_tokens::{self, NewToken};
use crate::audit::Actor;
use crate::crypto::sha256;
use crate::error::{Error, Result};
use crate::grants::codes::LIFETIME;
use crate::ids;

/// How long the API token of a sign-in on the command line is good. Signing in again takes a minute, and
/// a token on a laptop that nobody uses any more ends by itself.
pub const TOKEN_LIFETIME: Duration = Duration::days(90);

/// Used codes are kept this long after they expired, so that a second use is noticed.
const KEPT: Duration = Duration::DAY;

/// What [`issue`] needs.
#[derive(Debug)]
pub struct NewCode<'a> {
    /// Who signs in.
    pub user: Uuid,
    /// What the API token will be called.
    pub token_name: &'a str,
    /// The redirect URI of the authorization request.
    pub redirect_uri: &'a str,
    /// The PKCE challenge, S256 (RFC 7636).
    pub challenge: &'a str,
}

/// A code that was just used up, with what it is bound to.
#[derive(Debug)]
pub struct Code {
    hash: Vec<u8>,
    user: Uuid,
    token_name: String,
    /// The redirect URI of the authorization request.
    pub redirect_uri: String,
    /// The PKCE challenge, S256 (RFC 7636).
    pub challenge: String,
}

/// What came of presenting a code.
#[derive(Debug)]
pub enum Redeemed {
    /// Its first use, in time.
    Fresh(Box<Code>),
    /// It was used before; its API token is revoked now (RFC 6749 section 4.1.2).
    Reused,
    /// Unknown or expired.
    Unknown,
}

/// Issues a code.
pub async fn issue(db: &mut PgConnection, new: NewCode<'_>, now: OffsetDateTime) -> Result<String> {
    let code = ids::random_token("");
    sqlx::query!(
        "insert into login_codes (code_hash, user_id, redirect_uri, code_challenge, token_name, expires_at)
         values ($1, $2, $3, $4, $5, $6)",
        sha256(&code),
        new.user,
        new.redirect_uri,
        new.challenge,
        new.token_name,
        now + LIFETIME,
    )
    .execute(db)
    .await?;
    Ok(code)
}

/// Uses a code up. Any presentation does, right or wrong in the rest, so that a stolen code
/// allows one guess. The caller commits in every case.
pub async fn redeem(db: &mut PgConnection, code: &str, now: OffsetDateTime) -> Result<Redeemed> {
    let hash = sha256(code);
    let used = sqlx::query!(
        "update login_codes set used_at = $2 where code_hash = $1 and used_at is null
         returning user_id, redirect_uri, code_challenge, token_name, expires_at",
        hash,
        now,
    )
    .fetch_optional(&mut *db)
    .await?;
    if let Some(row) = used {
        if row.expires_at <= now {
            return Ok(Redeemed::Unknown);
        }
        return Ok(Redeemed::Fresh(Box::new(Code {
            hash,
            user: row.user_id,
            token_name: row.token_name,
            redirect_uri: row.redirect_uri,
            challenge: row.code_challenge,
        })));
    }
    let reused = sqlx::query!(
        "select user_id, api_token_id from login_codes where code_hash = $1",
        hash
    )
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = reused else {
        return Ok(Redeemed::Unknown);
    };
    if let Some(token) = row.api_token_id {
        match api_tokens::revoke(db, row.user_id, token, &Actor::System, now).await {
            // Its person was faster.
            Ok(()) | Err(Error::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Redeemed::Reused)
}

/// Gives the API token of a code, good for [`TOKEN_LIFETIME`]. The caller has checked everything
/// that the code is bound to.
pub async fn give_token(db: &mut PgConnection, code: &Code, now: OffsetDateTime) -> Result<String> {
    let new = NewToken::for_everything(code.user, &code.token_name, Some(now + TOKEN_LIFETIME));
    let (id, token) = api_tokens::create(db, new, &Actor::User(code.user), now).await?;
    sqlx::query!(
        "update login_codes set api_token_id = $2 where code_hash = $1",
        code.hash,
        id,
    )
    .execute(db)
    .await?;
    Ok(token)
}

/// Forgets codes that are long over.
pub async fn purge_expired(db: &mut PgConnection, now: OffsetDateTime) -> Result<()> {
    sqlx::query!("delete from login_codes where expires_at < $1", now - KEPT)
        .execute(db)
        .await?;
    Ok(())
}
