//! `POST /generate` in the shape of SGLang's, over the engine that the host uses: what client-side programs are
//! measured against. A tool of the benchmark and nothing else: `host/server` serves programs.
//!
//! `completion_server [--port N] [--model PATH] [--threads N] [--kv-tokens N]` prints its address as soon as the engine
//! is warm. `GET /counters` tells what was asked and computed since.
//!
//! Served: `text` (one or a list), `sampling_params`, and `return_logprob` with `logprob_start_len` where
//! `max_new_tokens` is 0, which is how a client chooses. Not: streaming, images, `input_ids`, output log-probabilities.
//! `meta_info.first_token_ms` says how long after the request its first text was there, for want of a stream.

#![allow(clippy::unwrap_used, reason = "a panic is how a benchmark fails")]

mod measured_engine;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use measured_engine::{Flags, MeasuredEngine, request};
use serde::Deserialize;
use serde_json::{Value, json};
use sglhost_core::{Clock, Error, FinishReason, RunId, SamplingParams, StopConditions, TenantId, TokenId};
use sglhost_engine::{CallEvent, Engine, Model, Outcome, Work};
use sglhost_text::{Constraint, Segment};
use tokio::net::TcpListener;

/// Bytes of a request.
const BODY_BYTES_MAX: usize = 64 << 20;

/// The body of `POST /generate`. What is not named here is ignored, as SGLang does.
#[derive(Debug, Deserialize)]
struct Generate {
    text: OneOrMany,
    #[serde(default)]
    sampling_params: Sampling,
    #[serde(default)]
    return_logprob: bool,
    #[serde(default)]
    logprob_start_len: usize,
    #[serde(default)]
    stream: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// SGLang's names and defaults.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sampling {
    max_new_tokens: u32,
    temperature: f32,
    top_p: f32,
    top_k: i32,
    stop: OneOrMany,
    regex: Option<String>,
    sampling_seed: Option<u64>,
    ignore_eos: bool,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            max_new_tokens: 128,
            temperature: 1.0,
            top_p: 1.0,
            top_k: -1,
            stop: OneOrMany::Many(Vec::new()),
            regex: None,
            sampling_seed: None,
            ignore_eos: false,
        }
    }
}

struct Server {
    measured: MeasuredEngine,
    /// Regular expressions compiled so far, as the host keeps them.
    constraints: Mutex<HashMap<String, Constraint>>,
    counters: Counters,
    next_run: AtomicU64,
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    /// Once a request, as a `select` counts them, and not where nothing is computed.
    prompt_tokens: AtomicU64,
    completion_tokens: AtomicU64,
    tokenize_microseconds: AtomicU64,
    handle_microseconds: AtomicU64,
}

fn main() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    tokio.block_on(serve(Flags::read()));
}

async fn serve(flags: Flags) {
    let listener = TcpListener::bind(("127.0.0.1", flags.number("port", 0))).await.unwrap();
    let server = Arc::new(Server {
        measured: MeasuredEngine::start(&flags).await,
        constraints: Mutex::default(),
        counters: Counters::default(),
        next_run: AtomicU64::new(0),
    });
    println!("http://{}", listener.local_addr().unwrap());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let service = service_fn(|request| async { Ok::<_, Infallible>(server.answer(request).await) });
            // A client that goes away is no failure of the server.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl Server {
    async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let answered = match (request.method(), request.uri().path()) {
            (&Method::POST, "/generate") => {
                let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
                match body {
                    Ok(body) => self.generate(&body.to_bytes()).await,
                    Err(error) => Err(Error::invalid(error.to_string())),
                }
            }
            (&Method::GET, "/counters") => Ok(self.counted()),
            _ => Err(Error::invalid("there is POST /generate and GET /counters")),
        };
        let (status, body) = match answered {
            Ok(body) => (StatusCode::OK, body),
            Err(error) => (StatusCode::BAD_REQUEST, json!({ "error": { "message": error.message } })),
        };
        let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
        *response.status_mut() = status;
        response
    }

    async fn generate(self: &Arc<Self>, body: &[u8]) -> Result<Value, Error> {
        let received = self.now();
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let asked: Generate = serde_json::from_slice(body).map_err(|error| Error::invalid(error.to_string()))?;
        if asked.stream {
            return Err(Error::invalid("there is no streaming here; leave out `stream`"));
        }
        let is_list = matches!(asked.text, OneOrMany::Many(_));
        let params = asked.sampling_params;
        if asked.return_logprob && params.max_new_tokens > 0 {
            return Err(Error::invalid("return_logprob is served where max_new_tokens is 0"));
        }
        let computes = asked.return_logprob || params.max_new_tokens > 0;
        let start = asked.return_logprob.then_some(asked.logprob_start_len);
        let constraint = params.regex.as_deref().map(|pattern| self.constraint(pattern)).transpose()?;
        let params = SamplingParams {
            max_tokens: params.max_new_tokens,
            temperature: params.temperature,
            top_p: params.top_p,
            top_k: params.top_k,
            ignore_eos: params.ignore_eos,
            seed: params.sampling_seed,
            stop: StopConditions { strings: params.stop.into_vec(), ..StopConditions::default() },
            ..SamplingParams::default()
        };
        // All items are under way before the first is waited for.
        let mut items = Vec::new();
        for text in asked.text.into_vec() {
            let (server, params, constraint) = (Arc::clone(self), params.clone(), constraint.clone());
            items.push(tokio::spawn(async move { server.item(&text, params, constraint, start, received).await }));
        }
        let mut answers = Vec::new();
        for item in items {
            answers.push(item.await.unwrap()?);
        }
        let most = |field: &str| answers.iter().filter_map(|answer| answer["meta_info"][field].as_u64()).max();
        if computes {
            self.counters.prompt_tokens.fetch_add(most("prompt_tokens").unwrap_or(0), Ordering::Relaxed);
        }
        self.counters.completion_tokens.fetch_add(most("completion_tokens").unwrap_or(0), Ordering::Relaxed);
        self.count_since(received, &self.counters.handle_microseconds);
        Ok(if is_list { answers.into() } else { answers.remove(0) })
    }

    /// The constraint of a regular expression, compiled once.
    fn constraint(&self, pattern: &str) -> Result<Constraint, Error> {
        let mut constraints = self.constraints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(constraint) = constraints.get(pattern) {
            return Ok(constraint.clone());
        }
        let constraint = Constraint::regex(pattern, &self.model().tokenizer)?;
        constraints.insert(pattern.to_owned(), constraint.clone());
        Ok(constraint)
    }

    fn model(&self) -> &Arc<Model> {
        &self.measured.engine.models()[0]
    }

    /// One text of a request: tokenized whole, then generated after, or scored from token `start` on.
    async fn item(
        &self,
        text: &str,
        params: SamplingParams,
        constraint: Option<Constraint>,
        start: Option<usize>,
        received: Duration,
    ) -> Result<Value, Error> {
        let tokenizing = self.now();
        let tokenizer = &self.model().tokenizer;
        let mut tokens: Vec<TokenId> = tokenizer.bos().filter(|_| tokenizer.adds_bos()).into_iter().collect();
        tokens.extend(tokenizer.encode_after(tokens.last().copied(), &[Segment::markup(text)]));
        self.count_since(tokenizing, &self.counters.tokenize_microseconds);

        let prompt_tokens = tokens.len();
        // The first token of all has no log-probability: nothing stands before it.
        let scored = start.map(|start| tokens.split_off(start.max(1).min(prompt_tokens)));
        let nothing_to_score = scored.as_ref().is_some_and(Vec::is_empty);
        let work = match scored {
            Some(tokens) => Work::Score { tokens },
            None => Work::Generate { params: Box::new(params), constraint },
        };
        let (outcome, first_token) =
            if nothing_to_score { (Outcome::default(), None) } else { self.call(tokens.into(), work).await? };

        let Outcome { text, tokens, finish_reason, matched, logprobs, usage, .. } = outcome;
        let finish_reason = match finish_reason {
            Some(FinishReason::Length) | None => json!({ "type": "length", "length": tokens.len() }),
            Some(_) => json!({ "type": "stop", "matched": matched }),
        };
        let mut answer = json!({
            "text": text,
            "output_ids": tokens,
            "meta_info": {
                "finish_reason": finish_reason,
                "prompt_tokens": prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "cached_tokens": usage.cached_tokens,
                "first_token_ms": first_token.map(|at| (at - received).as_secs_f64() * 1e3),
            },
        });
        if start.is_some() {
            let row = |of: &sglhost_engine::TokenLogprob| json!([of.logprob, of.token, tokenizer.decode(&[of.token])]);
            let first = (start == Some(0)).then(|| json!([null, null, null]));
            answer["meta_info"]["input_token_logprobs"] = first.into_iter().chain(logprobs.iter().map(row)).collect();
        }
        Ok(answer)
    }

    /// A call of the engine to its end, and when its first text came.
    async fn call(&self, prompt: Arc<[TokenId]>, work: Work) -> Result<(Outcome, Option<Duration>), Error> {
        // No two requests are known to belong together: that is what a client-side program cannot say.
        let run = RunId(self.next_run.fetch_add(1, Ordering::Relaxed));
        let tenant = TenantId::local();
        let ended = self.call_of_run(&tenant, run, prompt, work).await;
        self.measured.engine.run_ended(&tenant, run);
        ended
    }

    async fn call_of_run(
        &self,
        tenant: &TenantId,
        run: RunId,
        prompt: Arc<[TokenId]>,
        work: Work,
    ) -> Result<(Outcome, Option<Duration>), Error> {
        let mut call = self.measured.engine.submit(request(tenant, run, prompt, work))?;
        let mut first_token = None;
        while let Some(event) = call.events.recv().await {
            match event {
                CallEvent::Delta(_) => {
                    first_token.get_or_insert_with(|| self.now());
                }
                CallEvent::Finished(outcome) => return Ok((*outcome, first_token)),
                CallEvent::Failed(error) => return Err(error),
            }
        }
        Err(Error::unavailable("the engine is gone"))
    }

    fn now(&self) -> Duration {
        self.measured.clock.monotonic()
    }

    fn count_since(&self, started: Duration, counter: &AtomicU64) {
        let microseconds = u64::try_from((self.now() - started).as_micros()).unwrap();
        counter.fetch_add(microseconds, Ordering::Relaxed);
    }

    fn counted(&self) -> Value {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        let mut counted = self.measured.counted();
        counted["requests"] = read(&counters.requests).into();
        counted["tokenize_ms"] = (read(&counters.tokenize_microseconds) / 1000).into();
        counted["handle_ms"] = (read(&counters.handle_microseconds) / 1000).into();
        counted["usage"] = json!({
            "prompt_tokens": read(&counters.prompt_tokens),
            "completion_tokens": read(&counters.completion_tokens),
        });
        counted
    }
}
