//! The check run of a deployment: how far it is, how it ended, and why.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::annotations::{annotations, words};
use super::api::Place;
use super::facts::{Deployed, Facts};
use super::items::{self, Item};
use super::markdown::{Text, code};
use super::{Outcome, digest, summary};
use crate::app::App;
use crate::config::ServeConfig;
use crate::deployments::{HELD_FOR_PROMOTION, State};
use crate::github::{Failure, registration};

/// Longest summary; GitHub takes 65,535 characters.
const MAX_SUMMARY: usize = 60_000;

/// Digits of a commit that tell it from the others of a repository.
const SHORT: usize = 8;

/// How a check stands.
struct Verdict {
    status: &'static str,
    conclusion: Option<&'static str>,
    /// Plain text.
    title: String,
    /// Markdown.
    lead: String,
}

impl Verdict {
    fn open(status: &'static str, title: &str, lead: &str) -> Self {
        Self {
            status,
            conclusion: None,
            title: title.to_owned(),
            lead: lead.to_owned(),
        }
    }

    fn ended(conclusion: &'static str, title: impl Into<String>, lead: impl Into<String>) -> Self {
        Self {
            status: "completed",
            conclusion: Some(conclusion),
            title: title.into(),
            lead: lead.into(),
        }
    }

    fn of(config: &ServeConfig, facts: &Facts, deployed: &Deployed, overtaken: bool) -> Self {
        let number = deployed.it.number;
        if overtaken && !deployed.up && !deployed.it.state.is_pending() {
            return Self::ended(
                "neutral",
                "Not run again: it is overtaken",
                "This commit is not the head of its branch any more, so it was not deployed again.",
            );
        }
        match deployed.it.state {
            State::Queued => {
                Self::open("queued", "Waiting to be built", "It is about to be built.")
            }
            State::Building => Self::open("in_progress", "Building", "It is being built."),
            State::Starting => {
                Self::open("in_progress", "Starting", "The server is being started.")
            }
            State::Checking => Self::open(
                "in_progress",
                "Checking",
                "The server is asked what it offers.",
            ),
            State::Held if deployed.it.held_for.as_deref() == Some(HELD_FOR_PROMOTION) => {
                Self::ended(
                    "action_required",
                    "Waits to be promoted",
                    format!(
                        "The server answers. The project has what pushes bring wait for a member: [promote or cancel it]({}).",
                        facts.page(config)
                    ),
                )
            }
            State::Held => Self::ended(
                "action_required",
                "Held: it would break callers",
                format!(
                    "The server answers, but would break callers, so it waits. [Promote or cancel it]({}).",
                    facts.page(config)
                ),
            ),
            State::Failed => failed(facts, deployed),
            State::Canceled => match deployed.newer {
                Some(newer) => Self::ended(
                    "cancelled",
                    format!("Overtaken by deployment {newer}"),
                    format!("Deployment {newer} took the turn of deployment {number}."),
                ),
                None => Self::ended("cancelled", "Canceled", "It was taken back."),
            },
            State::Live | State::Draining | State::Stopped => served(config, facts, deployed),
        }
    }
}

fn failed(facts: &Facts, deployed: &Deployed) -> Verdict {
    let why = deployed
        .diagnosis
        .as_ref()
        .map(|it| words(&it.code))
        .unwrap_or_default();
    let title = if why.is_empty() {
        "Failed".to_owned()
    } else {
        format!("Failed: {why}")
    };
    let lead = if deployed.it.live_at.is_some() {
        "It was live, and does not run any more."
    } else if facts.preview.is_some() {
        "It did not come up."
    } else {
        "It did not come live; what was live before stays so."
    };
    Verdict::ended("failure", title, lead)
}

fn served(config: &ServeConfig, facts: &Facts, deployed: &Deployed) -> Verdict {
    let what = if facts.preview.is_some() {
        "The preview is"
    } else {
        "The server is"
    };
    let lead = if deployed.up {
        format!("{what} live at {}", code(&facts.url(config), 300))
    } else if facts.is_asleep(deployed) {
        format!(
            "{what} asleep; the next call to {} starts it",
            code(&facts.url(config), 300)
        )
    } else {
        "It came live, and does not serve any more.".to_owned()
    };
    let title = match &deployed.changes {
        Some((_, changes)) if !changes.is_empty() => {
            format!(
                "Deployed; changes for callers: {}",
                summary::counted(changes)
            )
        }
        _ => "Deployed".to_owned(),
    };
    Verdict::ended("success", title, lead)
}

/// The check's name beside commits.
pub fn name(facts: &Facts) -> String {
    match facts.preview {
        Some(_) => format!("Berth: {} preview", facts.project.name),
        None => format!("Berth: {}", facts.project.name),
    }
}

/// What creating and changing have in common, without annotations.
fn body(config: &ServeConfig, facts: &Facts, deployed: &Deployed, verdict: &Verdict) -> Value {
    let mut text = Text::new(MAX_SUMMARY);
    text.paragraph(&verdict.lead);
    let commit: String = deployed.commit.chars().take(SHORT).collect();
    text.paragraph(&format!(
        "Commit `{commit}` · [deployment {}]({})",
        deployed.it.number,
        facts.page(config)
    ));
    summary::add_all(&mut text, config, facts, deployed);
    let mut body = json!({
        "name": name(facts),
        "external_id": deployed.it.id,
        "details_url": facts.page(config),
        "status": verdict.status,
        "started_at": stamp(deployed.it.created_at),
        "output": { "title": verdict.title, "summary": text.finish() },
    });
    if let Some(conclusion) = verdict.conclusion {
        body["conclusion"] = conclusion.into();
        if let Some(at) = deployed.it.live_at.or(deployed.it.finished_at) {
            body["completed_at"] = stamp(at).into();
        }
    }
    body
}

/// As GitHub writes times.
fn stamp(at: OffsetDateTime) -> String {
    let whole = at.replace_nanosecond(0).unwrap_or(at);
    whole.format(&Rfc3339).unwrap_or_default()
}

/// Brings a check run to where its deployment is.
pub async fn tell(app: &App, item: &Item, facts: &Facts) -> Result<Outcome, Failure> {
    let Some(deployed) = &facts.deployed else {
        return Ok(Outcome::Nothing);
    };
    let verdict = Verdict::of(&app.config, facts, deployed, item.overtaken);
    let mut body = body(&app.config, facts, deployed, &verdict);
    let sent = digest(&body);
    if item.remote.is_some() && item.sent.as_ref() == Some(&sent) {
        return Ok(Outcome::Told(sent));
    }
    let place = Place::of(app, facts)?;
    let mut known = item.remote;
    let mut annotated = item.annotated;
    let wanted = if verdict.conclusion.is_some() && !annotated {
        annotations(deployed)
    } else {
        Vec::new()
    };
    // An attempt whose answer was lost may have made it, or added its annotations.
    if item.is_repeated() {
        let found = match known {
            Some(id) if !wanted.is_empty() => Some(place.get_check(id).await?),
            Some(_) => None,
            None => find(app, &place, facts, deployed).await?,
        };
        if let Some(found) = found {
            known = Some(found.id);
            annotated |= found.annotated;
        }
    }
    let annotates = !annotated && !wanted.is_empty();
    if annotates {
        body["output"]["annotations"] = wanted.into();
    }
    let id = match known {
        Some(id) => {
            place.update_check(id, body).await?;
            id
        }
        None if deployed.it.state == State::Canceled => return Ok(Outcome::Nothing),
        None => {
            body["head_sha"] = deployed.commit.clone().into();
            place.create_check(body).await?
        }
    };
    let db = &mut *app.db.acquire().await?;
    if item.remote != Some(id) {
        items::note_remote(db, item, Some(id)).await?;
    }
    if annotates || annotated && !item.annotated {
        items::note_annotated(db, item).await?;
    }
    Ok(Outcome::Told(sent))
}

async fn find(
    app: &App,
    place: &Place<'_>,
    facts: &Facts,
    deployed: &Deployed,
) -> Result<Option<super::api::Known>, Failure> {
    let ours = registration::find_shown(&mut *app.db.acquire().await?).await?;
    let ours = ours.ok_or(Failure::NotFound)?;
    place
        .find_check(ours.id, &deployed.commit, &name(facts), deployed.it.id)
        .await
}
