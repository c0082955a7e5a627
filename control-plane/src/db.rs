//! The database: pool, migrations, and the counters that tell edges and runners of changes.

use std::time::Duration;

use anyhow::{Context as _, bail};
use sqlx::migrate::{Migrate as _, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgConnection, PgPool};

/// The SQL under `migrations/`, built into the binary.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// Connections of one control plane. Two cores saturate well below this; Postgres' default
/// limit is 100, so several control planes fit beside each other.
const MAX_CONNECTIONS: u32 = 20;

/// How long a request waits for a connection before it is told that the database is away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(4);

/// Longest statement; a page must never hang on one.
const STATEMENT_TIMEOUT: &str = "10s";

/// Opens the pool. Fails when the database does not answer at all.
pub async fn connect(options: PgConnectOptions) -> anyhow::Result<PgPool> {
    let options = options.options([("statement_timeout", STATEMENT_TIMEOUT)]);
    PgPoolOptions::new()
        .max_connections(MAX_CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(options)
        .await
        .context("the database does not answer; check BERTH_DATABASE_URL")
}

/// Brings the schema up to this binary's. Refuses a schema that is newer than the binary.
pub async fn migrate(pool: &PgPool) -> anyhow::Result<()> {
    refuse_newer_schema(pool).await?;
    let mut connection = pool.acquire().await?;
    // An index over a large table may take longer than any page's statement.
    sqlx::query!("set statement_timeout = 0")
        .execute(&mut *connection)
        .await?;
    MIGRATIONS
        .run_direct(None, &mut *connection, false)
        .await
        .context("migrating the database failed")?;
    // Not back to the pool: its other connections have the limit.
    connection.close().await?;
    Ok(())
}

async fn refuse_newer_schema(pool: &PgPool) -> anyhow::Result<()> {
    let mut connection = pool.acquire().await?;
    connection
        .ensure_migrations_table(&MIGRATIONS.table_name)
        .await?;
    let newest_known = MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0);
    let applied = connection
        .list_applied_migrations(&MIGRATIONS.table_name)
        .await?;
    let newest_applied = applied.iter().map(|m| m.version).max().unwrap_or(0);
    if newest_applied > newest_known {
        bail!(
            "the database's schema is version {newest_applied}, this berth knows only {newest_known}; \
             start a newer berth, or restore the backup taken before the upgrade"
        );
    }
    Ok(())
}

/// What changed, for [`bump`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// What edges serve.
    Routes,
    /// What runners should have.
    Sync,
}

impl Changed {
    const fn name(self) -> &'static str {
        match self {
            Self::Routes => "routes",
            Self::Sync => "sync",
        }
    }
}

/// Raises a version and tells everyone who waits for it, when the transaction commits.
pub async fn bump(db: &mut PgConnection, what: Changed) -> sqlx::Result<()> {
    sqlx::query!(
        "update versions set value = value + 1 where name = $1",
        what.name()
    )
    .execute(&mut *db)
    .await?;
    notify(db, what.name()).await
}

/// Wakes whoever waits for `topic` (see [`crate::changes`]), when the transaction commits.
pub async fn notify(db: &mut PgConnection, topic: &str) -> sqlx::Result<()> {
    sqlx::query!("select pg_notify('berth', $1)", topic)
        .execute(db)
        .await?;
    Ok(())
}

/// The present version.
pub async fn version(db: &mut PgConnection, what: Changed) -> sqlx::Result<i64> {
    sqlx::query_scalar!("select value from versions where name = $1", what.name())
        .fetch_one(db)
        .await
}

/// This platform's identity, made at the first start.
pub async fn installation(db: &mut PgConnection) -> sqlx::Result<uuid::Uuid> {
    sqlx::query_scalar!(
        "insert into installation (id) values ($1)
         on conflict (only_row) do update set only_row = true
         returning id",
        crate::ids::new_id(),
    )
    .fetch_one(db)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_newer_schema_is_refused_with_what_to_do() {
        let db = crate::testing::database().await;
        migrate(&db).await.expect("the present schema is fine");
        sqlx::query(
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
             values (9999, 'from the future', true, 'x', 0)",
        )
        .execute(&db)
        .await
        .expect("the table is there");
        let refusal = migrate(&db).await.expect_err("it is newer").to_string();
        assert!(refusal.contains("version 9999"), "{refusal}");
        assert!(refusal.contains("start a newer berth"), "{refusal}");
    }
}
