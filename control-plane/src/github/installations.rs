//! Where the App is installed and what it may read there, as GitHub last said. Which organizations may
//! use that is told by [`super::proofs`].

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::failure::Failure;
use super::rest::{self, Installation, Repository};
use crate::app::App;
use crate::error::{Error, Result};

/// A list of repositories that is older is read again when somebody looks; webhooks keep it in
/// between.
const STALE: Duration = Duration::minutes(10);

/// Lists that one look at the page reads again at the most; the others wait for the next look.
const REFRESHED_AT_ONCE: i64 = 5;

/// After an attempt, whatever came of it, nobody's look asks GitHub for the same list again before
/// this is over: a list of ten thousand takes a hundred requests.
const ASKED_AGAIN: Duration = Duration::MINUTE;

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
/// left out. `db` is a transaction.
pub async fn keep_repositories(
    db: &mut PgConnection,
    installation: i64,
    repositories: &[Repository],
    now: OffsetDateTime,
) -> Result<()> {
    let mut named: Vec<&Repository> = repositories
        .iter()
        .filter(|it| rest::parts(&it.full_name).is_some())
        .collect();
    // Two lists at once must take their rows in one order.
    named.sort_unstable_by_key(|it| it.id);
    for it in named {
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

/// Asks GitHub how an installation stands, and notes it: `active`, `suspended` or `deleted`.
pub async fn update(app: &App, id: i64) -> Result<&'static str, Failure> {
    let found = rest::find_installation(app, id).await?;
    let now = app.clock.now();
    let state = match &found {
        Some(found) if found.suspended_at.is_some() => "suspended",
        Some(_) => "active",
        None => "deleted",
    };
    let mut tx = app.db.begin().await?;
    if let Some(found) = &found {
        keep(&mut tx, found, now).await?;
    }
    set_state(&mut tx, id, state, now).await?;
    tx.commit().await?;
    Ok(state)
}

/// Installations that projects hang on and that are not active, which GitHub was not asked about
/// since `before`.
pub async fn list_inactive(
    db: &mut PgConnection,
    before: OffsetDateTime,
    limit: i64,
) -> Result<Vec<i64>> {
    Ok(sqlx::query_scalar!(
        "select id from github_installations i
         where state <> 'active' and (asked_at is null or asked_at <= $1)
           and exists (select from github_links l where l.installation_id = i.id)
         order by asked_at nulls first, id limit $2",
        before,
        limit,
    )
    .fetch_all(db)
    .await?)
}

/// Notes that GitHub is being asked about an installation.
pub async fn note_asked(db: &mut PgConnection, id: i64, now: OffsetDateTime) -> Result<()> {
    sqlx::query!(
        "update github_installations set asked_at = $2 where id = $1",
        id,
        now,
    )
    .execute(db)
    .await?;
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

/// The same by its name, in letters of either case. Of several that had it, the one that was heard of
/// last has it now.
pub async fn get_readable_by_name(
    db: &mut PgConnection,
    user: Uuid,
    full_name: &str,
) -> Result<Readable> {
    let id = sqlx::query_scalar!(
        "select r.id from github_repositories r
         where lower(r.full_name) = lower($1) and r.state = 'active' order by r.updated_at desc, r.id limit 1",
        full_name,
    )
    .fetch_optional(&mut *db)
    .await?
    .ok_or(Error::NotFound("repository"))?;
    get_readable(db, user, id).await
}

/// The names of the first repositories that an organization may use, for a form to suggest.
pub async fn list_names_of(
    db: &mut PgConnection,
    organization: Uuid,
    limit: i64,
) -> Result<Vec<String>> {
    Ok(sqlx::query_scalar!(
        r#"select r.full_name as "full_name!" from github_readable r
         where r.organization_id = $1 and r.state = 'active' order by lower(r.full_name), r.repository_id limit $2"#,
        organization,
        limit,
    )
    .fetch_all(db)
    .await?)
}

/// A repository's name and whether only some may read it, as last known, in reach or not.
pub async fn find_name(db: &mut PgConnection, id: i64) -> Result<Option<(String, bool)>> {
    let found = sqlx::query!(
        "select full_name, private from github_repositories where id = $1",
        id,
    )
    .fetch_optional(db)
    .await?;
    Ok(found.map(|row| (row.full_name, row.private)))
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
    let now = app.clock.now();
    // Whoever marks one reads it; others who look meanwhile take the list as it is.
    let due = sqlx::query_scalar!(
        "update github_installations set asked_at = $3 where id in (
             select i.id from github_installations i
             where i.state = 'active' and (i.listed_at is null or i.listed_at < $2)
               and (i.asked_at is null or i.asked_at <= $4)
               and exists (select from github_connections c
                   join members m on m.organization_id = c.organization_id and m.user_id = $1
                   where c.installation_id = i.id)
             order by i.listed_at nulls first, i.id limit $5 for update skip locked)
         returning id",
        user,
        now - STALE,
        now,
        now - ASKED_AGAIN,
        REFRESHED_AT_ONCE,
    )
    .fetch_all(&mut *app.db.acquire().await?)
    .await?;
    for id in due {
        refresh(app, id).await?;
    }
    Ok(())
}

/// Reads an installation's repositories from GitHub, all of them: one reader at a time, and no
/// connection is held while GitHub answers.
pub async fn refresh(app: &App, id: i64) -> Result<(), Failure> {
    let turn = app.github.listings.of(id);
    let _turn = turn.lock().await;
    let repositories = rest::repositories(app, id).await?;
    let ids: Vec<i64> = repositories.iter().map(|it| it.id).collect();
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    keep_repositories(&mut tx, id, &repositories, now).await?;
    sqlx::query!(
        "update github_repositories set state = 'removed', updated_at = $3
         where id in (select id from github_repositories
             where installation_id = $1 and state = 'active' and id <> all($2) order by id for update)",
        id,
        &ids,
        now,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "update github_installations set listed_at = $2, asked_at = $2 where id = $1",
        id,
        now
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}

/// Whether an installation reaches a repository now; its name and what else may change is noted.
/// `name` is the one known of it. A name tells nothing, since it may have passed to another
/// repository, so the number is compared; without a name that fits, the whole list is read.
pub async fn settle(
    app: &App,
    installation: i64,
    repository: i64,
    name: Option<&str>,
) -> Result<bool, Failure> {
    if let Some(name) = name {
        let found = rest::find_repository(app, installation, name).await?;
        if let Some(found) = found.filter(|found| found.id == repository) {
            let mut tx = app.db.begin().await?;
            keep_repositories(&mut tx, installation, &[found], app.clock.now()).await?;
            tx.commit().await?;
            return Ok(true);
        }
    }
    refresh(app, installation).await?;
    let reached = sqlx::query_scalar!(
        r#"select exists(select from github_repositories
             where id = $1 and installation_id = $2 and state = 'active') as "exists!""#,
        repository,
        installation,
    )
    .fetch_one(&mut *app.db.acquire().await?)
    .await?;
    Ok(reached)
}
