//! How a project is built and started, beside its entrypoint. Applies from the next deployment;
//! each deployment keeps what it was asked for with.

use sqlx::PgConnection;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use runner::protocol::BuildSettings;

use crate::audit::{self, Actor};
use crate::error::{Error, Field, Result};
use crate::projects::Project;

/// Trims, drops what is empty, and checks the rest.
pub fn check(settings: BuildSettings) -> Result<BuildSettings> {
    let presence = |text: Option<String>| {
        text.map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty())
    };
    let settings = BuildSettings {
        root_directory: presence(settings.root_directory),
        dependency_file: presence(settings.dependency_file),
        dockerfile: presence(settings.dockerfile),
        ..settings
    };
    let problems: Vec<Field> = settings
        .problems()
        .into_iter()
        .map(|(name, message)| Field { name, message })
        .collect();
    if problems.is_empty() {
        Ok(settings)
    } else {
        Err(Error::Invalid(problems))
    }
}

/// A project's.
pub async fn get(db: &mut PgConnection, project: Uuid) -> sqlx::Result<BuildSettings> {
    let found = sqlx::query_scalar!(
        r#"select build as "build: Json<BuildSettings>" from projects where id = $1"#,
        project,
    )
    .fetch_one(db)
    .await?;
    Ok(found.0)
}

/// Replaces a project's, which are checked.
pub async fn set(
    db: &mut PgConnection,
    project: &Project,
    settings: &BuildSettings,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "update projects set build = $2 where id = $1",
        project.id,
        serde_json::to_value(settings)?,
    )
    .execute(&mut *db)
    .await?;
    audit::record(
        db,
        audit::Entry {
            at: now,
            actor,
            action: "project.build_settings",
            organization: Some(project.organization_id),
            project: Some(project.id),
            subject: serde_json::to_value(settings)?,
        },
    )
    .await?;
    Ok(())
}

/// A deployment's.
pub async fn of_deployment(db: &mut PgConnection, deployment: Uuid) -> sqlx::Result<BuildSettings> {
    let found = sqlx::query_scalar!(
        r#"select build as "build: Json<BuildSettings>" from deployments where id = $1"#,
        deployment,
    )
    .fetch_one(db)
    .await?;
    Ok(found.0)
}

/// Has a deployment that is made from an earlier one build as that did.
pub async fn keep(db: &mut PgConnection, deployment: Uuid, earlier: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        "update deployments d set build = e.build from deployments e where d.id = $1 and e.id = $2",
        deployment,
        earlier,
    )
    .execute(db)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests;
