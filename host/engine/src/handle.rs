//! The engine's handle: checks requests on the caller's thread and hands them to the engine's.

use std::{
    fmt,
    future::{Future, poll_fn},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    task::Poll,
    thread::JoinHandle,
};

use sglhost_cache::Namespace;
use sglhost_core::{
    Clock, Error, ErrorCode, RunId, TenantId, TokenId,
    limits::{self, EngineLimits},
};
use sglhost_model::{ModelInfo, ModelRunner};
use sglhost_text::{Roles, Tokenizer};
use tokio::sync::watch;

use crate::{
    Call, Engine, EngineMetrics, Model, Request, Work,
    call::{Accepted, Job, Message},
    engine_loop::EngineLoop,
    generation::{Generation, Start},
    masks::MaskPool,
    output::Output,
};

/// A model to serve.
pub struct ServedModel {
    /// Computes.
    pub runner: Box<dyn ModelRunner>,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// How its chat template writes roles.
    pub roles: Roles,
}

impl fmt::Debug for ServedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServedModel").field("info", self.runner.info()).finish_non_exhaustive()
    }
}

/// Engines could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// There is nothing to serve.
    #[error("no model to serve")]
    NoModel,
    /// The operating system gave no thread.
    #[error("cannot start the engine's threads: {0}")]
    Thread(#[from] std::io::Error),
}

/// One engine thread a model, behind one registry. Dropping it ends them; what is under way is answered *unavailable*.
#[derive(Debug)]
pub struct EngineHandle {
    models: Vec<Arc<Model>>,
    engines: Vec<OneEngine>,
    limits: EngineLimits,
    seeds: AtomicU64,
}

#[derive(Debug)]
struct OneEngine {
    info: ModelInfo,
    /// Tokens that end a text or a turn.
    end_tokens: Vec<TokenId>,
    name: Arc<str>,
    metrics: Arc<EngineMetrics>,
    /// Why it computes nothing any more, if so.
    lost: watch::Receiver<Option<Error>>,
    inbox: Option<SyncSender<Message>>,
    thread: Option<JoinHandle<()>>,
}

impl EngineHandle {
    /// Starts an engine for each model; the first is the default.
    ///
    /// # Errors
    /// No model, or no thread to be had.
    pub fn start(models: Vec<ServedModel>, limits: EngineLimits, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        if models.is_empty() {
            return Err(StartError::NoModel);
        }
        let mut handle = Self { models: Vec::new(), engines: Vec::new(), limits, seeds: AtomicU64::new(0) };
        for served in models {
            let mut info = served.runner.info().clone();
            info.context_length = served.runner.longest_sequence();
            let mut end_tokens = info.end_of_text.clone();
            end_tokens.extend_from_slice(served.tokenizer.end_of_text());
            end_tokens.extend_from_slice(served.roles.end_of_turn());
            end_tokens.sort_unstable();
            end_tokens.dedup();
            let (sender, inbox) = sync_channel(handle.limits.queued_max);
            let metrics = Arc::new(EngineMetrics::default());
            let masks = MaskPool::start(
                handle.limits.mask_threads,
                served.runner.runs_ahead(),
                clock.clone(),
                metrics.clone(),
            )?;
            let limits = handle.limits.clone();
            let engine = EngineLoop::new(served.runner, limits, clock.clone(), inbox, masks, metrics.clone());
            let lost = engine.lost();
            let thread = std::thread::Builder::new().name(format!("engine {}", info.name)).spawn(|| engine.run())?;
            handle.models.push(Arc::new(Model {
                name: info.name.clone(),
                tokenizer: served.tokenizer,
                roles: served.roles,
                context_length: info.context_length,
            }));
            handle.engines.push(OneEngine {
                name: Arc::from(info.name.as_str()),
                info,
                end_tokens,
                metrics,
                lost,
                inbox: Some(sender),
                thread: Some(thread),
            });
        }
        Ok(handle)
    }
}

impl Engine for EngineHandle {
    fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    fn submit(&self, request: Request) -> Result<Call, Error> {
        let engine = self
            .engines
            .get(request.model)
            .ok_or_else(|| Error::invalid(format!("there is no model number {}", request.model)))?;
        let model = &self.models[request.model];
        let seed = || self.seeds.fetch_add(1, Ordering::Relaxed);
        let job = engine.check(&request.prompt, request.work, &model.tokenizer, seed, self.limits.jump_forward)?;
        let (output, events) = Output::new(self.limits.deltas_buffered_max);
        let accepted = Accepted {
            namespace: match job {
                Job::Publish => Namespace::published(engine.name.clone()),
                _ => Namespace::new(request.tenant.clone(), engine.name.clone()),
            },
            tenant: request.tenant,
            run: request.run,
            priority: request.priority,
            deadline: request.deadline,
            prompt: request.prompt.to_vec(),
            job,
            output,
        };
        let inbox = engine.inbox.as_ref().expect("the inbox is there until the handle is dropped");
        match inbox.try_send(Message::Call(Box::new(accepted))) {
            Ok(()) => Ok(Call { events }),
            Err(TrySendError::Full(_)) => Err(Error::unavailable(format!(
                "{} calls wait for the engine, which is its limit; try again",
                self.limits.queued_max
            ))),
            Err(TrySendError::Disconnected(_)) => Err(Error::unavailable("the engine was shut down")),
        }
    }

    fn run_ended(&self, tenant: &TenantId, run: RunId) {
        for engine in &self.engines {
            let inbox = engine.inbox.as_ref().expect("the inbox is there until the handle is dropped");
            // With the inbox full the account is left to be forgotten when there are too many.
            let _ = inbox.try_send(Message::RunEnded(tenant.clone(), run));
        }
    }
}

impl EngineHandle {
    /// What the engine of each model counts, in the order of [`Engine::models`].
    pub fn metrics(&self) -> impl Iterator<Item = &Arc<EngineMetrics>> {
        self.engines.iter().map(|engine| &engine.metrics)
    }

    /// Waits until an engine has lost its device for good, and tells why: all it is asked from then on is answered so,
    /// until the process is started again.
    pub async fn lost(&self) -> Error {
        let mut losses: Vec<_> = self.engines.iter().map(|engine| Box::pin(lost(engine.lost.clone()))).collect();
        // There is at least one engine, and seldom another.
        poll_fn(|cx| {
            let ready = losses.iter_mut().find_map(|loss| match loss.as_mut().poll(cx) {
                Poll::Ready(error) => Some(error),
                Poll::Pending => None,
            });
            ready.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

async fn lost(mut receiver: watch::Receiver<Option<Error>>) -> Error {
    match receiver.wait_for(Option::is_some).await.map(|error| error.clone()) {
        Ok(Some(error)) => error,
        // The engine was shut down without a loss.
        _ => std::future::pending().await,
    }
}

impl OneEngine {
    /// Checks a request and parses what it wants.
    fn check(
        &self,
        prompt: &[TokenId],
        work: Work,
        tokenizer: &Arc<Tokenizer>,
        seed: impl FnOnce() -> u64,
        jump_forward: bool,
    ) -> Result<Job, Error> {
        if prompt.is_empty() {
            return Err(Error::invalid("the context is empty; append some text first"));
        }
        self.check_tokens(prompt)?;
        match work {
            Work::Generate { params, constraint } => {
                params.validate()?;
                self.check_length(prompt.len(), 1)?;
                let biased: Vec<TokenId> = params.logit_bias.iter().map(|&(token, _)| token).collect();
                self.check_tokens(&biased)?;
                let end_tokens = &self.end_tokens;
                let start = Start { prompt, end_tokens, tokenizer, fallback_seed: seed(), jump_forward };
                let generation = Generation::new(*params, constraint.as_ref(), &start)?;
                Ok(Job::Generate(Box::new(generation)))
            }
            Work::Select { choices, method } => {
                if choices.is_empty() || choices.len() > limits::CHOICES_MAX {
                    return Err(Error::limit(format!(
                        "{} choices; a select takes 1 to {}",
                        choices.len(),
                        limits::CHOICES_MAX
                    )));
                }
                for (index, choice) in choices.iter().enumerate() {
                    if choice.is_empty() {
                        return Err(Error::invalid(format!("choice {index} has no tokens")));
                    }
                    self.check_tokens(choice)?;
                    self.check_length(prompt.len(), choice.len())?;
                }
                Ok(Job::Select { choices, method, root: tokenizer.adds_bos().then(|| tokenizer.bos()).flatten() })
            }
            Work::Score { tokens } => {
                if tokens.is_empty() {
                    return Err(Error::invalid("there is nothing to score: the text is empty"));
                }
                self.check_tokens(&tokens)?;
                self.check_length(prompt.len(), tokens.len())?;
                Ok(Job::Score(tokens))
            }
            Work::NextTokens { count } => {
                self.check_length(prompt.len(), 1)?;
                if count == 0 || count > limits::TOP_LOGPROBS_MAX {
                    return Err(Error::limit(format!(
                        "{count} next tokens; there can be 1 to {}",
                        limits::TOP_LOGPROBS_MAX
                    )));
                }
                Ok(Job::NextTokens(count))
            }
            Work::Publish => {
                self.check_length(prompt.len(), 0)?;
                Ok(Job::Publish)
            }
        }
    }

    fn check_tokens(&self, tokens: &[TokenId]) -> Result<(), Error> {
        match tokens.iter().find(|&&token| token as usize >= self.info.vocabulary) {
            None => Ok(()),
            Some(token) => Err(Error::invalid(format!(
                "token {token} is outside the vocabulary of {}, which has {} tokens",
                self.name, self.info.vocabulary
            ))),
        }
    }

    fn check_length(&self, prompt: usize, more: usize) -> Result<(), Error> {
        if prompt + more <= self.info.context_length {
            return Ok(());
        }
        Err(Error::new(
            ErrorCode::TooLong,
            format!(
                "the prompt of {prompt} tokens leaves no room for {more} more in the context of {}, which is {} tokens; \
                 shorten it",
                self.name, self.info.context_length
            ),
        ))
    }
}

impl Drop for EngineHandle {
    fn drop(&mut self) {
        for engine in &mut self.engines {
            engine.inbox = None;
        }
        for engine in &mut self.engines {
            if let Some(thread) = engine.thread.take() {
                // A panic of the engine's thread was reported when it happened.
                let _ = thread.join();
            }
        }
    }
}
