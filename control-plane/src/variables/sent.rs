//! What a runner is told of a deployment's variables.

use std::collections::BTreeMap;

use serde::Deserialize;
use sqlx::PgConnection;
use uuid::Uuid;

use runner::protocol::{Variable as Sent, VariableValue};

use crate::error::Result;

/// A variable as a deployment keeps it.
#[derive(Deserialize)]
struct Kept {
    name: String,
    secret: bool,
    value: String,
}

/// The variables of a deployment as its runner gets them. A preview's are those of scope preview, and
/// before them those of its branch; what comes from a fork gets no secret ones unless a member said so,
/// and none by the name of its branch, which a stranger chose. They are those of the project from when
/// a runner first has it, and stay so: its instance may have to be started again. A secret that
/// was never sealed to this runner is left out: the runner joined later, and the value must be set
/// again.
pub async fn for_runner(
    db: &mut PgConnection,
    deployment: Uuid,
    runner: Uuid,
) -> Result<Vec<Sent>> {
    sqlx::query!(
        "update deployments d set redis = p.redis and w.id is null,
             variables_revision = case when w.id is null then p.variables_revision else p.preview_variables_revision end,
             variables = coalesce(
                 (select jsonb_agg(jsonb_build_object('name', v.name, 'secret', v.secret, 'value', v.value)
                     order by v.name)
                  from (select distinct on (v.name) v.name, v.secret, v.value from variables v
                        where v.project_id = p.id and case when w.id is null then v.scope = 'production'
                            else (v.scope = 'preview' or v.scope = 'branch' and v.branch = w.branch and not w.fork)
                                and (not v.secret or not w.fork or w.with_secrets) end
                        order by v.name, v.scope = 'branch' desc) v), '[]')
         from deployments e join projects p on p.id = e.project_id left join previews w on w.id = e.preview_id
         where e.id = d.id and d.id = $1 and d.variables is null",
        deployment,
    )
    .execute(&mut *db)
    .await?;
    let kept = sqlx::query_scalar!(
        "select variables from deployments where id = $1",
        deployment
    )
    .fetch_one(db)
    .await?
    .unwrap_or_default();
    let kept: Option<Vec<Kept>> = serde_json::from_value(kept)?;
    let mut variables = Vec::new();
    for variable in kept.unwrap_or_default() {
        let value = if variable.secret {
            let mut sealed: BTreeMap<Uuid, String> = serde_json::from_str(&variable.value)?;
            let Some(sealed) = sealed.remove(&runner) else {
                continue;
            };
            VariableValue::Sealed(sealed)
        } else {
            VariableValue::Plain(variable.value)
        };
        variables.push(Sent {
            name: variable.name,
            value,
        });
    }
    Ok(variables)
}

/// Whether a deployment has the project's Redis, once [`for_runner`] has settled it.
pub async fn has_redis(db: &mut PgConnection, deployment: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar!("select redis from deployments where id = $1", deployment)
        .fetch_one(db)
        .await
}
