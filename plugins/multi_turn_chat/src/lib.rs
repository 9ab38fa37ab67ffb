use sglhost_guest::prelude::*;

/// Holds a conversation: answers the user's messages one after the other.
#[program]
fn multi_turn_chat(
    s: &mut State,
    /// What the user says, message by message.
    #[arg(default = [
        "Hello! I would like to visit Paris in spring. What should I see first?",
        "I have only two days. Can you make a short plan?",
        "It may rain. What could I do inside?",
        "Thank you. Please sum up our plan in one sentence.",
    ].map(String::from).to_vec())]
    messages: Vec<String>,
    /// What the assistant is to be.
    #[arg(default = "You are a helpful travel guide. You answer in a few short sentences.")]
    instructions: String,
) -> Vec<String> {
    s.system(instructions);
    // Nothing is read in this loop, so the host goes from turn to turn by itself.
    for (turn, message) in messages.iter().enumerate() {
        s.user(message);
        s.assistant(gen(format!("reply_{}", turn + 1)));
    }
    (1..=messages.len()).map(|turn| s[&*format!("reply_{turn}")].clone()).collect()
}
