//! The deployment that GitHub shows beside a commit and in a repository's environments.

use serde_json::{Value, json};

use super::api::Place;
use super::facts::{Deployed, Facts};
use super::items::{self, Item};
use super::{Outcome, digest};
use crate::app::App;
use crate::config::ServeConfig;
use crate::deployments::{HELD_FOR_PROMOTION, State};
use crate::github::Failure;

/// Where it goes, as people know it from GitHub: `production`, `preview/pr-12`. Projects of one
/// repository would be taken for one another, so each adds its name there.
fn environment(facts: &Facts) -> String {
    let name = match &facts.preview {
        Some(preview) => format!("preview/{}", preview.slug),
        None => "production".to_owned(),
    };
    if facts.shared {
        format!("{name}/{}", facts.project.name)
    } else {
        name
    }
}

/// State and description, at most 140 characters.
fn standing(facts: &Facts, deployed: &Deployed) -> (&'static str, String) {
    let say = |state, text: &str| (state, text.to_owned());
    let asleep = facts.is_asleep(deployed);
    match deployed.it.state {
        State::Queued => say("queued", "Waiting to be built"),
        State::Building => say("in_progress", "Building"),
        State::Starting => say("in_progress", "Starting"),
        State::Checking => say("in_progress", "Checking"),
        State::Held if deployed.it.held_for.as_deref() == Some(HELD_FOR_PROMOTION) => {
            say("pending", "Waits to be promoted")
        }
        State::Held => say("pending", "Held: it would break callers"),
        _ if deployed.up => say("success", "Live"),
        _ if asleep => say("success", "Asleep; the next call starts it"),
        State::Failed if deployed.it.live_at.is_some() => say("error", "It does not run any more"),
        State::Failed => say("failure", "It did not come up"),
        State::Canceled => say("inactive", "Canceled"),
        State::Live | State::Draining | State::Stopped => match deployed.newer {
            Some(newer) => (
                "inactive",
                format!("Replaced; the newest is deployment {newer}"),
            ),
            None => say("inactive", "Stopped"),
        },
    }
}

/// People click on it, so it leads to a page: a browser that opens an MCP endpoint gets a refusal.
fn status(config: &ServeConfig, facts: &Facts, deployed: &Deployed) -> Value {
    let (state, description) = standing(facts, deployed);
    let page = facts.page(config);
    let environment = match facts.preview {
        Some(_) => page.clone(),
        None => format!("{}/projects/{}", config.issuer(), facts.project.name),
    };
    json!({
        "state": state,
        "description": description,
        "log_url": page,
        "environment_url": environment,
        // Each is told by itself, also those of other environments of the same name.
        "auto_inactive": false,
    })
}

fn request(facts: &Facts, deployed: &Deployed) -> Value {
    let of_preview = facts.preview.is_some();
    json!({
        "ref": deployed.commit,
        "environment": environment(facts),
        "description": format!("Deployment {} of {}", deployed.it.number, facts.project.name),
        "payload": { "berth": deployed.it.id },
        "auto_merge": false,
        "required_contexts": [],
        "transient_environment": of_preview,
        "production_environment": !of_preview,
    })
}

/// Whether it is over before anyone was told.
fn is_past(deployed: &Deployed) -> bool {
    matches!(
        deployed.it.state,
        State::Canceled | State::Draining | State::Stopped
    ) && !deployed.up
}

/// Brings GitHub's deployment to where ours is.
pub async fn tell(app: &App, item: &Item, facts: &Facts) -> Result<Outcome, Failure> {
    let Some(deployed) = &facts.deployed else {
        return Ok(Outcome::Nothing);
    };
    let status = status(&app.config, facts, deployed);
    let sent = digest(&status);
    if item.remote.is_some() && item.sent.as_ref() == Some(&sent) {
        return Ok(Outcome::Told(sent));
    }
    let place = Place::of(app, facts)?;
    let mut known = item.remote;
    if known.is_none() && item.is_repeated() {
        known = place
            .find_deployment(&deployed.commit, deployed.it.id)
            .await?;
    }
    let id = match known {
        Some(id) => id,
        None if is_past(deployed) => return Ok(Outcome::Nothing),
        None => place.create_deployment(request(facts, deployed)).await?,
    };
    if item.remote != Some(id) {
        items::note_remote(&mut *app.db.acquire().await?, item, Some(id)).await?;
    }
    place.add_status(id, status).await?;
    Ok(Outcome::Told(sent))
}
