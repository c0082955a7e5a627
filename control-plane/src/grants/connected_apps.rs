//! Connected apps: grants as the people see them who gave them, and taking them back.

use sqlx::PgConnection;
use time::OffsetDateTime;
use url::Url;
use uuid::Uuid;

use super::{consents, revoke};
use crate::audit::Actor;
use crate::error::{Error, Result};

/// One app on one project.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ConnectedApp {
    /// Its newest grant, by which it is taken back.
    pub id: Uuid,
    /// The client's `client_id`.
    pub client_id: String,
    /// What the client calls itself.
    pub client: String,
    /// Where the client's identity is published, when it is: the host of a `client_id` that is an
    /// address (OAuth Client ID Metadata Document). Otherwise nobody has checked the name.
    pub host: Option<String>,
    /// The project it may call.
    pub project: String,
    /// The service account that calls; `None` when it calls in the person's own name.
    pub service_account: Option<String>,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it last got a token.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_used_at: Option<OffsetDateTime>,
}

/// What someone has allowed and not taken back, and what those service accounts use that they
/// manage; newest first.
pub async fn list(db: &mut PgConnection, user: Uuid) -> Result<Vec<ConnectedApp>> {
    let rows = sqlx::query!(
        r#"select (array_agg(g.id order by g.id desc))[1] as "id!", g.client_id, c.name as client,
             c.kind = 'document' as "is_document!", p.name as project, case when u.id <> $1 then u.name end as service_account,
             array_agg(distinct s.scope) as "scopes!",
             min(g.created_at) as "created_at!", max(g.last_used_at) as last_used_at
         from grants g join clients c on c.id = g.client_id join projects p on p.id = g.project_id
         join users u on u.id = g.user_id
         cross join unnest(string_to_array(g.scope, ' ')) as s(scope)
         where g.revoked_at is null and (u.id = $1 or u.service_account_of in (
             select organization_id from members where user_id = $1 and role in ('owner', 'admin')))
         group by g.client_id, c.name, c.kind, p.name, u.id, u.name
         order by 1 desc"#,
        user,
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| ConnectedApp {
            id: row.id,
            host: Url::parse(&row.client_id)
                .ok()
                .filter(|_| row.is_document)
                .and_then(|url| url.host_str().map(str::to_owned)),
            client_id: row.client_id,
            client: row.client,
            project: row.project,
            service_account: row.service_account,
            scopes: row.scopes,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
        })
        .collect())
}

/// Takes back what was allowed: revokes the grant and every other one of the same client and user
/// on the same project, and forgets the consent, so that they are asked again. `by` must have given
/// it, or manage the service account that uses it.
pub async fn withdraw(
    db: &mut PgConnection,
    by: Uuid,
    grant: Uuid,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<()> {
    let family = sqlx::query!(
        "select other.id, other.client_id, other.project_id, other.user_id
         from grants g join users u on u.id = g.user_id
         join grants other on other.user_id = g.user_id and other.client_id = g.client_id
             and other.project_id = g.project_id
         where g.id = $1 and other.revoked_at is null and (u.id = $2 or u.service_account_of in (
             select organization_id from members where user_id = $2 and role in ('owner', 'admin')))
         order by other.id",
        grant,
        by,
    )
    .fetch_all(&mut *db)
    .await?;
    let Some(first) = family.first() else {
        return Err(Error::NotFound("connected app"));
    };
    consents::forget(db, first.user_id, &first.client_id, first.project_id).await?;
    for member in &family {
        revoke(db, member.id, actor, "withdrawn", now).await?;
    }
    Ok(())
}
