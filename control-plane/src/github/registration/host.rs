//! Which GitHub the numbers that are known here are of.

use sqlx::PgConnection;

use crate::error::Result;

/// Notes which GitHub numbers are of, and forgets those of another.
pub(super) async fn arrive_at(db: &mut PgConnection, github: &str) -> Result<()> {
    let before = sqlx::query_scalar!("select url from github_host")
        .fetch_optional(&mut *db)
        .await?;
    if before.as_deref() == Some(github) {
        return Ok(());
    }
    if before.is_some() {
        sqlx::query!("delete from github_identities")
            .execute(&mut *db)
            .await?;
        sqlx::query!("delete from github_sign_up")
            .execute(&mut *db)
            .await?;
        sqlx::query!("delete from github_links")
            .execute(&mut *db)
            .await?;
        sqlx::query!("delete from github_installations")
            .execute(&mut *db)
            .await?;
        sqlx::query!("delete from github_tokens")
            .execute(&mut *db)
            .await?;
    }
    sqlx::query!(
        "insert into github_host (url) values ($1) on conflict (only_row) do update set url = excluded.url",
        github,
    )
    .execute(&mut *db)
    .await?;
    Ok(())
}
