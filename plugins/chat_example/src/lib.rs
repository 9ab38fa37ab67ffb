use sglhost_guest::prelude::*;

/// The other ways to write messages: blocks, and begin and end.
#[program]
fn chat_example(s: &mut State) {
    s += system("You are a helpful assistant.");
    // Same as: s.system("You are a helpful assistant.");

    s.user_block(|s| {
        s.append("Question: What is the capital of France?");
    });

    s += assistant_begin();
    s += "Answer: " + gen("answer").max_tokens(100).stop("\n");
    s += assistant_end();
}
