use std::collections::BTreeMap;

use sglhost_guest::prelude::*;

/// Answers a question by reasoning several times and taking the answer that most samples come to.
#[program]
fn self_consistency(
    s: &mut State,
    /// A question whose answer is a whole number.
    #[arg(default = "A box holds 3 rows of 4 eggs. Anna takes 5 eggs. How many eggs are left in the box?")]
    question: String,
    /// How often to reason.
    #[arg(default = 8)]
    samples: u8,
    /// The seed of the first sample; those of the others count up from it.
    #[arg(default = 1)]
    first_seed: u64,
) -> Result<Value> {
    s.system(
        "You solve word problems. First reason step by step in a few short sentences, then give the answer.\n\n\
         Question: Tom has 2 bags with 6 apples each and eats 3 apples. How many apples are left?\n\
         Reasoning: Tom has 2 * 6 = 12 apples. He eats 3, so 12 - 3 = 9 are left.\nAnswer: 9.",
    );
    s.user(text("Question: ") + question);

    // The samples share the prompt's cache and run at the same time. How much they differ is the run's --temperature.
    let mut forks = s.fork(samples.into());
    for (f, seed) in forks.iter_mut().zip(first_seed..) {
        f.assistant(
            "Reasoning:"
                + gen("reasoning").stop("\n").seed(seed)
                + "\nAnswer: "
                + gen("answer").regex("-?[0-9]{1,6}\\.").stop(".").max_tokens(8).seed(seed)
                + ".",
        );
    }

    let mut votes = BTreeMap::<i64, usize>::new();
    for f in &forks {
        *votes.entry(f.get("answer")?).or_default() += 1;
    }
    let winner = votes.iter().max_by_key(|(_, &count)| count).map(|(&answer, _)| answer);
    let answers = forks.iter().map(|f| f.get("answer")).collect::<Result<Vec<i64>>>()?;
    Ok(json!({ "answer": winner, "votes": votes, "answers": answers }))
}
