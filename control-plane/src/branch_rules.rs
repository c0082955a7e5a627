//! Branch rules: which pushes to a project's production branch are deployed, and whether what they
//! bring goes live by itself. They decide about pushes only; whoever deploys by hand has decided.

#[cfg(test)]
mod tests;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::audit::{self, Actor};
use crate::error::{Error, Field, Result};
use crate::github::links;
use crate::projects::Project;

/// Most patterns of a list. Each is matched with every file of a push.
pub const MAX_PATTERNS: usize = 50;

/// Longest pattern, bytes.
pub const MAX_PATTERN: usize = 255;

/// A project's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Whether what a push brought goes live once it answers; otherwise it waits for a member.
    pub auto_promote: bool,
    /// What counts, as patterns of `.gitignore`; everything if there are none.
    pub watch_paths: Vec<String>,
    /// What counts for nothing, in the same form.
    pub ignored_paths: Vec<String>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            auto_promote: true,
            watch_paths: Vec::new(),
            ignored_paths: Vec::new(),
        }
    }
}

impl Rules {
    /// Trims patterns, drops what is empty, and checks the rest.
    pub fn check(self) -> Result<Self> {
        let rules = Self {
            auto_promote: self.auto_promote,
            watch_paths: trimmed(self.watch_paths),
            ignored_paths: trimmed(self.ignored_paths),
        };
        let mut problems = Vec::new();
        for (name, patterns) in [
            ("watch_paths", &rules.watch_paths),
            ("ignored_paths", &rules.ignored_paths),
        ] {
            if let Err(message) = check_patterns(patterns) {
                problems.push(Field { name, message });
            }
        }
        if problems.is_empty() {
            Ok(rules)
        } else {
            Err(Error::Invalid(problems))
        }
    }

    /// Whether it matters which files a push changes.
    pub fn look_at_files(&self) -> bool {
        !self.watch_paths.is_empty() || !self.ignored_paths.is_empty()
    }
}

fn trimmed(patterns: Vec<String>) -> Vec<String> {
    let patterns = patterns.into_iter().map(|it| it.trim().to_owned());
    patterns.filter(|it| !it.is_empty()).collect()
}

fn check_patterns(patterns: &[String]) -> Result<(), String> {
    if patterns.len() > MAX_PATTERNS {
        return Err(format!(
            "There are more than {MAX_PATTERNS} patterns; name directories instead of files."
        ));
    }
    for pattern in patterns {
        check_pattern(pattern)?;
    }
    if !patterns.is_empty() && patterns.iter().all(|it| it.starts_with('!')) {
        return Err("A pattern with ! takes back what one before it matched; put that one first, like services/a/.".into());
    }
    Ok(())
}

fn check_pattern(pattern: &str) -> Result<(), String> {
    if pattern.len() > MAX_PATTERN || pattern.chars().any(char::is_control) {
        return Err(format!(
            "A pattern is longer than {MAX_PATTERN} bytes or holds control characters; write one on each line."
        ));
    }
    if pattern.starts_with('#') {
        return Err(format!(
            "“{pattern}” is a comment; write \\# for a name that begins so."
        ));
    }
    if pattern.split('/').any(|part| matches!(part, "." | "..")) {
        return Err(format!(
            "“{pattern}” holds . or ..; write it from the repository's root, like services/a/."
        ));
    }
    matcher(std::slice::from_ref(&pattern.to_owned()))
        .map(drop)
        .map_err(|_| {
            format!("“{pattern}” is no pattern as in .gitignore; check its brackets and braces.")
        })
}

/// Compiles a list of patterns.
pub fn matcher(patterns: &[String]) -> Result<Gitignore, ignore::Error> {
    let mut builder = GitignoreBuilder::new(".");
    // As Git does, and so that a bracket that is not closed is said to be wrong.
    builder.allow_unclosed_class(false);
    for pattern in patterns {
        builder.add_line(None, pattern)?;
    }
    builder.build()
}

/// A project's rules.
pub async fn get(db: &mut PgConnection, project: Uuid) -> sqlx::Result<Rules> {
    sqlx::query_as!(
        Rules,
        "select auto_promote, watch_paths, ignored_paths from projects where id = $1",
        project,
    )
    .fetch_one(db)
    .await
}

/// Replaces a project's rules, which are checked; the branch's head is considered anew by them.
pub async fn set(
    db: &mut PgConnection,
    project: &Project,
    rules: &Rules,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<()> {
    links::lock(db, project.id).await?;
    sqlx::query!(
        "update projects set auto_promote = $2, watch_paths = $3, ignored_paths = $4 where id = $1",
        project.id,
        rules.auto_promote,
        &rules.watch_paths,
        &rules.ignored_paths,
    )
    .execute(&mut *db)
    .await?;
    links::consider_anew(db, project.id).await?;
    let entry = audit::Entry {
        at: now,
        actor,
        action: "project.branch_rules",
        organization: Some(project.organization_id),
        project: Some(project.id),
        subject: json!({
            "auto_promote": rules.auto_promote,
            "watch_paths": rules.watch_paths,
            "ignored_paths": rules.ignored_paths,
        }),
    };
    audit::record(db, entry).await?;
    Ok(())
}
