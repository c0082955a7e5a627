//! A deployment's log: the newest lines in the page, all of them as text.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::stream;
use runner::protocol::LogStream;
use sqlx::PgConnection;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use uuid::Uuid;

use super::deployment::Which;
use crate::app::App;
use crate::deployments::{self, Deployment, State as Life};
use crate::error::Result;
use crate::logs::{self, Search};
use crate::pages::error::PageResult;
use crate::projects;
use crate::signin::SignedIn;

/// Lines in the page when it is opened; what follows is added as it comes.
const SHOWN: i64 = 500;

/// One stream of a log, as the page shows it.
#[derive(Debug)]
pub struct Log {
    pub stream: &'static str,
    /// What is searched for; empty for nothing.
    pub search: String,
    /// The sequence of the last line, from which on the page follows.
    pub after: i64,
    pub lines: Vec<Line>,
    /// What stands there when there is no line.
    pub nothing: &'static str,
}

/// One line.
#[derive(Debug)]
pub struct Line {
    pub iso: String,
    /// The time of day.
    pub clock: String,
    pub text: String,
}

impl Log {
    /// The newest lines of the stream that is asked for, or of the one that tells most.
    pub async fn read(db: &mut PgConnection, it: &Deployment, which: &Which) -> Result<Self> {
        let wanted = which.stream();
        let search = which.search();
        let mut stream = wanted.unwrap_or_else(|| telling(it.state));
        let mut lines = logs::list_last(db, it.id, stream, SHOWN, &search).await?;
        if lines.is_empty() && wanted.is_none() && stream == LogStream::Instance {
            stream = LogStream::Build;
            lines = logs::list_last(db, it.id, stream, SHOWN, &search).await?;
        }
        Ok(Self {
            stream: logs::stream_name(stream),
            after: lines.last().map_or(0, |line| line.sequence),
            nothing: match search.text() {
                Some(_) => "No line holds this.",
                None => nothing(stream, it.state),
            },
            search: search.text().unwrap_or_default().to_owned(),
            lines: lines.into_iter().map(Line::from).collect(),
        })
    }
}

impl From<logs::Line> for Line {
    fn from(line: logs::Line) -> Self {
        let clock = format_description!("[hour]:[minute]:[second]");
        Self {
            iso: line.at.format(&Rfc3339).unwrap_or_default(),
            clock: line.at.format(clock).unwrap_or_default(),
            text: line.text,
        }
    }
}

/// Until it answers, the build; after that, the server. A failure shows the server's last words
/// if there are any.
const fn telling(state: Life) -> LogStream {
    if state.is_pending() || matches!(state, Life::Canceled) {
        LogStream::Build
    } else {
        LogStream::Instance
    }
}

const fn nothing(stream: LogStream, state: Life) -> &'static str {
    match stream {
        LogStream::Build if state.is_pending() => "The build's output appears here.",
        LogStream::Build => "The build wrote nothing.",
        LogStream::Instance if state.is_final() => "The server wrote nothing.",
        LogStream::Instance => "What your server writes to stdout and stderr appears here.",
    }
}

/// `GET /projects/{project}/deployments/{deployment}/log.txt?stream=`: every line that is kept, as
/// text, a page of lines at a time so that a long log is never in memory whole.
pub async fn raw(
    State(app): State<App>,
    person: SignedIn,
    Path((name, deployment)): Path<(String, String)>,
    Query(which): Query<Which>,
) -> PageResult {
    let mut db = app.db.acquire().await?;
    let member = projects::get_for(&mut db, person.user.id, &name).await?;
    let it = deployments::get(&mut db, member.project.id, &deployment).await?;
    drop(db);
    let stream = which.stream().unwrap_or(LogStream::Build);
    let search = which.search();
    let chunks = stream::unfold(Some(0), move |after| {
        text_after(app.clone(), it.id, stream, search.clone(), after)
    });
    Ok((
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
        Body::from_stream(chunks),
    )
        .into_response())
}

/// Of one width, so that the lines stand under each other.
const RAW_TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

type Chunk = std::result::Result<Bytes, Infallible>;

async fn text_after(
    app: App,
    id: Uuid,
    stream: LogStream,
    search: Search,
    after: Option<i64>,
) -> Option<(Chunk, Option<i64>)> {
    match chunk(&app, id, stream, &search, after?).await {
        Ok(Some((text, last))) => Some((Ok(text), Some(last))),
        Ok(None) => None,
        // The status is sent already; the reader is told in the text.
        Err(error) => Some((
            Ok(format!("(the log breaks off here: {error})\n").into()),
            None,
        )),
    }
}

async fn chunk(
    app: &App,
    id: Uuid,
    stream: LogStream,
    search: &Search,
    after: i64,
) -> Result<Option<(Bytes, i64)>> {
    let mut db = app.db.acquire().await?;
    let lines = logs::list_after(&mut db, id, stream, after, search).await?;
    let Some(last) = lines.last().map(|line| line.sequence) else {
        return Ok(None);
    };
    let mut text = String::new();
    for line in lines {
        let at = line.at.format(&RAW_TIME).unwrap_or_default();
        text.extend([at.as_str(), " ", &line.text, "\n"]);
    }
    Ok(Some((text.into(), last)))
}
