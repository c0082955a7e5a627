//! Runners that have synced, and the keys that secrets are sealed to.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// Notes that a runner is there.
pub async fn saw(
    db: &mut PgConnection,
    id: Uuid,
    name: &str,
    public_key: &str,
    images: &[String],
    now: OffsetDateTime,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into runners (id, name, public_key, images, last_seen_at) values ($1, $2, $3, $4, $5)
         on conflict (id) do update set name = excluded.name, public_key = excluded.public_key,
             images = excluded.images, last_seen_at = excluded.last_seen_at",
        id,
        name,
        public_key,
        images,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Every runner's id and public key.
pub async fn public_keys(db: &mut PgConnection) -> sqlx::Result<Vec<(Uuid, String)>> {
    let rows = sqlx::query!("select id, public_key from runners order by id")
        .fetch_all(db)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.id, row.public_key))
        .collect())
}

/// Whether a runner has been heard of since `since`.
pub async fn any_since(db: &mut PgConnection, since: OffsetDateTime) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists(select 1 from runners where last_seen_at >= $1) as "exists!""#,
        since,
    )
    .fetch_one(db)
    .await
}
