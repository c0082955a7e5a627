//! What a project's pages say of the branch that it follows.

use runner::protocol::Source;

use crate::app::App;
use crate::deployments::Deployment;
use crate::github::links::{Link, is_commit};
use crate::pages::view::Moment;

/// Digits of a commit that tell it from the others of a repository.
const SHORT_COMMIT: usize = 8;

/// How following a branch stands.
#[derive(Debug, Default)]
pub struct Follows {
    /// Why pushes do not come live.
    pub cut_off: Option<String>,
    /// The branch's head, which the rules have not deployed.
    pub skipped: Option<Skipped>,
    /// Since when GitHub could not be asked.
    pub unreached: Option<Moment>,
}

/// A commit that was not deployed.
#[derive(Debug)]
pub struct Skipped {
    /// All of it.
    pub commit: String,
    /// What people read of it.
    pub short: String,
    /// The rest of the sentence.
    pub why: String,
}

impl Follows {
    /// From what ties a project to its repository. `newest` is its newest deployment: once somebody
    /// deployed the commit by hand, nobody needs to hear that it was skipped.
    pub fn of(app: &App, link: Option<&Link>, newest: Option<&Deployment>) -> Self {
        let Some(link) = link else {
            return Self::default();
        };
        let (interval, now) = (app.config.github_reconcile_seconds, app.clock.now());
        let commit = link.skipped.as_ref().filter(|sha| is_commit(sha));
        let commit = commit.filter(|sha| newest.and_then(commit_of) != Some(sha.as_str()));
        Self {
            cut_off: link.problem.clone(),
            skipped: commit.map(|sha| Skipped {
                commit: sha.clone(),
                short: sha.chars().take(SHORT_COMMIT).collect(),
                why: link.skipped_why.clone().unwrap_or_default(),
            }),
            unreached: link
                .unreached_since(interval, now)
                .map(|since| Moment::new(since, now)),
        }
    }
}

fn commit_of(it: &Deployment) -> Option<&str> {
    let asked = match &it.source {
        Source::Git { commit, .. } => commit.as_deref(),
        Source::Upload { .. } | Source::Package(_) => None,
    };
    it.commit_id.as_deref().or(asked)
}
