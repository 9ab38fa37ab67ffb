//! From the component's exports to the function under `#[program]`.

use serde::Serialize;

use crate::argument::{self, ArgumentInfo, Arguments};
use crate::error::{Error, Failure, Result};
use crate::output;
use crate::state::State;

/// A program: implemented by `#[program]`, on an empty type that has the function's name.
pub trait Program {
    /// The function's name.
    const NAME: &'static str;
    /// The function's doc comment.
    const DESCRIPTION: &'static str;
    /// Its arguments, without the state, in order.
    const ARGUMENTS: &'static [ArgumentInfo];

    /// A tuple of the arguments' types.
    type Values;

    /// Takes the arguments.
    ///
    /// # Errors
    /// `invalid`: one is missing or of the wrong type.
    fn take(arguments: Arguments) -> Result<Self::Values>;

    /// Calls the function and writes its result as JSON.
    ///
    /// # Errors
    /// What the function returned.
    fn call(state: &mut State, values: Self::Values) -> Result<String>;

    /// The description that the component exports.
    #[must_use]
    fn describe() -> String {
        argument::describe(Self::NAME, Self::DESCRIPTION, Self::ARGUMENTS)
    }
}

/// A run, from arguments to result; both are JSON.
///
/// # Errors
/// The first failure that the program did not look at, else what the program returned. The former comes first because
/// the latter follows from it: text that could not be generated reads as empty, and then does not parse.
pub fn run<P: Program>(arguments: &str) -> Result<String> {
    output::report_panics();
    // Before a context is opened: a wrong argument should cost nothing.
    let values = P::take(Arguments::parse(arguments, P::ARGUMENTS)?)?;
    let mut state = State::new();
    let result = P::call(&mut state, values);
    if result.is_ok() {
        // What nobody read must still be generated: it is part of the run's text and of its variables.
        state.wait_for_all();
    }
    match Failure::first_unseen() {
        Some(error) => Err(error),
        None => result,
    }
}

/// A function's value as the run's result; `()` is `null`.
///
/// # Errors
/// The value has no JSON form: a map whose keys are no text.
pub fn to_json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::new(format!("the result cannot be written as JSON: {error}")))
}
