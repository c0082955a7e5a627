//! The one place that reads the time, so that tests can hold it still.

use std::sync::{Arc, Mutex, PoisonError};

use time::{Duration, OffsetDateTime};

/// Where "now" comes from. Cheap to clone; clones of a frozen clock move together.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// Stands still until told to move.
    Frozen(Arc<Mutex<OffsetDateTime>>),
}

impl Clock {
    /// A clock that stands at `at`.
    pub fn frozen(at: OffsetDateTime) -> Self {
        Self::Frozen(Arc::new(Mutex::new(at)))
    }

    /// The time, cut to microseconds: what Postgres keeps.
    pub fn now(&self) -> OffsetDateTime {
        let now = match self {
            #[expect(clippy::disallowed_methods, reason = "this is the clock")]
            Self::System => OffsetDateTime::now_utc(),
            Self::Frozen(at) => *at.lock().unwrap_or_else(PoisonError::into_inner),
        };
        now.replace_nanosecond(now.nanosecond() / 1_000 * 1_000)
            .expect("fewer nanoseconds than before are in range")
    }

    /// Moves a frozen clock forward; does nothing to the machine's.
    pub fn advance(&self, by: Duration) {
        if let Self::Frozen(at) = self {
            *at.lock().unwrap_or_else(PoisonError::into_inner) += by;
        }
    }
}
