//! What constraints cost and save in the CPU engine, in one run, rounds alternating.
//!
//! `structured [--model PATH] [--threads N] [--rounds N]` prints three tables:
//!
//! - 16 sequences that write JSON under a schema, against 16 that write as much free text, both without jump-forward, so
//!   that as many tokens are sampled: what masks cost a token. Once with strings of any length, and once with short ones,
//!   whose masks are costly: near a `maxLength` each token has to be looked at.
//! - the `character_gen` program of the seed (its prompt and regex), with and without jump-forward.
//! - the time between two tokens of 4 sequences of free text, beside 4 whose masks are cheap, beside 4 whose masks are as
//!   slow as the limits allow, and while constraints that are made to take long are compiled without a pause, as programs
//!   have them compiled: on a thread of the lowest priority.

#![allow(clippy::unwrap_used, reason = "a panic is how a benchmark fails")]

mod measured_engine;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use measured_engine::{Flags, MeasuredEngine, request};
use serde_json::Value;
use sglhost_core::limits::{CONSTRAINT_STACK_BYTES, EngineLimits};
use sglhost_core::{RunId, SamplingParams, TenantId, TokenId};
use sglhost_engine::{Call, CallEvent, Engine, Outcome, Work};
use sglhost_text::{Constraint, ConstraintSpec, Tokenizer};

const SEQUENCES: u64 = 16;
const TOKENS: u32 = 96;
/// Long enough that no sequence ends before [`TOKENS`].
const SCHEMA: &str = r#"{
    "type": "array", "minItems": 200,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 40}, "age": {"type": "integer"},
            "kind": {"enum": ["student", "teacher", "ghost"]}, "house": {"type": ["string", "null"], "maxLength": 20},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 4}
        },
        "required": ["name", "age", "kind", "house", "tags"], "additionalProperties": false
    }
}"#;
/// What makes its strings short.
const SHORT: [&str; 3] = [r#", "maxLength": 40"#, r#", "maxLength": 20"#, r#", "maxLength": 12"#];
/// Has the regex of the seed's `character_gen`, among others.
const CASES: &str = include_str!("masks/cases.json");
const BESIDE: u64 = 4;
const BOMBS: &str = "constraints that are refused";
/// A pattern whose every mask is cheap, and constraints that are built to be slow.
const CHEAP: &str = "[a-z ]{1000,}";
const SLOW_REGEX: &str = r"(?s).*[ae].{120}";
const SLOW_LARK: &str = "start: e\ne: e e | /[a-z ,.]+/ | /[A-Z][a-z]*/ | /[^a]+/\n";
const QUESTION: &str = "<|im_start|>user\nHarry Potter is a character in Harry Potter. Please fill in the following \
                        information about this character.<|im_end|>\n<|im_start|>assistant\n";

fn main() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    tokio.block_on(async { tokio::spawn(measure(Flags::read())).await.unwrap() });
}

async fn measure(flags: Flags) {
    let rounds: usize = flags.number("rounds", 5);
    let with = |jump_forward| EngineLimits { jump_forward, ..EngineLimits::default() };
    let jumping = MeasuredEngine::start_with(&flags, with(true)).await;
    let stepping = MeasuredEngine::start_with(&flags, with(false)).await;
    let stepping = Arc::new(stepping);
    let tokenizer = Arc::clone(&stepping.engine.models()[0].tokenizer);
    let prompt: Arc<[TokenId]> = tokenizer
        .encode(&[sglhost_text::Segment { text: QUESTION.into(), kind: sglhost_text::SegmentKind::Markup }])
        .into();
    let short = Constraint::json_schema(SCHEMA, &tokenizer).unwrap();
    let schema = SHORT.iter().fold(SCHEMA.to_owned(), |schema, short| schema.replace(short, ""));
    let schema = Constraint::json_schema(&schema, &tokenizer).unwrap();
    let cases: Vec<Value> = serde_json::from_str(CASES).unwrap();
    let character = cases.iter().find(|case| case["name"] == "character (seed)").unwrap()["source"].as_str().unwrap();
    let character = Constraint::regex(character, &tokenizer).unwrap();

    let [mut free, mut json, mut tight, mut with, mut without] = [const { Vec::new() }; 5];
    let (mut tokens, mut forced) = (0, 0_usize);
    // The first round warms caches up and is not counted.
    for round in 0..=rounds {
        let together = |constraint: Option<Constraint>| together(&stepping, &prompt, constraint, round as u64);
        let (first, second) = (together(None).await, together(Some(schema.clone())).await);
        let third = together(Some(short.clone())).await;
        let (stepped, _) = one(&stepping, &prompt, &character, round as u64).await;
        let (jumped, outcome) = one(&jumping, &prompt, &character, round as u64).await;
        if round > 0 {
            free.push(first);
            json.push(second);
            tight.push(third);
            without.push(stepped);
            with.push(jumped);
            tokens += outcome.usage.completion_tokens;
            forced += outcome.forced_tokens;
        }
    }
    println!("| {SEQUENCES} sequences of {TOKENS} tokens | µs per sampled token, median (lowest to highest) | ratio |");
    println!("| --- | ---: | ---: |");
    let each = 1e6 / (SEQUENCES * u64::from(TOKENS)) as f64;
    println!("| free text | {} | 1 |", shown(&free, each));
    println!("| JSON Schema | {} | {:.3} |", shown(&json, each), ratio(&json, &free));
    println!(
        "| with strings of at most 12 to 40 characters | {} | {:.3} |\n",
        shown(&tight, each),
        ratio(&tight, &free)
    );
    println!("| character_gen, one sequence | ms, median (lowest to highest) | ratio |");
    println!("| --- | ---: | ---: |");
    println!("| without jump-forward | {} | 1 |", shown(&without, 1e3));
    println!("| with ({forced} of {tokens} tokens forced) | {} | {:.3} |\n", shown(&with, 1e3), ratio(&with, &without));

    println!("| between two tokens of {BESIDE} free texts, beside | ms, p50 | p99 | highest |");
    println!("| --- | ---: | ---: | ---: |");
    let regex = |pattern| Constraint::regex(pattern, &tokenizer).unwrap();
    let cases = [
        ("free texts", None),
        (BOMBS, None),
        ("cheap masks", Some(regex(CHEAP))),
        ("a slow regex", Some(regex(SLOW_REGEX))),
        ("a slow grammar", Some(Constraint::lark(SLOW_LARK, &tokenizer).unwrap())),
    ];
    for (name, constraint) in cases {
        let mut gaps = Vec::new();
        let bombs = (name == BOMBS).then(|| Bombs::start(&tokenizer));
        for round in 0..rounds {
            gaps.extend(gaps_beside(&stepping, &prompt, constraint.as_ref(), round as u64).await);
        }
        let refused = bombs.map_or_else(String::new, |bombs| format!(" ({} refused)", bombs.stop()));
        gaps.sort();
        let at = |percent: usize| gaps[(gaps.len() - 1) * percent / 100].as_secs_f64() * 1e3;
        println!("| {name}{refused} | {:.1} | {:.1} | {:.1} |", at(50), at(99), at(100));
    }
}

/// Compiles what is refused, one after another, until it is stopped.
struct Bombs {
    stopped: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Bombs {
    fn start(tokenizer: &Arc<Tokenizer>) -> Self {
        let definitions = (0..4000).map(|number| format!(r##""d{number}": {{"$ref": "#/$defs/d{}"}}"##, number + 1));
        let definitions = definitions.collect::<Vec<_>>().join(", ");
        let words = (0..100_000).map(|number| format!(r#""word{number}""#)).collect::<Vec<_>>().join(", ");
        let bombs = [
            ConstraintSpec::Regex("(a?){5000}".into()),
            ConstraintSpec::Regex("((a{1,50}){1,50}){1,50}".into()),
            ConstraintSpec::JsonSchema(format!(r##"{{"$ref": "#/$defs/d0", "$defs": {{{definitions}}}}}"##).into()),
            ConstraintSpec::JsonSchema(format!(r#"{{"enum": [{words}]}}"#).into()),
            ConstraintSpec::JsonSchema(format!(r#"{{"description": "{}"}}"#, "x".repeat(10 << 20)).into()),
        ];
        let stopped = Arc::new(AtomicBool::new(false));
        let (stop, tokenizer) = (Arc::clone(&stopped), Arc::clone(tokenizer));
        let work = move || {
            #[cfg(target_os = "linux")]
            let _ = rustix::process::nice(19);
            let mut refused = 0;
            while !stop.load(Ordering::Relaxed) {
                refused += bombs.iter().filter(|bomb| bomb.compile(&tokenizer).is_err()).count();
            }
            refused
        };
        // As much stack as the host gives to such a thread.
        let thread = thread::Builder::new().stack_size(CONSTRAINT_STACK_BYTES).spawn(work).unwrap();
        Self { stopped, thread }
    }

    fn stop(self) -> usize {
        self.stopped.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// The times between two pieces of the free texts.
async fn gaps_beside(
    measured: &MeasuredEngine,
    prompt: &Arc<[TokenId]>,
    constraint: Option<&Constraint>,
    round: u64,
) -> Vec<Duration> {
    let start = |sequence: u64, constraint: Option<&Constraint>| {
        let seed = Some(1000 + round * 2 * BESIDE + sequence);
        let params = SamplingParams { max_tokens: TOKENS, ignore_eos: true, seed, ..SamplingParams::default() };
        let work = Work::Generate { params: Box::new(params), constraint: constraint.cloned() };
        measured.engine.submit(request(&TenantId("bench".into()), RunId(sequence), Arc::clone(prompt), work)).unwrap()
    };
    let beside: Vec<_> = (0..BESIDE).map(|sequence| start(sequence, constraint)).collect();
    let free: Vec<_> = (0..BESIDE).map(|sequence| tokio::spawn(gaps(start(BESIDE + sequence, None)))).collect();
    let mut all = Vec::new();
    for call in free {
        all.extend(call.await.unwrap());
    }
    drop(beside);
    all
}

async fn gaps(mut call: Call) -> Vec<Duration> {
    let mut gaps = Vec::new();
    let mut last = None;
    while let Some(event) = call.events.recv().await {
        if let CallEvent::Failed(error) = event {
            panic!("{error}");
        }
        gaps.extend(last.replace(Instant::now()).map(|last| last.elapsed()));
    }
    // What comes after the first piece: the prompt is no part of it.
    gaps.drain(..1.min(gaps.len()));
    gaps
}

/// Median of the rounds' ratios: what drifts over the run falls out.
fn ratio(times: &[Duration], base: &[Duration]) -> f64 {
    let mut ratios: Vec<f64> = times.iter().zip(base).map(|(a, b)| a.as_secs_f64() / b.as_secs_f64()).collect();
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

fn shown(times: &[Duration], scale: f64) -> String {
    let mut times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * scale).collect();
    times.sort_by(f64::total_cmp);
    format!("{:.1} ({:.1} to {:.1})", times[times.len() / 2], times[0], times[times.len() - 1])
}

/// Time of all sequences, from the first submission to the last end.
async fn together(
    measured: &MeasuredEngine,
    prompt: &Arc<[TokenId]>,
    constraint: Option<Constraint>,
    round: u64,
) -> Duration {
    let started = Instant::now();
    let calls: Vec<_> = (0..SEQUENCES)
        .map(|sequence| {
            let params = SamplingParams {
                max_tokens: TOKENS,
                ignore_eos: true,
                seed: Some(round * SEQUENCES + sequence),
                ..SamplingParams::default()
            };
            let work = Work::Generate { params: Box::new(params), constraint: constraint.clone() };
            tokio::spawn(outcome(measured, Arc::clone(prompt), work, sequence))
        })
        .collect();
    for call in calls {
        let outcome = call.await.unwrap();
        assert_eq!(outcome.tokens.len(), TOKENS as usize, "{}", outcome.text);
    }
    started.elapsed()
}

async fn one(
    measured: &MeasuredEngine,
    prompt: &Arc<[TokenId]>,
    constraint: &Constraint,
    round: u64,
) -> (Duration, Outcome) {
    let started = Instant::now();
    let params = SamplingParams { max_tokens: 256, seed: Some(round), ..SamplingParams::default() };
    let work = Work::Generate { params: Box::new(params), constraint: Some(constraint.clone()) };
    let outcome = outcome(measured, Arc::clone(prompt), work, 1000).await;
    (started.elapsed(), outcome)
}

fn outcome(
    measured: &MeasuredEngine,
    prompt: Arc<[TokenId]>,
    work: Work,
    run: u64,
) -> impl Future<Output = Outcome> + Send + 'static {
    let mut call = measured.engine.submit(request(&TenantId("bench".into()), RunId(run), prompt, work)).unwrap();
    async move {
        loop {
            match call.events.recv().await.unwrap() {
                CallEvent::Delta(_) => {}
                CallEvent::Finished(outcome) => return *outcome,
                CallEvent::Failed(error) => panic!("{error}"),
            }
        }
    }
}
