//! Which diagnoses have a fixture, which another test, and which cannot be provoked.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::fixture::Fixture;

/// Codes that other tests provoke, and which.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "source_url_invalid",
        "runner: build::git_url, every form of an address",
    ),
    ("address_forbidden", "bad_input::private_address"),
    (
        "repository_unreachable",
        "bad_input::unreachable_repository",
    ),
    ("repository_not_found", "bad_input::missing_repository"),
    (
        "repository_empty",
        "runner: build::source_tests, real repositories",
    ),
    (
        "repository_unreadable",
        "runner: build::source_tests, real repositories",
    ),
    ("ref_not_found", "bad_input::unknown_ref"),
    (
        "commit_not_found",
        "runner: build::source_tests, real repositories",
    ),
    (
        "fetch_timeout",
        "runner: build::source_tests, a server that is silent",
    ),
    ("source_too_large", "runner: build::archive_tests"),
    ("symlink_escapes", "runner: build::archive_tests"),
    ("file_name_invalid", "runner: build::archive_tests"),
    ("archive_corrupt", "bad_input::corrupt_archive"),
    (
        "build_command_failed",
        "r46_a_build_command_makes_what_is_served",
    ),
    ("unknown_failure", "errors::r50_an_unknown_failure_says_so"),
];

/// Codes that no source can provoke on a platform that is well, and why.
const NOT_PROVOKED: &[(&str, &str)] = &[
    ("upload_missing", "the store would have to lose an archive"),
    (
        "registry_unreachable",
        "the package index would have to be away",
    ),
    (
        "mcp_probe_failed",
        "a connection would have to break at the right moment",
    ),
    ("platform_failure", "the platform would have to fail"),
];

/// Every code of the catalogue is in exactly one of the three.
pub fn every_code() -> Result<()> {
    let page = std::fs::read_to_string(tests::root().join("docs/errors.md"))?;
    let all: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .collect();
    ensure!(all.len() > 90, "docs/errors.md has {} codes", all.len());
    let fixtures = Fixture::all()?;
    let provoked: BTreeSet<&str> = fixtures.iter().map(Fixture::code).collect();
    let others: BTreeSet<&str> = ELSEWHERE
        .iter()
        .chain(NOT_PROVOKED)
        .map(|(code, _)| *code)
        .collect();
    let twice: Vec<_> = provoked.intersection(&others).collect();
    ensure!(twice.is_empty(), "{twice:?} have a fixture now");
    let known: BTreeSet<&str> = provoked.union(&others).copied().collect();
    let missing: Vec<_> = all.difference(&known).collect();
    ensure!(
        missing.is_empty(),
        "{missing:?} need a fixture in tests/fixtures/errors"
    );
    let gone: Vec<_> = known.difference(&all).collect();
    ensure!(gone.is_empty(), "{gone:?} are in no entry of the catalogue");
    Ok(())
}
