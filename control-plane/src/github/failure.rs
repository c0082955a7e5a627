//! What can go wrong with GitHub, as whoever asked can act on it.

use std::fmt;

use time::OffsetDateTime;

use crate::error::Error;

/// Why GitHub gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Too many requests; none may be made before this time.
    Limited {
        /// When it is over.
        until: OffsetDateTime,
    },
    /// GitHub is away, slow or broken; trying again later helps.
    Unavailable(String),
    /// There is no such thing, or the credential does not reach it.
    NotFound,
    /// The credential is not accepted: revoked, suspended, or wrong.
    Unauthorized(String),
    /// GitHub says no, in its words.
    Refused(String),
    /// A fault of ours.
    Ours(String),
}

impl Failure {
    /// Whether the same request may work later.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Limited { .. } | Self::Unavailable(_) | Self::Ours(_)
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limited { until } => write!(
                f,
                "GitHub limits our requests until {:02}:{:02}:{:02} UTC.",
                until.hour(),
                until.minute(),
                until.second()
            ),
            Self::NotFound => f.write_str("GitHub knows no such thing, or does not let us see it."),
            Self::Unauthorized(message) if message.is_empty() => {
                f.write_str("GitHub does not accept our credential.")
            }
            Self::Unauthorized(message) => {
                write!(f, "GitHub does not accept our credential: {message}")
            }
            Self::Unavailable(sentence) | Self::Refused(sentence) | Self::Ours(sentence) => {
                f.write_str(sentence)
            }
        }
    }
}

impl std::error::Error for Failure {}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Ours(Error::from(error).to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if let Error::Internal(cause) = &error {
            tracing::error!(error = format!("{cause:#}"), "working with GitHub failed");
        }
        Self::Ours(error.to_string())
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Limited { .. } | Failure::Unavailable(_) => {
                Self::Unavailable(format!("{failure} Try again in a moment."))
            }
            Failure::NotFound => Self::Conflict(
                "GitHub knows no such thing, or the App may not see it; check that it is installed there.".into(),
            ),
            Failure::Unauthorized(_) => Self::Conflict(format!(
                "{failure} Check that the App is installed and not suspended, and run `berth doctor`."
            )),
            Failure::Refused(sentence) => Self::Conflict(sentence),
            Failure::Ours(sentence) => Self::Unavailable(sentence),
        }
    }
}
