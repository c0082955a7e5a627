//! A deployment as pages show it.

use runner::protocol::{Diagnosis, Plan, Source, Timing};
use serde::de::DeserializeOwned;
use serde_json::Value;
use time::macros::format_description;
use time::{Duration, OffsetDateTime};

use crate::deployments::{Deployment, HELD_FOR_PROMOTION, State};
use crate::pages::view::{Moment, People, took};

/// Digits of a commit that tell it from the others of a repository.
const SHORT_COMMIT: usize = 8;

/// A state as a word.
pub const fn label(state: State) -> &'static str {
    match state {
        State::Queued => "Queued",
        State::Building => "Building",
        State::Starting => "Starting",
        State::Checking => "Checking",
        State::Held => "Held",
        State::Live => "Live",
        State::Draining => "Draining",
        State::Stopped => "Stopped",
        State::Failed => "Failed",
        State::Canceled => "Canceled",
    }
}

/// How a project stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It answers, and nothing is under way.
    Live,
    /// A deployment is under way, whether or not an older one answers.
    Deploying,
    /// It answers, and the newest deployment waits for a member.
    LiveWhileHeld,
    /// It answers, and the newest deployment failed.
    LiveAfterFailure,
    /// Nothing answers: the newest deployment failed.
    Failed,
    /// Nothing answers.
    Down,
}

impl Standing {
    /// From whether one is live and the state of the newest.
    pub fn of(live: bool, newest: Option<State>) -> Self {
        match newest {
            Some(state) if state.is_pending() => Self::Deploying,
            Some(State::Held) if live => Self::LiveWhileHeld,
            Some(State::Failed) if live => Self::LiveAfterFailure,
            Some(State::Failed) => Self::Failed,
            _ if live => Self::Live,
            _ => Self::Down,
        }
    }

    /// The pill's class.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Live | Self::LiveAfterFailure | Self::LiveWhileHeld => "live",
            Self::Deploying => "deploying",
            Self::Failed => "failed",
            Self::Down => "none",
        }
    }

    /// The pill's words.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Live => "Live",
            Self::LiveWhileHeld => "Live, a deployment is held",
            Self::LiveAfterFailure => "Live, last deployment failed",
            Self::Deploying => "Deploying",
            Self::Failed => "Failed",
            Self::Down => "Not live",
        }
    }
}

/// One step on the way to live.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub name: &'static str,
    /// `done`, `now`, `stopped-here` or `todo`.
    pub class: &'static str,
    /// The same for who listens.
    pub said: &'static str,
}

/// How long a stage took.
#[derive(Debug)]
pub struct Stage {
    /// Its name.
    pub stage: String,
    /// For people.
    pub took: String,
}

/// A deployment as pages show it.
#[derive(Debug)]
pub struct Attempt {
    pub number: i32,
    /// The slug of the preview that it is of.
    pub preview: Option<String>,
    pub state: &'static str,
    pub label: &'static str,
    /// It may still go live.
    pub pending: bool,
    /// It answers and waits for a member.
    pub held: bool,
    /// It waits because pushes do in its project, and not for what it would break.
    pub waits_for_promotion: bool,
    /// It may still change in a way that is shown.
    pub changes: bool,
    /// Differs when anything that is shown differs.
    pub mark: String,
    pub subject: String,
    pub commit: Option<String>,
    pub short: Option<String>,
    pub author: Option<String>,
    pub branch: Option<String>,
    pub source_url: Option<String>,
    pub upload: bool,
    /// Who asked for it, and how.
    pub reason: String,
    pub created: Moment,
    pub live: Option<Moment>,
    pub finished: Option<Moment>,
    /// The revision of the variables that it has; `None` before the first.
    pub revision: Option<i32>,
    /// Nothing was built for it.
    pub reused: bool,
    /// MCP sessions that its instance owns.
    pub sessions: i64,
    /// While it drains: who still depends on it, and until when at the latest.
    pub drains: Option<String>,
    /// From being asked for to serving or failing.
    pub took: Option<String>,
    pub plan: Option<Plan>,
    pub diagnosis: Option<Diagnosis>,
    pub timings: Vec<Stage>,
    pub steps: Vec<Step>,
    pub can_promote: bool,
}

impl Attempt {
    /// `it` as seen at `now`.
    pub fn new(it: Deployment, people: &People, now: OffsetDateTime) -> Self {
        let timings: Vec<Timing> = serde_json::from_value(it.timings.clone()).unwrap_or_default();
        let upload = matches!(it.source, Source::Upload { .. });
        let pending = it.state.is_pending();
        Self {
            number: it.number,
            preview: it.preview.clone(),
            state: it.state.name(),
            label: label(it.state),
            pending,
            held: it.state == State::Held,
            waits_for_promotion: it.held_for.as_deref() == Some(HELD_FOR_PROMOTION),
            changes: pending || matches!(it.state, State::Draining | State::Held),
            mark: mark(&it, timings.len()),
            subject: subject(&it, upload),
            short: it
                .commit_id
                .as_ref()
                .map(|commit| commit.chars().take(SHORT_COMMIT).collect()),
            branch: it.branch().map(str::to_owned),
            reason: reason(&it, people),
            created: Moment::new(it.created_at, now),
            live: it.live_at.map(|at| Moment::new(at, now)),
            finished: it.finished_at.map(|at| Moment::new(at, now)),
            revision: Some(it.variables_revision).filter(|revision| *revision > 0),
            reused: it.build_of.is_some(),
            sessions: it.sessions,
            drains: drains(&it),
            took: it
                .live_at
                .or(it.finished_at)
                .map(|end| took(whole_ms(end - it.created_at))),
            plan: read(it.plan.as_ref()),
            diagnosis: read(it.diagnosis.as_ref()),
            steps: steps(&it, &timings),
            timings: timings
                .into_iter()
                .map(|t| Stage {
                    stage: t.stage,
                    took: took(t.duration_ms),
                })
                .collect(),
            can_promote: !pending
                && it.preview_id.is_none()
                && it.state != State::Live
                && (upload || it.commit_id.is_some()),
            commit: it.commit_id,
            author: it.commit_author,
            upload,
            source_url: match it.source {
                Source::Git { url, .. } => Some(url),
                Source::Package(package) => Some(package.to_string()),
                Source::Upload { .. } => None,
            },
        }
    }

    /// The short commit, or nothing.
    pub fn short_or_empty(&self) -> &str {
        self.short.as_deref().unwrap_or_default()
    }
}

/// Reads what a runner reported; a shape this version does not know is left out of the page.
pub fn read<T: DeserializeOwned>(value: Option<&Value>) -> Option<T> {
    T::deserialize(value?).ok()
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.whole_milliseconds()).unwrap_or_default()
}

fn mark(it: &Deployment, timings: usize) -> String {
    let known = [
        it.commit_id.is_some(),
        it.plan.is_some(),
        it.diagnosis.is_some(),
    ];
    format!(
        "{}-{timings}-{}-{}",
        it.state.name(),
        known.into_iter().filter(|known| *known).count(),
        it.sessions,
    )
}

/// `3 MCP sessions`
pub fn sessions(count: i64) -> String {
    match count {
        0 => "no MCP session".to_owned(),
        1 => "1 MCP session".to_owned(),
        _ => format!("{count} MCP sessions"),
    }
}

fn drains(it: &Deployment) -> Option<String> {
    let until = it.drain_until.filter(|_| it.state == State::Draining)?;
    let until = until
        .format(format_description!("[hour]:[minute]"))
        .unwrap_or_default();
    Some(format!(
        "Serves {}, at the latest until {until} UTC",
        sessions(it.sessions)
    ))
}

fn subject(it: &Deployment, upload: bool) -> String {
    match &it.commit_subject {
        Some(subject) => subject.clone(),
        None if upload => "Uploaded directory".to_owned(),
        None if it.state.is_pending() => "Looking the commit up …".to_owned(),
        None if it.commit_id.is_some() => "No commit message".to_owned(),
        None => "Commit not found".to_owned(),
    }
}

fn reason(it: &Deployment, people: &People) -> String {
    let who = people.name(&it.created_by);
    match it.origin.as_str() {
        "rollback" => format!("Rolled back by {who}"),
        "promote" => format!("Promoted by {who}"),
        "preview" => format!("Deployed for its pull request by {who}"),
        "wake" => "Started by a call".to_owned(),
        "variables" => format!("Restarted for changed variables by {who}"),
        _ => format!("Deployed by {who}"),
    }
}

/// The way to live, and how far it went. A failure says nowhere at which step it happened; the
/// stages that were timed tell which were passed.
fn steps(it: &Deployment, timings: &[Timing]) -> Vec<Step> {
    let last = match it.build_of {
        Some(_) => last_step(timings).max(State::Starting),
        None => last_step(timings),
    };
    steps_to(it.state, it.live_at.is_some(), last)
}

fn steps_to(state: State, was_live: bool, last: State) -> Vec<Step> {
    let way = [
        State::Queued,
        State::Building,
        State::Starting,
        State::Checking,
        State::Live,
    ];
    let held = state == State::Held;
    let reached = match state {
        _ if was_live => State::Live,
        State::Failed | State::Canceled => last,
        other => other,
    };
    way.into_iter()
        .map(|step| {
            let (class, said) = if step < reached || (step == reached && was_live) {
                ("done", "done")
            } else if held {
                ("now", "held")
            } else if step > reached {
                ("todo", "to do")
            } else if state.is_pending() {
                ("now", "under way")
            } else {
                (
                    "stopped-here",
                    if state == State::Canceled {
                        "canceled"
                    } else {
                        "failed"
                    },
                )
            };
            Step {
                name: label(step),
                class,
                said,
            }
        })
        .collect()
}

fn last_step(timings: &[Timing]) -> State {
    let timed = |stages: &[&str]| {
        timings
            .iter()
            .any(|timing| stages.contains(&timing.stage.as_str()))
    };
    if timed(&["import", "check"]) {
        State::Checking
    } else if timed(&["start"]) {
        State::Starting
    } else {
        State::Building
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(state: State, was_live: bool, stages: &[&str]) -> Vec<&'static str> {
        let timings: Vec<Timing> = stages
            .iter()
            .map(|stage| Timing {
                stage: (*stage).to_owned(),
                duration_ms: 1,
            })
            .collect();
        steps_to(state, was_live, last_step(&timings))
            .into_iter()
            .map(|step| step.class)
            .collect()
    }

    #[test]
    fn steps_show_how_far_it_went() {
        assert_eq!(
            classes(State::Queued, false, &[]),
            ["now", "todo", "todo", "todo", "todo"]
        );
        assert_eq!(
            classes(State::Starting, false, &["fetch"]),
            ["done", "done", "now", "todo", "todo"]
        );
        assert_eq!(
            classes(State::Held, false, &["check"]),
            ["done", "done", "done", "done", "now"]
        );
        assert_eq!(classes(State::Live, true, &["check"]), ["done"; 5]);
        assert_eq!(classes(State::Stopped, true, &[]), ["done"; 5]);
        assert_eq!(
            classes(State::Failed, false, &["fetch"]),
            ["done", "stopped-here", "todo", "todo", "todo"]
        );
        assert_eq!(
            classes(State::Failed, false, &["fetch", "start", "import"]),
            ["done", "done", "done", "stopped-here", "todo"]
        );
        // It served, and then its server died: it went the whole way.
        assert_eq!(classes(State::Failed, true, &["check"]), ["done"; 5]);
    }

    #[test]
    fn a_project_stands_as_its_newest_deployment_says() {
        assert_eq!(Standing::of(false, None), Standing::Down);
        assert_eq!(Standing::of(true, Some(State::Live)), Standing::Live);
        assert_eq!(
            Standing::of(true, Some(State::Building)),
            Standing::Deploying
        );
        assert_eq!(
            Standing::of(true, Some(State::Failed)),
            Standing::LiveAfterFailure
        );
        assert_eq!(Standing::of(false, Some(State::Failed)), Standing::Failed);
        assert_eq!(Standing::of(true, Some(State::Canceled)), Standing::Live);
    }
}
