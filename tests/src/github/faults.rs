//! What goes wrong with GitHub, on demand.

use std::time::Duration;

/// One way to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The primary rate limit is used up: 403 with `x-ratelimit-remaining: 0`, until so many seconds
    /// from now (GitHub's documentation, "Rate limits for the REST API").
    RateLimit(u64),
    /// A secondary rate limit: 403 with `retry-after`, in seconds.
    SecondaryLimit(u64),
    /// 429 with `retry-after`, in seconds.
    TooMany(u64),
    /// 502 with a page of HTML.
    BadGateway,
    /// The answer comes after this time.
    Slow(Duration),
    /// The connection ends without an answer.
    Drop,
}

/// Which fault, where, how often.
#[derive(Debug, Clone)]
pub(super) struct Armed {
    pub id: u64,
    route: String,
    pub fault: Fault,
    left: Option<u32>,
}

/// Names a fault, to lift it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultId(pub(super) u64);

/// Those that tests ask for.
#[derive(Debug, Default)]
pub(super) struct Faults {
    next: u64,
    armed: Vec<Armed>,
}

impl Faults {
    /// See [`super::Github::fail`].
    pub fn add(&mut self, route: &str, fault: Fault, times: Option<u32>) -> FaultId {
        self.next += 1;
        self.armed.push(Armed {
            id: self.next,
            route: route.to_owned(),
            fault,
            left: times,
        });
        FaultId(self.next)
    }

    /// Takes one back.
    pub fn lift(&mut self, id: FaultId) {
        self.armed.retain(|armed| armed.id != id.0);
    }

    /// Takes all back.
    pub fn lift_all(&mut self) {
        self.armed.clear();
    }

    /// What becomes of a request.
    pub fn strike(&mut self, method: &str, route: &str) -> Option<Fault> {
        let asked = format!("{method} {route}");
        let matches = |pattern: &str| match pattern.strip_suffix('*') {
            Some(start) => asked.starts_with(start),
            None => asked == pattern,
        };
        let at = self.armed.iter().position(|armed| matches(&armed.route))?;
        let armed = &mut self.armed[at];
        let fault = armed.fault;
        if let Some(left) = &mut armed.left {
            *left -= 1;
            if *left == 0 {
                self.armed.remove(at);
            }
        }
        Some(fault)
    }
}
