use sglhost_guest::prelude::*;

const BEGIN: &str = "<function=temperature>";
const END: &str = "</function>";

/// Cities, with their degrees Celsius in January and in July.
const CLIMATE: [(&str, i64, i64); 4] = [("Cairo", 14, 29), ("Lima", 23, 17), ("Oslo", -4, 18), ("Paris", 5, 21)];

/// Answers a question with a tool that the model calls in the middle of what it says.
#[program]
fn tool_call(
    s: &mut State,
    /// What to find out.
    #[arg(default = "How warm is it in Oslo in January?")]
    question: String,
    /// Most calls of the tool.
    #[arg(default = 3)]
    max_calls: u32,
) -> Result<Value> {
    let cities = CLIMATE.map(|(city, ..)| city);
    let schema = json!({
        "type": "object",
        "properties": { "city": { "enum": cities }, "month": { "enum": ["January", "July"] } },
        "required": ["city", "month"],
        "additionalProperties": false,
    });
    // What is said is free; a call, once it has begun, is one that can be carried out.
    let tags = json!({
        "structures": [{ "begin": BEGIN, "schema": schema, "end": END }],
        "triggers": ["<function="],
    });

    s.system(format!("You answer questions about the weather in {} with a tool.", cities.join(", ")));
    // An example says more than a description, to a small model above all.
    s.user("How warm is it in Lima in July?");
    s.assistant(format!("{BEGIN}{{\"city\": \"Lima\", \"month\": \"July\"}}{END}\nIt is 17 degrees.\n"));
    s.user(question);
    s.assistant_begin();
    let mut calls = Vec::new();
    while calls.len() < max_calls as usize {
        // Ends right behind a call, so that its answer can follow.
        s.append(gen("said").structural_tag(tags.to_string()).stop(END).no_stop_trim(true).max_tokens(64));
        let Some((_, call)) = s["said"].split_once(BEGIN) else { break };
        // Cut at `max_tokens`, if it has no end.
        let Some(call) = call.strip_suffix(END) else { break };
        let call: Value = call.parse()?;
        let degrees = look_up(&call)?;
        s.append(format!("\nIt is {degrees} degrees.\n"));
        calls.push(json!({ "call": call, "degrees": degrees }));
    }
    s.assistant_end();
    s.user("Only the number of degrees, please.");
    s.assistant(gen_int("degrees"));

    Ok(json!({ "calls": calls, "degrees": s.get::<i64>("degrees")? }))
}

/// The tool.
fn look_up(call: &Value) -> Result<i64> {
    let climate = CLIMATE.into_iter().find(|(city, ..)| call["city"] == *city);
    // The schema has no other city.
    let (_, january, july) = climate.ok_or_else(|| Error::new(format!("no climate for {call}")))?;
    Ok(if call["month"] == "July" { july } else { january })
}
