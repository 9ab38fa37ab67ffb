use sglhost_guest::prelude::*;

/// Answers a question in one line.
#[program]
fn text_qa(
    s: &mut State,
    /// What to ask.
    question: String,
) {
    s.user(question);
    s.assistant(gen("answer").stop("\n"));
}
