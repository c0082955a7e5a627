//! What people show GitHub to be theirs, and what their organizations may use by that.
//!
//! The number of an installation is no secret: whoever comes back from GitHub with one has proved
//! nothing. An organization may use an installation when GitHub itself, asked with the token of one
//! of its members, lists it; and of it the repositories that this member may write to. Only the
//! account's own person brings in the whole of it. A proof ends with the membership.

use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::failure::Failure;
use super::rest::{self, Account, Installation, Repository};
use super::{installations, links};
use crate::app::App;
use crate::audit::{self, Actor};
use crate::config::Secret;
use crate::error::{Error, Result};
use crate::organizations::{self, Organization};
use crate::projects::may_change;

/// An organization that may use an installation, as one of its members sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// The installation's number.
    pub installation_id: i64,
    /// The organization.
    pub organization_id: Uuid,
    /// Its name.
    pub organization: String,
    /// Whether whoever looks may end it.
    pub may_end: bool,
}

/// What a round by GitHub brought: installations of one person, with the repositories they may
/// write to.
#[derive(Debug)]
pub struct Proof {
    person: Account,
    found: Vec<(Installation, Vec<Repository>)>,
}

/// Asks GitHub which installations the person of a token can use.
pub async fn prove(app: &App, app_id: i64, token: &Secret) -> Result<Proof, Failure> {
    let person = rest::person(app, token).await?;
    let mut found = Vec::new();
    for installation in rest::installations_of(app, token).await? {
        if installation.app_id.is_some_and(|id| id != app_id) {
            continue;
        }
        let mut repositories = rest::repositories_of(app, token, installation.id).await?;
        let own = installation.account.id == person.id;
        repositories.retain(|it| own || it.permissions.is_some_and(|may| may.push));
        found.push((installation, repositories));
    }
    Ok(Proof { person, found })
}

/// Lets an organization use what its member proved to, in place of what this member proved before.
/// Gives the number of installations.
pub async fn connect(
    db: &mut PgConnection,
    organization: Uuid,
    user: Uuid,
    proof: &Proof,
    now: OffsetDateTime,
) -> Result<usize> {
    let ids: Vec<i64> = proof.found.iter().map(|(it, _)| it.id).collect();
    forget(db, organization, user).await?;
    for (installation, repositories) in &proof.found {
        installations::keep(db, installation, now).await?;
        let whole = installation.account.id == proof.person.id;
        sqlx::query!(
            "insert into github_connections (organization_id, installation_id, user_id, whole, connected_at)
             values ($1, $2, $3, $4, $5)
             on conflict (organization_id, installation_id, user_id) do update
                 set whole = excluded.whole, connected_at = excluded.connected_at",
            organization,
            installation.id,
            user,
            whole,
            now,
        )
        .execute(&mut *db)
        .await?;
        installations::keep_repositories(db, installation.id, repositories, now).await?;
        let ids: Vec<i64> = repositories.iter().map(|it| it.id).collect();
        sqlx::query!(
            "insert into github_access (organization_id, installation_id, user_id, repository_id)
             select $1, $2, $3, id from github_repositories where id = any($4) and installation_id = $2
             on conflict do nothing",
            organization,
            installation.id,
            user,
            &ids,
        )
        .execute(&mut *db)
        .await?;
    }
    let entry = audit::Entry {
        at: now,
        actor: &Actor::User(user),
        action: "github.connect",
        organization: Some(organization),
        project: None,
        subject: json!({ "installations": ids, "github_id": proof.person.id }),
    };
    audit::record(db, entry).await?;
    links::note_unreadable(db, organization, now).await?;
    Ok(ids.len())
}

/// Forgets what a person proved for an organization.
pub async fn forget(db: &mut PgConnection, organization: Uuid, user: Uuid) -> Result<()> {
    sqlx::query!(
        "delete from github_connections where organization_id = $1 and user_id = $2",
        organization,
        user,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Ends that an organization uses an installation: for whoever manages the organization altogether,
/// for its other editors as far as they proved it themselves.
pub async fn disconnect(
    db: &mut PgConnection,
    organization: &Organization,
    installation: i64,
    user: Uuid,
    now: OffsetDateTime,
) -> Result<()> {
    if !may_change(&organization.role) {
        return Err(Error::Forbidden(
            "You may look at this organization but not change it; ask one of its admins.".into(),
        ));
    }
    let all = organizations::may_manage(&organization.role);
    let gone = sqlx::query!(
        "delete from github_connections
         where organization_id = $1 and installation_id = $2 and ($3 or user_id = $4)",
        organization.id,
        installation,
        all,
        user,
    )
    .execute(&mut *db)
    .await?
    .rows_affected();
    if gone == 0 {
        return Err(Error::NotFound("connection of yours"));
    }
    let entry = audit::Entry {
        at: now,
        actor: &Actor::User(user),
        action: "github.disconnect",
        organization: Some(organization.id),
        project: None,
        subject: json!({ "installation": installation }),
    };
    audit::record(db, entry).await?;
    links::note_unreadable(db, organization.id, now).await?;
    Ok(())
}

/// Which of a person's organizations may use which installations, by name.
pub async fn list_uses(db: &mut PgConnection, user: Uuid) -> Result<Vec<Use>> {
    Ok(sqlx::query_as!(
        Use,
        r#"select c.installation_id, o.id as organization_id, o.name as organization,
             (m.role in ('owner', 'admin') or m.role = 'editor' and bool_or(c.user_id = $1)) as "may_end!"
         from github_connections c join organizations o on o.id = c.organization_id
         join members m on m.organization_id = o.id and m.user_id = $1
         group by c.installation_id, o.id, m.role order by lower(o.name), o.id"#,
        user,
    )
    .fetch_all(db)
    .await?)
}
