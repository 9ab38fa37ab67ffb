//! Prompt programs for sglhost, in Rust, written as in SGLang.
//!
//! ```edition2021
//! use sglhost_guest::prelude::*;
//!
//! /// Answers a question.
//! #[program]
//! fn basic_qa(s: &mut State, question: String) {
//!     s.system("You are a helpful assistant.");
//!     s.user(question);
//!     s.assistant(gen("answer").max_tokens(512));
//! }
//! # fn main() {}
//! ```
//!
//! A program is a component: `sglhost build DIR` makes one of a crate of type `cdylib`, `sglhost run FILE.wasm` runs it.
//!
//! Where things are: [`State`] is the conversation, [`gen`](fn@gen) and [`select`] say what to generate, [`Prompt`]
//! joins text and generated text with `+`, [`Outcome`] is how a call ended, [`Error`] why something failed, [`Argument`]
//! what a program may take.
//!
//! Not here: anything that runs on the host. This crate only speaks the contract in `wit/`.

extern crate self as sglhost_guest;

mod argument;
#[doc(hidden)]
pub mod bindings;
mod error;
mod generate;
mod outcome;
mod output;
mod program;
mod prompt;
mod run;
mod state;
mod stream;

pub use argument::Argument;
pub use error::{Error, Result};
pub use generate::{ChoicesMethod, Constraint, Gen, Strings, r#gen, gen_float, gen_int, gen_string, generate, select};
pub use outcome::{Outcome, TokenLogprob};
pub use program::Program;
pub use prompt::{
    Prompt, assistant, assistant_begin, assistant_end, image, markup, role, role_begin, role_end, system, system_begin,
    system_end, text, tokens, user, user_begin, user_end,
};
pub use run::{accepts_images, context_length, contexts_left, emit, milliseconds_left, models, tokens_left};
pub use serde_json::{Value, json};
pub use sglhost_guest_macro::program;
pub use state::State;
pub use stream::Stream;

/// Everything that a program needs: `use sglhost_guest::prelude::*;`
pub mod prelude {
    pub use crate::{
        ChoicesMethod, Constraint, Error, Gen, Outcome, Prompt, Result, State, TokenLogprob, Value, assistant,
        assistant_begin, assistant_end, emit, r#gen, gen_float, gen_int, gen_string, generate, image, json, program,
        select, system, system_begin, system_end, text, user, user_begin, user_end,
    };
}

/// For code that `#[program]` writes. No part of the interface: it may change at any time.
#[doc(hidden)]
pub mod __private {
    pub use serde_json;

    pub use crate::argument::{Argument, ArgumentInfo, Arguments};

    pub use crate::output::{Output, write};
    pub use crate::program::{Program, run, to_json};

    /// A run as the contract has it.
    pub fn run_program<P: Program>(arguments: &str) -> Result<String, crate::bindings::Error> {
        run::<P>(arguments).map_err(crate::error::to_host)
    }
}
