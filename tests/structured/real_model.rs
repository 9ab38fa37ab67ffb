//! The same schemas with the default model, which wants something of its own: through the engine, with jump-forward and
//! masks that come late.

use std::collections::VecDeque;

use serde_json::Value;
use sglhost_core::{FinishReason, SamplingParams, limits::EngineLimits};
use sglhost_device::{CpuConfig, CpuDevice};
use sglhost_engine::{Call, Engine, EngineHandle, Work};
use sglhost_model::{OpenOptions, open};
use sglhost_tests::{model::default_gguf, serving};
use sglhost_text::{Constraint, Segment, SegmentKind};

use crate::{
    cases::{maskbench, suite},
    json_schema::exact,
};

/// Calls under way together.
const TOGETHER: usize = 16;
/// Of an output: enough for most.
const TOKENS: u32 = 96;
/// Of a schema, so much is shown to the model, in characters.
const SHOWN: usize = 160;
/// Added to the logits of what closes a string, an array or an object.
const CLOSING: f32 = 5.0;
/// A schema whose masks reach a limit.
const TOO_COMPLEX: &str = "Github_trivial---o78117";

#[test]
fn what_the_model_writes_validates() {
    let options = OpenOptions { kv_slots: Some(TOGETHER * 512), ..OpenOptions::default() };
    let opened =
        open(&default_gguf(), CpuDevice::new(CpuConfig::default()), &options).unwrap_or_else(|error| panic!("{error}"));
    let engine = serving::start(opened, EngineLimits::default());
    let (mut wrong, mut ended, mut cut, mut inexact) = (Vec::new(), 0, 0, 0);
    let mut under_way: VecDeque<(String, Value, Call)> = VecDeque::new();
    let mut finish = |(name, schema, call): (String, Value, Call)| {
        let outcome = match serving::try_finish(call) {
            Ok(outcome) => outcome,
            // Ends the walks too.
            Err(_) if name == TOO_COMPLEX => return,
            Err(error) => panic!("{name}: {error}"),
        };
        if outcome.finish_reason == Some(FinishReason::Length) {
            cut += 1;
            return;
        }
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        match serde_json::from_str::<Value>(&outcome.text) {
            Ok(value) if exact(&value) => {
                ended += 1;
                if let Err(error) = validator.validate(&value) {
                    wrong.push(format!("{name} | {error} | {}", outcome.text));
                }
            }
            Ok(_) => inexact += 1,
            Err(error) => wrong.push(format!("{name} | not JSON: {error} | {}", outcome.text)),
        }
    };
    for (number, case) in suite().into_iter().chain(maskbench()).enumerate() {
        let tokenizer = &engine.models()[0].tokenizer;
        let Ok(constraint) = Constraint::json_schema(&case.schema.to_string(), tokenizer) else { continue };
        if jsonschema::validator_for(&case.schema).is_err() {
            continue;
        }
        if under_way.len() == TOGETHER {
            under_way.pop_front().into_iter().for_each(&mut finish);
        }
        let call = ask(&engine, &case.schema, constraint, number as u64);
        under_way.push_back((case.name, case.schema, call));
    }
    under_way.into_iter().for_each(&mut finish);
    println!("{ended} outputs validated, {cut} cut at {TOKENS} tokens, {inexact} with numbers past f64");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(ended > 3 * cut && ended > 300, "{ended} outputs ended, {cut} were cut");
}

/// Every other output is the likeliest one. All lean towards closing what is open: without that, this model fills every
/// second string until it is cut.
fn ask(engine: &EngineHandle, schema: &Value, constraint: Constraint, number: u64) -> Call {
    let schema: String = schema.to_string().chars().take(SHOWN).collect();
    let prompt = format!(
        "<|im_start|>user\nWrite an example of JSON under this schema: {schema}<|im_end|>\n<|im_start|>assistant\n"
    );
    let tokenizer = &engine.models()[0].tokenizer;
    let closing = ["\"", "\"}", "\",", "\"]", "}", "]"].iter().flat_map(|text| tokenizer.encode_plain(text));
    let logit_bias = closing.map(|token| (token, CLOSING)).collect();
    let segment = Segment { text: prompt, kind: SegmentKind::Markup };
    let prompt = tokenizer.encode(&[segment]);
    let temperature = if number.is_multiple_of(2) { 0.0 } else { 1.0 };
    let params =
        SamplingParams { max_tokens: TOKENS, temperature, seed: Some(number), logit_bias, ..SamplingParams::default() };
    serving::submit(engine, "local", &prompt, Work::Generate { params: Box::new(params), constraint: Some(constraint) })
}
