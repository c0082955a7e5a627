//! Every failure explains itself: one fixture for each diagnosis that can be provoked. It is
//! deployed, gets exactly its code, the printed fix is applied, and the same repository deploys.

mod coverage;
mod deploys;
mod fixture;
mod healthy;
mod launch;
mod recordings;

use anyhow::Result;
use libtest_mimic::{Failed, Trial};

use fixture::Fixture;

pub use deploys::stop;

/// Fixtures that every run deploys: one of each phase. The others are part of a long run.
const QUICK: &[&str] = &[
    "entrypoint_excluded",
    "dependency_version_not_found",
    "mcp_too_new",
    "server_in_function",
    "stdio_transport",
    "mcp_elsewhere",
];

/// Every test: one for each fixture, and those of the whole.
pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial(
            "errors::r50_every_code_is_provoked_or_says_why_not".to_owned(),
            false,
            coverage::every_code,
        ),
        trial(
            "errors::r50_releases_say_what_is_recorded".to_owned(),
            true,
            recordings::as_recorded,
        ),
        trial(
            "errors::r52_noisy_servers_are_healthy".to_owned(),
            true,
            healthy::deploy_all,
        ),
        trial(
            "errors::r51_servers_that_only_look_wrong_deploy".to_owned(),
            true,
            deploys::only_look_wrong,
        ),
        trial(
            "errors::r50_an_unknown_failure_says_so".to_owned(),
            true,
            deploys::unknown_failure,
        ),
    ];
    match Fixture::all() {
        Ok(fixtures) => trials.extend(fixtures.into_iter().map(|fixture| {
            let is_long = !QUICK.contains(&fixture.name.as_str());
            let name = format!("errors::{}_{}", fixture.requirement(), fixture.name);
            trial(name, is_long, move || deploys::provoke(&fixture))
        })),
        Err(error) => trials.push(trial("errors::fixtures".to_owned(), false, move || {
            Err(anyhow::anyhow!("{error:#}"))
        })),
    }
    trials
}

fn trial(name: String, is_long: bool, test: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || {
        test().map_err(|e| Failed::from(format!("{e:#}")))
    })
    .with_ignored_flag(is_long)
}
