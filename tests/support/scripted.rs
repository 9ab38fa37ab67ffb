//! An engine that follows a script: what a call answers is decided by words in its prompt.
//!
//! | word | what happens |
//! | --- | --- |
//! | `stall` | nothing, until the call is cancelled |
//! | `endless` | text without end |
//! | `gate` | waits until the test opens the gate, then answers |
//! | `meet N` | waits until N such calls are under way together, then answers |
//! | `seed` | answers with the call's seed |
//! | `constrained` | answers with five tokens that the constraint allows |
//! | any other | answers `<n>`, n being the prompt's length in tokens |

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sglhost_core::{Error, FinishReason, RunId, SamplingParams, TenantId, TokenId, Usage};
use sglhost_engine::{Call, CallEvent, Engine, Model, Outcome, Request, TokenLogprob, Work};
use sglhost_text::{Constraint, GgufVocabulary, Roles, Tokenizer};
use tokio::sync::{Semaphore, mpsc, watch};

/// Small, so that a slow reader is felt at once.
const DELTAS_BUFFERED: usize = 4;
/// Ends a text; bytes are tokens 0 to 255.
pub const END: TokenId = 256;

/// The engine, and what a test sees of it.
#[derive(Debug)]
pub struct ScriptedEngine {
    models: Vec<Arc<Model>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    submitted: AtomicUsize,
    cancelled: AtomicUsize,
    active: AtomicUsize,
    endless: AtomicUsize,
    meeting: watch::Sender<usize>,
    gate: Semaphore,
}

impl ScriptedEngine {
    /// An engine of one model whose tokens are bytes.
    ///
    /// # Panics
    /// If that tokenizer cannot be built.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let tokenizer = Arc::new(byte_tokenizer());
        let name = "scripted".to_owned();
        let model = Model { name, tokenizer, roles: Roles::plain(), context_length: 4096 };
        let shared = Shared {
            submitted: AtomicUsize::new(0),
            cancelled: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            endless: AtomicUsize::new(0),
            meeting: watch::Sender::new(0),
            gate: Semaphore::new(0),
        };
        Arc::new(Self { models: vec![Arc::new(model)], shared: Arc::new(shared) })
    }

    /// Calls that were asked for.
    #[must_use]
    pub fn submitted(&self) -> usize {
        self.shared.submitted.load(Ordering::SeqCst)
    }

    /// Calls whose caller went away before they ended.
    #[must_use]
    pub fn cancelled(&self) -> usize {
        self.shared.cancelled.load(Ordering::SeqCst)
    }

    /// Calls under way.
    #[must_use]
    pub fn active(&self) -> usize {
        self.shared.active.load(Ordering::SeqCst)
    }

    /// Pieces of endless text that were taken from the engine, or wait in its channel.
    #[must_use]
    pub fn endless(&self) -> usize {
        self.shared.endless.load(Ordering::SeqCst)
    }

    /// Lets all calls that wait at the gate, and those to come, go on.
    pub fn open_gate(&self) {
        self.shared.gate.close();
    }
}

impl Engine for ScriptedEngine {
    fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    fn submit(&self, request: Request) -> Result<Call, Error> {
        let tokenizer = Arc::clone(&self.models[request.model].tokenizer);
        let (sender, events) = mpsc::channel(DELTAS_BUFFERED);
        let shared = Arc::clone(&self.shared);
        shared.submitted.fetch_add(1, Ordering::SeqCst);
        shared.active.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            if play(&shared, &tokenizer, request, &sender).await.is_none() {
                shared.cancelled.fetch_add(1, Ordering::SeqCst);
            }
            shared.active.fetch_sub(1, Ordering::SeqCst);
        });
        Ok(Call { events })
    }

    fn run_ended(&self, _tenant: &TenantId, _run: RunId) {}
}

/// Follows the script; none when the caller went away.
async fn play(
    shared: &Shared,
    tokenizer: &Tokenizer,
    request: Request,
    sender: &mpsc::Sender<CallEvent>,
) -> Option<()> {
    let prompt = tokenizer.decode(&request.prompt);
    if prompt.contains("stall") {
        sender.closed().await;
        return None;
    }
    let mut outcome = match request.work {
        Work::Generate { params, constraint } => {
            generate(shared, tokenizer, &prompt, &params, constraint, sender).await?
        }
        // The last is the likeliest.
        Work::Select { choices, .. } => Outcome {
            choice: Some(choices.len() - 1),
            scores: (0_u8..).take(choices.len()).map(f32::from).collect(),
            ..Outcome::default()
        },
        Work::Score { tokens } => Outcome { logprobs: even(tokens), ..Outcome::default() },
        // There is no cache to keep it in.
        Work::Publish => Outcome::default(),
        Work::NextTokens { count } => Outcome { logprobs: even((0..count).collect()), ..Outcome::default() },
    };
    outcome.usage = Usage {
        prompt_tokens: request.prompt.len() as u64,
        cached_tokens: 0,
        completion_tokens: outcome.tokens.len() as u64,
    };
    sender.send(CallEvent::Finished(Box::new(outcome))).await.ok()
}

fn even(tokens: Vec<TokenId>) -> Vec<TokenLogprob> {
    tokens.into_iter().map(|token| TokenLogprob { token, logprob: -1.0 }).collect()
}

async fn generate(
    shared: &Shared,
    tokenizer: &Tokenizer,
    prompt: &str,
    params: &SamplingParams,
    constraint: Option<Constraint>,
    sender: &mpsc::Sender<CallEvent>,
) -> Option<Outcome> {
    if prompt.contains("endless") {
        loop {
            sender.send(CallEvent::Delta("x".to_owned())).await.ok()?;
            shared.endless.fetch_add(1, Ordering::SeqCst);
        }
    }
    if prompt.contains("gate") {
        tokio::select! {
            // It is closed to open it: there are never permits.
            _ = shared.gate.acquire() => {}
            () = sender.closed() => return None,
        }
    }
    if let Some(count) = prompt.split("meet ").nth(1).and_then(|rest| rest.split_whitespace().next()) {
        let count: usize = count.parse().ok()?;
        shared.meeting.send_modify(|met| *met += 1);
        shared.meeting.subscribe().wait_for(|&met| met >= count).await.ok()?;
    }
    let text = match constraint {
        Some(constraint) => constrained(tokenizer, &constraint),
        None if prompt.contains("seed") => params.seed.map_or_else(|| "none".to_owned(), |seed| seed.to_string()),
        None => format!("<{}>", tokenizer.encode_plain(prompt).len()),
    };
    for piece in text.chars() {
        sender.send(CallEvent::Delta(piece.to_string())).await.ok()?;
    }
    let tokens = tokenizer.encode_plain(&text);
    let finish_reason = Some(FinishReason::EndOfText);
    Some(Outcome { text, kept_tokens: tokens.len(), tokens, finish_reason, ..Outcome::default() })
}

/// Five tokens, each the lowest that is allowed.
fn constrained(tokenizer: &Tokenizer, constraint: &Constraint) -> String {
    let mut state = constraint.start();
    let mut tokens = Vec::new();
    for _ in 0..5 {
        let mask = state.mask();
        let Some(token) = (0..END).find(|&token| mask.allows(token)) else { break };
        state.advance(token);
        tokens.push(token);
    }
    tokenizer.decode(&tokens)
}

/// GPT-2's byte-level vocabulary without a merge: each byte is a token, in order.
///
/// # Panics
/// If it cannot be built.
#[must_use]
pub fn byte_tokenizer() -> Tokenizer {
    let mut shifted = 256;
    let mut tokens: Vec<String> = (0..=255_u8)
        .map(|byte| match byte {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte).to_string(),
            _ => {
                shifted += 1;
                char::from_u32(shifted - 1).map(String::from).unwrap_or_default()
            }
        })
        .collect();
    tokens.push("<|end|>".to_owned());
    let mut token_types = vec![1; 256];
    token_types.push(3);
    let vocabulary = GgufVocabulary {
        model: "gpt2".to_owned(),
        pre: Some("gpt-2".to_owned()),
        tokens,
        token_types,
        eos: Some(END),
        ..GgufVocabulary::default()
    };
    match Tokenizer::from_gguf(vocabulary) {
        Ok(tokenizer) => tokenizer,
        Err(error) => panic!("the byte tokenizer: {error}"),
    }
}
