//! How a preview stands, in words.

use sqlx::PgConnection;

use super::{Preview, State};
use crate::deployments::{self, Deployment};
use crate::error::Result;

/// A preview and what runs of it.
#[derive(Debug)]
pub struct Standing {
    /// Its newest deployment.
    pub newest: Option<Deployment>,
    /// Whether something of it serves.
    pub is_live: bool,
}

impl Standing {
    /// Reads what runs of a preview.
    pub async fn read(db: &mut PgConnection, preview: &Preview) -> Result<Self> {
        let (project, id) = (preview.project_id, Some(preview.id));
        Ok(Self {
            newest: deployments::find_newest(db, project, id).await?,
            is_live: deployments::find_live_in(db, project, id).await?.is_some(),
        })
    }

    /// One sentence, with what to do where there is something.
    pub fn about(&self, preview: &Preview) -> &'static str {
        let newest = self.newest.as_ref().map(|newest| newest.state);
        match preview.state {
            State::Waiting => {
                "Waits: the code comes from a fork, so a member approves the commit first."
            }
            State::Crowded => {
                "Waits for a place: the project has as many open previews as it may; close another pull request."
            }
            State::Closed => "Closed.",
            State::Open if preview.asleep => "Asleep; the next call starts it.",
            State::Open => match newest {
                Some(state) if state.is_pending() && self.is_live => {
                    "Live; its newest commit is being deployed."
                }
                Some(state) if state.is_pending() => "Being deployed.",
                Some(deployments::State::Failed) if self.is_live => {
                    "Live with an earlier commit; its newest failed."
                }
                Some(deployments::State::Failed) => "Failed; its deployment says why.",
                _ if self.is_live => "Live.",
                _ => "Nothing of it runs; deploy it again.",
            },
        }
    }

    /// The state as one word for a label: that of the newest deployment while it is open.
    pub fn word(&self, preview: &Preview) -> &'static str {
        match preview.state {
            State::Open if preview.asleep => "asleep",
            State::Open if self.is_live => "live",
            State::Open => self
                .newest
                .as_ref()
                .map_or("open", |newest| newest.state.name()),
            other => other.name(),
        }
    }
}
