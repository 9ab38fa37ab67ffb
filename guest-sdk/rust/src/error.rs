//! Why something failed, and how the errors of a run are kept until somebody looks at them.
//!
//! Errors are sticky: a step on a [`State`](crate::State) returns nothing to check, and after the first failure the
//! later steps of that state do nothing. The failure is seen where a result is asked for with a `Result`, or else ends
//! the run with its own code and message, whatever the program returned meanwhile.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

use crate::bindings::sgl::program::types;

/// What a program may return; `E` is [`Error`] unless said otherwise.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a step, or the whole program, failed.
///
/// Any [`std::error::Error`] turns into one at a `?`, with the code `program`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What kind of failure it was, from an open set: `invalid`, `limit-exceeded`, `too-long`, `unsupported`,
    /// `cancelled`, `deadline-exceeded`, `unavailable`, or `program` for one that the program itself found.
    pub code: String,
    /// For people.
    pub message: String,
    /// Whether the same step may succeed later.
    pub retryable: bool,
}

impl Error {
    /// A failure that the program itself found.
    pub fn new(message: impl Into<String>) -> Self {
        Self::with_code("program", message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::with_code("invalid", message)
    }

    fn with_code(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), retryable: false }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

// `Error` is no `std::error::Error` itself: then this conversion would collide with `From<Error> for Error`.
impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}

pub(crate) fn from_host(error: types::Error) -> Error {
    Error { code: error.code, message: error.message, retryable: error.retryable }
}

pub(crate) fn to_host(error: Error) -> types::Error {
    types::Error { code: error.code, message: error.message, retryable: error.retryable }
}

/// A failure of a step, and whether the program has seen it.
#[derive(Debug)]
pub(crate) struct Failure {
    error: Error,
    seen: Cell<bool>,
}

thread_local! {
    /// All failures of this run's steps, in order. An instance serves one run, so they are never many runs'.
    static FAILURES: RefCell<Vec<Rc<Failure>>> = const { RefCell::new(Vec::new()) };
}

impl Failure {
    /// Notes a failure that nobody has seen yet.
    pub(crate) fn note(error: Error) -> Rc<Self> {
        let failure = Rc::new(Self { error, seen: Cell::new(false) });
        FAILURES.with_borrow_mut(|failures| failures.push(Rc::clone(&failure)));
        failure
    }

    /// Shows the error to the program, whose business it now is.
    pub(crate) fn show(&self) -> Error {
        self.seen.set(true);
        self.error.clone()
    }

    /// The error, for a message; it stays unseen.
    pub(crate) fn peek(&self) -> &Error {
        &self.error
    }

    /// The first failure that the program has not seen.
    pub(crate) fn first_unseen() -> Option<Error> {
        FAILURES.with_borrow(|failures| failures.iter().find(|failure| !failure.seen.get()).map(|f| f.error.clone()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn any_error_turns_into_one_at_a_question_mark() {
        fn parse(text: &str) -> Result<i64> {
            Ok(text.parse::<i64>()?)
        }
        assert_eq!(parse("12"), Ok(12));
        let error = parse("twelve").unwrap_err();
        assert_eq!(error.to_string(), "program: invalid digit found in string");
        assert!(!error.retryable);
    }

    #[test]
    fn the_first_unseen_failure_is_the_runs() {
        let first = Failure::note(Error::invalid("one"));
        let second = Failure::note(Error::invalid("two"));
        assert_eq!(Failure::first_unseen(), Some(Error::invalid("one")));
        assert_eq!(first.show(), Error::invalid("one"));
        assert_eq!(Failure::first_unseen(), Some(Error::invalid("two")));
        second.show();
        assert_eq!(Failure::first_unseen(), None);
    }
}
