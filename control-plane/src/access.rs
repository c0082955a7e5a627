//! Access: who may call a project. The rule itself is SQL (`may_call` in `migrations/`), since the
//! authorization server and the edges' snapshot must decide alike.

mod check;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::audit::{self, Actor};
use crate::db::{Changed, bump};
use crate::error::{Error, Result, invalid};
use crate::projects::Project;

/// Who looks at a caller's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Berth: a token of its authorization server or an API token is needed.
    Platform,
    /// Nobody: whoever knows the address may call.
    Public,
    /// The server itself: everything is passed on as it is.
    Tenant,
}

/// Whose tokens a project of mode [`Mode::Platform`] accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Callers {
    /// The organization's owners.
    Owner,
    /// Chosen members and service accounts of the organization.
    Chosen,
    /// All members and service accounts of the organization.
    Organization,
    /// Everyone who can sign in to this platform, and the organization's service accounts.
    Anyone,
}

impl Mode {
    /// As it stands in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Public => "public",
            Self::Tenant => "tenant",
        }
    }

    /// What it means for `project`, in words for whoever chooses it.
    pub fn meaning(self, project: &str) -> String {
        match self {
            Self::Platform => {
                format!(
                    "Berth asks every caller of {project} who they are and lets in those whom you allow."
                )
            }
            Self::Public => format!(
                "Everyone on the internet who learns the address may call every tool of {project}, without signing in. \
                 Berth does not know who they are, and {project} is not told."
            ),
            Self::Tenant => format!(
                "Berth lets every request to {project} through, on every path, as it came. Whatever {project} does not \
                 check itself is open to everyone on the internet; choose this only if it brings its own sign-in."
            ),
        }
    }

    /// The one of this name.
    pub fn parse(name: &str) -> Self {
        match name {
            "public" => Self::Public,
            "tenant" => Self::Tenant,
            _ => Self::Platform,
        }
    }
}

impl Callers {
    /// As it stands in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Chosen => "chosen",
            Self::Organization => "organization",
            Self::Anyone => "anyone",
        }
    }

    // A name that is not known opens least.
    /// The one of this name.
    pub fn parse(name: &str) -> Self {
        match name {
            "chosen" => Self::Chosen,
            "organization" => Self::Organization,
            "anyone" => Self::Anyone,
            _ => Self::Owner,
        }
    }
}

/// Someone who can be chosen: a member or a service account of the project's organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Their id.
    pub id: Uuid,
    /// How they are called.
    pub name: String,
    /// Their e-mail address; a service account has none.
    pub email: Option<String>,
}

/// Who may call a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Access {
    /// Who looks at credentials.
    pub mode: Mode,
    /// With [`Mode::Platform`]: whose are accepted.
    pub callers: Callers,
    /// With [`Callers::Chosen`]: the chosen.
    pub chosen: Vec<Candidate>,
    /// With [`Mode::Platform`]: paths that need no token; `/hooks/*` stands for all below `/hooks/`.
    pub public_paths: Vec<String>,
    /// Further origins whose web pages may call, as browsers write them.
    pub allowed_origins: Vec<String>,
}

/// What is to change; what is `None` stays.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The mode.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// Whose tokens are accepted.
    #[serde(default)]
    pub callers: Option<Callers>,
    /// The chosen, all of them: e-mail addresses, names of service accounts, or ids.
    #[serde(default)]
    pub chosen: Option<Vec<String>>,
    /// The public paths, all of them.
    #[serde(default)]
    pub public_paths: Option<Vec<String>>,
    /// The allowed origins, all of them.
    #[serde(default)]
    pub allowed_origins: Option<Vec<String>>,
}

/// Who may call a project, as it stands.
pub async fn get(db: &mut PgConnection, project: Uuid) -> Result<Access> {
    let row = sqlx::query!(
        "select access_mode, callers, public_paths, allowed_origins from projects where id = $1",
        project
    )
    .fetch_optional(&mut *db)
    .await?
    .ok_or(Error::NotFound("project"))?;
    let chosen = sqlx::query_as!(
        Candidate,
        r#"select u.id, u.name, case when u.service_account_of is null then u.email end as email
         from project_callers c join users u on u.id = c.user_id
         where c.project_id = $1 order by lower(u.name), u.id"#,
        project,
    )
    .fetch_all(db)
    .await?;
    Ok(Access {
        mode: Mode::parse(&row.access_mode),
        callers: Callers::parse(&row.callers),
        chosen,
        public_paths: row.public_paths,
        allowed_origins: row.allowed_origins,
    })
}

/// A project's mode.
pub async fn mode_of(db: &mut PgConnection, project: Uuid) -> Result<Mode> {
    let mode = sqlx::query_scalar!("select access_mode from projects where id = $1", project)
        .fetch_optional(db)
        .await?
        .ok_or(Error::NotFound("project"))?;
    Ok(Mode::parse(&mode))
}

/// Whether a user may call a project of mode [`Mode::Platform`]; never for another mode.
pub async fn may_call(db: &mut PgConnection, user: Uuid, project: Uuid) -> Result<bool> {
    Ok(
        sqlx::query_scalar!(r#"select may_call($1, $2) as "may!""#, user, project)
            .fetch_one(db)
            .await?,
    )
}

/// Everyone who can be chosen for a project of the organization: people first.
pub async fn list_candidates(db: &mut PgConnection, organization: Uuid) -> Result<Vec<Candidate>> {
    Ok(sqlx::query_as!(
        Candidate,
        r#"select u.id, u.name, case when u.service_account_of is null then u.email end as email
         from users u
         where u.service_account_of = $1
            or exists (select 1 from members m where m.organization_id = $1 and m.user_id = u.id)
         order by u.service_account_of is not null, lower(u.name), u.id"#,
        organization,
    )
    .fetch_all(db)
    .await?)
}

/// Changes who may call. Edges hear of it at once; they and the authorization server look at every
/// call and every refresh, so nothing else has to end.
pub async fn change(
    db: &mut PgConnection,
    project: &Project,
    change: &Change,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<Access> {
    // Two changes at once would otherwise mix their parts.
    sqlx::query!(
        "select id from projects where id = $1 for no key update",
        project.id
    )
    .fetch_optional(&mut *db)
    .await?
    .ok_or(Error::NotFound("project"))?;
    let before = get(db, project.id).await?;
    let after = applied(db, project, &before, change).await?;
    save(db, project.id, &after).await?;
    if after == before {
        return Ok(after);
    }
    let ids: Vec<Uuid> = after.chosen.iter().map(|it| it.id).collect();
    audit::record(
        db,
        audit::Entry {
            at: now,
            actor,
            action: "project.access",
            organization: Some(project.organization_id),
            project: Some(project.id),
            subject: serde_json::json!({
                "mode": after.mode,
                "callers": after.callers,
                "chosen": ids,
                "public_paths": after.public_paths,
                "allowed_origins": after.allowed_origins,
            }),
        },
    )
    .await?;
    bump(db, Changed::Routes).await?;
    if after.mode != before.mode {
        bump(db, Changed::Sync).await?;
    }
    Ok(after)
}

/// What a change makes of what is there, checked.
async fn applied(
    db: &mut PgConnection,
    project: &Project,
    before: &Access,
    change: &Change,
) -> Result<Access> {
    let chosen = match &change.chosen {
        Some(names) => choose(db, project.organization_id, names).await?,
        None => before.chosen.clone(),
    };
    let after = Access {
        mode: change.mode.unwrap_or(before.mode),
        callers: change.callers.unwrap_or(before.callers),
        chosen,
        public_paths: match &change.public_paths {
            Some(paths) => check::paths(paths)?,
            None => before.public_paths.clone(),
        },
        allowed_origins: match &change.allowed_origins {
            Some(origins) => check::origins(origins)?,
            None => before.allowed_origins.clone(),
        },
    };
    let asked = change.callers == Some(Callers::Chosen) || change.chosen.is_some();
    if asked && after.callers == Callers::Chosen && after.chosen.is_empty() {
        return Err(invalid(
            "chosen",
            "Choose at least one person or service account, or let only owners call.",
        ));
    }
    Ok(after)
}

/// Finds those whom e-mail addresses, names of service accounts, or ids name.
async fn choose(
    db: &mut PgConnection,
    organization: Uuid,
    names: &[String],
) -> Result<Vec<Candidate>> {
    let candidates = list_candidates(db, organization).await?;
    let mut chosen: Vec<Candidate> = Vec::new();
    for name in names {
        let name = name.trim();
        let found = candidates.iter().find(|it| {
            let called = it.email.as_deref().unwrap_or(&it.name);
            called.eq_ignore_ascii_case(name) || Uuid::parse_str(name).is_ok_and(|id| id == it.id)
        });
        let Some(found) = found else {
            return Err(invalid(
                "chosen",
                format!(
                    "“{name}” is neither a member nor a service account of this organization; \
                     add them on the Members page first."
                ),
            ));
        };
        if !chosen.contains(found) {
            chosen.push(found.clone());
        }
    }
    chosen.sort_by_key(|it| (it.name.to_lowercase(), it.id));
    Ok(chosen)
}

async fn save(db: &mut PgConnection, project: Uuid, access: &Access) -> Result<()> {
    sqlx::query!(
        "update projects set access_mode = $2, callers = $3, public_paths = $4, allowed_origins = $5
         where id = $1",
        project,
        access.mode.name(),
        access.callers.name(),
        &access.public_paths,
        &access.allowed_origins,
    )
    .execute(&mut *db)
    .await?;
    let ids: Vec<Uuid> = access.chosen.iter().map(|it| it.id).collect();
    sqlx::query!(
        "delete from project_callers where project_id = $1 and user_id <> all($2)",
        project,
        &ids,
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "insert into project_callers (project_id, user_id) select $1, unnest($2::uuid[])
         on conflict do nothing",
        project,
        &ids,
    )
    .execute(db)
    .await?;
    Ok(())
}
