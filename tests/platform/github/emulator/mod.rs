//! The tests' GitHub proved by itself, with real clients.

mod apps;
mod code;
mod feedback;
mod hooks;
mod people;
mod setting;
mod truth;
mod writing;

use crate::Test;

pub const TESTS: &[Test] = &[
    ("github::emulator_serves_git_to_tokens", code::git),
    ("github::emulator_signs_people_in", people::sign_in),
    (
        "github::emulator_makes_apps_from_manifests",
        people::manifest,
    ),
    (
        "github::emulator_has_pages_for_browsers",
        people::in_a_browser,
    ),
    ("github::emulator_checks_what_apps_sign", apps::jwt),
    ("github::emulator_narrows_tokens", apps::narrowed),
    ("github::emulator_signs_webhooks", hooks::webhooks),
    ("github::emulator_tells_what_happens", hooks::events),
    (
        "github::emulator_holds_loses_and_reorders",
        hooks::deliveries,
    ),
    ("github::emulator_shows_repositories", code::repositories),
    (
        "github::emulator_makes_repositories_and_takes_commits",
        writing::repositories,
    ),
    ("github::emulator_keeps_feedback", feedback::feedback),
    (
        "github::emulator_lets_apps_look_after_themselves",
        apps::themselves,
    ),
    ("github::emulator_fails_on_demand", truth::faults),
    ("github::emulator_is_held_to_the_description", truth::held),
    (
        "github::emulator_has_described_routes_only",
        truth::described,
    ),
    ("github::emulator_knows_real_payloads", truth::real_payloads),
];
