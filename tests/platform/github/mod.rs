//! The platform with GitHub.

mod emulator;
mod journey;
mod person;
mod receiver;
mod rules;

use crate::Test;

/// The tests' GitHub by itself.
pub const TESTS: &[Test] = emulator::TESTS;

/// The platform with it.
pub const JOURNEYS: &[Test] = journey::TESTS;

/// Which pushes it deploys.
pub const RULES: &[Test] = rules::TESTS;
