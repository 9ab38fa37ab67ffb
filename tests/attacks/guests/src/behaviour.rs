//! Programs that behave, to see that the host keeps its word.

use crate::json;
use crate::sgl::program::lm::{self, Call, Constraint, Context, Options};
use crate::sgl::program::run;
use crate::sgl::program::types::Error;

pub(crate) async fn run(name: &str) -> Option<Result<String, Error>> {
    Some(match name {
        "answer" => answer("say something").await,
        "gate" => answer("gate").await,
        "nothing" => Ok("null".to_owned()),
        "order" => order().await,
        "forks-overlap" => forks_overlap().await,
        "fork-state" => fork_state().await,
        "stream" => stream().await,
        "unread" => unread().await,
        "cancel" => cancel().await,
        "cancel-queued" => cancel_queued().await,
        "drop-call" => drop_call().await,
        "poison" => poison().await,
        "select" => select().await,
        "measure" => measure().await,
        "constrain" => constrain().await,
        "options" => options(),
        "unsupported" => unsupported().await,
        "left" => Ok(format!("[{}, {}]", run::tokens_left(), run::contexts_left())),
        "many-contexts" => many_contexts().await,
        "endless" => endless().await,
        "draws" => draws().await,
        "escapes" => escapes().await,
        _ => return None,
    })
}

fn context(text: &str) -> Result<Context, Error> {
    let context = Context::create(None)?;
    context.append(text)?;
    Ok(context)
}

fn generate(context: &Context, name: &str) -> Result<Call, Error> {
    let options = Options::new();
    options.name(name);
    context.generate(&options)
}

async fn answer(prompt: &str) -> Result<String, Error> {
    let context = context(prompt)?;
    let outcome = generate(&context, "answer")?.finished().await?;
    Ok(json(&outcome.text()))
}

/// What is appended while a call is under way stands behind its text.
async fn order() -> Result<String, Error> {
    let context = context("a")?;
    let call = generate(&context, "first")?;
    context.append("b")?;
    let second = generate(&context, "second")?;
    context.append("c")?;
    let text = context.text().await?;
    call.finished().await?;
    second.finished().await?;
    Ok(json(&text))
}

/// Started together, these overlap although each is waited for in turn.
async fn forks_overlap() -> Result<String, Error> {
    let root = context("meet 4")?;
    let forks = (0..4).map(|_| root.fork()).collect::<Result<Vec<_>, _>>()?;
    let calls = forks.iter().map(|fork| generate(fork, "part")).collect::<Result<Vec<_>, _>>()?;
    for call in &calls {
        call.finished().await?;
    }
    Ok("4".to_owned())
}

/// A fork holds what its parent held when it was made, and neither sees what comes to the other.
async fn fork_state() -> Result<String, Error> {
    let parent = context("p")?;
    generate(&parent, "before")?.finished().await?;
    let child = parent.fork()?;
    parent.append("1")?;
    child.append("2")?;
    Ok(format!("[{}, {}]", json(&parent.text().await?), json(&child.text().await?)))
}

async fn stream() -> Result<String, Error> {
    let context = context("say something")?;
    let call = generate(&context, "streamed")?;
    let mut stream = call.text()?;
    let mut pieces = Vec::new();
    while let Some(piece) = stream.next().await {
        pieces.push(piece);
    }
    let again = call.text().map(|_| ()).map_err(|error| error.code);
    let text = call.finished().await?.text();
    assert_eq!(pieces.concat(), text);
    assert_eq!(again, Err("invalid".to_owned()));
    Ok(json(&text))
}

/// A stream that nobody reads holds nothing up.
async fn unread() -> Result<String, Error> {
    let context = context("say something")?;
    let call = generate(&context, "unread")?;
    let _stream = call.text()?;
    Ok(json(&call.finished().await?.text()))
}

/// The context of a cancelled call keeps exactly what was delivered.
async fn cancel() -> Result<String, Error> {
    let context = context("endless")?;
    let call = generate(&context, "endless")?;
    let mut stream = call.text()?;
    let mut delivered = stream.next().await.unwrap_or_default();
    call.cancel();
    while let Some(piece) = stream.next().await {
        delivered.push_str(&piece);
    }
    let code = call.finished().await.map(|_| ()).map_err(|error| error.code);
    assert_eq!(code, Err("cancelled".to_owned()));
    assert_eq!(context.text().await?, format!("endless{delivered}"));
    context.append("!")?;
    assert_eq!(context.text().await?, format!("endless{delivered}!"));
    Ok("null".to_owned())
}

/// A call that waits for its turn can be cancelled at once.
async fn cancel_queued() -> Result<String, Error> {
    let context = context("stall")?;
    let stalled = generate(&context, "stalled")?;
    let queued = generate(&context, "queued")?;
    queued.cancel();
    let code = queued.finished().await.map(|_| ()).map_err(|error| error.code);
    assert_eq!(code, Err("cancelled".to_owned()));
    stalled.cancel();
    assert_eq!(context.text().await?, "stall");
    Ok("null".to_owned())
}

async fn drop_call() -> Result<String, Error> {
    let context = context("stall")?;
    drop(generate(&context, "dropped")?);
    context.append("ed")?;
    Ok(json(&context.text().await?))
}

/// What cannot be told at once is told by all that is asked afterwards.
async fn poison() -> Result<String, Error> {
    let context = Context::create(None)?;
    context.append_tokens(&[u32::MAX])?;
    let fork = context.fork()?;
    let failed = [
        context.text().await.map(|_| ()),
        context.token_count().await.map(|_| ()),
        context.append("x"),
        fork.text().await.map(|_| ()),
    ];
    let codes: Vec<String> =
        failed.into_iter().map(|result| result.map_or_else(|error| error.code, |()| "ok".to_owned())).collect();
    Ok(format!("{codes:?}"))
}

async fn select() -> Result<String, Error> {
    let context = context("choose: ")?;
    let choices = ["red".to_owned(), "green".to_owned()];
    let call = context.select(&choices, &Options::new())?;
    let outcome = call.finished().await?;
    let choice = outcome.choice().unwrap_or(u32::MAX) as usize;
    assert_eq!(outcome.text(), choices[choice]);
    assert_eq!(outcome.scores().len(), 2);
    Ok(json(&context.text().await?))
}

async fn measure() -> Result<String, Error> {
    let context = context("ab")?;
    let scored = context.score("cd".to_owned()).await?;
    let next = context.next_tokens(3).await?;
    assert_eq!(context.token_count().await?, 2);
    context.truncate(1).await?;
    let bytes: Vec<u8> = scored.iter().flat_map(|token| token.bytes.clone()).collect();
    Ok(format!("[{}, {}, {}]", json(&String::from_utf8_lossy(&bytes)), next.len(), json(&context.text().await?)))
}

async fn constrain() -> Result<String, Error> {
    let bad = Constraint::regex("a(".to_owned()).await.map(|_| ()).map_err(|error| error.code);
    assert_eq!(bad, Err("invalid".to_owned()));
    let constraint = Constraint::regex("[ab]+".to_owned()).await?;
    let options = Options::new();
    options.constrain(&constraint);
    let context = context("constrained")?;
    Ok(json(&context.generate(&options)?.finished().await?.text()))
}

fn options() -> Result<String, Error> {
    let wrong: [fn(&Options); 4] = [
        |options| options.temperature(-1.0),
        |options| options.choices_method("best"),
        |options| options.stop(""),
        |options| (0..100).for_each(|token| options.stop_token(token)),
    ];
    let context = context("x")?;
    let mut codes = Vec::new();
    for set in wrong {
        let options = Options::new();
        set(&options);
        codes.push(context.generate(&options).map_or_else(|error| error.code, |_| "ok".to_owned()));
    }
    Ok(format!("{codes:?}"))
}

async fn unsupported() -> Result<String, Error> {
    let codes = [
        lm::Image::decode(vec![0; 8]).await.map(|_| ()).map_err(|error| error.code),
        Constraint::json_schema(r#"{"uniqueItems": true}"#.to_owned()).await.map(|_| ()).map_err(|error| error.code),
        Constraint::lark("start: missing".to_owned()).await.map(|_| ()).map_err(|error| error.code),
        Context::create(Some("no such model")).map(|_| ()).map_err(|error| error.code),
    ];
    assert!(matches!(lm::accepts_images(None), Ok(false)));
    Ok(format!("{:?}", codes.map(|code| code.unwrap_err())))
}

/// Opening is limited to what is open, not to what was ever opened.
async fn many_contexts() -> Result<String, Error> {
    for _ in 0..1000 {
        context("x")?.token_count().await?;
    }
    Ok("null".to_owned())
}

async fn endless() -> Result<String, Error> {
    let context = context("endless")?;
    let outcome = generate(&context, "endless")?.finished().await?;
    Ok(json(&outcome.text()))
}

/// Seeds drawn for calls that bring none; the scripted engine answers with the seed.
async fn draws() -> Result<String, Error> {
    let mut seeds = Vec::new();
    for _ in 0..3 {
        let context = context("seed")?;
        seeds.push(generate(&context, "seed")?.finished().await?.text());
    }
    Ok(format!("{seeds:?}"))
}

/// What would clear a terminal, name it, write into its clipboard, and put text where other text was read.
const ESCAPES: &str =
    "\u{1b}[2J\u{1b}]0;owned\u{7}\u{1b}]52;c;b3duZWQ=\u{7}\u{9b}31m\u{8}\u{8}\r\u{202e}dnuor yaw rehto\u{7f}\0";

/// Says it in every way there is.
async fn escapes() -> Result<String, Error> {
    crate::wasi::print(ESCAPES);
    run::emit(ESCAPES.to_owned(), ESCAPES.to_owned()).await?;
    let context = context(ESCAPES)?;
    generate(&context, ESCAPES)?.finished().await?;
    Err(Error { code: "program".to_owned(), message: ESCAPES.to_owned(), retryable: false })
}
