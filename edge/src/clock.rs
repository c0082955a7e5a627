//! The time of day, for what is told to others, and clocks that are cheap to read. What the edge
//! measures itself goes by `Instant`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the clock of the edge: tests that hold time still are told `Instant`s instead"
)]
pub(crate) fn millis() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The time since 1970, some milliseconds late at most. It is kept by the kernel and read with every
/// call, where the exact time costs several times more.
pub(crate) fn roughly() -> Duration {
    coarse(ClockId::RealtimeCoarse)
}

/// The time since the machine started, some milliseconds late at most, for what is told apart by more.
pub(crate) fn uptime() -> Duration {
    coarse(ClockId::MonotonicCoarse)
}

fn coarse(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}
