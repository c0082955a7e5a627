//! How a preview stands, in words.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use uuid::Uuid;

use super::{Preview, State};
use crate::deployments;
use crate::error::Result;

/// What runs of a preview.
#[derive(Debug, Clone, Copy, Default)]
pub struct Standing {
    /// Its newest deployment.
    pub newest: Option<Newest>,
    /// Whether something of it serves.
    pub is_live: bool,
}

/// The newest deployment of a preview.
#[derive(Debug, Clone, Copy)]
pub struct Newest {
    /// Its number within the project.
    pub number: i32,
    /// Where it is.
    pub state: deployments::State,
}

impl Standing {
    /// Reads what runs of a preview.
    pub async fn read(db: &mut PgConnection, preview: &Preview) -> Result<Self> {
        let mut all = Self::read_all(db, std::slice::from_ref(preview)).await?;
        Ok(all.remove(&preview.id).unwrap_or_default())
    }

    /// Reads what runs of each of these previews, by their ids.
    pub async fn read_all(
        db: &mut PgConnection,
        previews: &[Preview],
    ) -> Result<BTreeMap<Uuid, Self>> {
        let ids: Vec<Uuid> = previews.iter().map(|preview| preview.id).collect();
        let rows = sqlx::query!(
            r#"select distinct on (d.preview_id) d.preview_id as "preview!", d.number, d.state,
                 exists (select from deployments l where l.preview_id = d.preview_id and l.state = 'live') as "is_live!"
             from deployments d where d.preview_id = any($1) order by d.preview_id, d.number desc"#,
            &ids,
        )
        .fetch_all(db)
        .await?;
        rows.into_iter()
            .map(|row| {
                let newest = Newest {
                    number: row.number,
                    state: deployments::State::parse(&row.state)?,
                };
                let standing = Self {
                    newest: Some(newest),
                    is_live: row.is_live,
                };
                Ok((row.preview, standing))
            })
            .collect()
    }

    fn has_failed(&self) -> bool {
        self.newest
            .is_some_and(|newest| newest.state == deployments::State::Failed)
    }

    /// One sentence, with what to do where there is something.
    pub fn about(&self, preview: &Preview) -> &'static str {
        let newest = self.newest.map(|newest| newest.state);
        match preview.state {
            State::Waiting => {
                "Waits: the code comes from a fork, so a member approves the commit first."
            }
            State::Crowded => {
                "Waits for a place: the project has as many open previews as it may; close another pull request."
            }
            State::Closed if preview.stays_closed => {
                "Closed; the next commit of its pull request opens it again."
            }
            State::Closed => "Closed.",
            State::Open if preview.asleep && self.has_failed() => {
                "Failed; its deployment says why, and the next call starts what served last."
            }
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
            State::Open if preview.asleep && !self.has_failed() => "asleep",
            State::Open if self.is_live => "live",
            State::Open => self.newest.map_or("open", |newest| newest.state.name()),
            other => other.name(),
        }
    }
}
