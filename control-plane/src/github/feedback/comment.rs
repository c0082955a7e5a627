//! The one comment of a project on a pull request, which is edited as its preview goes on.

use serde_json::json;
use uuid::Uuid;

use super::api::Place;
use super::facts::{Deployed, Facts, Preview};
use super::items::{self, Item};
use super::markdown::{Text, block, code};
use super::{Outcome, digest, summary};
use crate::app::App;
use crate::connect::{self, Credential, Kind, Target};
use crate::deployments::State;
use crate::github::{Failure, registration};
use crate::projects::Project;

/// Longest comment; GitHub takes 65,536 characters.
const MAX_COMMENT: usize = 60_000;

/// Digits of a commit that tell it from the others of a repository.
const SHORT: usize = 8;

/// The client whose snippets are shown: its command, and the file that others read too.
const CLIENT: &str = "claude-code";

/// Stands unseen at the comment's beginning, so that it is found again.
fn mark(project: Uuid) -> String {
    format!("<!-- berth: {project} -->")
}

async fn body(app: &App, facts: &Facts, preview: &Preview) -> Result<String, Failure> {
    let config = &app.config;
    let mut text = Text::new(MAX_COMMENT);
    text.add(&mark(facts.project.id));
    text.paragraph(&format!("### Berth: {}", facts.project.name));
    let head: String = preview.head.chars().take(SHORT).collect();
    let members = format!(
        "{}/projects/{}#previews",
        config.issuer(),
        facts.project.name
    );
    let deployed = facts.deployed.as_ref();
    match (preview.state.as_str(), deployed) {
        ("closed", _) if preview.stays_closed => {
            text.paragraph("The preview is closed. The next commit opens it again.");
        }
        ("closed", _) => text.paragraph("The preview is gone: its pull request is closed."),
        ("waiting", _) => text.paragraph(&format!(
            "`{head}` comes from a fork, so a member of the project has to approve it before anything of it is built. [Look at it and approve it]({members})."
        )),
        ("crowded", _) => text.paragraph(&format!(
            "The project has as many previews as it may. This one comes up when another pull request is closed. [See which there are]({members})."
        )),
        (_, None) => text.paragraph(&format!("The preview of `{head}` is about to be built.")),
        (_, Some(deployed)) => add_deployed(&mut text, app, facts, deployed).await?,
    }
    Ok(text.finish())
}

async fn add_deployed(
    text: &mut Text,
    app: &App,
    facts: &Facts,
    deployed: &Deployed,
) -> Result<(), Failure> {
    let config = &app.config;
    let serves = deployed.up || facts.is_asleep(deployed);
    let state = match deployed.it.state {
        _ if deployed.up => "Live",
        _ if serves => "Asleep: the next call starts it",
        State::Queued => "Waiting to be built",
        State::Building => "Building",
        State::Starting => "Starting",
        State::Checking => "Checking",
        State::Held => "Held",
        State::Failed => "Failed",
        State::Canceled => "Canceled",
        State::Live | State::Draining | State::Stopped => "Stopped",
    };
    let commit: String = deployed.commit.chars().take(SHORT).collect();
    text.paragraph(&format!(
        "**{state}** · commit `{commit}` · [deployment {}]({})",
        deployed.it.number,
        facts.page(config)
    ));
    if serves {
        text.paragraph(&code(&facts.url(config), 300));
        add_client(text, app, facts).await?;
    }
    summary::add_all(text, config, facts, deployed);
    Ok(())
}

/// What to do in a client.
async fn add_client(text: &mut Text, app: &App, facts: &Facts) -> Result<(), Failure> {
    let project = Project {
        name: facts.host(),
        ..facts.project.clone()
    };
    let target = Target::of(&mut *app.db.acquire().await?, &app.config, &project).await?;
    let usual = Credential::of(target.mode())[0];
    let guides = connect::guides(&target, usual);
    let Some(guide) = guides.into_iter().find(|guide| guide.id == CLIENT) else {
        return Ok(());
    };
    for snippet in guide.snippets {
        let (title, language) = match snippet.kind {
            Kind::Command => (guide.title.to_owned(), "sh"),
            Kind::Json => (
                format!(
                    "Others, in a file such as `{}`",
                    snippet.path.unwrap_or("mcp.json")
                ),
                "json",
            ),
            _ => continue,
        };
        text.add(&format!("{title}:\n\n{}\n", block(language, &snippet.text)));
    }
    Ok(())
}

/// Brings the comment to where the preview is.
pub async fn tell(app: &App, item: &Item, facts: &Facts) -> Result<Outcome, Failure> {
    let Some(preview) = &facts.preview else {
        return Ok(Outcome::Nothing);
    };
    if !facts.comments || item.deleted_head.as_ref() == Some(&preview.head) {
        return Ok(Outcome::Nothing);
    }
    let body = json!({ "body": body(app, facts, preview).await? });
    let sent = digest(&body);
    if item.remote.is_some() && item.sent.as_ref() == Some(&sent) {
        return Ok(Outcome::Told(sent));
    }
    let place = Place::of(app, facts)?;
    let mut known = item.remote;
    // It may be there from an attempt whose answer was lost, or from before the project left the
    // repository and came back.
    if known.is_none() {
        let ours = registration::find_shown(&mut *app.db.acquire().await?).await?;
        let ours = ours.ok_or(Failure::NotFound)?;
        known = place
            .find_comment(ours.id, preview.pull_request, &mark(facts.project.id))
            .await?;
    }
    let id = match known {
        Some(id) => match place.edit_comment(id, body).await {
            Err(Failure::NotFound) => return Ok(Outcome::Deleted(preview.head.clone())),
            edited => edited.map(|()| id)?,
        },
        None if preview.state == "closed" => return Ok(Outcome::Nothing),
        None => place.create_comment(preview.pull_request, body).await?,
    };
    if item.remote != Some(id) {
        items::note_remote(&mut *app.db.acquire().await?, item, Some(id)).await?;
    }
    Ok(Outcome::Told(sent))
}
