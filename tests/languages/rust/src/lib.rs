//! Calls every function of the contract and says what came of it; `../README.md` says how.

use sglhost_guest::prelude::*;
use sglhost_guest::{accepts_images, context_length, contexts_left, markup, milliseconds_left, models, tokens_left};

const SCHEMA: &str = r#"{"type": "object", "properties": {"a": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["a"], "additionalProperties": false}"#;
const TAGS: &str = r#"{"structures": [{"begin": "<f>", "schema": {"const": 7}, "end": "</f>"}], "triggers": ["<f"]}"#;

/// Calls every function of the contract.
#[program]
fn every_function(
    s: &mut State,
    /// What it talks about.
    topic: String,
    /// What to do instead.
    #[arg(default = "all")]
    part: String,
    #[arg(default = 3)] count: i64,
    #[arg(default = 0.5)] ratio: f64,
    #[arg(default = false)] loud: bool,
    /// Said one after the other.
    words: Option<Vec<String>>,
    note: Option<String>,
) -> Result<Value> {
    match part.as_str() {
        "one" => return slow(s, 1),
        "four" => return slow(s, 4),
        "budget" => return budget(s),
        "unread" => {
            s.append(gen("unread").top_p(2.0));
            return Ok(Value::Null);
        }
        "own error" => return Err(Error::new(format!("no {topic} left"))),
        "panic" => panic!("the {topic} is cold"),
        "exit" => std::process::exit(3),
        "trap" => trap(),
        "recurse" => return Ok(Value::from(recurse(1))),
        _ => {}
    }
    let mut lines = Vec::new();
    let mut say = |line: String| lines.push(line);
    say(format!(
        "arguments: topic={topic} count={count} ratio={} loud={loud} words={} note={}",
        milli(ratio),
        words.map_or("none".to_owned(), |words| words.join("+")),
        note.as_deref().unwrap_or("none")
    ));
    host(&mut say)?;
    prompts(s, &topic, &mut say)?;
    options(s, &mut say)?;
    wrong_options(s, &mut say);
    constraints(s, &mut say)?;
    streams(s, &mut say)?;
    selects(s, &mut say)?;
    forks(s, &mut say)?;
    queued(s, &mut say)?;
    tokens(s, &mut say)?;
    errors(s, &mut say);
    cancelled(s, &mut say);
    Ok(json!({ "lines": lines }))
}

fn host(say: &mut impl FnMut(String)) -> Result<()> {
    say(format!("models: {}", models().join(", ")));
    say(format!("context length: {} {}", context_length(None)?, context_length(Some("scripted"))?));
    say(format!("images: {}", accepts_images(None)?));
    say(format!("no such model: {}", shown(context_length(Some("nobody")))));
    let (tokens, contexts) = (tokens_left(), contexts_left());
    let mut other = State::with_model("scripted");
    other.append("abc" + gen("x").max_tokens(5).temperature(0.0));
    say(format!("another state: {}", other["x"]));
    say(format!("tokens used: {}, contexts used: {}", tokens - tokens_left(), contexts - contexts_left()));
    drop(other);
    say(format!("contexts used after: {}", contexts - contexts_left()));
    say(format!("time left: {}", milliseconds_left() > 0));
    emit("note", "hello")?;
    Ok(())
}

fn prompts(s: &State, topic: &str, say: &mut impl FnMut(String)) -> Result<()> {
    let mut f = s.copy();
    f.system("Be brief.");
    f.user(format!("About {topic}: ") + "é🙂");
    f.role("tool", "42");
    f.user_block(|f| {
        f.append("in a block");
    });
    f.assistant_begin();
    f.append("plain <|end|> ");
    f.append(markup("marked<|end|>"));
    f.append(sglhost_guest::tokens([65, 66]));
    f.assistant_end();
    say(format!("text: {}", f.text()?));
    say(format!("tokens: {}", f.token_count()?));
    Ok(())
}

/// What a call on a copy of the state says.
fn call(s: &State, prompt: &str, asked: Gen) -> Result<String> {
    let mut f = s.copy();
    f.append(text(prompt) + asked);
    let outcome = f.outcome("x")?;
    Ok(format!(
        "{} {} matched={} prompt={} tokens={} forced={}",
        json!(outcome.text()),
        outcome.finish_reason(),
        outcome.matched().as_deref().unwrap_or("none"),
        outcome.prompt_tokens(),
        outcome.completion_tokens(),
        outcome.forced_tokens()
    ))
}

fn options(s: &State, say: &mut impl FnMut(String)) -> Result<()> {
    // Always the likeliest letter.
    let x = || gen("x").max_tokens(8).temperature(0.0);
    let mut f = s.copy();
    f.append("options" + x());
    let outcome = f.outcome("x")?;
    let (letters, tokens) = (outcome.text().to_owned(), outcome.tokens());
    say(format!("eight letters: {letters} {}", joined(&tokens)));
    say(format!("again, cached: {}", {
        f.append("" + x());
        f.outcome("x")?.cached_tokens()
    }));
    let mut say_call = |name: &str, asked: Gen| call(s, "options", asked).map(|line| say(format!("{name}: {line}")));
    say_call("max_tokens 0", x().max_tokens(0))?;
    say_call("seed", x().temperature(1.0).seed(7))?;
    say_call("stop", x().stop(&letters[3..5]))?;
    say_call("stop, one of two", x().stop(["#", &letters[2..4]]))?;
    say_call("stop kept", x().stop(&letters[3..5]).no_stop_trim(true))?;
    say_call("stop token", x().stop_token(tokens[4]))?;
    say_call("stop token after", x().stop_token(tokens[1]).min_tokens(4))?;
    say_call("stop regex", x().stop_regex(format!("{}.", &letters[4..5])))?;
    // The scripted model says something else for each.
    let y = || gen("x").max_tokens(4).temperature(1.0).seed(7);
    say_call("another seed", y().seed(8))?;
    say_call("top_p", y().top_p(0.5))?;
    say_call("top_k", y().top_k(5))?;
    say_call("min_p", y().min_p(0.25))?;
    say_call("frequency_penalty", y().frequency_penalty(0.5))?;
    say_call("presence_penalty", y().presence_penalty(-0.5))?;
    say_call("repetition_penalty", y().repetition_penalty(1.5))?;
    say_call("logit_bias", y().logit_bias(97, -1.0).logit_bias(98, 2.0))?;
    say_call("the end is text", y().ignore_eos(true).skip_special_tokens(false))?;
    let mut f = s.copy();
    f.append("options" + x().max_tokens(2).top_logprobs(2));
    let outcome = f.outcome("x")?;
    say(format!("logprobs: {}", shown_logprobs(&outcome.logprobs())));
    say(format!("top logprobs: {}", shown_logprobs(&outcome.top_logprobs(1))));
    Ok(())
}

/// A value that is refused tells that it arrived.
fn wrong_options(s: &State, say: &mut impl FnMut(String)) {
    let x = || gen("x").max_tokens(1);
    let wrong = [
        ("temperature", x().temperature(-1.5)),
        ("top_p", x().top_p(1.5)),
        ("top_k", x().top_k(-2)),
        ("min_p", x().min_p(1.5)),
        ("frequency_penalty", x().frequency_penalty(2.5)),
        ("presence_penalty", x().presence_penalty(-2.5)),
        ("repetition_penalty", x().repetition_penalty(4.0)),
        ("stop_regex", x().stop_regex("(")),
        ("logit_bias", x().logit_bias(1000, 1.0)),
        ("top_logprobs", x().top_logprobs(1000)),
        ("regex", x().regex("(")),
        ("json_schema", x().json_schema("{\"type\": 7}")),
        ("lark", x().lark("begin: \"x\"")),
        ("structural_tag", x().structural_tag("{}")),
        ("choices", x().constrain(Constraint::choices(Vec::<String>::new()))),
        ("no choices", select("x", Vec::<String>::new())),
    ];
    for (name, asked) in wrong {
        say(format!("wrong {name}: {}", shown(call(s, "wrong", asked))));
    }
}

fn constraints(s: &State, say: &mut impl FnMut(String)) -> Result<()> {
    let x = || gen("x").max_tokens(24).temperature(0.0);
    let mut say_call =
        |name: &str, asked: Gen| call(s, "constraints", asked).map(|line| say(format!("{name}: {line}")));
    say_call("regex", x().regex("[0-9]{3}-[a-f]{2}"))?;
    say_call("choices", x().constrain(Constraint::choices(["red", "green"])))?;
    say_call("json_schema", x().json_schema(SCHEMA))?;
    say_call("lark", x().lark("start: \"<\" /[0-9]/ \">\""))?;
    say_call("structural_tag", x().structural_tag(TAGS).stop("</f>").max_tokens(6))?;
    say_call("int", x().int())?;
    say_call("float", x().float())?;
    say_call("bool", x().bool())?;
    say_call("string", x().string())?;
    let mut f = s.copy();
    f.append("typed" + x().json_schema(SCHEMA));
    let a = f.get_json::<Value>("x")?["a"].as_i64().unwrap_or_default();
    f.append(" " + x().regex("[1-9]{2}"));
    say(format!("typed: {} {}", a, f.get::<i64>("x")?));
    Ok(())
}

fn streams(s: &State, say: &mut impl FnMut(String)) -> Result<()> {
    let mut f = s.copy();
    f.append("streams" + gen("x").max_tokens(12).temperature(0.0) + "!");
    let pieces: Vec<String> = f.stream("x").collect();
    say(format!("stream: {} {}", pieces.concat(), pieces.concat() == f["x"]));
    Ok(())
}

fn selects(s: &State, say: &mut impl FnMut(String)) -> Result<()> {
    use ChoicesMethod::{GreedyTokenSelection, TokenLengthNormalized, UnconditionalLikelihoodNormalized};

    let methods = [TokenLengthNormalized, GreedyTokenSelection, UnconditionalLikelihoodNormalized];
    for (name, method) in ["token length", "greedy", "unconditional"].iter().zip(methods) {
        let mut f = s.copy();
        f.append("selects 0 " + select("x", ["rare", "red", "ruby", "ready"]).choices_method(method));
        let outcome = f.outcome("x")?;
        let scores: Vec<_> = outcome.scores().into_iter().map(|score| milli(score.into())).collect();
        let choice = outcome.choice().unwrap_or_default();
        say(format!("select by {name}: {} {choice} {}", outcome.text(), joined(&scores)));
    }
    Ok(())
}

fn forks(s: &State, say: &mut impl FnMut(String)) -> Result<()> {
    let mut f = s.copy();
    f.append("forks ");
    let mut forks = f.fork(3);
    for (i, fork) in forks.iter_mut().enumerate() {
        fork.append(text(i.to_string()) + gen("x").max_tokens(4).temperature(0.0));
    }
    f.append("then" + gen("y").max_tokens(4).temperature(0.0));
    let said: Vec<&str> = forks.iter().map(|fork| fork["x"].as_str()).collect();
    say(format!("forks: {} {}", said.join(" "), f["y"]));
    say(format!("a fork's text: {}", forks[2].text()?));
    say(format!("a fork knows: {}", { f.copy()["y"] == f["y"] }));
    Ok(())
}

fn queued(s: &State, say: &mut impl FnMut(String)) -> Result<()> {
    let mut f = s.copy();
    let x = |name| gen(name).max_tokens(3).temperature(0.0);
    f.append("queued " + x("a") + " and " + x("b"));
    f.append("." + x("a"));
    let (b, a) = (f["b"].clone(), f["a"].clone());
    say(format!("queued: {b} {a} {}", f.text()?));
    Ok(())
}

fn tokens(s: &State, say: &mut impl FnMut(String)) -> Result<()> {
    let mut f = s.copy();
    f.append("tokens");
    say(format!("next: {}", shown_logprobs(&f.next_tokens(3)?)));
    say(format!("score: {}", shown_logprobs(&f.score("abc")?)));
    say(format!("as before: {}", f.token_count()?));
    f.truncate(3)?;
    say(format!("cut: {} {}", f.text()?, f.token_count()?));
    Ok(())
}

fn errors(s: &State, say: &mut impl FnMut(String)) {
    let mut check = |name: &str, step: &dyn Fn(&mut State)| {
        let mut f = s.copy();
        step(&mut f);
        say(format!("{name}: {}", shown(f.sync().and_then(|()| f.token_count()))));
    };
    check("too long", &|f| {
        f.append("0123456789".repeat(500) + "");
        f.append(gen("x"));
    });
    check("image", &|f| {
        f.append(image([0_u8; 4]));
    });
    check("end of no role", &|f| {
        f.role_end();
    });
    check("no such token", &|f| {
        f.append(sglhost_guest::tokens([100_000]));
    });
    let mut f = s.copy();
    say(format!("cut to more: {}", shown(f.truncate(1000).map(|()| ""))));
}

fn cancelled(s: &State, say: &mut impl FnMut(String)) {
    let mut f = s.copy();
    f.append("cancelled" + gen("x").max_tokens(3000));
    let first = f.stream("x").next().is_some();
    f.cancel("x");
    let code = match f.outcome("x") {
        Ok(outcome) => outcome.finish_reason(),
        Err(error) => error.code,
    };
    say(format!("cancelled: {first} {code}"));
    let mut f = s.copy();
    f.append("dropped" + gen("x").max_tokens(3000));
    drop(f);
    say("dropped".to_owned());
}

/// Long calls, all started before the first is read.
fn slow(s: &mut State, calls: usize) -> Result<Value> {
    let mut forks = s.fork(calls);
    for (i, fork) in forks.iter_mut().enumerate() {
        fork.append(text(i.to_string()) + gen("x").max_tokens(40).temperature(0.0));
    }
    Ok(forks.iter().map(|fork| fork["x"].len()).sum::<usize>().into())
}

/// Uses up what the run may use, and says how that ended.
fn budget(s: &mut State) -> Result<Value> {
    for _ in 0..1000 {
        s.append("more " + gen("x").max_tokens(20));
        if let Err(error) = s.outcome("x") {
            return Ok(Value::from(format!("{}: {}", error.code, error.message)));
        }
    }
    Ok(Value::from("no end"))
}

#[cfg(target_arch = "wasm32")]
fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

#[allow(unconditional_recursion, reason = "until the stack is full")]
fn recurse(depth: u64) -> u64 {
    let room = core::hint::black_box([depth; 64]);
    recurse(depth + 1) + room[7]
}

fn joined<T: ToString>(values: &[T]) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

fn milli(value: f64) -> i64 {
    (value * 1000.0).round() as i64
}

fn shown_logprobs(logprobs: &[TokenLogprob]) -> String {
    let one = |it: &TokenLogprob| format!("{}:{}:{}", it.token, it.text(), milli(it.logprob.into()));
    logprobs.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// A value, or how its error is told.
fn shown<T: std::fmt::Display>(result: Result<T>) -> String {
    match result {
        Ok(value) => value.to_string(),
        Err(error) => format!("{}: {} (retryable={})", error.code, error.message, error.retryable),
    }
}
