//! Programs that take without end. Each ends when the host says so: by an error that it returns, or not at all.

use std::hint::black_box;

use crate::sgl::program::lm::{Constraint, Context, Options};
use crate::sgl::program::run;
use crate::sgl::program::types::Error;
use crate::wit_stream;

pub(crate) async fn run(attack: &str) -> Result<String, Error> {
    match attack {
        "loop" => loop {
            black_box(());
        },
        "memory" => memory(),
        "recursion" => Ok(recursion(black_box(0)).to_string()),
        "recursion-in-memory" => Ok(recursion_in_memory(0).to_string()),
        "panic" => panic!("on purpose"),
        "contexts" => contexts(),
        "forks" => forks(),
        "dropped-contexts" => dropped_contexts(),
        "calls" => calls(),
        "operations" => operations(),
        "dropped-forks" => dropped_forks(),
        "handles" => handles(),
        "streams" => streams(),
        "half-streams" => half_streams(),
        "text-streams" => text_streams().await,
        "text" => text(),
        "emit" => emit().await,
        "emit-unawaited" => emit_unawaited().await,
        "tokens" => tokens().await,
        "wait" => wait().await,
        "scores" => scores().await,
        "constraints" => constraints().await,
        "regex-bombs" => regex_bombs().await,
        "schema-bombs" => schema_bombs().await,
        "slow-masks" => slow_masks().await,
        "result" => Ok(format!("\"{}\"", "x".repeat(2 << 20))),
        "not-json" => Ok("{".to_owned()),
        "error" => Err(Error { code: "program".to_owned(), message: "of its own".to_owned(), retryable: false }),
        "error-code" => Err(Error { code: "odd".to_owned(), message: "of its own".to_owned(), retryable: false }),
        _ => Err(Error { code: "invalid".to_owned(), message: format!("no attack {attack}"), retryable: false }),
    }
}

fn memory() -> ! {
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        held.push(black_box(vec![1; 1 << 20]));
    }
}

/// Frames of the machine's stack alone.
fn recursion(depth: u64) -> u64 {
    if depth == u64::MAX { 1 } else { recursion(depth + 1).rotate_left(7) ^ depth }
}

/// Frames in the guest's own stack, which lies in its memory.
#[expect(unconditional_recursion, reason = "that is the harm")]
fn recursion_in_memory(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    black_box(recursion_in_memory(black_box(depth + 1))) + frame[0]
}

fn contexts() -> Result<String, Error> {
    let mut held = Vec::new();
    loop {
        held.push(Context::create(None)?);
    }
}

/// Never more than one is open, but each has to be told of, and the program leaves the host no time for that.
fn dropped_contexts() -> Result<String, Error> {
    loop {
        drop(Context::create(None)?);
    }
}

fn forks() -> Result<String, Error> {
    let mut held = vec![Context::create(None)?];
    loop {
        held.push(held[held.len() - 1].fork()?);
    }
}

fn calls() -> Result<String, Error> {
    let mut held = Vec::new();
    let context = Context::create(None)?;
    context.append("stall")?;
    loop {
        held.push(context.generate(&Options::new())?);
    }
}

fn operations() -> Result<String, Error> {
    let context = Context::create(None)?;
    context.append("stall")?;
    let _call = context.generate(&Options::new())?;
    loop {
        context.append("x")?;
    }
}

/// No more than two contexts are ever open, and yet each fork has to be remembered until its parent comes to it.
fn dropped_forks() -> Result<String, Error> {
    let mut context = Context::create(None)?;
    context.append("stall")?;
    let _call = context.generate(&Options::new())?;
    loop {
        context = context.fork()?;
    }
}

/// What is wrong with options is told by the call that uses them: the program asks one now and then.
fn handles() -> Result<String, Error> {
    let context = Context::create(None)?;
    let mut held = Vec::new();
    loop {
        let options = Options::new();
        let call = context.generate(&options)?;
        call.cancel();
        held.push((options, call));
    }
}

/// Streams of its own, which the host learns of from wasmtime alone.
fn streams() -> ! {
    let mut held = Vec::new();
    loop {
        held.push(wit_stream::new::<String>());
    }
}

/// The end that reads keeps all of the stream.
fn half_streams() -> ! {
    let mut held = Vec::new();
    loop {
        let (writer, reader) = wit_stream::new::<String>();
        drop(writer);
        held.push(reader);
    }
}

/// Streams of calls that ended, and of which nothing else is held.
async fn text_streams() -> Result<String, Error> {
    let mut held = Vec::new();
    loop {
        let context = Context::create(None)?;
        context.append("x")?;
        let call = context.generate(&Options::new())?;
        held.push(call.text()?);
        call.finished().await?;
    }
}

fn text() -> Result<String, Error> {
    let context = Context::create(None)?;
    let text = "x".repeat(1 << 20);
    loop {
        context.append(&text)?;
    }
}

async fn emit() -> Result<String, Error> {
    let data = "x".repeat(64 << 10);
    loop {
        run::emit("noise".to_owned(), data.clone()).await?;
    }
}

async fn emit_unawaited() -> Result<String, Error> {
    let mut pending = Vec::new();
    loop {
        let mut emit = Box::pin(run::emit("noise".to_owned(), String::new()));
        // Polled once, so that it is under way.
        let state = std::future::poll_fn(|context| std::task::Poll::Ready(emit.as_mut().poll(context))).await;
        match state {
            std::task::Poll::Ready(result) => result?,
            std::task::Poll::Pending => pending.push(emit),
        }
    }
}

async fn tokens() -> Result<String, Error> {
    let context = Context::create(None)?;
    loop {
        context.append("more and more text")?;
        context.generate(&Options::new())?.finished().await?;
    }
}

async fn wait() -> Result<String, Error> {
    let context = Context::create(None)?;
    context.append("stall")?;
    let outcome = context.generate(&Options::new())?.finished().await?;
    Ok(crate::json(&outcome.text()))
}

async fn scores() -> Result<String, Error> {
    let context = Context::create(None)?;
    context.append("stall")?;
    let mut pending = Vec::new();
    loop {
        let mut score = Box::pin(context.score("x".to_owned()));
        let state = std::future::poll_fn(|task| std::task::Poll::Ready(score.as_mut().poll(task))).await;
        match state {
            std::task::Poll::Ready(result) => drop(result?),
            std::task::Poll::Pending => pending.push(score),
        }
    }
}

async fn constraints() -> Result<String, Error> {
    let mut held = Vec::new();
    loop {
        held.push(Constraint::regex("[a-z]+".to_owned()).await?);
    }
}

/// Patterns whose automata would take the machine's memory, or time without end.
async fn regex_bombs() -> Result<String, Error> {
    let bombs = [
        "((a{1,1000}){1,1000}){1,1000}".to_owned(),
        "(?:(?:(?:(?:x{1,60}){1,60}){1,60}){1,60}){1,60}".to_owned(),
        "\\p{L}{1,20000}".to_owned(),
        "(a|b)*a(a|b){40}".to_owned(),
        "(".repeat(60_000),
        "(a|ab|b)*".repeat(7000),
        "x".repeat(1 << 20),
    ];
    let mut codes = Vec::new();
    for bomb in bombs {
        codes.push(Constraint::regex(bomb).await.map_or_else(|error| error.code, |_| "ok".to_owned()));
    }
    Ok(format!("{codes:?}"))
}

/// Schemas and grammars that would take the machine's memory, or time without end, and some that are only large.
async fn schema_bombs() -> Result<String, Error> {
    let references: String = (0..9000).map(|n| format!(r##""d{n}":{{"$ref":"#/$defs/d{}"}},"##, n + 1)).collect();
    let patterns: Vec<String> = (0..39).map(|n| format!(r#"{{"pattern":"a.{{{n}}}b"}}"#)).collect();
    let words: Vec<String> = (0..40_000).map(|n| format!(r#""w{n}""#)).collect();
    let schemas = [
        format!(r##"{{"$defs":{{{references}"d9000":{{}}}},"$ref":"#/$defs/d0"}}"##),
        format!(r#"{{"type":"string","allOf":[{}]}}"#, patterns.join(",")),
        format!(r#"{{"enum":[{}]}}"#, words.join(",")),
        format!(r#"{{"const":"{}"}}"#, "x".repeat(1 << 20)),
        "[".repeat(100_000),
        r#"{"type":"array","items":{"type":"string","maxLength":1000000},"minItems":1000000}"#.to_owned(),
    ];
    let doubling: String = (0..40).map(|n| format!("T{n}: T{} T{}\n", n + 1, n + 1)).collect();
    let grammars = [
        format!("start: T0\n{doubling}T40: \"a\"\n"),
        format!("start: {}\"a\"{}\n", "(".repeat(10_000), ")".repeat(10_000)),
        "start: start start start | \"a\" | \"\"\n".to_owned(),
    ];
    let mut codes = Vec::new();
    for schema in schemas {
        codes.push(Constraint::json_schema(schema).await.map_or_else(|error| error.code, |_| "ok".to_owned()));
    }
    for grammar in grammars {
        codes.push(Constraint::lark(grammar).await.map_or_else(|error| error.code, |_| "ok".to_owned()));
    }
    Ok(format!("{codes:?}"))
}

/// Calls whose every mask takes as long as the limits allow.
async fn slow_masks() -> Result<String, Error> {
    let regex = Constraint::regex("(?s).*[ae].{120}".to_owned()).await?;
    let grammar = Constraint::lark("start: e\ne: e e e | e e | \"a\" | \"b\"\n".to_owned()).await?;
    let mut calls = Vec::new();
    for constraint in [&regex, &grammar, &regex, &grammar] {
        let options = Options::new();
        options.max_tokens(200);
        options.constrain(constraint);
        let context = Context::create(None)?;
        context.append("slow")?;
        calls.push(context.generate(&options)?);
    }
    let mut ends = Vec::new();
    for call in calls {
        ends.push(call.finished().await.map_or_else(|error| error.code, |outcome| outcome.finish_reason()));
    }
    Ok(format!("{ends:?}"))
}
