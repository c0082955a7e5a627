//! Waiting on conditions, bounded.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Looks until `condition` gives a value, or fails saying what was waited for.
pub fn until<T>(
    what: &str,
    at_most: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let last = match condition() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => String::new(),
            Err(error) => format!("; last: {error:#}"),
        };
        if start.elapsed() > at_most {
            bail!("waited {} s for {what}{last}", at_most.as_secs());
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
}
