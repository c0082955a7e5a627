//! The platform with GitHub.

mod emulator;
mod journey;
mod person;
mod receiver;
mod templates;

use crate::Test;

/// The tests' GitHub by itself.
pub const TESTS: &[Test] = emulator::TESTS;

/// The platform with it.
pub const JOURNEYS: &[Test] = journey::TESTS;

/// Repositories from templates.
pub const TEMPLATES: &[Test] = templates::TESTS;
