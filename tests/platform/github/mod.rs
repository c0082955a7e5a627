//! The platform with GitHub.

mod burst;
mod emulator;
mod feedback;
mod journey;
mod person;
mod previews;
mod receiver;
mod review;
mod rules;
mod templates;
mod visit;

use crate::Test;

/// The tests' GitHub by itself.
pub const TESTS: &[Test] = emulator::TESTS;

/// The platform with it.
pub const JOURNEYS: [&[Test]; 8] = [
    journey::TESTS,
    previews::TESTS,
    rules::TESTS,
    feedback::TESTS,
    review::TESTS,
    burst::TESTS,
    templates::TESTS,
    visit::TESTS,
];
