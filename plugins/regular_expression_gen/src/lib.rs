use sglhost_guest::prelude::*;

/// Asks for an IP address, and takes nothing else for an answer.
#[program]
fn regular_expression_gen(s: &mut State) {
    s.user("What is the IP address of the Google DNS servers?");
    s.assistant(
        gen("answer").temperature(0.0).regex(r"((25[0-5]|2[0-4]\d|[01]?\d\d?).){3}(25[0-5]|2[0-4]\d|[01]?\d\d?)"),
    );
}
