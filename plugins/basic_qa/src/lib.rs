use sglhost_guest::prelude::*;

/// Answers a question.
#[program]
fn basic_qa(
    s: &mut State,
    /// What to ask.
    question: String,
) {
    s.system("You are a helpful assistant than can answer questions.");
    s.user(question);
    s.assistant(gen("answer").max_tokens(512));
}
