//! Where the App is installed, what it may read there, and which organizations may use that.
//!
//! The number of an installation is no secret: whoever comes back from GitHub with one has proved
//! nothing. An organization may use an installation when GitHub itself, asked with the token of one
//! of its members, lists it; and of it the repositories that this member may write to. Only the
//! account's own person brings in the whole of it.

use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::failure::Failure;
use super::rest::{self, Account, Installation, Repository};
use crate::app::App;
use crate::audit::{self, Actor};
use crate::config::Secret;
use crate::error::{Error, Result};

/// A list of repositories that is older is read again when somebody looks; webhooks keep it in
/// between.
const STALE: Duration = Duration::minutes(10);

/// Lists that one look at the page reads again at the most; the others wait for the next look.
const REFRESHED_AT_ONCE: i64 = 5;

/// An installation as an organization that may use it sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// Its number.
    pub id: i64,
    /// The account's name.
    pub account: String,
    /// `user` or `organization`.
    pub account_kind: String,
    /// `active`, `suspended` or `deleted`.
    pub state: String,
    /// How many repositories may be used.
    pub repositories: i64,
}

/// A repository that an organization may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readable {
    /// Its number.
    pub id: i64,
    /// Its installation.
    pub installation_id: i64,
    /// `owner/name`.
    pub full_name: String,
    /// Whether only some may read it.
    pub private: bool,
    /// Its default branch, once known.
    pub default_branch: Option<String>,
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

/// Lets an organization use what its member proved to. What this member proved before and does not
/// any more is taken back. Gives the number of installations.
pub async fn connect(
    db: &mut PgConnection,
    organization: Uuid,
    user: Uuid,
    proof: &Proof,
    now: OffsetDateTime,
) -> Result<usize> {
    let ids: Vec<i64> = proof.found.iter().map(|(it, _)| it.id).collect();
    sqlx::query!(
        "delete from github_connections
         where organization_id = $1 and connected_by = $2 and installation_id <> all($3)",
        organization,
        user,
        &ids,
    )
    .execute(&mut *db)
    .await?;
    for (installation, repositories) in &proof.found {
        keep(db, installation, now).await?;
        let whole = installation.account.id == proof.person.id;
        sqlx::query!(
            "insert into github_connections (organization_id, installation_id, whole, connected_by, connected_at)
             values ($1, $2, $3, $4, $5)
             on conflict (organization_id, installation_id) do update
                 set whole = github_connections.whole or excluded.whole,
                     connected_by = coalesce(github_connections.connected_by, excluded.connected_by)",
            organization,
            installation.id,
            whole,
            user,
            now,
        )
        .execute(&mut *db)
        .await?;
        keep_repositories(db, installation.id, repositories, now).await?;
        let ids: Vec<i64> = repositories.iter().map(|it| it.id).collect();
        sqlx::query!(
            "insert into github_access (organization_id, installation_id, repository_id)
             select $1, $2, id from github_repositories where id = any($3) and installation_id = $2
             on conflict (organization_id, repository_id) do update set installation_id = excluded.installation_id",
            organization,
            installation.id,
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
    Ok(ids.len())
}

/// Notes an installation as GitHub describes it.
pub async fn keep(
    db: &mut PgConnection,
    installation: &Installation,
    now: OffsetDateTime,
) -> Result<()> {
    let state = if installation.suspended_at.is_some() {
        "suspended"
    } else {
        "active"
    };
    sqlx::query!(
        "insert into github_installations (id, account_id, account, account_kind, state, updated_at)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (id) do update set account_id = excluded.account_id, account = excluded.account,
             account_kind = excluded.account_kind, state = excluded.state, updated_at = excluded.updated_at",
        installation.id,
        installation.account.id,
        installation.account.login,
        installation.account.kind(),
        state,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Notes repositories of an installation, which is there. Names that GitHub does not give out are
/// left out.
pub async fn keep_repositories(
    db: &mut PgConnection,
    installation: i64,
    repositories: &[Repository],
    now: OffsetDateTime,
) -> Result<()> {
    for it in repositories {
        if rest::parts(&it.full_name).is_none() {
            continue;
        }
        sqlx::query!(
            "insert into github_repositories (id, installation_id, full_name, private, default_branch, state, updated_at)
             values ($1, $2, $3, $4, $5, 'active', $6)
             on conflict (id) do update set installation_id = excluded.installation_id, full_name = excluded.full_name,
                 private = excluded.private, default_branch = coalesce(excluded.default_branch, github_repositories.default_branch),
                 state = 'active', updated_at = excluded.updated_at",
            it.id,
            installation,
            it.full_name,
            it.private,
            it.default_branch,
            now,
        )
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

/// Notes that a repository is gone, if it is not in reach any more.
pub async fn note_deleted(db: &mut PgConnection, id: i64, now: OffsetDateTime) -> Result<()> {
    sqlx::query!(
        "update github_repositories set state = 'deleted', updated_at = $2
         where id = $1 and state = 'removed'",
        id,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Notes what became of an installation: `active`, `suspended` or `deleted`.
pub async fn set_state(
    db: &mut PgConnection,
    id: i64,
    state: &str,
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "update github_installations set state = $2, updated_at = $3, listed_at = null where id = $1",
        id,
        state,
        now,
    )
    .execute(&mut *db)
    .await?;
    if state != "active" {
        sqlx::query!("delete from github_tokens where installation_id = $1", id)
            .execute(db)
            .await?;
    }
    Ok(())
}

/// What a refused token says of the installation: it is suspended, or gone.
pub async fn note_refusal(app: &App, id: i64, failure: &Failure) -> Result<(), Failure> {
    let state = match failure {
        Failure::Unauthorized(message) if message.contains("suspended") => "suspended",
        Failure::NotFound => "deleted",
        _ => return Ok(()),
    };
    let mut tx = app.db.begin().await?;
    // Whoever holds the row is finding out the same.
    let free = sqlx::query_scalar!(
        "select id from github_installations where id = $1 for update skip locked",
        id,
    )
    .fetch_optional(&mut *tx)
    .await?;
    if free.is_some() {
        set_state(&mut tx, id, state, app.clock.now()).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// `active`, `suspended` or `deleted`; `None` for one that nobody has heard of.
pub async fn find_state(db: &mut PgConnection, id: i64) -> Result<Option<String>> {
    Ok(
        sqlx::query_scalar!("select state from github_installations where id = $1", id)
            .fetch_optional(db)
            .await?,
    )
}

/// The installations that a person's organizations may use, by account.
pub async fn list_for(db: &mut PgConnection, user: Uuid) -> Result<Vec<Connected>> {
    Ok(sqlx::query_as!(
        Connected,
        r#"select i.id, i.account, i.account_kind, i.state,
             (select count(distinct r.repository_id) from github_readable r
              join members m on m.organization_id = r.organization_id and m.user_id = $1
              where r.installation_id = i.id and r.state = 'active') as "repositories!"
         from github_installations i
         where exists (select from github_connections c
             join members m on m.organization_id = c.organization_id and m.user_id = $1
             where c.installation_id = i.id)
         order by lower(i.account), i.id"#,
        user,
    )
    .fetch_all(db)
    .await?)
}

/// A page of repositories that a person's organizations may use, by name; `installation` narrows it,
/// `search` is a part of the name.
pub async fn list_readable(
    db: &mut PgConnection,
    user: Uuid,
    installation: Option<i64>,
    search: &str,
    offset: i64,
    limit: i64,
) -> Result<Vec<Readable>> {
    Ok(sqlx::query_as!(
        Readable,
        r#"select r.id as "id!", r.installation_id as "installation_id!", r.full_name as "full_name!",
             r.private as "private!", r.default_branch
         from github_repositories r join github_installations i on i.id = r.installation_id and i.state <> 'deleted'
         where r.state = 'active' and ($2::bigint is null or r.installation_id = $2)
           and strpos(lower(r.full_name), lower($3)) > 0
           and exists (select from github_readable a
               join members m on m.organization_id = a.organization_id and m.user_id = $1
               where a.repository_id = r.id)
         order by lower(r.full_name), r.id offset $4 limit $5"#,
        user,
        installation,
        search,
        offset,
        limit,
    )
    .fetch_all(db)
    .await?)
}

/// A repository that a person's organizations may use; as if it were not there otherwise.
pub async fn get_readable(db: &mut PgConnection, user: Uuid, id: i64) -> Result<Readable> {
    sqlx::query_as!(
        Readable,
        r#"select r.repository_id as "id!", r.installation_id as "installation_id!", r.full_name as "full_name!",
             r.private as "private!", r.default_branch
         from github_readable r join members m on m.organization_id = r.organization_id
         where m.user_id = $1 and r.repository_id = $2 and r.state = 'active' limit 1"#,
        user,
        id,
    )
    .fetch_optional(db)
    .await?
    .ok_or(Error::NotFound("repository"))
}

/// The organization in which someone may make a project of a repository.
pub async fn find_home(db: &mut PgConnection, user: Uuid, id: i64) -> Result<Option<Uuid>> {
    Ok(sqlx::query_scalar!(
        r#"select o.id from github_readable r
         join members m on m.organization_id = r.organization_id and m.user_id = $1 and m.role in ('owner', 'admin', 'editor')
         join organizations o on o.id = m.organization_id
         where r.repository_id = $2 and r.state = 'active' order by o.created_at, o.id limit 1"#,
        user,
        id,
    )
    .fetch_optional(db)
    .await?)
}

/// Whether an organization may use a repository now.
pub async fn find_readable_of(
    db: &mut PgConnection,
    organization: Uuid,
    id: i64,
) -> Result<Option<Readable>> {
    Ok(sqlx::query_as!(
        Readable,
        r#"select r.repository_id as "id!", r.installation_id as "installation_id!", r.full_name as "full_name!",
             r.private as "private!", r.default_branch
         from github_readable r where r.organization_id = $1 and r.repository_id = $2 and r.state = 'active'"#,
        organization,
        id,
    )
    .fetch_optional(db)
    .await?)
}

/// Reads the repositories of a person's installations whose list is due from GitHub. A failure is
/// given back and harms nothing: the list as it was is still there.
pub async fn refresh_for(app: &App, user: Uuid) -> Result<(), Failure> {
    let due = sqlx::query_scalar!(
        "select i.id from github_installations i
         where i.state = 'active' and (i.listed_at is null or i.listed_at < $2)
           and exists (select from github_connections c
               join members m on m.organization_id = c.organization_id and m.user_id = $1
               where c.installation_id = i.id)
         order by i.listed_at nulls first limit $3",
        user,
        app.clock.now() - STALE,
        REFRESHED_AT_ONCE,
    )
    .fetch_all(&mut *app.db.acquire().await?)
    .await?;
    for id in due {
        refresh(app, &mut *app.db.acquire().await?, id).await?;
    }
    Ok(())
}

/// Reads an installation's repositories from GitHub, all of them.
pub async fn refresh(app: &App, db: &mut PgConnection, id: i64) -> Result<(), Failure> {
    let repositories = rest::repositories(app, id).await?;
    let ids: Vec<i64> = repositories.iter().map(|it| it.id).collect();
    let now = app.clock.now();
    let mut tx = db.begin().await?;
    keep_repositories(&mut tx, id, &repositories, now).await?;
    sqlx::query!(
        "update github_repositories set state = 'removed', updated_at = $3
         where installation_id = $1 and state = 'active' and id <> all($2)",
        id,
        &ids,
        now,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "update github_installations set listed_at = $2 where id = $1",
        id,
        now
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}
