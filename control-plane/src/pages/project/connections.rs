//! What clients did to connect: the page that answers "it does not connect".

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use time::macros::format_description;
use time::{Duration, OffsetDateTime};

use super::Frame;
use crate::app::App;
use crate::connections::{self, Attempt, Event, Failure, Standing};
use crate::pages::error::{PageResult, page};
use crate::pages::view::{Moment, Shell};
use crate::projects;
use crate::signin::SignedIn;

#[derive(Template)]
#[template(path = "project/connections.html")]
struct Page {
    shell: Shell,
    project: Frame,
    cards: Vec<Card>,
}

/// One attempt.
struct Card {
    client: String,
    /// What the client is, where its name does not tell.
    about: Option<String>,
    user: Option<String>,
    kind: &'static str,
    label: &'static str,
    failure: Option<Failure>,
    since: Moment,
    lines: Vec<Line>,
}

/// One of its steps.
struct Line {
    title: &'static str,
    failure: Option<Failure>,
    detail: Option<String>,
    first: Clock,
    /// Where it went on for longer.
    last: Option<Clock>,
    count: i32,
}

/// A time to the second, since the order and the pauses tell; with its day where that is another
/// than the attempt's first.
struct Clock {
    iso: String,
    full: String,
    text: String,
}

impl Clock {
    fn new(at: OffsetDateTime, since: OffsetDateTime) -> Self {
        let moment = Moment::new(at, at);
        let clock = if at.date() == since.date() {
            at.format(format_description!("[hour]:[minute]:[second]"))
        } else {
            at.format(format_description!(
                "[day padding:none] [month repr:short], [hour]:[minute]:[second]"
            ))
        };
        Self {
            iso: moment.iso,
            full: moment.full,
            text: clock.unwrap_or_default(),
        }
    }
}

impl Card {
    fn new(it: Attempt, now: OffsetDateTime) -> Self {
        let (kind, label) = match it.standing {
            Standing::Connected => ("live", "Connected"),
            Standing::Underway => ("deploying", "Under way"),
            Standing::Failed(_) => ("failed", "Not connected"),
        };
        Self {
            about: it.user_agent.filter(|agent| *agent != it.client),
            client: it.client,
            user: it.user,
            kind,
            label,
            failure: match it.standing {
                Standing::Failed(failure) => Some(failure),
                Standing::Connected | Standing::Underway => None,
            },
            since: Moment::new(it.since, now),
            lines: it
                .events
                .into_iter()
                .map(|event| Line::new(event, it.since))
                .collect(),
        }
    }
}

impl Line {
    fn new(it: Event, since: OffsetDateTime) -> Self {
        Self {
            title: it
                .failure
                .map_or_else(|| it.step.title(), |failure| failure.title()),
            failure: it.failure,
            detail: it.detail,
            last: (it.last_at - it.first_at >= Duration::SECOND)
                .then(|| Clock::new(it.last_at, since)),
            first: Clock::new(it.first_at, since),
            count: it.count,
        }
    }
}

/// `GET /projects/{project}/connections`
pub async fn show(
    State(app): State<App>,
    person: SignedIn,
    Path(name): Path<String>,
) -> PageResult {
    let now = app.clock.now();
    let mut db = app.db.acquire().await?;
    let member = projects::get_for(&mut db, person.user.id, &name).await?;
    let attempts = connections::list(&mut db, member.project.id, now).await?;
    let template = Page {
        shell: Shell::new(&person, "projects"),
        project: Frame::new(&app.config, &member, "connections"),
        cards: attempts
            .into_iter()
            .map(|attempt| Card::new(attempt, now))
            .collect(),
    };
    page(StatusCode::OK, &template)
}
