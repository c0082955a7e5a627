//! Projects: one MCP server each. The name is the host label, so it is unique on the platform.

use runner::protocol::Package;
use sqlx::PgConnection;
use time::OffsetDateTime;
use url::Url;
use uuid::Uuid;

use crate::audit::{self, Actor};
use crate::db::{Changed, bump};
use crate::error::{Error, Field, Result, invalid, violates};
use crate::github::links;
use crate::{deployments, ids, organizations, previews};

/// Longest name. A DNS label holds 63 octets (RFC 1035 section 2.3.4); the rest is left for
/// preview suffixes (`NAME--SLUG`).
pub const MAX_NAME: usize = 40;

/// Host labels that people take for the platform's own.
const RESERVED_NAMES: &[&str] = &[
    "account",
    "accounts",
    "admin",
    "api",
    "app",
    "apps",
    "auth",
    "berth",
    "billing",
    "blog",
    "cdn",
    "console",
    "dashboard",
    "docs",
    "edge",
    "ftp",
    "help",
    "internal",
    "localhost",
    "login",
    "mail",
    "mcp",
    "metrics",
    "ns1",
    "ns2",
    "oauth",
    "postmaster",
    "root",
    "security",
    "setup",
    "signin",
    "smtp",
    "sso",
    "static",
    "status",
    "support",
    "system",
    "test",
    "well-known",
    "www",
];

/// Longest Git URL; longer ones are no address anyone types.
const MAX_URL: usize = 2_000;

/// Longest branch name; Git hosts refuse longer ones (255).
const MAX_BRANCH: usize = 255;

/// Longest entrypoint.
const MAX_ENTRYPOINT: usize = 255;

/// A project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its id.
    pub id: Uuid,
    /// Its organization.
    pub organization_id: Uuid,
    /// Its name and host label.
    pub name: String,
    /// Git URL, or a package (`pypi:NAME`, `npm:NAME`); `None` when it is deployed by upload.
    pub source_url: Option<String>,
    /// Branch; `None` means the repository's default.
    pub source_branch: Option<String>,
    /// Entrypoint; `None` means detect.
    pub entrypoint: Option<String>,
    /// Whether a deployment that would break callers waits for a member.
    pub hold_breaking: bool,
    /// Whether its production deployments get a Redis of its own.
    pub redis: bool,
    /// Whether pull requests of its repository get previews.
    pub previews: bool,
    /// When it was created.
    pub created_at: OffsetDateTime,
}

/// What a person may set on a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Git URL, or a package.
    pub source_url: Option<String>,
    /// Branch.
    pub source_branch: Option<String>,
    /// Entrypoint.
    pub entrypoint: Option<String>,
    /// Whether a deployment that would break callers waits for a member.
    pub hold_breaking: bool,
    /// Whether its production deployments get a Redis of its own.
    pub redis: bool,
    /// Whether pull requests of its repository get previews.
    pub previews: bool,
}

impl Default for Settings {
    /// What a new project has unless somebody says otherwise.
    fn default() -> Self {
        Self {
            source_url: None,
            source_branch: None,
            entrypoint: None,
            hold_breaking: false,
            redis: false,
            previews: true,
        }
    }
}

/// Whether a role may change projects (deploy, variables, settings).
pub fn may_change(role: &str) -> bool {
    matches!(role, "owner" | "admin" | "editor")
}

/// Checks a new project's name.
pub fn check_name(name: &str) -> Result<()> {
    let label = !name.is_empty()
        && name.len() <= MAX_NAME
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--");
    if !label {
        return Err(invalid(
            "name",
            format!(
                "A project name has 1 to {MAX_NAME} lower-case letters, digits and single hyphens, \
                 with a letter or digit at both ends; it becomes the host name."
            ),
        ));
    }
    if RESERVED_NAMES.contains(&name) {
        return Err(invalid(
            "name",
            format!("The name “{name}” is reserved for the platform; choose another."),
        ));
    }
    Ok(())
}

fn presence(text: Option<String>) -> Option<String> {
    text.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty())
}

/// Which sources projects may name beside what is public and read over https.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `file://` repositories of the runner's machine.
    pub files: bool,
    /// The origin of a GitHub on this machine that is read over plain http.
    pub plain: Option<url::Origin>,
}

impl Settings {
    /// A project's, as they are.
    pub fn of(project: &Project) -> Self {
        Self {
            source_url: project.source_url.clone(),
            source_branch: project.source_branch.clone(),
            entrypoint: project.entrypoint.clone(),
            hold_breaking: project.hold_breaking,
            redis: project.redis,
            previews: project.previews,
        }
    }

    /// Trims, drops what is empty, and checks the rest.
    pub fn check(self, allowed: &Sources) -> Result<Self> {
        let settings = Self {
            source_url: presence(self.source_url),
            source_branch: presence(self.source_branch),
            entrypoint: presence(self.entrypoint),
            hold_breaking: self.hold_breaking,
            redis: self.redis,
            previews: self.previews,
        };
        let mut problems = Vec::new();
        let mut field = |name, checked: Result<(), String>| {
            if let Err(message) = checked {
                problems.push(Field { name, message });
            }
        };
        if let Some(url) = &settings.source_url {
            field("source_url", check_url(url, allowed));
        }
        let is_package = settings
            .source_url
            .as_deref()
            .is_some_and(Package::is_meant);
        if let Some(branch) = &settings.source_branch {
            let checked = if is_package {
                Err("A package has no branches; put a version behind its name instead.".into())
            } else {
                check_branch(branch)
            };
            field("source_branch", checked);
        }
        if let Some(entrypoint) = &settings.entrypoint {
            field("entrypoint", check_entrypoint(entrypoint));
        }
        if problems.is_empty() {
            Ok(settings)
        } else {
            Err(Error::Invalid(problems))
        }
    }
}

fn check_url(text: &str, allowed: &Sources) -> Result<(), String> {
    if Package::is_meant(text) {
        return Package::parse(text).map(|_| ());
    }
    let example = "use an address like https://github.com/you/server.git";
    let url =
        Url::parse(text).map_err(|_| format!("The repository URL cannot be read; {example}."))?;
    if text.len() > MAX_URL || text.chars().any(char::is_control) {
        return Err(format!(
            "The repository URL is too long or holds control characters; {example}."
        ));
    }
    let names_a_person = !url.username().is_empty() || url.password().is_some();
    match url.scheme() {
        "https" if names_a_person => {
            Err("The repository URL holds a user name or password; remove it, since URLs end up in logs.".into())
        }
        "https" if url.host_str().is_some() => Ok(()),
        "http" if !names_a_person && allowed.plain.as_ref() == Some(&url.origin()) => Ok(()),
        "file" if allowed.files => Ok(()),
        "file" => Err(
            "file:// sources are off on this platform; use https, or start berth with --allow-file-sources.".into(),
        ),
        other => Err(format!("Repositories are read over https, not {other}; {example}.")),
    }
}

/// Git's own rules are wider than what is useful; this refuses what could be taken for an option
/// or a second line, and leaves unknown names to the fetch, which says that they do not exist.
pub(crate) fn check_branch(branch: &str) -> Result<(), String> {
    let usable = branch.len() <= MAX_BRANCH
        && !branch.starts_with('-')
        && !branch.contains("..")
        // Parts of an address that are empty or begin with a dot do not reach a server as they are
        // written; Git refuses them as well.
        && branch
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.'))
        && !branch
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c));
    if usable {
        Ok(())
    } else {
        Err("The branch name is not one Git allows; check its spelling.".into())
    }
}

fn check_entrypoint(entrypoint: &str) -> Result<(), String> {
    let path = entrypoint.split(':').next().unwrap_or_default();
    if entrypoint.len() > MAX_ENTRYPOINT || entrypoint.chars().any(char::is_control) {
        return Err("The entrypoint is too long or holds control characters.".into());
    }
    if path.starts_with('/') || path.starts_with('~') || path.split('/').any(|part| part == "..") {
        return Err(
            "The entrypoint must lie inside the repository: write it relative to its root, like server.py:mcp.".into(),
        );
    }
    Ok(())
}

/// Creates a project. The name must be free on the whole platform.
pub async fn create(
    db: &mut PgConnection,
    organization: Uuid,
    name: &str,
    settings: &Settings,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<Project> {
    check_name(name)?;
    let project = Project {
        id: ids::new_id(),
        organization_id: organization,
        name: name.to_owned(),
        source_url: settings.source_url.clone(),
        source_branch: settings.source_branch.clone(),
        entrypoint: settings.entrypoint.clone(),
        hold_breaking: settings.hold_breaking,
        redis: settings.redis,
        previews: settings.previews,
        created_at: now,
    };
    sqlx::query!(
        "insert into projects (id, organization_id, name, source_url, source_branch, entrypoint, hold_breaking, redis, previews, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        project.id,
        organization,
        name,
        settings.source_url,
        settings.source_branch,
        settings.entrypoint,
        settings.hold_breaking,
        settings.redis,
        settings.previews,
        now,
    )
    .execute(&mut *db)
    .await
    .map_err(|error| {
        if violates(&error, "projects_name_key") {
            Error::Conflict(format!("The project name “{name}” is taken; choose another."))
        } else {
            error.into()
        }
    })?;
    bump(db, Changed::Routes).await?;
    audit::record(
        db,
        audit::Entry {
            at: now,
            actor,
            action: "project.create",
            organization: Some(organization),
            project: Some(project.id),
            subject: serde_json::json!({ "name": name, "source_url": settings.source_url }),
        },
    )
    .await?;
    Ok(project)
}

/// Replaces a project's settings; they apply from the next deployment. A Redis that comes or goes
/// reaches the live server by a restart of the same build, queued here. Previews that are switched off,
/// or whose repository is another, end at once.
pub async fn change(
    db: &mut PgConnection,
    project: &Project,
    settings: &Settings,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<Project> {
    let is_moved = settings.source_url != project.source_url;
    let is_other_branch = settings.source_branch != project.source_branch;
    if is_moved || is_other_branch || settings.previews != project.previews {
        links::lock(db, project.id).await?;
    }
    sqlx::query!(
        "update projects set source_url = $2, source_branch = $3, entrypoint = $4, hold_breaking = $5, redis = $6, previews = $7,
             variables_revision = variables_revision + case when redis = $6 then 0 else 1 end
         where id = $1",
        project.id,
        settings.source_url,
        settings.source_branch,
        settings.entrypoint,
        settings.hold_breaking,
        settings.redis,
        settings.previews,
    )
    .execute(&mut *db)
    .await?;
    audit::record(
        db,
        audit::Entry {
            at: now,
            actor,
            action: "project.change",
            organization: Some(project.organization_id),
            project: Some(project.id),
            subject: serde_json::json!({
                "source_url": settings.source_url,
                "source_branch": settings.source_branch,
                "entrypoint": settings.entrypoint,
                "hold_breaking": settings.hold_breaking,
                "redis": settings.redis,
                "previews": settings.previews,
            }),
        },
    )
    .await?;
    if is_moved || !settings.previews {
        previews::turns::close_all(db, project, actor, now).await?;
    }
    if is_moved {
        links::forget(db, project.id).await?;
    } else {
        if is_other_branch {
            links::begin_anew(db, project.id).await?;
        }
        if settings.previews && !project.previews {
            links::make_project_due(db, project.id).await?;
        }
    }
    if settings.redis != project.redis {
        deployments::restart_if_due(db, project.id, actor, now).await?;
    }
    Ok(Project {
        source_url: settings.source_url.clone(),
        source_branch: settings.source_branch.clone(),
        entrypoint: settings.entrypoint.clone(),
        hold_breaking: settings.hold_breaking,
        redis: settings.redis,
        previews: settings.previews,
        ..project.clone()
    })
}

/// Follows a repository to its new name.
pub async fn move_source(
    db: &mut PgConnection,
    project: &Project,
    url: &str,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "update projects set source_url = $2 where id = $1",
        project.id,
        url
    )
    .execute(&mut *db)
    .await?;
    let entry = audit::Entry {
        at: now,
        actor,
        action: "project.move_source",
        organization: Some(project.organization_id),
        project: Some(project.id),
        subject: serde_json::json!({ "source_url": url }),
    };
    audit::record(db, entry).await?;
    Ok(())
}

/// Has a project's code come from a repository of GitHub; whoever calls locks its link before.
pub async fn set_source(
    db: &mut PgConnection,
    project: &Project,
    url: &str,
    branch: &str,
) -> Result<Project> {
    sqlx::query!(
        "update projects set source_url = $2, source_branch = $3 where id = $1",
        project.id,
        url,
        branch,
    )
    .execute(db)
    .await?;
    Ok(Project {
        source_url: Some(url.to_owned()),
        source_branch: Some(branch.to_owned()),
        ..project.clone()
    })
}

/// Takes a project out of service. Its routes go at once, its instances with the next sync; the
/// name is free again.
pub async fn delete(
    db: &mut PgConnection,
    project: &Project,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<()> {
    links::lock(db, project.id).await?;
    audit::record(
        db,
        audit::Entry {
            at: now,
            actor,
            action: "project.delete",
            organization: Some(project.organization_id),
            project: Some(project.id),
            subject: serde_json::json!({ "name": project.name }),
        },
    )
    .await?;
    sqlx::query!("delete from projects where id = $1", project.id)
        .execute(&mut *db)
        .await?;
    bump(db, Changed::Routes).await?;
    bump(db, Changed::Sync).await?;
    Ok(())
}

/// The organization that a person's new project belongs to: the first that lets them change things.
pub async fn home_of(db: &mut PgConnection, user: Uuid) -> Result<Uuid> {
    organizations::list_for(db, user)
        .await?
        .into_iter()
        .find(|organization| may_change(&organization.role))
        .map(|organization| organization.id)
        .ok_or_else(|| {
            Error::Forbidden(
                "You belong to no organization in which you may create projects; ask an admin to add you.".into(),
            )
        })
}

/// By name, whoever asks: for the authorization server, which checks access itself.
pub async fn find_by_name(db: &mut PgConnection, name: &str) -> sqlx::Result<Option<Project>> {
    sqlx::query_as!(
        Project,
        "select id, organization_id, name, source_url, source_branch, entrypoint, hold_breaking, redis, previews, created_at
         from projects where name = $1",
        name,
    )
    .fetch_optional(db)
    .await
}

/// By id, whoever asks.
pub async fn find(db: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<Project>> {
    sqlx::query_as!(
        Project,
        "select id, organization_id, name, source_url, source_branch, entrypoint, hold_breaking, redis, previews, created_at
         from projects where id = $1",
        id,
    )
    .fetch_optional(db)
    .await
}

/// Every project that a user may be meant to call: of their organizations, of a service account's,
/// and those that are open to everyone who is signed in; by name.
pub async fn list_for_calls(db: &mut PgConnection, user: Uuid) -> sqlx::Result<Vec<Project>> {
    sqlx::query_as!(
        Project,
        "select p.id, p.organization_id, p.name, p.source_url, p.source_branch, p.entrypoint, p.hold_breaking, p.redis, p.previews, p.created_at
         from projects p join users u on u.id = $1
         where u.service_account_of = p.organization_id or may_call(u.id, p.id)
            or exists (select 1 from members m where m.organization_id = p.organization_id and m.user_id = u.id)
         order by p.name",
        user,
    )
    .fetch_all(db)
    .await
}

/// The ids of the projects that a user's token is to be limited to, by name or id.
pub async fn ids_for_calls(
    db: &mut PgConnection,
    user: Uuid,
    names: &[String],
) -> Result<Vec<Uuid>> {
    let known = list_for_calls(db, user).await?;
    let mut found = Vec::new();
    for name in names {
        let id = Uuid::parse_str(name).ok();
        let project = known
            .iter()
            .find(|project| project.name == *name || Some(project.id) == id)
            .ok_or_else(|| {
                invalid(
                    "projects",
                    format!("There is no project “{name}” to call; check the name."),
                )
            })?;
        if !found.contains(&project.id) {
            found.push(project.id);
        }
    }
    Ok(found)
}

/// Whether a role may delete projects.
pub fn may_delete(role: &str) -> bool {
    matches!(role, "owner" | "admin")
}

/// A project as one of its members sees it.
#[derive(Debug, Clone)]
pub struct Membership {
    /// The project.
    pub project: Project,
    /// The person's role in its organization.
    pub role: String,
}

impl Membership {
    /// The project, when the role may change it.
    pub fn changeable(self) -> Result<Project> {
        if may_change(&self.role) {
            Ok(self.project)
        } else {
            Err(Error::Forbidden(format!(
                "Your role “{}” may look but not change; ask an admin of the organization.",
                self.role
            )))
        }
    }

    /// The same, when the role may delete the project.
    pub fn deletable(self) -> Result<Self> {
        if may_delete(&self.role) {
            Ok(self)
        } else {
            Err(Error::Forbidden(
                "Only owners and admins of the organization delete projects; ask one of them."
                    .into(),
            ))
        }
    }
}

/// By name or id, if the person belongs to its organization; otherwise as if it were not there.
pub async fn get_for(db: &mut PgConnection, user: Uuid, name_or_id: &str) -> Result<Membership> {
    let id = Uuid::parse_str(name_or_id).ok();
    let row = sqlx::query!(
        "select p.id, p.organization_id, p.name, p.source_url, p.source_branch, p.entrypoint, p.hold_breaking, p.redis, p.previews, p.created_at, m.role
         from projects p join members m on m.organization_id = p.organization_id
         where m.user_id = $1 and (p.name = $2 or p.id = $3)",
        user,
        name_or_id,
        id,
    )
    .fetch_optional(db)
    .await?
    .ok_or(Error::NotFound("project"))?;
    Ok(Membership {
        project: Project {
            id: row.id,
            organization_id: row.organization_id,
            name: row.name,
            source_url: row.source_url,
            source_branch: row.source_branch,
            entrypoint: row.entrypoint,
            hold_breaking: row.hold_breaking,
            redis: row.redis,
            previews: row.previews,
            created_at: row.created_at,
        },
        role: row.role,
    })
}

/// Every project of the person's organizations, by name.
pub async fn list_for(db: &mut PgConnection, user: Uuid) -> sqlx::Result<Vec<Project>> {
    sqlx::query_as!(
        Project,
        "select p.id, p.organization_id, p.name, p.source_url, p.source_branch, p.entrypoint, p.hold_breaking, p.redis, p.previews, p.created_at
         from projects p join members m on m.organization_id = p.organization_id
         where m.user_id = $1 order by p.name",
        user,
    )
    .fetch_all(db)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_host_labels_that_nobody_mistakes() {
        for good in ["a", "hello", "my-server-2", "x".repeat(40).as_str()] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a_b",
            "a.b",
            "a--b",
            "über",
            "a b",
            "x".repeat(41).as_str(),
            "www",
            "api",
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sources_are_https_or_allowed_files() {
        let check = |url: &str, file| {
            Settings {
                source_url: Some(url.into()),
                ..Settings::default()
            }
            .check(&Sources {
                files: file,
                plain: None,
            })
        };
        assert!(check("https://example.com/a/b.git", false).is_ok());
        assert!(check("file:///srv/a.git", true).is_ok());
        for bad in [
            "file:///srv/a.git",
            "http://example.com/a",
            "ssh://git@example.com/a",
            "ext::sh -c id",
            "--upload-pack=touch x",
            "https://user:pw@example.com/a",
            "not a url",
        ] {
            assert!(check(bad, false).is_err(), "{bad}");
        }
    }

    #[test]
    fn sources_may_be_packages() {
        let check = |url: &str, branch: Option<&str>| {
            Settings {
                source_url: Some(url.into()),
                source_branch: branch.map(str::to_owned),
                ..Settings::default()
            }
            .check(&Sources::default())
        };
        for good in [
            "pypi:mcp-server-time",
            "pypi:mcp-server-time==2026.1.2",
            "npm:@modelcontextprotocol/server-everything@2026.1.2",
        ] {
            assert!(check(good, None).is_ok(), "{good}");
        }
        for bad in [
            "pypi:",
            "pypi:a b",
            "pypi:-r /etc/passwd",
            "pypi:a>=1",
            "npm:A",
            "npm:../a",
            "npm:a@latest",
        ] {
            assert!(check(bad, None).is_err(), "{bad}");
        }
        assert!(
            check("npm:a", Some("main")).is_err(),
            "there are no branches"
        );
    }

    #[test]
    fn entrypoints_stay_inside_the_repository() {
        let check = |e: &str| {
            Settings {
                entrypoint: Some(e.into()),
                ..Settings::default()
            }
            .check(&Sources::default())
        };
        assert!(check("src/server.py:mcp").is_ok());
        assert!(check("pkg.mod:app").is_ok());
        for bad in ["/etc/passwd", "../x.py", "a/../../x.py", "~/x.py"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert_eq!(check("  ").unwrap().entrypoint, None);
    }
}
