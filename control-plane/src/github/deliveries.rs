//! The inbox of webhooks. A delivery is written down before GitHub gets its answer, so that nothing
//! that was answered is lost, and taken in order within its lane.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use crate::error::Result;

/// How long processed deliveries are shown. GitHub sends again what is up to three days old, and a
/// delivery that is remembered is not taken twice.
const KEPT: Duration = Duration::days(7);

/// The topic on which new deliveries are told ([`crate::changes`]).
pub const TOPIC: &str = "github";

/// A delivery as it arrives.
#[derive(Debug)]
pub struct Arrival<'a> {
    /// GitHub's id of it.
    pub id: &'a str,
    /// What happened.
    pub event: &'a str,
    /// Which kind of that.
    pub action: Option<&'a str>,
    /// The installation it is about.
    pub installation: Option<i64>,
    /// The repository it is about.
    pub repository: Option<i64>,
    /// The branch, tag or pull request it is about, in full.
    pub reference: Option<&'a str>,
    /// The body.
    pub payload: &'a [u8],
    /// Why it is kept and not processed.
    pub ignored: Option<&'a str>,
}

/// A delivery to be processed.
#[derive(Debug)]
pub struct Delivery {
    /// GitHub's id of it.
    pub id: String,
    /// Grows with time.
    pub number: i64,
    /// What happened.
    pub event: String,
    /// Which kind of that.
    pub action: Option<String>,
    /// What is processed in order.
    pub lane: String,
    /// The installation it is about.
    pub installation: Option<i64>,
    /// The repository it is about.
    pub repository: Option<i64>,
    /// The branch, tag or pull request it is about, in full.
    pub reference: Option<String>,
    /// The body.
    pub payload: Vec<u8>,
    /// How often it was tried.
    pub attempts: i32,
}

/// Writes a delivery down. `false` when it is there already.
pub async fn add(db: &mut PgConnection, new: &Arrival<'_>, now: OffsetDateTime) -> Result<bool> {
    let lane = match (new.repository, new.installation) {
        // What becomes of previews holds back nothing that production waits for.
        (Some(id), _) if new.event == "pull_request" => format!("repository:{id}:pulls"),
        (Some(id), _) => format!("repository:{id}"),
        (None, Some(id)) => format!("installation:{id}"),
        (None, None) => format!("delivery:{}", new.id),
    };
    let state = if new.ignored.is_some() {
        "ignored"
    } else {
        "waiting"
    };
    let added = sqlx::query!(
        "insert into github_deliveries
             (id, event, action, lane, installation_id, repository_id, reference, payload, state, outcome,
              next_attempt_at, received_at, processed_at)
         values ($1, $2, $3, $4, $5, $6, $7, case when $9 = 'waiting' then $8::bytea end, $9, $10, $11, $11,
              case when $9 = 'waiting' then null else $11::timestamptz end)
         on conflict (id) do nothing",
        new.id,
        new.event,
        new.action,
        lane,
        new.installation,
        new.repository,
        new.reference,
        new.payload,
        state,
        new.ignored,
        now,
    )
    .execute(&mut *db)
    .await?
    .rows_affected();
    if added > 0 && new.ignored.is_none() {
        crate::db::notify(db, TOPIC).await?;
    }
    Ok(added > 0)
}

/// Takes the oldest delivery that is due and has none before it in its lane. Its row is locked until
/// the transaction ends: if this process dies, the next one takes it.
pub async fn claim(db: &mut PgConnection, now: OffsetDateTime) -> Result<Option<Delivery>> {
    Ok(sqlx::query_as!(
        Delivery,
        r#"select id, number as "number!", event, action, lane, installation_id as installation, repository_id as repository,
             reference, coalesce(payload, '') as "payload!", attempts
         from github_deliveries d
         where state = 'waiting' and next_attempt_at <= $1 and not exists (
             select from github_deliveries e
             where e.lane = d.lane and e.state = 'waiting' and e.number < d.number)
         order by number limit 1 for update skip locked"#,
        now,
    )
    .fetch_optional(db)
    .await?)
}

/// Whether a later delivery that waits is about the same branch or pull request; of deliveries with an
/// action one of these.
pub async fn is_overtaken(
    db: &mut PgConnection,
    delivery: &Delivery,
    actions: &[&str],
) -> Result<bool> {
    let actions: Vec<String> = actions.iter().map(|&action| action.to_owned()).collect();
    Ok(sqlx::query_scalar!(
        r#"select exists(select from github_deliveries
             where lane = $1 and event = $2 and reference = $3 and installation_id is not distinct from $4
               and number > $5 and state = 'waiting' and (action is null or action = any($6))) as "exists!""#,
        delivery.lane,
        delivery.event,
        delivery.reference,
        delivery.installation,
        delivery.number,
        &actions,
    )
    .fetch_one(db)
    .await?)
}

/// Ends a delivery as `done`, `ignored` or `failed`; the body is not kept.
pub async fn finish(
    db: &mut PgConnection,
    id: &str,
    state: &str,
    outcome: &str,
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "update github_deliveries set state = $2, outcome = $3, attempts = attempts + 1, processed_at = $4, payload = null
         where id = $1",
        id,
        state,
        outcome,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Puts a delivery off.
pub async fn put_off(
    db: &mut PgConnection,
    id: &str,
    why: &str,
    until: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "update github_deliveries set outcome = $2, attempts = attempts + 1, next_attempt_at = $3 where id = $1",
        id,
        why,
        until,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// When the next delivery that was put off is due.
pub async fn next_due(db: &mut PgConnection) -> Result<Option<OffsetDateTime>> {
    Ok(sqlx::query_scalar!(
        "select min(next_attempt_at) from github_deliveries where state = 'waiting'"
    )
    .fetch_one(db)
    .await?)
}

/// A delivery as the operator sees it.
#[derive(Debug, Clone)]
pub struct Row {
    /// GitHub's id of it.
    pub id: String,
    /// What happened.
    pub event: String,
    /// Which kind of that.
    pub action: Option<String>,
    /// The repository's name, if it is known.
    pub repository: Option<String>,
    /// `waiting`, `done`, `ignored` or `failed`.
    pub state: String,
    /// What came of it.
    pub outcome: Option<String>,
    /// How often it was tried.
    pub attempts: i32,
    /// When it came.
    pub received_at: OffsetDateTime,
}

/// The newest deliveries, newest first; those that failed alone if `failed`.
pub async fn list(db: &mut PgConnection, failed: bool, limit: i64) -> Result<Vec<Row>> {
    Ok(sqlx::query_as!(
        Row,
        r#"select d.id, d.event, d.action, r.full_name as "repository?", d.state, d.outcome, d.attempts, d.received_at
         from github_deliveries d left join github_repositories r on r.id = d.repository_id
         where not $1 or d.state = 'failed' or d.state = 'waiting' and d.attempts > 0
         order by d.number desc limit $2"#,
        failed,
        limit,
    )
    .fetch_all(db)
    .await?)
}

/// That a delivery came, without what it meant for others who follow the same repository.
#[derive(Debug, Clone)]
pub struct Told {
    /// What happened.
    pub event: String,
    /// Which kind of that.
    pub action: Option<String>,
    /// `waiting`, `done`, `ignored` or `failed`.
    pub state: String,
    /// When it came.
    pub received_at: OffsetDateTime,
}

/// The newest delivery of an installation about a repository.
pub async fn find_newest(
    db: &mut PgConnection,
    repository: i64,
    installation: i64,
) -> Result<Option<Told>> {
    Ok(sqlx::query_as!(
        Told,
        "select event, action, state, received_at from github_deliveries
         where repository_id = $1 and installation_id = $2 order by number desc limit 1",
        repository,
        installation,
    )
    .fetch_optional(db)
    .await?)
}

/// Forgets what was processed long ago.
pub async fn purge(db: &mut PgConnection, now: OffsetDateTime) -> Result<()> {
    sqlx::query!(
        "delete from github_deliveries where state <> 'waiting' and received_at < $1",
        now - KEPT,
    )
    .execute(db)
    .await?;
    Ok(())
}
