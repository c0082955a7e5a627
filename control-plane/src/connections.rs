//! The connection timeline: what clients did on their way to a connection, step by step, with the
//! reason where a step failed.
//!
//! Edges report their steps; the authorization server hands its own to a [`Recorder`]. Writing is
//! never waited for: a request does not fail, nor take longer, because its step cannot be kept.

mod attempts;
pub mod catalogue;
mod recorder;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;

use edge::protocol::{ConnectionStep, EdgeStep};
use http::{HeaderMap, header};
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::crypto::KeyEncryptionKey;
use crate::error::Result;
use crate::signin::address::{client_address, network};
use crate::usage::moment;

pub use attempts::{Attempt, Event, Standing, list};
pub use catalogue::{Failure, Step};
#[cfg(test)]
pub use recorder::flush;
pub use recorder::{Recorder, keep, record};

/// How long steps are kept.
const KEPT: Duration = Duration::days(7);

/// Like steps this close to each other are one.
const MERGED: Duration = Duration::minutes(10);

/// Most steps of one project that a known user took, and as many that anybody else did; a client in a
/// loop must not fill the disk, nor a stranger drive out what users did.
const MOST_OF_PROJECT: i64 = 5_000;

/// The same for steps that belong to no project.
const MOST_OF_NONE: i64 = 20_000;

/// Most steps of one user among them, or of one stranger's network address: either can name as many
/// clients as it likes. Behind the address of a hosted client are many people, who take some five
/// steps each before they are known.
const MOST_OF_ONE: i64 = 1_000;

/// Longest text that is kept of what a client says of itself, in characters. Beyond the longest
/// honest `client_id`, an URL.
const MAX_TEXT: usize = 500;

/// Most steps taken of one report; an edge counts like steps together, so more are no honest ones.
const MAX_OF_REPORT: usize = 2_000;

/// Who asked, as far as the network tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    /// The network address.
    pub address: IpAddr,
    /// `User-Agent`.
    pub user_agent: Option<String>,
}

impl Visitor {
    /// Of whom nothing but the address is known.
    pub fn at(address: IpAddr) -> Self {
        Self {
            address,
            user_agent: None,
        }
    }

    /// From the headers that the edge passed on.
    pub fn of(headers: &HeaderMap) -> Self {
        let user_agent = headers.get(header::USER_AGENT);
        Self {
            address: client_address(headers),
            user_agent: user_agent.and_then(|it| Some(it.to_str().ok()?.to_owned())),
        }
    }
}

/// One step that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    step: Step,
    failure: Option<Failure>,
    project: Option<Uuid>,
    project_name: Option<String>,
    client_id: Option<String>,
    client_name: Option<String>,
    user: Option<Uuid>,
    visitor: Visitor,
    detail: Option<String>,
    at: OffsetDateTime,
    count: i32,
}

impl Seen {
    /// A step that went well, of a client not yet known.
    pub fn new(step: Step, visitor: &Visitor, at: OffsetDateTime) -> Self {
        Self {
            step,
            failure: None,
            project: None,
            project_name: None,
            client_id: None,
            client_name: None,
            user: None,
            visitor: visitor.clone(),
            detail: None,
            at,
            count: 1,
        }
    }

    /// It failed.
    #[must_use]
    pub fn failed(mut self, failure: Failure) -> Self {
        self.failure = Some(failure);
        self
    }

    /// On this project.
    #[must_use]
    pub fn project(mut self, project: impl Into<Option<Uuid>>) -> Self {
        self.project = project.into();
        self
    }

    /// On the project of this name, if there is one.
    #[must_use]
    pub fn project_named(mut self, name: impl Into<String>) -> Self {
        self.project_name = Some(name.into());
        self
    }

    /// Whether it is this client's.
    pub fn is_by(&self, client_id: &str) -> bool {
        self.client_id.as_deref() == Some(client_id)
    }

    /// By this `client_id`, as it was given.
    #[must_use]
    pub fn client(mut self, id: impl Into<String>) -> Self {
        self.client_id = Some(id.into());
        self
    }

    /// By a client of this name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.client_name = Some(name.into());
        self
    }

    /// For this user.
    #[must_use]
    pub fn user(mut self, user: impl Into<Option<Uuid>>) -> Self {
        self.user = user.into();
        self
    }

    /// What exactly was seen. Never a secret, a code or a token.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// As an edge reports it; `None` where the address is none.
    fn by_edge(step: &ConnectionStep, now: OffsetDateTime) -> Option<Self> {
        let visitor = Visitor {
            address: network(step.address.parse().ok()?),
            user_agent: step.user_agent.clone(),
        };
        let (kind, failure) = of_edge(step.step);
        Some(Self {
            step: kind,
            failure,
            project: Some(step.project),
            client_id: step.client_id.clone(),
            user: step.user,
            count: i32::try_from(step.count.max(1)).unwrap_or(i32::MAX),
            ..Self::new(kind, &visitor, moment(step.at_ms, now))
        })
    }
}

/// An edge's word in ours.
const fn of_edge(step: EdgeStep) -> (Step, Option<Failure>) {
    let failure = match step {
        EdgeStep::Challenged => return (Step::Challenged, None),
        EdgeStep::ResourceMetadata => return (Step::ResourceMetadata, None),
        EdgeStep::Called => return (Step::Called, None),
        EdgeStep::TokenInvalid => Failure::TokenInvalid,
        EdgeStep::TokenExpired => Failure::TokenExpired,
        EdgeStep::TokenRevoked => Failure::TokenRevoked,
        EdgeStep::TokenForeign => Failure::TokenForeign,
        EdgeStep::ScopeMissing => Failure::ScopeMissing,
        EdgeStep::CallerNotAllowed => Failure::CallerNotAllowed,
        EdgeStep::OriginRefused => Failure::OriginRefused,
        EdgeStep::SessionUnknown => Failure::SessionUnknown,
        EdgeStep::PathDenied => Failure::PathDenied,
        EdgeStep::NothingLive => Failure::NothingLive,
    };
    (Step::Called, Some(failure))
}

/// Keeps what an edge reports.
pub async fn keep_report(
    db: &mut PgConnection,
    kek: &KeyEncryptionKey,
    steps: &[ConnectionStep],
    now: OffsetDateTime,
) -> Result<()> {
    let steps: Vec<Seen> = steps
        .iter()
        .take(MAX_OF_REPORT)
        .filter_map(|step| Seen::by_edge(step, now))
        .collect();
    keep_all(db, kek, &steps).await
}

/// Keeps steps, counting like ones together, and lets the oldest go where there are too many.
async fn keep_all(db: &mut PgConnection, kek: &KeyEncryptionKey, steps: &[Seen]) -> Result<()> {
    let mut grown = BTreeSet::new();
    for step in steps {
        grown.extend(keep_one(db, kek, step).await?);
    }
    let mut kinds = BTreeSet::new();
    for added in grown {
        trim_own(db, &added).await?;
        kinds.insert((added.project, added.user.is_none()));
    }
    for (project, of_strangers) in kinds {
        trim(db, project, of_strangers).await?;
    }
    Ok(())
}

/// A row that was added.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Added {
    project: Option<Uuid>,
    user: Option<Uuid>,
    peer: Vec<u8>,
}

/// Answers which row was added, if one was.
async fn keep_one(
    db: &mut PgConnection,
    kek: &KeyEncryptionKey,
    seen: &Seen,
) -> Result<Option<Added>> {
    let client = seen.client_id.as_deref().map(clean);
    let agent = seen.visitor.user_agent.as_deref().map(clean);
    // Project and user may have been deleted since; a step of a deleted project is of no use.
    Ok(sqlx::query_as!(
        Added,
        "with given as (
             select p.id as project_id, (select id from users where id = $6) as user_id
             from (select coalesce((select v.project_id from previews v where v.id = $1), $1,
                 (select id from projects where name = $13)) as id) p
             where p.id is null or exists (select from projects where id = p.id)
         ), merged as (
             update connection_steps s set count = least(s.count::bigint + $11::int, 2147483647)::integer,
                 first_at = least(s.first_at, $10), last_at = greatest(s.last_at, $10),
                 client_name = coalesce($5, s.client_name), detail = coalesce($9, s.detail)
             where s.id = (
                 select l.id from connection_steps l, given g
                 where l.peer = $7 and l.last_at > $10::timestamptz - make_interval(secs => $12)
                   and l.first_at < $10::timestamptz + make_interval(secs => $12)
                   and l.step = $2 and l.code is not distinct from $3
                   and l.project_id is not distinct from g.project_id
                   and l.client_id is not distinct from $4 and l.user_id is not distinct from g.user_id
                   and l.user_agent is not distinct from $8
                 order by l.last_at desc limit 1)
             returning s.id
         )
         insert into connection_steps (project_id, step, code, client_id, client_name, user_id, peer,
             user_agent, detail, first_at, last_at, count)
         select g.project_id, $2, $3, $4, $5, g.user_id, $7, $8, $9, $10, $10, $11
         from given g where not exists (select from merged)
         returning project_id as project, user_id as user, peer",
        seen.project,
        seen.step.name(),
        seen.failure.map(Failure::code),
        client,
        seen.client_name.as_deref().map(clean),
        seen.user,
        kek.pseudonym(seen.visitor.address.to_string().as_bytes()),
        agent,
        seen.detail.as_deref().map(clean),
        seen.at,
        seen.count,
        MERGED.as_seconds_f64(),
        seen.project_name,
    )
    .fetch_optional(db)
    .await?)
}

/// What a client says of itself, fit to be kept: Postgres takes no NUL, and pages no end of it.
fn clean(text: &str) -> String {
    text.chars()
        .take(MAX_TEXT)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Lets the oldest steps go where users, or strangers, have too many.
async fn trim(db: &mut PgConnection, project: Option<Uuid>, of_strangers: bool) -> Result<()> {
    match project {
        Some(project) => {
            sqlx::query!(
                "delete from connection_steps where id in (
                     select id from connection_steps
                     where project_id = $1 and (user_id is null) = $2
                     order by last_at desc, id desc offset $3)",
                project,
                of_strangers,
                MOST_OF_PROJECT,
            )
            .execute(db)
            .await?
        }
        None => {
            sqlx::query!(
                "delete from connection_steps where id in (
                     select id from connection_steps
                     where project_id is null and (user_id is null) = $1
                     order by last_at desc, id desc offset $2)",
                of_strangers,
                MOST_OF_NONE,
            )
            .execute(db)
            .await?
        }
    };
    Ok(())
}

/// The same where whoever took the step has too many.
async fn trim_own(db: &mut PgConnection, added: &Added) -> Result<()> {
    match added.user {
        Some(user) => {
            sqlx::query!(
                "delete from connection_steps where id in (
                     select id from connection_steps
                     where user_id = $1 and project_id is not distinct from $2
                     order by last_at desc, id desc offset $3)",
                user,
                added.project,
                MOST_OF_ONE,
            )
            .execute(db)
            .await?
        }
        None => {
            sqlx::query!(
                "delete from connection_steps where id in (
                     select id from connection_steps
                     where peer = $1 and project_id is not distinct from $2 and user_id is null
                     order by last_at desc, id desc offset $3)",
                added.peer,
                added.project,
                MOST_OF_ONE,
            )
            .execute(db)
            .await?
        }
    };
    Ok(())
}

/// Forgets old steps.
pub async fn purge(db: &mut PgConnection, now: OffsetDateTime) -> Result<()> {
    sqlx::query!(
        "delete from connection_steps where last_at < $1",
        now - KEPT
    )
    .execute(db)
    .await?;
    Ok(())
}
