//! Authorizations that wait for a person: consent pages that are open. Each waits in a row of its
//! own, so that two pages opened at once do not undo each other, and is taken by deleting it, so
//! that it is answered once.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::crypto::sha256;
use crate::error::Result;
use crate::ids;

/// How long a page may stay open.
pub const LIFETIME: Duration = Duration::minutes(10);

/// Pages of one person that are open at the same time; the oldest gives way.
const MOST: i64 = 32;

/// Who is asked, and where.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The person.
    pub user: Uuid,
    /// The id of the browser session that shows the page.
    pub browser: &'a str,
}

/// Keeps `request` until it is answered, and returns the id that the page carries.
pub async fn keep(
    db: &mut PgConnection,
    asked: Asked<'_>,
    request: serde_json::Value,
    now: OffsetDateTime,
) -> Result<String> {
    sqlx::query!(
        "delete from pending_authorizations where id_hash in (
             select id_hash from pending_authorizations where user_id = $1
             order by created_at desc, id_hash offset $2)",
        asked.user,
        MOST - 1,
    )
    .execute(&mut *db)
    .await?;
    let id = ids::random_token("");
    sqlx::query!(
        "insert into pending_authorizations (id_hash, browser_hash, user_id, request, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6)",
        sha256(&id),
        sha256(asked.browser),
        asked.user,
        request,
        now,
        now + LIFETIME,
    )
    .execute(db)
    .await?;
    Ok(id)
}

/// Takes what waits under `id`; `None` when it was answered before, is too old, or was asked of
/// another person or in another browser, for whom it goes on waiting.
pub async fn take(
    db: &mut PgConnection,
    id: &str,
    asked: Asked<'_>,
    now: OffsetDateTime,
) -> Result<Option<serde_json::Value>> {
    Ok(sqlx::query_scalar!(
        "delete from pending_authorizations
         where id_hash = $1 and browser_hash = $2 and user_id = $3 and expires_at > $4
         returning request",
        sha256(id),
        sha256(asked.browser),
        asked.user,
        now,
    )
    .fetch_optional(db)
    .await?)
}

/// Forgets what nobody answered in time.
pub async fn purge_expired(db: &mut PgConnection, now: OffsetDateTime) -> Result<()> {
    sqlx::query!(
        "delete from pending_authorizations where expires_at <= $1",
        now
    )
    .execute(db)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn each_is_taken_once_by_whom_it_was_asked_of() {
        let app = testing::app().await;
        let owner = testing::owner(&app).await.id;
        let stranger = testing::stranger(&app).await.id;
        let now = app.clock.now();
        let mut db = app.db.acquire().await.unwrap();
        let asked = Asked {
            user: owner,
            browser: "one",
        };
        let id = keep(&mut db, asked, json!({ "a": 1 }), now).await.unwrap();
        for other in [
            Asked {
                user: stranger,
                browser: "one",
            },
            Asked {
                user: owner,
                browser: "two",
            },
        ] {
            assert_eq!(take(&mut db, &id, other, now).await.unwrap(), None);
        }
        let late = now + LIFETIME;
        assert_eq!(take(&mut db, &id, asked, late).await.unwrap(), None);
        let taken = take(&mut db, &id, asked, now).await.unwrap();
        assert_eq!(taken, Some(json!({ "a": 1 })));
        assert_eq!(take(&mut db, &id, asked, now).await.unwrap(), None);
    }

    #[tokio::test]
    async fn the_oldest_of_too_many_gives_way_and_the_rest_is_purged() {
        let app = testing::app().await;
        let mut db = app.db.acquire().await.unwrap();
        let asked = Asked {
            user: testing::owner(&app).await.id,
            browser: "one",
        };
        let mut kept = Vec::new();
        for second in 0..=MOST {
            let now = app.clock.now() + Duration::seconds(second);
            kept.push(keep(&mut db, asked, json!(second), now).await.unwrap());
        }
        let now = app.clock.now();
        assert_eq!(take(&mut db, &kept[0], asked, now).await.unwrap(), None);
        assert!(take(&mut db, &kept[1], asked, now).await.unwrap().is_some());
        purge_expired(&mut db, now + LIFETIME + Duration::minutes(1))
            .await
            .unwrap();
        assert_eq!(take(&mut db, &kept[2], asked, now).await.unwrap(), None);
    }
}
