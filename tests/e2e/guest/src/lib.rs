use sglhost_guest::prelude::*;

/// Does what its arguments say.
#[program]
fn probe(
    s: &mut State,
    /// Generate what matches this.
    pattern: Option<String>,
    /// Generate until stopped.
    #[arg(default = false)]
    endless: bool,
    /// Generate in so many forks at once, then on their trunk.
    #[arg(default = 0)]
    forks: u32,
    /// Generate a value of each type.
    #[arg(default = false)]
    typed: bool,
    /// Sent as output and written to the log.
    say: Option<String>,
    /// Returned.
    numbers: Vec<i64>,
    /// Has the name of one of the host's own options.
    seed: Option<String>,
) -> Result<Vec<String>> {
    if let Some(say) = say {
        // A failure is the test's to see: the output is missing then.
        let _ = emit("said", &say);
        println!("{say}");
    }
    if let Some(pattern) = pattern {
        s.user("Say something.");
        s.assistant(gen("answer").regex(pattern).max_tokens(16).temperature(0.0));
    }
    if forks > 0 {
        s.user("Say something.");
        let mut forks = s.fork(forks as usize);
        for (i, fork) in forks.iter_mut().enumerate() {
            fork.assistant(text(format!("Fork {}: ", i + 1)) + gen("said").max_tokens(12));
        }
        for fork in &forks {
            s.assistant(&fork["said"]);
        }
        s.assistant("In short: " + gen("summary").max_tokens(12));
    }
    if endless {
        s.user("Tell me a long story.");
        s.assistant(gen("story").max_tokens(100_000).ignore_eos(true));
    }
    if typed {
        return values(s);
    }
    Ok(numbers.iter().map(i64::to_string).chain(seed).collect())
}

fn values(s: &mut State) -> Result<Vec<String>> {
    s.user("Say something.");
    s.assistant(
        "A number: "
            + gen_int("int")
            + "\nA fraction: "
            + gen_float("float")
            + "\nTrue or false: "
            + gen("bool").bool()
            + "\nA word in quotes: "
            + gen_string("string")
            + "\nA colour: "
            + gen("choice").constrain(Constraint::choices(["red", "green", "blue"]))
            + "\nJSON: "
            + gen("json").json_schema(r#"{"const": {"a long name": "a long value"}}"#),
    );
    let (integer, fraction) = (s.get::<i64>("int")?, s.get::<f64>("float")?);
    let (truth, word) = (s.get::<bool>("bool")?, s.get_json::<String>("string")?);
    let json = s.outcome("json")?;
    let forced = format!("{} of {}", json.forced_tokens(), json.completion_tokens());
    let values = [integer.to_string(), fraction.to_string(), truth.to_string(), word, s["choice"].clone(), forced];
    Ok(values.to_vec())
}
