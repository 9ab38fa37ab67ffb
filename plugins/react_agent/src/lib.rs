use sglhost_guest::prelude::*;

/// How to reason and act, with an example: the ReAct prompt.
const INSTRUCTIONS: &str = "\
Answer the question with the help of tools. Take turns of Thought, Action and Input; after each you are given an \
Observation. The actions are:
calculate: computes one product, quotient, sum or difference, as in 12 * 7.
look up: finds a fact about a mountain or river.
finish: ends, when you know the answer.

Question: How much longer is the Nile than the Rhine?
Thought: I need the length of the Nile.
Action: look up
Input: Nile
Observation: The Nile is 6650 kilometres long.
Thought: I need the length of the Rhine.
Action: look up
Input: Rhine
Observation: The Rhine is 1233 kilometres long.
Thought: I must subtract one from the other.
Action: calculate
Input: 6650 - 1233
Observation: 5417
Thought: I know the answer.
Action: finish
Answer: The Nile is 5417 kilometres longer.";

/// What there is to look up. The model can ask for nothing else.
const FACTS: [(&str, &str); 6] = [
    ("Amazon", "The Amazon is 6400 kilometres long."),
    ("Danube", "The Danube is 2850 kilometres long."),
    ("Everest", "Mount Everest is 8849 metres high."),
    ("Mont Blanc", "Mont Blanc is 4806 metres high."),
    ("Nile", "The Nile is 6650 kilometres long."),
    ("Rhine", "The Rhine is 1233 kilometres long."),
];

/// The only input that the calculator is ever given.
const EXPRESSION: &str = r"[0-9]{1,6} [-+*/] [0-9]{1,6}\n";

/// An agent that reasons and acts in turns, with tools that run inside the program: a calculator and a table of facts.
#[program]
fn react_agent(
    s: &mut State,
    /// What to find out.
    #[arg(default = "How much higher is Mount Everest than Mont Blanc?")]
    question: String,
    /// Actions before an answer is due.
    #[arg(default = 5)]
    max_actions: u8,
) -> Value {
    s.system(INSTRUCTIONS);
    s.user(text("Question: ") + question);
    s.assistant_begin();

    let mut steps = Vec::new();
    for _ in 0..max_actions {
        s += "Thought:"
            + gen("thought").stop("\n")
            + "\nAction: "
            + select("action", ["calculate", "look up", "finish"]);
        let observation = match s["action"].as_str() {
            "calculate" => {
                s += "\nInput: " + gen("input").regex(EXPRESSION).stop("\n").max_tokens(24);
                calculate(&s["input"])
            }
            "look up" => {
                s += "\nInput: " + select("input", FACTS.map(|(name, _)| name));
                look_up(&s["input"])
            }
            _ => break,
        };
        steps.push(json!({
            "thought": s["thought"].trim(),
            "action": s["action"],
            "input": s["input"],
            "observation": observation,
        }));
        s += format!("\nObservation: {observation}\n");
    }
    s += "\nAnswer:" + gen("answer").stop("\n");
    s += assistant_end();
    json!({ "answer": s["answer"].trim(), "steps": steps })
}

fn calculate(expression: &str) -> String {
    let mut parts = expression.split(' ');
    let (Some(Ok(left)), Some(operator), Some(Ok(right))) =
        (parts.next().map(str::parse::<f64>), parts.next(), parts.next().map(str::parse::<f64>))
    else {
        return format!("{expression:?} cannot be computed"); // Cut off before its end.
    };
    match operator {
        "+" => left + right,
        "-" => left - right,
        "*" => left * right,
        _ if right == 0.0 => return "nothing can be divided by 0".to_owned(),
        _ => left / right,
    }
    .to_string()
}

fn look_up(name: &str) -> String {
    FACTS.iter().find(|(known, _)| *known == name).map_or_else(String::new, |(_, fact)| (*fact).to_owned())
}
