//! A context's queue of operations and the task that carries them out, one after the other.
//!
//! ```text
//! guest ── append, generate, fork, … ──▶ ContextQueue ──▶ ContextTask ── Request ──▶ engine
//!   ▲                                                        │  │
//!   └───────────── CallState: text, outcome ◀────────────────┘  └──▶ events
//! ```
//!
//! # Invariants
//! - A call's turn ends when its outcome is part of the context, so what follows sees it.
//! - An operation that fails in a way the guest could not be told of *poisons* its context: that operation and all
//!   that follow have no effect, and whatever is asked of the context, or of forks made from then on, answers with the
//!   error. A call that fails does not: the context keeps the text delivered, and goes on.
//! - What the run's events say of a context adds up to its text.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sglhost_core::{ContextId, Error, ErrorCode, Event, limits};
use sglhost_engine::{Context, Model};
use tokio::sync::mpsc;

use crate::host::RunShared;
use crate::ledger::{Held, Share};
use crate::operation::{Fork, Operation, Queued};

/// Bytes that are tokenized on the spot, some hundred microseconds' worth; more is given to the blocking pool.
const TOKENIZED_INLINE_BYTES: usize = 4 << 10;

/// Bytes of text in one event; more is told in several, so that a few hundred events that nobody reads yet stay small.
const EVENT_TEXT_BYTES_MAX: usize = 64 << 10;

/// What the guest's handle and the task know of a context.
#[derive(Debug)]
pub(crate) struct ContextShared {
    poison: OnceLock<Error>,
    /// Bytes of its text, counted from the moment it is appended.
    bytes: Mutex<Share>,
}

impl ContextShared {
    fn new(bytes: Share) -> Arc<Self> {
        Arc::new(Self { poison: OnceLock::new(), bytes: Mutex::new(bytes) })
    }

    /// Counts text that is added.
    pub(crate) fn grow(&self, bytes: usize) -> Result<(), Error> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).grow(bytes)
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        self.poison.get().cloned().map_or(Ok(()), Err)
    }
}

/// The guest's end of a context.
#[derive(Debug)]
pub(crate) struct ContextQueue {
    pub(crate) model: Arc<Model>,
    run: Arc<RunShared>,
    shared: Arc<ContextShared>,
    sender: mpsc::Sender<Queued>,
    _open: Share,
}

impl ContextQueue {
    /// Opens an empty context and starts its task.
    pub(crate) fn open(run: &Arc<RunShared>, model: Option<&str>) -> Result<Self, Error> {
        let (model_index, model) = run.model(model)?;
        let open = run.ledger.take(Held::Contexts, 1)?;
        let shared = ContextShared::new(run.ledger.take(Held::Bytes, 0)?);
        let (sender, queue) = mpsc::channel(run.ledger.limits().queued_operations_max.max(1));
        // Telling of it is an operation too: a guest that opens and drops contexts may be faster than its reader.
        let opening = run.ledger.take(Held::Operations, 1)?;
        let task = ContextTask {
            id: run.new_context(),
            model: model_index,
            context: Context::new(Arc::clone(&model)),
            unsealed_bytes: 0,
            run: Arc::clone(run),
            shared: Arc::clone(&shared),
        };
        task.spawn(queue, Some(opening));
        Ok(Self { model, run: Arc::clone(run), shared, sender, _open: open })
    }

    /// Queues a fork and gives the child's end of it.
    pub(crate) fn fork(&self) -> Result<Self, Error> {
        let open = self.run.ledger.take(Held::Contexts, 1)?;
        let held = self.shared.bytes.lock().unwrap_or_else(PoisonError::into_inner).amount();
        let shared = ContextShared::new(self.run.ledger.take(Held::Bytes, held)?);
        let (sender, queue) = mpsc::channel(self.run.ledger.limits().queued_operations_max.max(1));
        self.shared.check()?;
        let place = self.run.ledger.take(Held::Operations, 1)?;
        let fork = Fork { child: self.run.new_context(), shared: Arc::clone(&shared), queue };
        self.send(Operation::Fork(Box::new(fork)), place, None)?;
        Ok(Self { model: Arc::clone(&self.model), run: Arc::clone(&self.run), shared, sender, _open: open })
    }

    /// Queues an operation that adds `bytes` of text.
    pub(crate) fn append(&self, bytes: usize, operation: Operation) -> Result<(), Error> {
        let max = limits::APPEND_BYTES_MAX;
        if bytes > max {
            return Err(Error::limit(format!(
                "{bytes} bytes are appended at once; the limit is {max} (APPEND_BYTES_MAX); append in pieces"
            )));
        }
        self.shared.check()?;
        let place = self.run.ledger.take(Held::Operations, 1)?;
        self.shared.grow(bytes)?;
        self.send(operation, place, None)
    }

    /// Queues an operation that holds `bytes` until it is done.
    pub(crate) fn push(&self, bytes: usize, operation: Operation) -> Result<(), Error> {
        self.shared.check()?;
        let place = self.run.ledger.take(Held::Operations, 1)?;
        let bytes = if bytes == 0 { None } else { Some(self.run.ledger.take(Held::Bytes, bytes)?) };
        self.send(operation, place, bytes)
    }

    fn send(&self, operation: Operation, place: Share, bytes: Option<Share>) -> Result<(), Error> {
        // The ledger binds before the channel does; a closed one means that the run is ending.
        self.sender
            .try_send(Queued { operation, _place: place, _bytes: bytes })
            .map_err(|_| Error::new(ErrorCode::Cancelled, "the run is ending"))
    }
}

/// Carries out a context's operations.
pub(crate) struct ContextTask {
    pub(crate) id: ContextId,
    /// Its model's place among the engine's.
    pub(crate) model: usize,
    pub(crate) context: Context,
    /// Of its text, bytes that may not be tokenized yet: what tokenizing it would cost.
    pub(crate) unsealed_bytes: usize,
    pub(crate) run: Arc<RunShared>,
    pub(crate) shared: Arc<ContextShared>,
}

impl ContextTask {
    /// Starts the task; it ends when the queue is closed and empty, or when the run ends. `announcing` is
    /// the place of its first operation, to tell of the context; a fork's parent already did.
    fn spawn(self, queue: mpsc::Receiver<Queued>, announcing: Option<Share>) {
        let run = Arc::clone(&self.run);
        run.tasks.spawn(self.work(queue, announcing));
    }

    async fn work(mut self, mut queue: mpsc::Receiver<Queued>, announcing: Option<Share>) {
        if let Some(place) = announcing {
            self.event(Event::ContextOpened { context: self.id, parent: None }).await;
            drop(place);
        }
        loop {
            let queued = tokio::select! {
                biased;
                () = self.run.stop.cancelled() => return,
                queued = queue.recv() => queued,
            };
            let Some(queued) = queued else { return };
            self.perform(queued.operation).await;
        }
    }

    async fn perform(&mut self, operation: Operation) {
        match operation {
            Operation::Append(text) => {
                self.append(|context| {
                    context.append(&text);
                    Ok(())
                })
                .await;
            }
            Operation::AppendMarkup(text) => {
                self.append(|context| {
                    context.append_markup(&text);
                    Ok(())
                })
                .await;
            }
            Operation::AppendTokens(tokens) => {
                if self.seal().await {
                    self.append(|context| context.append_tokens(&tokens)).await;
                }
            }
            Operation::BeginRole(role) => self.append(|context| context.begin_role(&role)).await,
            Operation::EndRole => self.append(Context::end_role).await,
            Operation::Call { ticket, wanted } => self.call(ticket, wanted).await,
            Operation::Fork(fork) => self.fork(*fork).await,
            Operation::Truncate { tokens, reply } => {
                self.seal().await;
                let result = self.shared.check().and_then(|()| self.context.truncate(tokens));
                let _ = reply.send(result);
            }
            Operation::TokenCount { reply } => {
                self.seal().await;
                let count = |()| u32::try_from(self.context.token_count()).unwrap_or(u32::MAX);
                let _ = reply.send(self.shared.check().map(count));
            }
            Operation::Text { reply } => {
                let text = self.context.text();
                let result = self.shared.check().and_then(|()| self.run.ledger.take(Held::Bytes, text.len()));
                let result = result.map(|bytes| (text.to_owned(), bytes));
                let _ = reply.send(result);
            }
        }
    }

    /// Adds to the context's text and tells of what was added.
    async fn append(&mut self, add: impl FnOnce(&mut Context) -> Result<(), Error>) {
        if self.shared.check().is_err() {
            return;
        }
        let before = self.context.text().len();
        if let Err(error) = add(&mut self.context) {
            let _ = self.shared.poison.set(error);
        }
        self.unsealed_bytes += self.context.text().len() - before;
        let mut sent = before;
        while sent < self.context.text().len() {
            let text = self.context.text();
            let end = text.floor_char_boundary(sent.saturating_add(EVENT_TEXT_BYTES_MAX));
            let piece = text[sent..end].to_owned();
            sent = end;
            self.event(Event::ContextText { context: self.id, text: piece }).await;
        }
    }

    async fn fork(&mut self, fork: Fork) {
        if let Err(error) = self.shared.check() {
            let _ = fork.shared.poison.set(error);
        }
        // Before anything else happens here, so that the child is known to hold what its parent holds now.
        self.event(Event::ContextOpened { context: fork.child, parent: Some(self.id) }).await;
        let child = Self {
            id: fork.child,
            model: self.model,
            context: self.context.clone(),
            unsealed_bytes: self.unsealed_bytes,
            run: Arc::clone(&self.run),
            shared: fork.shared,
        };
        child.spawn(fork.queue, None);
    }

    /// Tokenizes what is pending. False if the context is poisoned, then or now.
    async fn seal(&mut self) -> bool {
        if self.shared.check().is_ok() {
            let cost = self.unsealed_bytes;
            if let Err(error) = self.tokenize(cost, |context| drop(context.seal())).await {
                let _ = self.shared.poison.set(error);
            }
            self.unsealed_bytes = 0;
        }
        self.shared.check().is_ok()
    }

    /// Does something that tokenizes about `cost` bytes: here if they are few, else where it holds up no other run.
    ///
    /// # Errors
    /// The run stops before it begins, or has spent its CPU time.
    pub(crate) async fn tokenize<R: Send + 'static>(
        &mut self,
        cost: usize,
        work: impl FnOnce(&mut Context) -> R + Send + 'static,
    ) -> Result<R, Error> {
        if cost <= TOKENIZED_INLINE_BYTES {
            return Ok(self.run.meter.charge_work(|| work(&mut self.context)));
        }
        let failed = |_| Error::unavailable("tokenizing failed inside the host");
        let turn = self.run.tokenizing.wait(&self.run.tenant, &self.run.stop).await?;
        self.run.meter.check()?;
        let meter = Arc::clone(&self.run.meter);
        let model = Arc::clone(self.context.model());
        let mut context = std::mem::replace(&mut self.context, Context::new(model));
        let done = tokio::task::spawn_blocking(move || {
            let result = meter.charge_work(|| work(&mut context));
            // The turn lasts as long as the work, whoever still waits for it.
            drop(turn);
            (context, result)
        });
        let (context, result) = done.await.map_err(failed)?;
        self.context = context;
        Ok(result)
    }

    /// Tells of a step; waits while the reader is behind. False once the run is ending: it is lost then.
    pub(crate) async fn event(&self, event: Event) -> bool {
        tokio::select! {
            biased;
            () = self.run.stop.cancelled() => false,
            sent = self.run.events.send(event) => sent.is_ok(),
        }
    }
}
