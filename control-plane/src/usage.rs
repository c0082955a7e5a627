//! How much is called: per project and minute, from what edges report.

use std::collections::BTreeMap;

use edge::protocol::CallEvent;
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::error::Result;
use crate::previews::sleep;

/// How long the minutes are kept.
const KEPT: Duration = Duration::days(30);

/// `last_used_at` is written at most this often: a busy client must not cost a write per report.
const LAST_USED_EVERY: Duration = Duration::MINUTE;

/// An edge holds its events back no longer while we are away; what claims to be older, or in the
/// future, comes from a clock that is wrong, and is counted now.
const OLDEST: Duration = Duration::HOUR;

/// Clocks may differ this much.
const SKEW: Duration = Duration::MINUTE;

/// What happened in one minute.
#[derive(Debug, Default, Clone, Copy)]
struct Minute {
    calls: i64,
    errors: i64,
    duration_us: i64,
    max_us: i64,
}

/// Adds calls to what is known, and notes which grants and API tokens were used. A preview's calls are
/// not its project's; that it was called is noted.
pub async fn add(db: &mut PgConnection, calls: &[CallEvent], now: OffsetDateTime) -> Result<()> {
    // Sorted, so that two edges' reports lock rows in one order.
    let mut minutes: BTreeMap<(Uuid, OffsetDateTime), Minute> = BTreeMap::new();
    let mut grants: BTreeMap<Uuid, OffsetDateTime> = BTreeMap::new();
    let mut tokens: BTreeMap<Uuid, OffsetDateTime> = BTreeMap::new();
    let mut called: BTreeMap<Uuid, OffsetDateTime> = BTreeMap::new();
    for call in calls {
        let at = moment(call.at_ms, now);
        let minute = minutes.entry((call.project, start_of(at))).or_default();
        let took = i64::from(call.duration_us);
        minute.calls += 1;
        minute.errors += i64::from(call.status >= 500);
        minute.duration_us += took;
        minute.max_us = minute.max_us.max(took);
        for (used, id) in [
            (&mut grants, call.grant),
            (&mut tokens, call.api_token),
            (&mut called, Some(call.project)),
        ] {
            if let Some(id) = id {
                let last = used.entry(id).or_insert(at);
                *last = at.max(*last);
            }
        }
    }
    add_minutes(db, &minutes).await?;
    touch_grants(db, &grants).await?;
    touch_tokens(db, &tokens).await?;
    Ok(sleep::touch(db, &called).await?)
}

/// When a call began; now, if the edge's clock cannot be right.
pub fn moment(at_ms: i64, now: OffsetDateTime) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000)
        .ok()
        .filter(|at| (now - OLDEST..=now + SKEW).contains(at))
        .unwrap_or(now)
}

fn start_of(at: OffsetDateTime) -> OffsetDateTime {
    at - Duration::seconds(at.unix_timestamp() % 60) - Duration::nanoseconds(at.nanosecond().into())
}

async fn add_minutes(
    db: &mut PgConnection,
    minutes: &BTreeMap<(Uuid, OffsetDateTime), Minute>,
) -> Result<()> {
    if minutes.is_empty() {
        return Ok(());
    }
    let (projects, starts): (Vec<Uuid>, Vec<OffsetDateTime>) = minutes.keys().copied().unzip();
    let column = |of: fn(&Minute) -> i64| -> Vec<i64> { minutes.values().map(of).collect() };
    // A project may have been deleted since, and a preview is none.
    sqlx::query!(
        "insert into usage_minutes (project_id, minute, calls, errors, duration_us, max_us)
         select u.* from unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::bigint[],
                 $5::bigint[], $6::bigint[])
             as u (project_id, minute, calls, errors, duration_us, max_us)
         where exists (select from projects p where p.id = u.project_id)
         order by u.project_id, u.minute
         on conflict (project_id, minute) do update set
             calls = usage_minutes.calls + excluded.calls,
             errors = usage_minutes.errors + excluded.errors,
             duration_us = usage_minutes.duration_us + excluded.duration_us,
             max_us = greatest(usage_minutes.max_us, excluded.max_us)",
        &projects,
        &starts,
        &column(|it| it.calls),
        &column(|it| it.errors),
        &column(|it| it.duration_us),
        &column(|it| it.max_us),
    )
    .execute(db)
    .await?;
    Ok(())
}

async fn touch_grants(db: &mut PgConnection, used: &BTreeMap<Uuid, OffsetDateTime>) -> Result<()> {
    if used.is_empty() {
        return Ok(());
    }
    let (ids, ats): (Vec<Uuid>, Vec<OffsetDateTime>) = used.iter().unzip();
    // A row that is locked is being used this moment, and is noted there or with the next report.
    sqlx::query!(
        "with due as (
             select g.id, u.at from unnest($1::uuid[], $2::timestamptz[]) as u (id, at)
             join grants g on g.id = u.id
             where g.last_used_at is null or g.last_used_at <= u.at - make_interval(secs => $3)
             for update of g skip locked)
         update grants g set last_used_at = due.at from due where g.id = due.id",
        &ids,
        &ats,
        LAST_USED_EVERY.as_seconds_f64(),
    )
    .execute(db)
    .await?;
    Ok(())
}

async fn touch_tokens(db: &mut PgConnection, used: &BTreeMap<Uuid, OffsetDateTime>) -> Result<()> {
    if used.is_empty() {
        return Ok(());
    }
    let (ids, ats): (Vec<Uuid>, Vec<OffsetDateTime>) = used.iter().unzip();
    sqlx::query!(
        "with due as (
             select t.id, u.at from unnest($1::uuid[], $2::timestamptz[]) as u (id, at)
             join api_tokens t on t.id = u.id
             where t.last_used_at is null or t.last_used_at <= u.at - make_interval(secs => $3)
             for update of t skip locked)
         update api_tokens t set last_used_at = due.at from due where t.id = due.id",
        &ids,
        &ats,
        LAST_USED_EVERY.as_seconds_f64(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// What a project was called in a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    /// Calls that reached an instance.
    pub calls: i64,
    /// Of these, those answered with 500 or above.
    pub errors: i64,
}

/// Calls since `since`, which counts from the start of its minute.
pub async fn since(db: &mut PgConnection, project: Uuid, since: OffsetDateTime) -> Result<Usage> {
    Ok(sqlx::query_as!(
        Usage,
        r#"select coalesce(sum(calls), 0)::bigint as "calls!", coalesce(sum(errors), 0)::bigint as "errors!"
         from usage_minutes where project_id = $1 and minute >= $2"#,
        project,
        start_of(since),
    )
    .fetch_one(db)
    .await?)
}

/// Forgets old minutes.
pub async fn purge(db: &mut PgConnection, now: OffsetDateTime) -> Result<()> {
    sqlx::query!("delete from usage_minutes where minute < $1", now - KEPT)
        .execute(db)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids;
    use crate::testing::{app, project};

    fn call(project: Uuid, at: OffsetDateTime, status: u16) -> CallEvent {
        CallEvent {
            project,
            deployment: ids::new_id(),
            grant: None,
            api_token: None,
            at_ms: i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap(),
            duration_us: 1_500,
            status,
        }
    }

    #[tokio::test]
    async fn calls_are_counted_by_minute_and_forgotten_after_a_month() {
        let app = app().await;
        let hello = project(&app, "hello").await;
        let mut db = app.db.acquire().await.unwrap();
        let now = app.clock.now();
        let ago = |minutes| now - Duration::minutes(minutes);
        let calls = [
            call(hello.id, now, 200),
            call(hello.id, now, 502),
            call(hello.id, ago(5), 200),
            // A clock that is wrong: counted now.
            call(hello.id, ago(100_000), 200),
            // Deleted since.
            call(ids::new_id(), now, 200),
        ];
        add(&mut db, &calls, now).await.unwrap();
        add(&mut db, &calls[..1], now).await.unwrap();
        let counted = since(&mut db, hello.id, ago(60)).await.unwrap();
        assert_eq!((counted.calls, counted.errors), (5, 1));
        let counted = since(&mut db, hello.id, ago(4)).await.unwrap();
        assert_eq!((counted.calls, counted.errors), (4, 1));
        purge(&mut db, now + Duration::days(31)).await.unwrap();
        assert_eq!(since(&mut db, hello.id, ago(60)).await.unwrap().calls, 0);
    }

    #[tokio::test]
    async fn a_tokens_last_use_is_noted_once_a_minute() {
        let app = app().await;
        let hello = project(&app, "hello").await;
        let owner = crate::testing::owner(&app).await;
        let mut tx = app.db.begin().await.unwrap();
        let token: Uuid = ids::new_id();
        sqlx::query(
            "insert into api_tokens (id, user_id, name, token_hash, created_at) values ($1, $2, 'x', 'x', now())",
        )
        .bind(token)
        .bind(owner.id)
        .execute(&mut *tx)
        .await
        .unwrap();
        let start = app.clock.now();
        let mut seen = Vec::new();
        for seconds in [0, 30, 60] {
            let at = start + Duration::seconds(seconds);
            let used = CallEvent {
                api_token: Some(token),
                ..call(hello.id, at, 200)
            };
            add(&mut tx, &[used], at).await.unwrap();
            let last: OffsetDateTime =
                sqlx::query_scalar("select last_used_at from api_tokens where id = $1")
                    .bind(token)
                    .fetch_one(&mut *tx)
                    .await
                    .unwrap();
            seen.push((last - start).whole_seconds());
        }
        assert_eq!(seen, [0, 0, 60]);
    }
}
