//! Members: who belongs to an organization, and as what. Owners manage owners, owners and admins
//! manage everyone else, and an organization always keeps an owner.

#[cfg(test)]
mod tests;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::audit::{self, Actor};
use crate::db::{Changed, bump};
use crate::error::{Error, Result};
use crate::github::{links, proofs};
use crate::grants;
use crate::organizations::{self, Organization, Role};
use crate::projects::may_change;
use crate::users::{self, User};

/// Someone who was added.
#[derive(Debug)]
pub struct Added {
    /// The person.
    pub user: User,
    /// The token of the one-time link by which they choose a password; `None` when they sign in already.
    pub setup_token: Option<String>,
}

/// Adds someone by e-mail address, or by the placeholder of who signed up without one; whoever is not
/// known yet is created. `organization` is as
/// whoever adds them sees it.
pub async fn add(
    db: &mut PgConnection,
    organization: &Organization,
    email: &str,
    role: Role,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<Added> {
    let email = email.trim();
    users::check_known_email(email)?;
    lock(db, organization.id).await?;
    check_may_manage(organization, &[role.name()])?;
    let user = if let Some(known) = users::find_by_email(db, email).await? {
        known
    } else {
        users::check_email(email)?;
        users::create(db, email, now).await?
    };
    if organizations::role_of(db, user.id, organization.id)
        .await?
        .is_some()
    {
        return Err(Error::Conflict(format!(
            "{} belongs to {} already; change their role instead.",
            user.email, organization.name
        )));
    }
    let waits = !users::can_sign_in(db, user.id).await?;
    if waits && !organizations::list_for(db, user.id).await?.is_empty() {
        // Whoever invited them holds their link: it would open this organization too.
        return Err(Error::Conflict(format!(
            "{} is invited elsewhere and has not signed in yet; add them when they have.",
            user.email
        )));
    }
    let setup_token = if waits {
        Some(users::create_setup_link_for(db, user.id, now).await?)
    } else {
        None
    };
    organizations::add_member(db, organization.id, user.id, role).await?;
    let subject = serde_json::json!({ "user": user.id, "role": role });
    told(db, organization.id, actor, "member.add", subject, now).await?;
    Ok(Added { user, setup_token })
}

/// A new one-time link for a member who has no way to sign in yet; earlier ones end.
pub async fn renew_link(
    db: &mut PgConnection,
    organization: &Organization,
    user: Uuid,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<String> {
    lock(db, organization.id).await?;
    let role = role_of(db, organization.id, user).await?;
    check_may_manage(organization, &[&role])?;
    if !may_have_link(db, user, organization.id).await? {
        return Err(Error::Conflict(
            "They sign in already, or belong to another organization too; they sign in as they do there.".into(),
        ));
    }
    users::delete_setup_links(db, user).await?;
    let token = users::create_setup_link_for(db, user, now).await?;
    let subject = serde_json::json!({ "user": user });
    record(db, organization.id, actor, "member.link", subject, now).await?;
    Ok(token)
}

/// Gives a member another role. Who may not deploy any more keeps nothing of what they showed GitHub to
/// be theirs.
pub async fn change_role(
    db: &mut PgConnection,
    organization: &Organization,
    user: Uuid,
    role: Role,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<()> {
    lock(db, organization.id).await?;
    let before = role_of(db, organization.id, user).await?;
    if before == role.name() {
        return Ok(());
    }
    check_may_manage(organization, &[&before, role.name()])?;
    if before == Role::Owner.name() {
        check_another_owner(db, organization.id, user).await?;
    }
    organizations::add_member(db, organization.id, user, role).await?;
    if !may_change(role.name()) {
        // Only who may deploy a repository here may bring it in.
        proofs::forget(db, organization.id, user).await?;
        links::note_unreadable(db, organization.id, now).await?;
    }
    let subject = serde_json::json!({ "user": user, "role": role, "before": before });
    told(db, organization.id, actor, "member.role", subject, now).await
}

/// Removes a member: they are chosen for none of the organization's projects any more, and what
/// they allowed apps there ends, except where everyone may call, as does what they showed GitHub to be theirs. Everybody may leave, so `by`, who
/// asks for it, may be `user`.
pub async fn remove(
    db: &mut PgConnection,
    organization: &Organization,
    user: Uuid,
    by: Uuid,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<()> {
    lock(db, organization.id).await?;
    let role = role_of(db, organization.id, user).await?;
    if by != user {
        check_may_manage(organization, &[&role])?;
    }
    if role == Role::Owner.name() {
        check_another_owner(db, organization.id, user).await?;
    }
    sqlx::query!(
        "delete from members where organization_id = $1 and user_id = $2",
        organization.id,
        user,
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "delete from project_callers where user_id = $2
           and project_id in (select id from projects where organization_id = $1)",
        organization.id,
        user,
    )
    .execute(&mut *db)
    .await?;
    proofs::forget(db, organization.id, user).await?;
    links::note_unreadable(db, organization.id, now).await?;
    users::delete_setup_links(db, user).await?;
    revoke_grants(db, organization.id, user, actor, now).await?;
    let subject = serde_json::json!({ "user": user, "role": role });
    told(db, organization.id, actor, "member.remove", subject, now).await
}

async fn revoke_grants(
    db: &mut PgConnection,
    organization: Uuid,
    user: Uuid,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<()> {
    let lost = sqlx::query_scalar!(
        "select g.id from grants g join projects p on p.id = g.project_id
         where g.user_id = $2 and p.organization_id = $1 and g.revoked_at is null
           and not may_call(g.user_id, p.id)",
        organization,
        user,
    )
    .fetch_all(&mut *db)
    .await?;
    for grant in lost {
        grants::revoke(db, grant, actor, "removed from the organization", now).await?;
    }
    Ok(())
}

/// Two changes at once must not take the last two owners.
async fn lock(db: &mut PgConnection, organization: Uuid) -> Result<()> {
    sqlx::query!(
        "select id from organizations where id = $1 for no key update",
        organization
    )
    .fetch_optional(db)
    .await?
    .ok_or(Error::NotFound("organization"))?;
    Ok(())
}

async fn role_of(db: &mut PgConnection, organization: Uuid, user: Uuid) -> Result<String> {
    organizations::role_of(db, user, organization)
        .await?
        .ok_or(Error::NotFound("member"))
}

/// Whether the role of whoever asks reaches members of all these roles.
fn check_may_manage(organization: &Organization, roles: &[&str]) -> Result<()> {
    let owner = Role::Owner.name();
    if !organizations::may_manage(&organization.role) {
        return Err(Error::Forbidden(
            "Only owners and admins change who belongs to the organization; ask one of them."
                .into(),
        ));
    }
    if roles.contains(&owner) && organization.role != owner {
        return Err(Error::Forbidden(
            "Only an owner adds, changes or removes owners; ask one.".into(),
        ));
    }
    Ok(())
}

async fn check_another_owner(db: &mut PgConnection, organization: Uuid, user: Uuid) -> Result<()> {
    let another = sqlx::query_scalar!(
        "select 1 from members where organization_id = $1 and role = 'owner' and user_id <> $2 limit 1",
        organization,
        user,
    )
    .fetch_optional(db)
    .await?;
    if another.is_some() {
        return Ok(());
    }
    Err(Error::Conflict(
        "This is the organization's last owner; make someone else an owner first.".into(),
    ))
}

/// Whether a one-time link may be handed out for someone: it sets the password, and with it opens
/// whatever else they belong to.
async fn may_have_link(db: &mut PgConnection, user: Uuid, organization: Uuid) -> Result<bool> {
    if users::can_sign_in(db, user).await? {
        return Ok(false);
    }
    let elsewhere = organizations::list_for(db, user)
        .await?
        .into_iter()
        .any(|it| it.id != organization);
    Ok(!elsewhere)
}

/// Writes the audit row, and has edges hear who may call now.
async fn told(
    db: &mut PgConnection,
    organization: Uuid,
    actor: &Actor,
    action: &str,
    subject: serde_json::Value,
    now: OffsetDateTime,
) -> Result<()> {
    record(db, organization, actor, action, subject, now).await?;
    bump(db, Changed::Routes).await?;
    Ok(())
}

async fn record(
    db: &mut PgConnection,
    organization: Uuid,
    actor: &Actor,
    action: &str,
    subject: serde_json::Value,
    at: OffsetDateTime,
) -> Result<()> {
    let entry = audit::Entry {
        at,
        actor,
        action,
        organization: Some(organization),
        project: None,
        subject,
    };
    audit::record(db, entry).await?;
    Ok(())
}
