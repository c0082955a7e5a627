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
    /// All redirect URIs that the client had then, hashed: [`crate::clients::Client::redirect_set_hash`].
    pub redirect_set: &'a [u8],
}

/// Whether this was allowed before, with these scopes or more.
pub async fn is_remembered(db: &mut PgConnection, consent: Consent<'_>) -> Result<bool> {
    let found = sqlx::query_scalar!(
        "select 1 from consents
         where user_id = $1 and client_id = $2 and project_id = $3 and redirect_set = $5
           and string_to_array(scope, ' ') @> string_to_array($4, ' ')
         limit 1",
        consent.user,
        consent.client_id,
        consent.project,
        consent.scope,
        consent.redirect_set,
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
        "insert into consents (user_id, client_id, project_id, scope, redirect_set, created_at)
         values ($1, $2, $3, $4, $5, $6) on conflict do nothing",
        consent.user,
        consent.client_id,
        consent.project,
        consent.scope,
        consent.redirect_set,
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

/// Forgets consents without a grant. What is remembered is thereby on the list of connected apps,
/// where it can be withdrawn.
pub async fn purge_unused(db: &mut PgConnection) -> Result<()> {
    sqlx::query!(
        "delete from consents c where not exists (
             select 1 from grants g where g.user_id = c.user_id and g.client_id = c.client_id
               and g.project_id = c.project_id and g.revoked_at is null)"
    )
    .execute(db)
    .await?;
    Ok(())
}
