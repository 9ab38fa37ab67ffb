//! A program that does harm, in the way that its arguments ask for: `{"attack": "memory"}`.
//!
//! Written against the bare contract, asynchronous, so that it can do what the SDK would not let a program do.

#![allow(missing_docs, reason = "generated code")]

mod behaviour;
mod describe;
mod harm;
mod wasi;

wit_bindgen::generate!({ path: "../../../wit", world: "program" });

struct Attacks;

impl Guest for Attacks {
    async fn run_program(arguments: String) -> Result<String, Error> {
        // No JSON reader for one string: {"attack": "name"}.
        let attack = arguments.split('"').nth(3).unwrap_or_default().to_owned();
        if let Some(result) = wasi::run(&attack) {
            return result;
        }
        match behaviour::run(&attack).await {
            Some(result) => result,
            None => harm::run(&attack).await,
        }
    }

    fn describe() -> String {
        if let Some(harm) = describe::harm() {
            return harm;
        }
        r#"{"name": "attacks", "description": "does harm", "arguments": {"type": "object",
            "properties": {"attack": {"type": "string", "description": "which harm"}}, "required": ["attack"]}}"#
            .to_owned()
    }
}

export!(Attacks);

/// A JSON string.
fn json(text: &str) -> String {
    format!("{text:?}")
}
