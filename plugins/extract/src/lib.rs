use sglhost_guest::prelude::*;

/// Reads a text, and fills in a JSON Schema with what it says.
#[program]
fn extract(
    s: &mut State,
    /// What to read.
    #[arg(default = include_str!("../invoice.txt").to_owned())]
    text: String,
    /// What to find in it, as a JSON Schema.
    #[arg(default = include_str!("../invoice.json").to_owned())]
    schema: String,
    /// Most tokens of the JSON.
    #[arg(default = 512)]
    max_json_tokens: u32,
) -> Result<Value> {
    s.system("You read texts and write down what they say as JSON.");
    s.user(format!("{text}\nWrite down what this says, by this JSON Schema:\n{schema}"));
    s.assistant(gen("json").json_schema(schema).max_tokens(max_json_tokens));

    s.get_json("json")
}
