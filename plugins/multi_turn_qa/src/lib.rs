use sglhost_guest::prelude::*;

/// Asks for three countries and their capitals, twice.
#[program]
fn multi_turn_qa(s: &mut State) {
    s.system("You are a helpful assistant than can answer questions.");
    s.user("Please give me a list of 3 countries and their capitals.");
    s.assistant(gen("first_answer").max_tokens(512));
    s.user("Please give me another list of 3 countries and their capitals.");
    s.assistant(gen("second_answer").max_tokens(512));
}
