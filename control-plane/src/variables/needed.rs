//! What a project's code reads from its environment, against what is set.

use std::collections::BTreeMap;

use runner::protocol::{Need, Plan, REDIS_VARIABLES};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;

/// A variable that the code reads, or that its example lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Needed {
    /// Its name.
    pub name: String,
    /// Whether the code can do without; `None` when only the example lists it.
    pub need: Option<Need>,
    /// `file:line` of some reads.
    pub places: Vec<String>,
    /// Whether production has a value.
    pub set: bool,
    /// The value in the example file: shows the form.
    pub example: Option<String>,
    /// The remark in the example file.
    pub about: Option<String>,
}

impl Needed {
    /// The code fails without it, and it is not set.
    pub fn is_missing(&self) -> bool {
        self.need == Some(Need::Required) && !self.set
    }
}

/// The needs of a project's code by the newest plan of production.
pub async fn needed(db: &mut PgConnection, project: Uuid) -> Result<Vec<Needed>> {
    let plan = sqlx::query_scalar!(
        r#"select plan as "plan!" from deployments
         where project_id = $1 and preview_id is null and plan is not null order by number desc limit 1"#,
        project,
    )
    .fetch_optional(&mut *db)
    .await?;
    needed_by(db, project, None, plan.as_ref()).await
}

/// The needs by one plan, of a deployment of production or of a preview.
pub async fn needed_by(
    db: &mut PgConnection,
    project: Uuid,
    preview: Option<Uuid>,
    plan: Option<&Value>,
) -> Result<Vec<Needed>> {
    let Some(plan) = plan.and_then(|plan| serde_json::from_value::<Plan>(plan.clone()).ok()) else {
        return Ok(Vec::new());
    };
    let mut set = sqlx::query_scalar!(
        "select distinct v.name from variables v left join previews w on w.id = $2
         where v.project_id = $1 and case when $2::uuid is null then v.scope = 'production'
             else (v.scope = 'preview' or v.scope = 'branch' and v.branch = w.branch and not w.fork)
                 and (not v.secret or not w.fork or w.with_secrets) end",
        project,
        preview,
    )
    .fetch_all(&mut *db)
    .await?;
    let has_redis = sqlx::query_scalar!("select redis from projects where id = $1", project)
        .fetch_one(db)
        .await?;
    if has_redis && preview.is_none() {
        set.extend(REDIS_VARIABLES.map(String::from));
    }
    Ok(join(plan, &set))
}

/// Missing ones first, then by name.
fn join(plan: Plan, set: &[String]) -> Vec<Needed> {
    let mut all: BTreeMap<String, Needed> = BTreeMap::new();
    let new = |name: &String| Needed {
        name: name.clone(),
        need: None,
        places: Vec::new(),
        set: set.contains(name),
        example: None,
        about: None,
    };
    for read in plan.reads {
        let needed = all.entry(read.name).or_insert_with_key(new);
        (needed.need, needed.places) = (Some(read.need), read.places);
    }
    for listed in plan.example {
        let needed = all.entry(listed.name).or_insert_with_key(new);
        (needed.example, needed.about) = (Some(listed.example), listed.about);
    }
    let mut all: Vec<Needed> = all.into_values().collect();
    all.sort_by_key(|needed| (!needed.is_missing(), needed.set));
    all
}

/// The names of those that are missing.
pub fn missing(needed: &[Needed]) -> Vec<&str> {
    let missing = needed.iter().filter(|needed| needed.is_missing());
    missing.map(|needed| needed.name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use runner::protocol::{EnvironmentRead, ExampleVariable};

    use super::*;

    #[test]
    fn what_is_missing_comes_first() {
        let read = |name: &str, need| EnvironmentRead {
            name: name.into(),
            need,
            places: vec!["main.py:1".into()],
        };
        let plan = Plan {
            reads: vec![
                read("A_SET", Need::Required),
                read("B_DEFAULT", Need::Default),
                read("C_MISSING", Need::Required),
            ],
            example: vec![
                ExampleVariable {
                    name: "C_MISSING".into(),
                    example: "your-key".into(),
                    about: None,
                    optional: false,
                },
                ExampleVariable {
                    name: "D_LISTED".into(),
                    example: "1".into(),
                    about: None,
                    optional: false,
                },
            ],
            ..Plan::default()
        };
        let needed = join(plan, &["A_SET".to_owned()]);
        let names: Vec<&str> = needed.iter().map(|n| n.name.as_str()).collect();
        assert_eq!(names, ["C_MISSING", "B_DEFAULT", "D_LISTED", "A_SET"]);
        assert_eq!(missing(&needed), ["C_MISSING"]);
        assert_eq!(needed[0].example.as_deref(), Some("your-key"));
        assert_eq!(needed[2].need, None);
    }
}
