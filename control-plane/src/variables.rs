//! Environment variables of a project. A secret is sealed to every known runner as it arrives and
//! can be replaced but never read again, by us or by anyone with the database.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use runner::protocol::{Variable as Sent, VariableValue};

use crate::audit::{self, Actor};
use crate::crypto::seal_to_runner;
use crate::error::{Error, Field, Result, invalid};
use crate::projects::Project;
use crate::runners;

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

/// The variables of a project, by name.
pub async fn list(db: &mut PgConnection, project: Uuid) -> sqlx::Result<Vec<Variable>> {
    sqlx::query_as!(
        Variable,
        "select name, secret, case when secret then null else value end as value, updated_at
         from variables where project_id = $1 order by name",
        project,
    )
    .fetch_all(db)
    .await
}

/// Sets and unsets variables, all or none. They apply from the next deployment.
pub async fn change(
    db: &mut PgConnection,
    project: &Project,
    set: &[NewVariable],
    unset: &[String],
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<()> {
    if set.len() + unset.len() > 2 * MAX_VARIABLES {
        return Err(too_many());
    }
    let problems: Vec<Field> = set
        .iter()
        .filter_map(|v| {
            check(v).err().map(|message| Field {
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
            "insert into variables (project_id, name, secret, value, updated_at, updated_by)
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
        "delete from variables where project_id = $1 and name = any($2)",
        project.id,
        unset
    )
    .execute(&mut *db)
    .await?;
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
                "set": set.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(),
                "unset": unset,
            }),
        },
    )
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

/// The variables as a runner gets them. A secret that was never sealed to this runner is left
/// out: the runner joined later, and the value must be set again.
pub async fn for_runner(db: &mut PgConnection, project: Uuid, runner: Uuid) -> Result<Vec<Sent>> {
    let rows = sqlx::query!(
        "select name, secret, value from variables where project_id = $1 order by name",
        project,
    )
    .fetch_all(db)
    .await?;
    let mut variables = Vec::with_capacity(rows.len());
    for row in rows {
        let value = if row.secret {
            let mut sealed: BTreeMap<Uuid, String> = serde_json::from_str(&row.value)?;
            let Some(sealed) = sealed.remove(&runner) else {
                continue;
            };
            VariableValue::Sealed(sealed)
        } else {
            VariableValue::Plain(row.value)
        };
        variables.push(Sent {
            name: row.name,
            value,
        });
    }
    Ok(variables)
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
