use sglhost_guest::prelude::*;

/// Chooses a tool for a question, and writes what to give to the tool.
#[program]
fn tool_use(
    s: &mut State,
    /// What to find out.
    question: String,
) {
    s.assistant(
        text("To answer this question: ")
            + question
            + ". I need to use a "
            + gen("tool").choices(["calculator", "search engine"])
            + ". ",
    );

    if s["tool"] == "calculator" {
        s.assistant("The math expression is: " + gen("expression"));
    } else if s["tool"] == "search engine" {
        s.assistant("The key word to search is: " + gen("word"));
    }
}
