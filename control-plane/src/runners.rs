//! Runners that have synced, and the keys that secrets are sealed to.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// A request may be this much older than the newest and still be late rather than from a machine
/// whose clock was set back: no request is held longer.
const LATEST: Duration = Duration::minutes(2);

/// What a sync says of the runner itself.
#[derive(Debug)]
pub struct Presence<'a> {
    /// The runner.
    pub id: Uuid,
    /// Grows with every sync; microseconds since 1970.
    pub sequence: i64,
    /// For people.
    pub name: &'a str,
    /// X25519, base64.
    pub public_key: &'a str,
    /// Runtime images it has.
    pub images: &'a [String],
}

/// What was known of a runner before this sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// The sync is older than one already seen.
    pub late: bool,
    /// When it was last heard of.
    pub seen_at: Option<OffsetDateTime>,
}

/// Notes that a runner is there. Locks its row, so two of its syncs are taken one after the other.
pub async fn saw(
    db: &mut PgConnection,
    runner: &Presence<'_>,
    now: OffsetDateTime,
) -> sqlx::Result<Before> {
    let known = sqlx::query!(
        "select last_sequence, last_seen_at from runners where id = $1 for update",
        runner.id,
    )
    .fetch_optional(&mut *db)
    .await?;
    let behind = known
        .as_ref()
        .map_or(0, |known| known.last_sequence - runner.sequence);
    if behind > 0 && i128::from(behind) < LATEST.whole_microseconds() {
        return Ok(Before {
            late: true,
            seen_at: known.map(|known| known.last_seen_at),
        });
    }
    sqlx::query!(
        "insert into runners (id, name, public_key, images, last_seen_at, last_sequence)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (id) do update set name = excluded.name, public_key = excluded.public_key,
             images = excluded.images, last_seen_at = excluded.last_seen_at,
             last_sequence = excluded.last_sequence",
        runner.id,
        runner.name,
        runner.public_key,
        runner.images,
        now,
        runner.sequence,
    )
    .execute(db)
    .await?;
    Ok(Before {
        late: false,
        seen_at: known.map(|known| known.last_seen_at),
    })
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

/// The runtime images that runners have, by name.
pub async fn list_images(db: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"select distinct image as "image!" from runners, unnest(images) as image order by 1"#
    )
    .fetch_all(db)
    .await
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
