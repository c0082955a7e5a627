//! Lines that builds and instances wrote.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use runner::protocol::{LogLine, LogStream};

use crate::error::{Result, invalid};

/// Most lines of one answer; a follower asks again from the last sequence.
pub const PAGE: i64 = 1_000;

/// Most lines kept of one deployment's stream; older ones go first.
pub const KEPT_LINES: i64 = 20_000;

/// Longest text that is searched for, characters.
const MAX_SEARCH: usize = 200;

/// How long the lines of a deployment that has ended are kept.
pub const RETENTION: Duration = Duration::days(30);

/// Streams that ended longer ago than this have been trimmed before.
const LATELY: Duration = Duration::days(1);

/// The topic that followers of a deployment's logs wait for (see [`crate::changes`]).
pub fn topic(deployment: Uuid) -> String {
    format!("logs:{deployment}")
}

/// A stream's name in the database and the API.
pub const fn stream_name(stream: LogStream) -> &'static str {
    match stream {
        LogStream::Build => "build",
        LogStream::Instance => "instance",
    }
}

/// One line as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Line {
    /// Grows within the stream.
    pub sequence: i64,
    /// When it was written.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// `build` or `instance`.
    pub stream: String,
    /// The line.
    pub text: String,
}

/// Keeps lines; those already kept, and those of deployments that are gone, change nothing.
pub async fn append(db: &mut PgConnection, lines: &[LogLine]) -> sqlx::Result<()> {
    let deployments: Vec<Uuid> = lines.iter().map(|l| l.deployment).collect();
    let streams: Vec<String> = lines
        .iter()
        .map(|l| stream_name(l.stream).to_owned())
        .collect();
    let sequences: Vec<i64> = lines.iter().map(|l| l.sequence).collect();
    let times: Vec<OffsetDateTime> = lines.iter().map(|l| l.at).collect();
    let texts: Vec<String> = lines
        .iter()
        .map(|l| l.text.replace('\0', "\u{fffd}"))
        .collect();
    sqlx::query!(
        "insert into log_lines (deployment_id, stream, sequence, at, line)
         select l.* from unnest($1::uuid[], $2::text[], $3::bigint[], $4::timestamptz[], $5::text[])
             as l (deployment_id, stream, sequence, at, line)
         join deployments d on d.id = l.deployment_id
         on conflict do nothing",
        &deployments,
        &streams,
        &sequences,
        &times,
        &texts,
    )
    .execute(&mut *db)
    .await?;
    let mut told: Vec<Uuid> = deployments;
    told.sort_unstable();
    told.dedup();
    for deployment in told {
        crate::db::notify(db, &topic(deployment)).await?;
    }
    Ok(())
}

/// What is looked for in lines: text, in any case. `None` is every line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search(Option<String>);

impl Search {
    /// Of what a person typed; nothing and blanks look for nothing.
    pub fn new(text: Option<&str>) -> Result<Self> {
        let text = text.map(str::trim).filter(|text| !text.is_empty());
        if text.is_some_and(|text| text.chars().count() > MAX_SEARCH) {
            return Err(invalid(
                "q",
                format!("Search for at most {MAX_SEARCH} characters."),
            ));
        }
        Ok(Self(text.map(str::to_owned)))
    }

    /// The text.
    pub fn text(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// Lines of one stream after `after` that hold what is searched for, oldest first, at most
/// [`PAGE`].
pub async fn list_after(
    db: &mut PgConnection,
    deployment: Uuid,
    stream: LogStream,
    after: i64,
    search: &Search,
) -> sqlx::Result<Vec<Line>> {
    sqlx::query_as!(
        Line,
        "select sequence, at, stream, line as text from log_lines
         where deployment_id = $1 and stream = $2 and sequence > $3
           and ($5::text is null or position(lower($5) in lower(line)) > 0)
         order by sequence limit $4",
        deployment,
        stream_name(stream),
        after,
        PAGE,
        search.text(),
    )
    .fetch_all(db)
    .await
}

/// The newest `count` lines of one stream that hold what is searched for, oldest first.
pub async fn list_last(
    db: &mut PgConnection,
    deployment: Uuid,
    stream: LogStream,
    count: i64,
    search: &Search,
) -> sqlx::Result<Vec<Line>> {
    let mut lines = sqlx::query_as!(
        Line,
        "select sequence, at, stream, line as text from log_lines
         where deployment_id = $1 and stream = $2
           and ($4::text is null or position(lower($4) in lower(line)) > 0)
         order by sequence desc limit $3",
        deployment,
        stream_name(stream),
        count,
        search.text(),
    )
    .fetch_all(db)
    .await?;
    lines.reverse();
    Ok(lines)
}

/// The sequence of a stream's last line; 0 when there is none. Where a search goes on that found
/// nothing.
pub async fn last_sequence(
    db: &mut PgConnection,
    deployment: Uuid,
    stream: LogStream,
) -> sqlx::Result<i64> {
    Ok(sqlx::query_scalar!(
        "select max(sequence) from log_lines where deployment_id = $1 and stream = $2",
        deployment,
        stream_name(stream),
    )
    .fetch_one(db)
    .await?
    .unwrap_or(0))
}

/// Drops what is beyond [`KEPT_LINES`] of each stream that was written lately, and everything of
/// deployments that ended [`RETENTION`] ago.
pub async fn trim(db: &mut PgConnection, now: OffsetDateTime) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from log_lines l using (
             select d.id, s.stream, (
                 select sequence from log_lines
                 where deployment_id = d.id and stream = s.stream
                 order by sequence desc offset $1 limit 1
             ) as last
             from deployments d cross join (values ('build'), ('instance')) as s (stream)
             where d.state not in ('stopped', 'failed', 'canceled') or d.finished_at > $2
         ) old
         where l.deployment_id = old.id and l.stream = old.stream and l.sequence <= old.last",
        KEPT_LINES,
        now - LATELY,
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "delete from log_lines where deployment_id in
             (select id from deployments where finished_at < $1)",
        now - RETENTION,
    )
    .execute(db)
    .await?;
    Ok(())
}
