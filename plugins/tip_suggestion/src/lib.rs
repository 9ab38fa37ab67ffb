use sglhost_guest::prelude::*;

/// Expands two tips for staying healthy at the same time, then sums them up.
#[program]
fn tip_suggestion(s: &mut State) {
    s.assistant(
        "Here are two tips for staying healthy: \
         1. Balanced Diet. 2. Regular Exercise.\n\n",
    );

    // Nothing waits in this loop: both tips are generated at the same time.
    let mut forks = s.fork(2);
    for (i, f) in forks.iter_mut().enumerate() {
        f.assistant(
            text(format!("Now, expand tip {} into a paragraph:\n", i + 1))
                + gen("detailed_tip").max_tokens(256).stop("\n\n"),
        );
    }

    s.assistant(format!("Tip 1:{}\n", forks[0]["detailed_tip"]));
    s.assistant(format!("Tip 2:{}\n", forks[1]["detailed_tip"]));
    s.assistant("To summarize the above two tips, I can say:\n" + gen("summary").max_tokens(512));
}
