//! The one error that crosses boundaries: to a guest (WIT `error`), to a client, to the terminal.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of failure it was. The set is open: a reader must expect codes it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The input is wrong and will be wrong again: a bad regex, an unknown role, a missing argument.
    Invalid,
    /// A named limit was reached; the message says which, its value and the way out.
    LimitExceeded,
    /// The prompt does not fit the model's context.
    TooLong,
    /// The model or the device cannot do this.
    Unsupported,
    /// The caller went away or asked to stop.
    Cancelled,
    /// The wall-clock deadline passed.
    DeadlineExceeded,
    /// The engine cannot answer now; the same call may succeed later.
    Unavailable,
    /// The program trapped or broke the component ABI.
    Trap,
    /// The program itself found it, and its own message says what.
    Program,
}

/// Every code there is.
const ALL: [ErrorCode; 9] = [
    ErrorCode::Invalid,
    ErrorCode::LimitExceeded,
    ErrorCode::TooLong,
    ErrorCode::Unsupported,
    ErrorCode::Cancelled,
    ErrorCode::DeadlineExceeded,
    ErrorCode::Unavailable,
    ErrorCode::Trap,
    ErrorCode::Program,
];

impl ErrorCode {
    /// The code as it is written in WIT, JSON and traces.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::LimitExceeded => "limit-exceeded",
            Self::TooLong => "too-long",
            Self::Unsupported => "unsupported",
            Self::Cancelled => "cancelled",
            Self::DeadlineExceeded => "deadline-exceeded",
            Self::Unavailable => "unavailable",
            Self::Trap => "trap",
            Self::Program => "program",
        }
    }

    /// The code that is written so, if it is one of these.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        ALL.into_iter().find(|known| known.as_str() == code)
    }

    /// Whether the same call may succeed later without a change.
    #[must_use]
    pub fn retryable(self) -> bool {
        matches!(self, Self::Unavailable | Self::DeadlineExceeded)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error with a code for programs and a message for people: it names the input, the limit and the way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Error {
    /// What kind of failure it was.
    pub code: ErrorCode,
    /// For people; never holds prompt text.
    pub message: String,
}

impl Error {
    /// An error of the given kind.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Shorthand for [`ErrorCode::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Invalid, message)
    }

    /// Shorthand for [`ErrorCode::LimitExceeded`].
    pub fn limit(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::LimitExceeded, message)
    }

    /// Shorthand for [`ErrorCode::Unavailable`].
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unavailable, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_as_it_is_written() {
        for code in ALL {
            assert_eq!(ErrorCode::parse(code.as_str()), Some(code));
        }
        assert_eq!(ErrorCode::parse("odd"), None);
    }
}
