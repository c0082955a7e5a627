//! The platform with GitHub.

mod emulator;
mod receiver;

use crate::Test;

pub const TESTS: &[Test] = emulator::TESTS;
