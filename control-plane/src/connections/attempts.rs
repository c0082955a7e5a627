//! From steps to attempts: what belongs together, and how it stands.

use std::collections::HashMap;

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::catalogue::{Failure, Step};
use crate::error::Result;

/// Steps of one client that are this far apart belong to two attempts, if the later one begins
/// anew; steps of an unknown client this close to those of a known one are its.
const PAUSE: Duration = Duration::minutes(15);

/// An attempt that has gone no further for this long has stopped: people take their time to sign
/// in, clients take seconds.
const STOPPED: Duration = Duration::minutes(10);

/// Most attempts of one answer in which a user is known, and as many others: the newest of each, so
/// that no stranger drives out what users did.
const MOST: usize = 50;

/// Of those others, most that are shown of one network address.
const MOST_OF_PEER: usize = 10;

/// Steps without a project that join those of one, the newest, and first those of clients that act
/// for a known user: some three belong to each attempt.
const MOST_JOINED: i64 = 2_000;

/// How an attempt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It calls.
    Connected,
    /// It has not called yet, and may go on.
    Underway,
    /// It does not get further.
    Failed(Failure),
}

/// One step as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which.
    pub step: Step,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// What exactly was seen.
    pub detail: Option<String>,
    /// When it first happened.
    pub first_at: OffsetDateTime,
    /// When it last happened.
    pub last_at: OffsetDateTime,
    /// How often.
    pub count: i32,
}

/// What one client did to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What the client calls itself.
    pub client: String,
    /// Its `client_id`, where one was given.
    pub client_id: Option<String>,
    /// Its `User-Agent`: of the newest step that the client took itself.
    pub user_agent: Option<String>,
    /// Whose name it is to act in.
    pub user: Option<String>,
    /// How it stands.
    pub standing: Standing,
    /// When it began.
    pub since: OffsetDateTime,
    /// When it last did something.
    pub last_at: OffsetDateTime,
    /// What it did, oldest first.
    pub events: Vec<Event>,
}

/// One row with the names that belong to it.
#[derive(Debug, Clone)]
struct Row {
    step: String,
    code: Option<String>,
    client_id: Option<String>,
    client_name: Option<String>,
    user_id: Option<Uuid>,
    user_name: Option<String>,
    peer: Vec<u8>,
    user_agent: Option<String>,
    detail: Option<String>,
    first_at: OffsetDateTime,
    last_at: OffsetDateTime,
    count: i32,
}

/// What clients did to connect to a project, the newest attempt first.
pub async fn list(
    db: &mut PgConnection,
    project: Uuid,
    now: OffsetDateTime,
) -> Result<Vec<Attempt>> {
    Ok(group(read(db, project).await?, now))
}

/// The project's steps and those without a project that belong to one of them: the same client's or
/// the same peer's at about that time, and its registration whenever it was.
async fn read(db: &mut PgConnection, project: Uuid) -> Result<Vec<Row>> {
    Ok(sqlx::query_as!(
        Row,
        r#"with own as (
             select * from connection_steps where project_id = $1
         ), known as (
             select distinct client_id from own where user_id is not null and client_id is not null
         ), joining as (
             select s.* from connection_steps s where s.project_id is null and exists (
                 select from own where own.client_id = s.client_id and (
                     s.step = 'registered'
                     or s.last_at between own.first_at - make_interval(secs => $3)
                         and own.last_at + make_interval(secs => $3)))
             union
             select s.* from connection_steps s where s.project_id is null and exists (
                 select from own where own.peer = s.peer
                     and own.user_agent is not distinct from s.user_agent
                     and (s.client_id is null or own.client_id is null or s.client_id = own.client_id)
                     and s.last_at between own.first_at - make_interval(secs => $3)
                         and own.last_at + make_interval(secs => $3))
         ), joined as (
             select j.* from joining j left join known k on k.client_id = j.client_id
             order by k.client_id is null, j.last_at desc, j.id desc limit $2
         ), found as (
             select * from own union all select * from joined
         )
         select f.step as "step!", f.code, f.client_id,
             coalesce(f.client_name, c.name, 'API token ' || t.name) as client_name, f.user_id,
             case when u.service_account_of is null then u.email else u.name end as user_name,
             f.peer as "peer!", f.user_agent, f.detail, f.first_at as "first_at!",
             f.last_at as "last_at!", f.count as "count!"
         from found f
         left join users u on u.id = f.user_id
         left join clients c on c.id = f.client_id
         left join api_tokens t on 'api-token:' || t.id::text = f.client_id and t.user_id = f.user_id
         order by f.first_at, f.id"#,
        project,
        MOST_JOINED,
        PAUSE.as_seconds_f64(),
    )
    .fetch_all(db)
    .await?)
}

/// Whom a step belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    /// A client, and the user it acts for if that is known.
    Client(String, Option<Uuid>),
    /// Whoever has this address and calls itself so.
    Peer(Vec<u8>, Option<String>),
}

/// `rows` are in the order of their beginning.
fn group(rows: Vec<Row>, now: OffsetDateTime) -> Vec<Attempt> {
    let owners = owners(&rows);
    let mut lanes: HashMap<Who, Vec<Row>> = HashMap::new();
    for (row, who) in rows.into_iter().zip(owners) {
        lanes.entry(who).or_default().push(row);
    }
    let mut attempts: Vec<(Option<Vec<u8>>, Attempt)> = lanes
        .into_values()
        .flat_map(split)
        .filter_map(|steps| Some((stranger(&steps), attempt(&steps, now)?)))
        .collect();
    attempts.sort_by_key(|(_, attempt)| std::cmp::Reverse((attempt.last_at, attempt.since)));
    newest(attempts)
}

/// The network address of whoever took these steps, where no user is known.
fn stranger(steps: &[Row]) -> Option<Vec<u8>> {
    let known = steps.iter().any(|row| row.user_id.is_some());
    let last = steps.last().filter(|_| !known)?;
    Some(last.peer.clone())
}

/// As many as are shown, of strangers' no more than their share.
fn newest(attempts: Vec<(Option<Vec<u8>>, Attempt)>) -> Vec<Attempt> {
    let (mut of_users, mut of_strangers) = (0, 0);
    let mut of_peer: HashMap<Vec<u8>, usize> = HashMap::new();
    let shown = attempts.into_iter().filter_map(|(stranger, attempt)| {
        let count = match stranger {
            None => &mut of_users,
            Some(peer) => {
                let own = of_peer.entry(peer).or_default();
                *own += 1;
                if *own > MOST_OF_PEER {
                    return None;
                }
                &mut of_strangers
            }
        };
        *count += 1;
        (*count <= MOST).then_some(attempt)
    });
    shown.collect()
}

/// Finds whose each step is. A step that lacks the user belongs to the client's next step that has
/// one; a step that lacks the client, to the next step of the same peer that has one.
fn owners(rows: &[Row]) -> Vec<Who> {
    let mut by_client: HashMap<&str, Vec<&Row>> = HashMap::new();
    for row in rows.iter().filter(|row| row.user_id.is_some()) {
        if let Some(client) = &row.client_id {
            by_client.entry(client).or_default().push(row);
        }
    }
    let known = |row: &Row| -> Option<Who> {
        let client = row.client_id.clone()?;
        let user = row.user_id.or_else(|| {
            let registration = row.step == Step::Registered.name();
            let others = by_client.get(client.as_str())?;
            nearest(row, others, registration)?.user_id
        });
        Some(Who::Client(client, user))
    };
    let mut by_peer: HashMap<(&[u8], Option<&str>), Vec<&Row>> = HashMap::new();
    for row in rows.iter().filter(|row| row.client_id.is_some()) {
        by_peer.entry(peer(row)).or_default().push(row);
    }
    rows.iter()
        .map(|row| {
            known(row)
                .or_else(|| known(nearest(row, by_peer.get(&peer(row))?, false)?))
                .unwrap_or_else(|| Who::Peer(row.peer.clone(), row.user_agent.clone()))
        })
        .collect()
}

fn peer(row: &Row) -> (&[u8], Option<&str>) {
    (&row.peer, row.user_agent.as_deref())
}

/// Of `others`, in the order of their beginning: the first that goes on after `row` within a pause,
/// or else the last that ended so shortly before.
fn nearest<'a>(row: &Row, others: &[&'a Row], at_any_time: bool) -> Option<&'a Row> {
    let next = others.iter().find(|other| other.last_at >= row.first_at);
    let last = others
        .iter()
        .rev()
        .find(|other| other.last_at < row.first_at);
    next.filter(|other| at_any_time || other.first_at - row.last_at <= PAUSE)
        .or_else(|| last.filter(|other| at_any_time || row.first_at - other.last_at <= PAUSE))
        .copied()
}

/// One client's steps, cut where it begins anew after a pause.
fn split(rows: Vec<Row>) -> Vec<Vec<Row>> {
    let mut attempts: Vec<Vec<Row>> = Vec::new();
    let mut last: Option<OffsetDateTime> = None;
    for row in rows {
        let opens = Step::parse(&row.step).is_some_and(Step::opens);
        let paused = last.is_none_or(|at| row.first_at - at > PAUSE);
        last = last.max(Some(row.last_at));
        match attempts.last_mut() {
            Some(attempt) if !(opens && paused) => attempt.push(row),
            _ => attempts.push(vec![row]),
        }
    }
    attempts
}

/// `None` where this version knows none of the steps.
fn attempt(rows: &[Row], now: OffsetDateTime) -> Option<Attempt> {
    let events: Vec<Event> = rows.iter().filter_map(event).collect();
    let standing = standing(&events, now);
    let newest = |of: fn(&Row) -> Option<&String>| rows.iter().rev().find_map(of).cloned();
    // The browser's name tells nothing about the client.
    let user_agent = rows
        .iter()
        .rev()
        .filter(|row| {
            !matches!(
                row.step.as_str(),
                "authorize" | "signed_in" | "consent_shown" | "consent"
            )
        })
        .find_map(|row| row.user_agent.clone());
    Some(Attempt {
        client: newest(|row| row.client_name.as_ref())
            .or_else(|| user_agent.clone())
            .unwrap_or_else(|| "Unknown client".to_owned()),
        client_id: newest(|row| row.client_id.as_ref()),
        user: newest(|row| row.user_name.as_ref()),
        user_agent,
        standing,
        since: events.iter().map(|event| event.first_at).min()?,
        last_at: events.iter().map(|event| event.last_at).max()?,
        events: together(events),
    })
}

/// Takes like steps that follow each other as one: a client refreshes every hour for days.
fn together(events: Vec<Event>) -> Vec<Event> {
    let mut all: Vec<Event> = Vec::new();
    for event in events {
        match all.last_mut() {
            Some(last) if (last.step, last.failure) == (event.step, event.failure) => {
                last.last_at = last.last_at.max(event.last_at);
                last.count = last.count.saturating_add(event.count);
                last.detail = event.detail.or(last.detail.take());
            }
            _ => all.push(event),
        }
    }
    all
}

fn event(row: &Row) -> Option<Event> {
    let failure = match &row.code {
        None => None,
        Some(code) => Some(Failure::parse(code)?),
    };
    Some(Event {
        step: Step::parse(&row.step)?,
        failure,
        detail: row.detail.clone(),
        first_at: row.first_at,
        last_at: row.last_at,
        count: row.count,
    })
}

/// What the newest of the steps that say something say.
fn standing(events: &[Event], now: OffsetDateTime) -> Standing {
    let mut by_end: Vec<&Event> = events.iter().collect();
    by_end.sort_by_key(|event| event.last_at);
    let mut standing = Standing::Underway;
    for event in &by_end {
        standing = match (event.failure, standing) {
            (Some(failure), Standing::Connected) if failure.passes() => Standing::Connected,
            (Some(failure), _) => Standing::Failed(failure),
            (None, _) if event.step == Step::Called => Standing::Connected,
            // Whoever failed asks for the way in again, which is no progress by itself.
            (None, Standing::Failed(failure))
                if event.step.opens() && event.step != Step::Authorize =>
            {
                Standing::Failed(failure)
            }
            (None, Standing::Connected) => Standing::Connected,
            (None, _) => Standing::Underway,
        };
    }
    match (standing, by_end.last()) {
        (Standing::Underway, Some(last)) if now - last.last_at > STOPPED => {
            Standing::Failed(Failure::of_stop_at(last.step))
        }
        _ => standing,
    }
}
