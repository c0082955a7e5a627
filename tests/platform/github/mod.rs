//! The platform with GitHub.

mod emulator;
mod journey;
mod person;
mod previews;
mod receiver;

use crate::Test;

/// The tests' GitHub by itself.
pub const TESTS: &[Test] = emulator::TESTS;

/// The platform with it.
pub const JOURNEYS: [&[Test]; 2] = [journey::TESTS, previews::TESTS];
