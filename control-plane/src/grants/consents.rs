//! Consents: what a person has allowed before, so that it need not be asked again.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::Result;

/// What was asked and answered with yes.
#[derive(Debug, Clone, Copy)]
pub struct Consent<'a> {
    /// By whom.
    pub user: Uuid,
    /// For whom.
    pub client_id: &'a str,
    /// On which project.
    pub project: Uuid,
    /// Space-separated scopes.
    pub scope: &'a str,
    /// The registered redirect URI.
    pub redirect_uri: &'a str,
}

/// Whether exactly this was allowed before.
pub async fn is_remembered(db: &mut PgConnection, consent: Consent<'_>) -> Result<bool> {
    let found = sqlx::query_scalar!(
        "select 1 from consents
         where user_id = $1 and client_id = $2 and project_id = $3 and scope = $4 and redirect_uri = $5",
        consent.user,
        consent.client_id,
        consent.project,
        consent.scope,
        consent.redirect_uri,
    )
    .fetch_optional(db)
    .await?;
    Ok(found.is_some())
}

/// Remembers it.
pub async fn remember(
    db: &mut PgConnection,
    consent: Consent<'_>,
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "insert into consents (user_id, client_id, project_id, scope, redirect_uri, created_at)
         values ($1, $2, $3, $4, $5, $6) on conflict do nothing",
        consent.user,
        consent.client_id,
        consent.project,
        consent.scope,
        consent.redirect_uri,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Forgets everything someone allowed a client on a project.
pub async fn forget(
    db: &mut PgConnection,
    user: Uuid,
    client_id: &str,
    project: Uuid,
) -> Result<()> {
    sqlx::query!(
        "delete from consents where user_id = $1 and client_id = $2 and project_id = $3",
        user,
        client_id,
        project,
    )
    .execute(db)
    .await?;
    Ok(())
}
