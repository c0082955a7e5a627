//! Variables of a project's builds: what reaches the build container and never an instance, for
//! example the address and credentials of a private package index. Sealed as the others are.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use runner::protocol::{Variable as Sent, VariableValue};

use crate::audit::{self, Actor};
use crate::error::{Error, Field, Result, invalid};
use crate::projects::Project;
use crate::runners;
use crate::variables::{MAX_VARIABLES, NewVariable, check, seal};

/// One as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct BuildVariable {
    /// Its name.
    pub name: String,
    /// Whether the value is sealed.
    pub secret: bool,
    /// The value, unless secret.
    pub value: Option<String>,
    /// When it was last set.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// A project's, by name.
pub async fn list(db: &mut PgConnection, project: Uuid) -> sqlx::Result<Vec<BuildVariable>> {
    sqlx::query_as!(
        BuildVariable,
        "select name, secret, case when secret then null else value end as value, updated_at
         from build_variables where project_id = $1 order by name",
        project,
    )
    .fetch_all(db)
    .await
}

/// Sets and unsets some, all or none. They apply from the next build.
pub async fn change(
    db: &mut PgConnection,
    project: &Project,
    set: &[NewVariable],
    unset: &[String],
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<()> {
    let problems: Vec<Field> = set
        .iter()
        .filter_map(|variable| {
            let message = check(variable).err()?;
            Some(Field {
                name: "variables",
                message,
            })
        })
        .collect();
    if !problems.is_empty() {
        return Err(Error::Invalid(problems));
    }
    let keys = runners::public_keys(db).await?;
    for variable in set {
        let value = if variable.secret {
            seal(&keys, &variable.value)?
        } else {
            variable.value.clone()
        };
        sqlx::query!(
            "insert into build_variables (project_id, name, secret, value, updated_at, updated_by)
             values ($1, $2, $3, $4, $5, $6)
             on conflict (project_id, name) do update
             set secret = excluded.secret, value = excluded.value,
                 updated_at = excluded.updated_at, updated_by = excluded.updated_by",
            project.id,
            variable.name,
            variable.secret,
            value,
            now,
            actor.to_string(),
        )
        .execute(&mut *db)
        .await?;
    }
    sqlx::query!(
        "delete from build_variables where project_id = $1 and name = any($2)",
        project.id,
        unset,
    )
    .execute(&mut *db)
    .await?;
    if list(db, project.id).await?.len() > MAX_VARIABLES {
        return Err(invalid(
            "variables",
            format!("A project has at most {MAX_VARIABLES} build variables."),
        ));
    }
    audit::record(
        db,
        audit::Entry {
            at: now,
            actor,
            action: "build_variables.change",
            organization: Some(project.organization_id),
            project: Some(project.id),
            subject: serde_json::json!({
                "set": set.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(),
                "unset": unset,
            }),
        },
    )
    .await?;
    Ok(())
}

/// A project's as one runner gets them. One that is not sealed to it is left out: it became known
/// after the value was set.
pub async fn for_runner(db: &mut PgConnection, project: Uuid, runner: Uuid) -> Result<Vec<Sent>> {
    let rows = sqlx::query!(
        "select name, secret, value from build_variables where project_id = $1 order by name",
        project,
    )
    .fetch_all(db)
    .await?;
    let mut sent = Vec::with_capacity(rows.len());
    for row in rows {
        let value = if row.secret {
            let mut boxes: BTreeMap<Uuid, String> = serde_json::from_str(&row.value)?;
            let Some(sealed) = boxes.remove(&runner) else {
                continue;
            };
            VariableValue::Sealed(sealed)
        } else {
            VariableValue::Plain(row.value)
        };
        sent.push(Sent {
            name: row.name,
            value,
        });
    }
    Ok(sent)
}
