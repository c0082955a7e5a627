//! The platform with GitHub.

mod emulator;
mod feedback;
mod journey;
mod person;
mod receiver;

use crate::Test;

/// The tests' GitHub by itself.
pub const TESTS: &[Test] = emulator::TESTS;

/// The platform with it.
pub const JOURNEYS: &[Test] = journey::TESTS;

/// What it is told of deployments.
pub const FEEDBACK: &[Test] = feedback::TESTS;
