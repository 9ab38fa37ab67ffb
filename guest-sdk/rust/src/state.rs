//! One conversation so far, SGLang's `s`: what is appended to it, and the results by name.
//!
//! Nothing here waits until a result is read: a `gen` starts at once, and what is appended after it queues behind it on
//! the host. So forks overlap although a program is written as plain blocking code.
//!
//! Invariant: after the first failure no step reaches the host any more; see [`crate::error`].

use std::cell::{Cell, OnceCell};
use std::ops::{AddAssign, Index};
use std::rc::Rc;
use std::str::FromStr;

use serde::de::DeserializeOwned;

use crate::bindings::sgl::program::{lm, types};
use crate::error::{Error, Failure, Result, from_host};
use crate::generate::Gen;
use crate::outcome::{Outcome, TokenLogprob, logprobs_from_host};
use crate::prompt::{self, Part, Prompt};
use crate::stream::Stream;

/// Results read from a failed state as empty text before the program is stopped: it would loop for ever otherwise.
const EMPTY_READS_MAX: u32 = 10_000;

/// A conversation with the model: text, generated results by name, and their place in the host's cache.
///
/// ```edition2021
/// # use sglhost_guest::prelude::*;
/// #[program]
/// fn translate(s: &mut State, sentence: String) -> Result<String> {
///     s.system("You translate English into French.");
///     s.user(sentence);
///     s.assistant(gen("french").max_tokens(100).stop("\n"));
///     Ok(s["french"].clone())
/// }
/// # fn main() {}
/// ```
#[derive(Debug)]
pub struct State {
    /// None where the host refused to open one; then `failure` says why.
    context: Option<lm::Context>,
    /// Results in the order in which they were started; the last of a name counts. Forks share them.
    results: Vec<(String, Rc<Pending>)>,
    failure: OnceCell<Rc<Failure>>,
    empty_reads: Cell<u32>,
}

/// A call, and how it ended once somebody waited for it.
#[derive(Debug)]
struct Pending {
    call: lm::Call,
    outcome: OnceCell<Result<Outcome, Rc<Failure>>>,
}

impl Pending {
    fn wait(&self) -> Result<&Outcome, &Rc<Failure>> {
        let finish = || match self.call.finished() {
            Ok(outcome) => Ok(Outcome::new(outcome)),
            Err(error) => Err(Failure::note(from_host(error))),
        };
        self.outcome.get_or_init(finish).as_ref()
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// An empty conversation with the host's default model. A program is given its first one.
    #[must_use]
    pub fn new() -> Self {
        Self::open(None)
    }

    /// An empty conversation with one of the models that the host serves; see [`crate::models`].
    #[must_use]
    pub fn with_model(model: &str) -> Self {
        Self::open(Some(model))
    }

    fn open(model: Option<&str>) -> Self {
        Self::from_context(lm::Context::create(model), Vec::new())
    }

    fn from_context(context: Result<lm::Context, types::Error>, results: Vec<(String, Rc<Pending>)>) -> Self {
        let state = Self { context: None, results, failure: OnceCell::new(), empty_reads: Cell::new(0) };
        match context {
            Ok(context) => Self { context: Some(context), ..state },
            Err(error) => {
                state.fail(Failure::note(from_host(error)));
                state
            }
        }
    }

    /// Keeps the first failure. Later ones follow from it, so nobody need look at them.
    fn fail(&self, failure: Rc<Failure>) -> Rc<Failure> {
        let first = self.failure.get_or_init(|| Rc::clone(&failure));
        if !Rc::ptr_eq(first, &failure) {
            failure.show();
        }
        Rc::clone(first)
    }

    /// Does one step on the host, unless an earlier one failed.
    fn step<T>(&self, step: impl FnOnce(&lm::Context) -> Result<T, types::Error>) -> Result<T, Rc<Failure>> {
        match (&self.context, self.failure.get()) {
            (_, Some(failure)) => Err(Rc::clone(failure)),
            (Some(context), None) => step(context).map_err(|error| self.fail(Failure::note(from_host(error)))),
            (None, None) => unreachable!("a state without a context has failed"),
        }
    }

    /// Appends text, generated text, images or messages: `s.append("Answer: " + gen("answer"))`.
    ///
    /// In a program's own function `s += ..` does the same.
    pub fn append(&mut self, content: impl Into<Prompt>) -> &mut Self {
        for part in content.into().parts {
            self.append_part(part);
        }
        self
    }

    fn append_part(&mut self, part: Part) {
        // A failure stays in the state; the caller has nothing to check.
        let _: Result<(), Rc<Failure>> = match part {
            Part::Text(text) if text.is_empty() => Ok(()),
            Part::Text(text) => self.step(|context| context.append(&text)),
            Part::Markup(text) => self.step(|context| context.append_markup(&text)),
            Part::Tokens(tokens) => self.step(|context| context.append_tokens(&tokens)),
            Part::Image(bytes) => self.step(|context| context.append_image(&lm::Image::decode(&bytes)?)),
            Part::BeginRole(role) => self.step(|context| context.begin_role(&role)),
            Part::EndRole => self.step(|context| context.end_role()),
            Part::Gen(asked) => self.start(*asked),
        };
    }

    fn start(&mut self, asked: Gen) -> Result<(), Rc<Failure>> {
        let call = self.step(|context| {
            let options = asked.to_options().map_err(crate::error::to_host)?;
            match &asked.choices {
                Some(choices) => context.select(choices, &options),
                None => context.generate(&options),
            }
        })?;
        self.results.push((asked.name.unwrap_or_default(), Rc::new(Pending { call, outcome: OnceCell::new() })));
        Ok(())
    }

    /// A whole message of any role that the model's chat template knows.
    pub fn role(&mut self, role: &str, content: impl Into<Prompt>) -> &mut Self {
        self.append(prompt::role(role, content))
    }

    /// A message of any role, written by a closure.
    pub fn role_block(&mut self, role: &str, write: impl FnOnce(&mut Self)) -> &mut Self {
        self.append(prompt::role_begin(role));
        write(self);
        self.append(prompt::role_end())
    }

    /// The beginning of a message of any role.
    pub fn role_begin(&mut self, role: &str) -> &mut Self {
        self.append(prompt::role_begin(role))
    }

    /// The end of the message that was begun last.
    pub fn role_end(&mut self) -> &mut Self {
        self.append(prompt::role_end())
    }

    /// The text generated under `name`, as a number, a bool or whatever can be parsed from text.
    ///
    /// # Errors
    /// The call failed, there is none of that name, or its text does not parse; the text is trimmed first.
    pub fn get<T: FromStr>(&self, name: &str) -> Result<T> {
        let outcome = self.outcome(name)?;
        outcome.text().trim().parse().map_err(|_| wrong(name, outcome, std::any::type_name::<T>()))
    }

    /// The text generated under `name`, read as JSON into any type of serde's: what a `json_schema` asked for.
    ///
    /// ```edition2021
    /// # use sglhost_guest::prelude::*;
    /// # use serde::Deserialize;
    /// # const SCHEMA: &str = "{}";
    /// #[derive(Deserialize)]
    /// struct Person {
    ///     name: String,
    ///     age: u32,
    /// }
    ///
    /// # fn read(s: &mut State) -> Result<()> {
    /// s.assistant(gen("person").json_schema(SCHEMA));
    /// let Person { name, age } = s.get_json("person")?;
    /// # drop((name, age));
    /// # Ok(())
    /// # }
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// The call failed, there is none of that name, or its text is no such JSON: it may have reached `max_tokens` first.
    pub fn get_json<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let outcome = self.outcome(name)?;
        serde_json::from_str(outcome.text()).map_err(|error| {
            let mut wrong = wrong(name, outcome, "JSON of the kind that is read");
            wrong.message += &format!(" ({error})");
            wrong
        })
    }

    /// How the call named `name` ended: its text, tokens, finish reason, log-probabilities, scores. Waits for it.
    ///
    /// # Errors
    /// The call failed, or there is none of that name.
    pub fn outcome(&self, name: &str) -> Result<&Outcome> {
        match self.find(name) {
            Some(result) => result.wait().map_err(|failure| {
                self.fail(Rc::clone(failure));
                failure.show()
            }),
            None => match self.failure.get() {
                Some(failure) => Err(failure.show()),
                None => Err(Error::invalid(self.no_such_name(name))),
            },
        }
    }

    /// The pieces of the text generated as `name`, each as soon as it is there. At most once a call; `s[name]` is the
    /// whole text in any case.
    pub fn stream(&self, name: &str) -> Stream {
        let Some(result) = self.find(name) else {
            assert!(self.failure.get().is_some(), "{}", self.no_such_name(name));
            return Stream::empty();
        };
        match result.call.text() {
            Ok(reader) => Stream::new(reader),
            Err(error) => {
                self.fail(Failure::note(from_host(error)));
                Stream::empty()
            }
        }
    }

    /// Stops generating `name`; what was delivered stays.
    pub fn cancel(&self, name: &str) {
        if let Some(result) = self.find(name) {
            result.call.cancel();
        }
    }

    fn find(&self, name: &str) -> Option<&Rc<Pending>> {
        self.results.iter().rev().find(|(of, _)| of == name).map(|(_, result)| result)
    }

    fn no_such_name(&self, name: &str) -> String {
        let names: Vec<_> = self.results.iter().map(|(name, _)| name.as_str()).collect();
        format!("nothing was generated as {name:?}; there is {names:?}")
    }

    /// Independent copies from here on, with the results so far. They share the cache up to here, and their calls
    /// run at the same time.
    #[must_use]
    pub fn fork(&self, count: usize) -> Vec<Self> {
        (0..count).map(|_| self.copy()).collect()
    }

    /// One independent copy from here on.
    #[must_use]
    pub fn copy(&self) -> Self {
        match self.step(lm::Context::fork) {
            Ok(context) => Self::from_context(Ok(context), self.results.clone()),
            Err(failure) => Self {
                context: None,
                results: self.results.clone(),
                failure: OnceCell::from(failure),
                empty_reads: Cell::new(0),
            },
        }
    }

    /// The whole text so far, role markers included. Waits for what is queued.
    ///
    /// # Errors
    /// A step or call of this state failed.
    pub fn text(&self) -> Result<String> {
        self.ask(lm::Context::text)
    }

    /// Length of the conversation in tokens. Waits for what is queued.
    ///
    /// # Errors
    /// A step or call of this state failed.
    pub fn token_count(&self) -> Result<u32> {
        self.ask(lm::Context::token_count)
    }

    /// Log-probability of each token of `text` as the continuation. The conversation stays as it is.
    ///
    /// # Errors
    /// A step or call of this state failed, or the text is too long.
    pub fn score(&self, text: &str) -> Result<Vec<TokenLogprob>> {
        self.ask(|context| context.score(text)).map(logprobs_from_host)
    }

    /// The likeliest next tokens, likeliest first: for search, voting and decoding of one's own.
    ///
    /// # Errors
    /// A step or call of this state failed.
    pub fn next_tokens(&self, count: u32) -> Result<Vec<TokenLogprob>> {
        self.ask(|context| context.next_tokens(count)).map(logprobs_from_host)
    }

    /// Cuts the conversation back to its first `tokens` tokens.
    ///
    /// # Errors
    /// A step or call of this state failed.
    pub fn truncate(&mut self, tokens: u32) -> Result<()> {
        self.ask(|context| context.truncate(tokens))
    }

    fn ask<T>(&self, ask: impl FnOnce(&lm::Context) -> Result<T, types::Error>) -> Result<T> {
        self.step(ask).map_err(|failure| failure.show())
    }

    /// Waits for all calls of this state.
    ///
    /// # Errors
    /// The first failure of a step or a call.
    pub fn sync(&self) -> Result<()> {
        self.wait_for_all();
        self.error().map_or(Ok(()), Err)
    }

    /// Like [`State::sync`], but a failure stays unseen.
    pub(crate) fn wait_for_all(&self) {
        for (_, result) in &self.results {
            if let Err(failure) = result.wait() {
                self.fail(Rc::clone(failure));
            }
        }
    }

    /// Why this state stopped taking steps, if it did. Whoever asks has seen the error: it no longer ends the run.
    #[must_use]
    pub fn error(&self) -> Option<Error> {
        self.failure.get().map(|failure| failure.show())
    }
}

/// What was generated is not what is wanted.
fn wrong(name: &str, outcome: &Outcome, wanted: &str) -> Error {
    let text = outcome.text().trim();
    let cut = if outcome.finish_reason() == "length" { "; it was cut at max_tokens: allow it more" } else { "" };
    Error::new(format!("the text generated as {name:?} is no {wanted}: {text:?}{cut}"))
}

macro_rules! roles {
    ($($name:ident $block:ident $begin:ident $end:ident)*) => {$(
        #[doc = concat!("A whole ", stringify!($name), " message: `s.", stringify!($name), "(\"..\")`.")]
        pub fn $name(&mut self, content: impl Into<Prompt>) -> &mut Self {
            self.append(prompt::$name(content))
        }

        #[doc = concat!("A ", stringify!($name), " message written by a closure, SGLang's `with s.", stringify!($name), "():`.")]
        pub fn $block(&mut self, write: impl FnOnce(&mut Self)) -> &mut Self {
            self.role_block(stringify!($name), write)
        }

        #[doc = concat!("The beginning of a message of the ", stringify!($name), ".")]
        pub fn $begin(&mut self) -> &mut Self {
            self.append(prompt::$begin())
        }

        #[doc = concat!("The end of a message of the ", stringify!($name), ".")]
        pub fn $end(&mut self) -> &mut Self {
            self.append(prompt::$end())
        }
    )*};
}

impl State {
    roles! {
        system system_block system_begin system_end
        user user_block user_begin user_end
        assistant assistant_block assistant_begin assistant_end
    }
}

/// The text generated under a name. Waits for it.
///
/// Of a failed call or state it is empty, and the failure ends the run unless the program looks at it: with
/// [`State::outcome`], [`State::sync`] or [`State::error`].
///
/// # Panics
/// Nothing was generated under that name.
impl Index<&str> for State {
    // A `String` rather than a `str`, so that `s["tool"] == "calculator"` and `format!("{}", s["tool"])` compile.
    type Output = String;

    fn index(&self, name: &str) -> &String {
        static EMPTY: String = String::new();

        let failure = match self.find(name).map(|result| result.wait()) {
            Some(Ok(outcome)) => return outcome.string(),
            Some(Err(failure)) => self.fail(Rc::clone(failure)),
            None => match self.failure.get() {
                Some(failure) => Rc::clone(failure),
                None => panic!("{}", self.no_such_name(name)),
            },
        };
        self.empty_reads.set(self.empty_reads.get() + 1);
        let reads = self.empty_reads.get();
        assert!(reads < EMPTY_READS_MAX, "{name:?} was read {reads} times after it failed: {}", failure.peek());
        &EMPTY
    }
}

impl<P: Into<Prompt>> AddAssign<P> for State {
    fn add_assign(&mut self, content: P) {
        self.append(content);
    }
}

/// So that `s += ..` works in a program, whose `s` is a `&mut State`.
impl<P: Into<Prompt>> AddAssign<P> for &mut State {
    fn add_assign(&mut self, content: P) {
        self.append(content);
    }
}
