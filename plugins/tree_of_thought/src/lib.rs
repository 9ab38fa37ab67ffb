use sglhost_guest::prelude::*;

/// Solves a problem by searching over steps of reasoning: lines of thought branch, a judge rates them, the best go on.
#[program]
fn tree_of_thought(
    s: &mut State,
    /// What to solve.
    #[arg(default = "A farmer has 17 sheep. All but 9 run away, then he buys 5 more. How many sheep has he now?")]
    problem: String,
    /// Steps of reasoning.
    #[arg(default = 3)]
    depth: u8,
    /// Ideas for each next step.
    #[arg(default = 3)]
    branches: u8,
    /// Lines of thought that go on after each step.
    #[arg(default = 2)]
    beam: u8,
) -> Result<Value> {
    if branches == 0 || beam == 0 {
        return Err(Error::new("branches and beam must be at least 1: without them no thought goes on"));
    }
    s.system("You solve problems step by step. Each step is one short sentence.");
    s.user(text("Problem: ") + problem);
    s.assistant_begin();

    let mut thoughts = vec![s.copy()];
    let mut ratings = Vec::new();
    for step in 1..=depth {
        // Propose: every thought branches. The idea's number makes branches differ even at temperature 0.
        let mut proposed: Vec<State> = thoughts.iter().flat_map(|thought| thought.fork(branches.into())).collect();
        for (i, thought) in proposed.iter_mut().enumerate() {
            let idea = i % usize::from(branches) + 1;
            thought.append(text(format!("Step {step}, idea {idea}:")) + gen(format!("step_{step}")).stop("\n") + "\n");
        }
        // Evaluate. Nothing was read so far: proposals and their judges are queued, and the host overlaps them all.
        let judges: Vec<State> = proposed.iter().map(judge).collect();
        let mut rated = Vec::new();
        for (thought, judge) in proposed.into_iter().zip(&judges) {
            rated.push((rating(judge)?, thought));
        }
        // Expand the best; the others are dropped, and with them what they still generate.
        rated.sort_by(|a, b| b.0.total_cmp(&a.0));
        rated.truncate(beam.into());
        (ratings, thoughts) = rated.into_iter().unzip();
    }

    let best = &mut thoughts[0];
    best.append("So the answer is" + gen("answer").stop("\n"));
    best.assistant_end();
    let steps: Vec<&str> = (1..=depth).map(|step| best[&*format!("step_{step}")].trim()).collect();
    Ok(json!({ "answer": best["answer"].trim(), "steps": steps, "rating": ratings.first() }))
}

/// Asks on a copy how good a line of thought is, which itself never sees the question.
fn judge(thought: &State) -> State {
    let mut judge = thought.copy();
    judge.assistant_end();
    judge.user("How promising are these steps? Rate them from 1 (wrong) to 5 (surely right).");
    judge.assistant("Rating: " + select("rating", ["1", "2", "3", "4", "5"]));
    judge
}

/// The mean of the ratings, weighted by their probabilities: finer than the likeliest alone.
fn rating(judge: &State) -> Result<f32> {
    let weights: Vec<f32> = judge.outcome("rating")?.scores().iter().map(|score| score.exp()).collect();
    let weighted: f32 = weights.iter().zip(1_u8..).map(|(weight, rating)| weight * f32::from(rating)).sum();
    Ok(weighted / weights.iter().sum::<f32>())
}
