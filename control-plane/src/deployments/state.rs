//! Where a deployment is, and which way it may go.

/// Where a deployment is. The order is the order of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// Waiting for a runner.
    Queued = 10,
    /// Fetching, planning, installing.
    Building = 20,
    /// Its instance is being started.
    Starting = 30,
    /// Its instance is being tried.
    Checking = 40,
    /// It answers, and waits for a member: it would break callers, or pushes wait in its project.
    Held = 45,
    /// It serves the project's URL.
    Live = 50,
    /// Replaced; still serves the MCP sessions it owns.
    Draining = 60,
    /// It served and ended as wanted.
    Stopped = 70,
    /// It could not go on; the diagnosis says why.
    Failed = 80,
    /// It was taken back, or a newer one overtook it, before it went live.
    Canceled = 90,
}

const STATES: [State; 10] = [
    State::Queued,
    State::Building,
    State::Starting,
    State::Checking,
    State::Held,
    State::Live,
    State::Draining,
    State::Stopped,
    State::Failed,
    State::Canceled,
];

impl State {
    /// As it stands in the database and the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Building => "building",
            Self::Starting => "starting",
            Self::Checking => "checking",
            Self::Held => "held",
            Self::Live => "live",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    pub(crate) fn parse(name: &str) -> anyhow::Result<Self> {
        STATES
            .into_iter()
            .find(|state| state.name() == name)
            .ok_or_else(|| anyhow::anyhow!("the database holds an unknown deployment state"))
    }

    /// Nothing of it runs and nothing will change.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed | Self::Canceled)
    }

    /// It is on its way to an answer. One that is held has answered.
    pub const fn is_pending(self) -> bool {
        matches!(
            self,
            Self::Queued | Self::Building | Self::Starting | Self::Checking
        )
    }
}

/// The state after `to` was asked for while at `from`; `None` when that would be a step back or
/// past an end, and so changes nothing.
pub const fn transition(from: State, to: State) -> Option<State> {
    if from.is_final() {
        return None;
    }
    let forward = (to as u8) > (from as u8);
    let allowed = match to {
        // Only what never served can be taken back.
        State::Canceled => from.is_pending() || matches!(from, State::Held),
        State::Held => from.is_pending(),
        // Only what served can be drained or stopped.
        State::Draining => matches!(from, State::Live),
        State::Stopped => matches!(from, State::Live | State::Draining),
        _ => true,
    };
    if forward && allowed { Some(to) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_only_move_forward() {
        for from in STATES {
            for to in STATES {
                if let Some(next) = transition(from, to) {
                    assert!(next as u8 > from as u8, "{from:?} to {to:?}");
                    assert!(!from.is_final(), "{from:?} is an end");
                }
            }
        }
        assert_eq!(transition(State::Queued, State::Live), Some(State::Live));
        assert_eq!(transition(State::Live, State::Failed), Some(State::Failed));
        assert_eq!(transition(State::Live, State::Canceled), None);
        assert_eq!(transition(State::Held, State::Live), Some(State::Live));
        assert_eq!(
            transition(State::Held, State::Canceled),
            Some(State::Canceled)
        );
        assert_eq!(transition(State::Live, State::Held), None);
        assert_eq!(transition(State::Queued, State::Stopped), None);
        assert_eq!(transition(State::Building, State::Draining), None);
        assert_eq!(transition(State::Checking, State::Building), None);
    }

    #[test]
    fn every_state_reads_back() {
        for state in STATES {
            assert_eq!(State::parse(state.name()).unwrap(), state);
        }
        assert!(State::parse("gone").is_err());
    }
}
