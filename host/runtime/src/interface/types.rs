//! `types`: errors and log-probabilities as guests see them.

use sglhost_core::{Error, error};
use sglhost_engine::TokenLogprob;
use sglhost_text::Tokenizer;

use crate::bindings::sgl::program::types::{self, Host as TypesHost};
use crate::host::Host;

impl TypesHost for Host {}

impl From<Error> for types::Error {
    fn from(error: Error) -> Self {
        Self { code: error.code.as_str().to_owned(), retryable: error.code.retryable(), message: error.message }
    }
}

impl From<types::Error> for Error {
    /// An error that a program returns. A code of its own making becomes *program*, with the code in the message.
    fn from(error: types::Error) -> Self {
        match error::ErrorCode::parse(&error.code) {
            Some(code) => Error::new(code, error.message),
            None => Error::new(error::ErrorCode::Program, format!("{}: {}", error.code, error.message)),
        }
    }
}

pub(crate) fn logprobs(tokenizer: &Tokenizer, list: &[TokenLogprob]) -> Vec<types::TokenLogprob> {
    let logprob = |TokenLogprob { token, logprob }: &TokenLogprob| types::TokenLogprob {
        token: *token,
        bytes: tokenizer.token_bytes(*token).to_vec(),
        logprob: *logprob,
    };
    list.iter().map(logprob).collect()
}
