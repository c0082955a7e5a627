//! Organizations own projects; members belong to them with a role.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::{Error, Result, invalid};
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

    /// The role of this name, from a form or a body.
    pub fn parse(name: &str) -> Result<Self> {
        [Self::Owner, Self::Admin, Self::Editor, Self::Viewer]
            .into_iter()
            .find(|role| role.name() == name)
            .ok_or_else(|| invalid("role", "Choose a role: owner, admin, editor or viewer."))
    }
}

/// Whether a role manages members and service accounts.
pub fn may_manage(role: &str) -> bool {
    matches!(role, "owner" | "admin")
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

impl Organization {
    /// The organization, when the member's role may manage members and service accounts.
    pub fn manageable(self) -> Result<Self> {
        if may_manage(&self.role) {
            Ok(self)
        } else {
            Err(Error::Forbidden(
                "Only owners and admins manage members and service accounts; ask one of them."
                    .into(),
            ))
        }
    }
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
    /// Whether they have yet to choose a password by their one-time link.
    pub invited: bool,
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

/// Whether an organization is called so.
pub async fn is_taken(db: &mut PgConnection, name: &str) -> Result<bool> {
    Ok(sqlx::query_scalar!(
        r#"select exists(select from organizations where name = $1) as "exists!""#,
        name,
    )
    .fetch_one(db)
    .await?)
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

/// One of someone's organizations: the one that is named, or else the first that lets them manage
/// members, or else the first.
pub async fn get_for(
    db: &mut PgConnection,
    user: Uuid,
    named: Option<Uuid>,
) -> Result<Organization> {
    let mut all = list_for(db, user).await?;
    let at = match named {
        Some(id) => all.iter().position(|it| it.id == id),
        None => all
            .iter()
            .position(|it| may_manage(&it.role))
            .or((!all.is_empty()).then_some(0)),
    };
    at.map(|at| all.swap_remove(at))
        .ok_or(Error::NotFound("organization"))
}

/// The platform's own organization: the one of its first start.
pub async fn first(db: &mut PgConnection) -> Result<Option<Uuid>> {
    Ok(
        sqlx::query_scalar!("select id from organizations order by created_at, id limit 1")
            .fetch_optional(db)
            .await?,
    )
}

/// Whether someone runs this platform: an owner or admin of its first organization. Everybody may
/// come to own an organization; that makes nobody an operator.
pub async fn is_operator(db: &mut PgConnection, user: Uuid) -> Result<bool> {
    let Some(first) = first(db).await? else {
        return Ok(false);
    };
    let role = role_of(db, user, first).await?;
    Ok(role.is_some_and(|role| may_manage(&role)))
}

/// Everyone who belongs to an organization, by name.
pub async fn list_members(db: &mut PgConnection, organization: Uuid) -> Result<Vec<Member>> {
    Ok(sqlx::query_as!(
        Member,
        r#"select u.id as user_id, u.email, u.name, m.role, u.password_hash is null as "invited!"
         from members m join users u on u.id = m.user_id
         where m.organization_id = $1 order by lower(u.name), u.id"#,
        organization,
    )
    .fetch_all(db)
    .await?)
}
