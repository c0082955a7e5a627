//! Organizations own projects; members belong to them with a role.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::Result;
use crate::ids;

/// What a member may do, most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything, and members.
    Owner,
    /// Everything but owners.
    Admin,
    /// Deploy, variables, settings.
    Editor,
    /// Look and call.
    Viewer,
}

impl Role {
    /// As it stands in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Editor => "editor",
            Self::Viewer => "viewer",
        }
    }
}

/// An organization, as one of its members sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organization {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// The member's role: `owner`, `admin`, `editor` or `viewer`.
    pub role: String,
}

/// One who belongs to an organization.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Member {
    /// The person.
    pub user_id: Uuid,
    /// Their e-mail address.
    pub email: String,
    /// Their name.
    pub name: String,
    /// `owner`, `admin`, `editor` or `viewer`.
    pub role: String,
}

/// Creates one and returns its id.
pub async fn create(db: &mut PgConnection, name: &str, now: OffsetDateTime) -> Result<Uuid> {
    let id = ids::new_id();
    sqlx::query!(
        "insert into organizations (id, name, created_at) values ($1, $2, $3)",
        id,
        name,
        now
    )
    .execute(db)
    .await?;
    Ok(id)
}

/// Makes someone a member, or changes their role.
pub async fn add_member(
    db: &mut PgConnection,
    organization: Uuid,
    user: Uuid,
    role: Role,
) -> Result<()> {
    sqlx::query!(
        "insert into members (organization_id, user_id, role) values ($1, $2, $3)
         on conflict (organization_id, user_id) do update set role = excluded.role",
        organization,
        user,
        role.name(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Someone's role in an organization; `None` when they do not belong to it.
pub async fn role_of(
    db: &mut PgConnection,
    user: Uuid,
    organization: Uuid,
) -> Result<Option<String>> {
    Ok(sqlx::query_scalar!(
        "select role from members where user_id = $1 and organization_id = $2",
        user,
        organization,
    )
    .fetch_optional(db)
    .await?)
}

/// The organizations someone belongs to, oldest first.
pub async fn list_for(db: &mut PgConnection, user: Uuid) -> Result<Vec<Organization>> {
    Ok(sqlx::query_as!(
        Organization,
        "select o.id, o.name, m.role from organizations o join members m on m.organization_id = o.id
         where m.user_id = $1 order by o.created_at, o.id",
        user,
    )
    .fetch_all(db)
    .await?)
}

/// Everyone who belongs to an organization, by name.
pub async fn list_members(db: &mut PgConnection, organization: Uuid) -> Result<Vec<Member>> {
    Ok(sqlx::query_as!(
        Member,
        "select u.id as user_id, u.email, u.name, m.role from members m join users u on u.id = m.user_id
         where m.organization_id = $1 order by lower(u.name), u.id",
        organization,
    )
    .fetch_all(db)
    .await?)
}
