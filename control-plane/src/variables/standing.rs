//! Which of a project's values its live server has.

use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;

/// How a project's production variables stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// The number of their last change; 0 before the first.
    pub revision: i32,
    /// What the live server has.
    pub live: Option<Live>,
    /// While the live server lacks the last change: the deployment that is to bring it.
    pub next: Option<Next>,
}

/// The live server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Live {
    /// The number of its deployment.
    pub deployment: i32,
    /// The revision that it runs with.
    pub revision: i32,
}

/// The deployment with the last change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Next {
    /// Its number.
    pub deployment: i32,
    /// Where it is; `failed` and `canceled` say that the change has not arrived.
    pub state: String,
}

impl Standing {
    /// Reads how it stands.
    pub async fn read(db: &mut PgConnection, project: Uuid) -> Result<Self> {
        let row = sqlx::query!(
            r#"select p.variables_revision as revision, d.number as "live?", d.variables_revision as "live_revision?"
             from projects p left join deployments d on d.project_id = p.id and d.preview_id is null and d.state = 'live'
             where p.id = $1"#,
            project,
        )
        .fetch_one(&mut *db)
        .await?;
        let live = row.live.zip(row.live_revision);
        let live = live.map(|(deployment, revision)| Live {
            deployment,
            revision,
        });
        let behind = live
            .as_ref()
            .is_some_and(|live| live.revision < row.revision);
        let next = if behind {
            next(db, project).await?
        } else {
            None
        };
        Ok(Self {
            revision: row.revision,
            live,
            next,
        })
    }

    /// Whether the live server lacks the last change.
    pub fn is_behind(&self) -> bool {
        self.live
            .as_ref()
            .is_some_and(|live| live.revision < self.revision)
    }
}

/// The newest attempt since the live one: it is under way, or it has ended.
async fn next(db: &mut PgConnection, project: Uuid) -> Result<Option<Next>> {
    Ok(sqlx::query_as!(
        Next,
        "select number as deployment, state from deployments
         where project_id = $1 and preview_id is null and state not in ('live', 'draining', 'stopped')
         order by state in ('failed', 'canceled'), number desc limit 1",
        project,
    )
    .fetch_optional(db)
    .await?)
}
