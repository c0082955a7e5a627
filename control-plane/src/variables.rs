//! Environment variables of a project. A secret is sealed to every known runner as it arrives and
//! can be replaced but never read again, by us or by anyone with the database.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::audit::{self, Actor};
use crate::crypto::seal_to_runner;
use crate::error::{Error, Field, Result, invalid};
use crate::projects::Project;
use crate::{deployments, runners};

mod generated;
mod needed;
mod scope;
mod sent;
mod standing;

pub use generated::{Generate, KEYS, generate};
pub use needed::{Needed, missing, needed, needed_by};
pub use scope::Scope;
pub use sent::{for_runner, has_redis};
pub use standing::{Live, Next, Standing};

/// Most variables of one project; beyond that it is a file, not an environment.
pub const MAX_VARIABLES: usize = 200;

/// Longest value, bytes. Linux refuses a single environment string beyond 128 KiB (MAX_ARG_STRLEN).
pub const MAX_VALUE: usize = 64 * 1024;

/// Longest name.
const MAX_NAME: usize = 128;

/// Names that the platform sets itself or that would change the launcher rather than the server.
const RESERVED: &[&str] = &[
    "PORT",
    "HOST",
    "HOME",
    "PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "LD_AUDIT",
    "NODE_OPTIONS",
];

/// The platform's own prefix.
const PREFIX: &str = "BERTH_";

/// A variable as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Whether the value is sealed.
    pub secret: bool,
    /// The value, unless secret.
    pub value: Option<String>,
    /// `production`, `preview` or `branch`.
    pub scope: String,
    /// With scope `branch`: which.
    pub branch: Option<String>,
    /// When it was last set.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// A variable to be set.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
pub struct NewVariable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Whether to seal it; yes unless said otherwise.
    #[serde(default = "yes")]
    pub secret: bool,
}

const fn yes() -> bool {
    true
}

impl std::fmt::Debug for NewVariable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewVariable({}=…)", self.name)
    }
}

/// Reads `KEY=value` lines: blank lines and `#` comments are skipped, `export ` and matching
/// quotes around a value are dropped. The error names the line.
pub fn parse_lines(text: &str) -> Result<Vec<NewVariable>> {
    let mut variables = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((name, value)) = line.split_once('=') else {
            return Err(invalid(
                "variables",
                format!(
                    "Line {} is not KEY=value; write one variable a line.",
                    index + 1
                ),
            ));
        };
        let value = value.trim();
        let value = ['"', '\'']
            .iter()
            .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote))
            .unwrap_or(value);
        variables.push(NewVariable {
            name: name.trim().to_owned(),
            value: value.to_owned(),
            secret: true,
        });
    }
    Ok(variables)
}

/// Whether a variable can be set; the error is the sentence that says why not.
pub(crate) fn check(variable: &NewVariable) -> Result<(), String> {
    let name = &variable.name;
    let mut bytes = name.bytes();
    let shaped = name.len() <= MAX_NAME
        && bytes
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !shaped {
        return Err(format!(
            "“{}” is not a variable name; use letters, digits and underscores, not starting with a digit.",
            name.escape_debug()
        ));
    }
    if RESERVED.contains(&name.as_str()) || name.starts_with(PREFIX) {
        return Err(format!(
            "{name} is set by the platform; choose another name."
        ));
    }
    if variable.value.len() > MAX_VALUE {
        return Err(format!(
            "{name} is longer than {} KiB; keep large data in a file.",
            MAX_VALUE / 1024
        ));
    }
    if variable.value.contains('\0') {
        return Err(format!(
            "{name} holds a NUL byte, which no environment can carry."
        ));
    }
    Ok(())
}

/// The variables of a project; those of production first, by name.
pub async fn list(db: &mut PgConnection, project: Uuid) -> sqlx::Result<Vec<Variable>> {
    sqlx::query_as!(
        Variable,
        "select name, secret, case when secret then null else value end as value, scope,
             nullif(branch, '') as branch, updated_at
         from variables where project_id = $1
         order by array_position(array['production', 'preview', 'branch'], scope), branch, name",
        project,
    )
    .fetch_all(db)
    .await
}

/// The number of the last change of a project's production variables; 0 before the first.
pub async fn revision(db: &mut PgConnection, project: Uuid) -> sqlx::Result<i32> {
    sqlx::query_scalar!(
        "select variables_revision from projects where id = $1",
        project
    )
    .fetch_one(db)
    .await
}

/// Variables to be set and names to be unset, in one scope.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// For which deployments.
    pub scope: Scope,
    /// To be set.
    pub set: Vec<NewVariable>,
    /// Names to be unset.
    pub unset: Vec<String>,
}

/// What a change led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed {
    /// [`revision`] after it.
    pub revision: i32,
    /// The number of the deployment that restarts the live server with it. `None` when nothing is
    /// live, when nothing of production changed, or while a deployment is under way: the restart
    /// then follows it.
    pub restart: Option<i32>,
}

/// Sets and unsets variables, all or none. They reach the live servers of production, or of previews,
/// by a restart of the same build, queued here.
pub async fn change(
    db: &mut PgConnection,
    project: &Project,
    change: &Change,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<Changed> {
    check_all(change)?;
    // Always project before anything else of it, as in reports.
    let revision = raise_revision(db, project.id, change).await?;
    write(db, project.id, change, actor, now).await?;
    refuse_too_many(db, project.id).await?;
    audit::record(
        db,
        audit::Entry {
            at: now,
            actor,
            action: "variables.change",
            organization: Some(project.organization_id),
            project: Some(project.id),
            subject: serde_json::json!({
                "scope": change.scope.name(),
                "branch": change.scope.branch(),
                "set": change.set.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(),
                "unset": change.unset,
            }),
        },
    )
    .await?;
    let restart = deployments::restart_if_due(db, project.id, actor, now).await?;
    Ok(Changed {
        revision,
        restart: restart.map(|restart| restart.number),
    })
}

fn check_all(change: &Change) -> Result<()> {
    if change.set.len() + change.unset.len() > 2 * MAX_VARIABLES {
        return Err(too_many());
    }
    let problems: Vec<Field> = change
        .set
        .iter()
        .filter_map(|v| {
            check(v).err().map(|message| Field {
                name: "variables",
                message,
            })
        })
        .collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Error::Invalid(problems))
    }
}

async fn raise_revision(db: &mut PgConnection, project: Uuid, change: &Change) -> Result<i32> {
    let is_change = !(change.set.is_empty() && change.unset.is_empty());
    let of_production = change.scope == Scope::Production;
    Ok(sqlx::query_scalar!(
        "update projects set variables_revision = variables_revision + $2,
             preview_variables_revision = preview_variables_revision + $3
         where id = $1 returning variables_revision",
        project,
        i32::from(is_change && of_production),
        i32::from(is_change && !of_production),
    )
    .fetch_one(db)
    .await?)
}

async fn write(
    db: &mut PgConnection,
    project: Uuid,
    change: &Change,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<()> {
    let (scope, branch) = (change.scope.name(), change.scope.branch());
    let keys = runners::public_keys(db).await?;
    for variable in &change.set {
        let value = if variable.secret {
            seal(&keys, &variable.value)?
        } else {
            variable.value.clone()
        };
        sqlx::query!(
            "insert into variables (project_id, scope, branch, name, secret, value, updated_at, updated_by)
             values ($1, $2, $3, $4, $5, $6, $7, $8)
             on conflict (project_id, scope, branch, name) do update
             set secret = excluded.secret, value = excluded.value,
                 updated_at = excluded.updated_at, updated_by = excluded.updated_by",
            project,
            scope,
            branch,
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
        "delete from variables where project_id = $1 and scope = $2 and branch = $3 and name = any($4)",
        project,
        scope,
        branch,
        &change.unset,
    )
    .execute(&mut *db)
    .await?;
    Ok(())
}

fn too_many() -> Error {
    invalid(
        "variables",
        format!("A project has at most {MAX_VARIABLES} variables."),
    )
}

async fn refuse_too_many(db: &mut PgConnection, project: Uuid) -> Result<()> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from variables where project_id = $1"#,
        project
    )
    .fetch_one(db)
    .await?;
    if usize::try_from(count).unwrap_or(usize::MAX) > MAX_VARIABLES {
        return Err(too_many());
    }
    Ok(())
}

pub(crate) fn seal(keys: &[(Uuid, String)], value: &str) -> Result<String> {
    if keys.is_empty() {
        return Err(Error::Unavailable(
            "No runner has connected yet, so there is no key to seal secrets to; start one and try again.".into(),
        ));
    }
    let sealed: BTreeMap<Uuid, String> = keys
        .iter()
        .map(|(id, key)| Ok((*id, seal_to_runner(key, value.as_bytes())?)))
        .collect::<anyhow::Result<_>>()?;
    Ok(serde_json::to_string(&sealed)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_people_write_them() {
        let read =
            parse_lines("# comment\n\nA=1\nexport B = \"two words\"\nC='x=y'\nD=\n").unwrap();
        let pairs: Vec<(&str, &str)> = read
            .iter()
            .map(|v| (v.name.as_str(), v.value.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [("A", "1"), ("B", "two words"), ("C", "x=y"), ("D", "")]
        );
        let error = parse_lines("A=1\nnonsense").unwrap_err().to_string();
        assert!(error.contains("Line 2"), "{error}");
    }

    #[test]
    fn names_of_the_platform_are_refused() {
        let make = |name: &str| NewVariable {
            name: name.into(),
            value: "v".into(),
            secret: true,
        };
        assert!(check(&make("API_KEY")).is_ok());
        for bad in ["PORT", "BERTH_X", "LD_PRELOAD", "1A", "A-B", "", "A B", "Ä"] {
            assert!(check(&make(bad)).is_err(), "{bad}");
        }
    }
}
