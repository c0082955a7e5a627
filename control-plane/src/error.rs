//! What can go wrong, as the nouns say it. Pages and API give it a face each.

use std::fmt;

/// Something the caller can act on, or [`Error::Internal`].
#[derive(Debug)]
pub enum Error {
    /// There is no such thing, or it is not this person's to see.
    NotFound(&'static str),
    /// Nobody is signed in, or the credentials are wrong.
    Unauthorized(String),
    /// Signed in, but not allowed.
    Forbidden(String),
    /// Input that cannot be used, field by field.
    Invalid(Vec<Field>),
    /// It collides with what is there; the sentence says with what.
    Conflict(String),
    /// More than a stated limit of bytes was sent.
    TooLarge(String),
    /// Too often.
    TooMany {
        /// Seconds to wait.
        retry_after: u64,
    },
    /// A part of the platform is away; trying again later helps.
    Unavailable(String),
    /// A fault of ours.
    Internal(anyhow::Error),
}

/// One unusable input and the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The field's name in the form or JSON body.
    pub name: &'static str,
    /// One sentence that says what to do.
    pub message: String,
}

/// Shorthand for one unusable field.
pub fn invalid(name: &'static str, message: impl Into<String>) -> Error {
    Error::Invalid(vec![Field {
        name,
        message: message.into(),
    }])
}

impl Error {
    /// The HTTP status both faces use.
    pub fn status(&self) -> http::StatusCode {
        use http::StatusCode as S;
        match self {
            Self::NotFound(_) => S::NOT_FOUND,
            Self::Unauthorized(_) => S::UNAUTHORIZED,
            Self::Forbidden(_) => S::FORBIDDEN,
            Self::Invalid(_) => S::UNPROCESSABLE_ENTITY,
            Self::Conflict(_) => S::CONFLICT,
            Self::TooLarge(_) => S::PAYLOAD_TOO_LARGE,
            Self::TooMany { .. } => S::TOO_MANY_REQUESTS,
            Self::Unavailable(_) => S::SERVICE_UNAVAILABLE,
            Self::Internal(_) => S::INTERNAL_SERVER_ERROR,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(what) => write!(f, "There is no such {what}, or you have no access to it."),
            Self::Unauthorized(s)
            | Self::Forbidden(s)
            | Self::Conflict(s)
            | Self::TooLarge(s)
            | Self::Unavailable(s) => f.write_str(s),
            Self::Invalid(fields) => {
                let all: Vec<&str> = fields.iter().map(|field| field.message.as_str()).collect();
                f.write_str(&all.join(" "))
            }
            Self::TooMany { retry_after } => {
                write!(f, "Too many requests; try again in {retry_after} seconds.")
            }
            Self::Internal(_) => f.write_str(
                "Something went wrong on our side; try again, and if it stays, give your operator the request id.",
            ),
        }
    }
}

impl std::error::Error for Error {}

impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Self {
        Self::Internal(error)
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_) => Self::Unavailable(
                "The database does not answer just now; try again in a moment. Deployed servers keep answering."
                    .into(),
            ),
            other => Self::Internal(other.into()),
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Internal(error.into())
    }
}

/// What nouns return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whether a statement failed on the named unique constraint or index.
pub fn violates(error: &sqlx::Error, constraint: &str) -> bool {
    matches!(error, sqlx::Error::Database(e) if e.constraint() == Some(constraint))
}
