//! Carrying out a call: from a context's turn to the engine and back into the context.

use std::sync::Arc;

use sglhost_core::{Error, Event, FinishReason, TokenId, Usage, limits};
use sglhost_engine::{Call, CallEvent, Context, Outcome, Request, TokenLogprob, Work};

use crate::call::{CallTicket, KeptOutcome};
use crate::constraints::InUse;
use crate::ledger::{Held, Share, Tokens};
use crate::operation::Wanted;
use crate::queue::ContextTask;

/// How a call ended, with what the context takes over.
enum End {
    Finished(Box<Outcome>),
    Failed(Error),
}

/// A call on its way to the engine.
struct Prepared {
    request: Request,
    /// The choices of a `select`, to know the text of the one taken.
    choices: Option<Vec<String>>,
    tokens: Tokens,
    /// Charges the request's constraint to the run.
    in_use: Option<Arc<InUse>>,
}

impl ContextTask {
    /// Takes the call's turn, from `CallStarted` to `CallFinished` or `CallFailed`.
    pub(crate) async fn call(&mut self, ticket: CallTicket, wanted: Wanted) {
        if !ticket.start() {
            return;
        }
        let (call, context, name) = (ticket.0.id, self.id, ticket.0.name.clone());
        if !self.event(Event::CallStarted { call, context, name: name.clone() }).await {
            return;
        }
        match self.carry_out(&ticket, wanted).await {
            Ok((outcome, kept)) => {
                self.run.add_usage(outcome.usage);
                let finish_reason = outcome.finish_reason.unwrap_or(FinishReason::Stop);
                let (text, usage) = (outcome.text.clone(), outcome.usage);
                let forced_tokens = outcome.forced_tokens as u64;
                let finished = Event::CallFinished { call, context, name, text, finish_reason, usage, forced_tokens };
                self.last_event(finished).await;
                ticket.finish(Ok(Arc::new(KeptOutcome { outcome, _bytes: kept })));
            }
            Err(error) => {
                self.last_event(Event::CallFailed { call, context, error: error.clone() }).await;
                ticket.finish(Err(error));
            }
        }
    }

    async fn carry_out(&mut self, ticket: &CallTicket, wanted: Wanted) -> Result<(Outcome, Share), Error> {
        self.shared.check()?;
        let generates = matches!(wanted, Wanted::Generate { .. });
        let Prepared { request, choices, mut tokens, in_use } = self.prepare(wanted).await?;
        let prompt_tokens = request.prompt.len() as u64;
        let mut engine_call = self.run.engine.submit(request)?;
        let mut delivered = Delivered::default();
        let end = self.follow(ticket, &mut engine_call, &mut delivered).await;
        // Before anything that may wait: an engine that nobody listens to works for nothing.
        drop((engine_call, in_use));
        let mut outcome = match end {
            End::Finished(outcome) => *outcome,
            End::Failed(error) => {
                // Charged for the prompt and a token for each piece, which is what is known of it.
                let usage = Usage { prompt_tokens, cached_tokens: 0, completion_tokens: delivered.pieces };
                tokens.settle(usage);
                self.run.add_usage(usage);
                if generates {
                    let (text, pending) = (delivered.text.clone(), delivered.text);
                    self.unsealed_bytes += pending.len();
                    self.context.apply(&Outcome { text, pending, ..Outcome::default() });
                }
                return Err(error);
            }
        };
        tokens.settle(outcome.usage);
        if generates {
            self.unsealed_bytes += outcome.pending.len();
            self.context.apply(&outcome);
        }
        if let Some(choices) = choices {
            self.take_choice(ticket, &mut outcome, choices).await?;
        }
        let kept = self.run.ledger.take(Held::Bytes, size(&outcome))?;
        Ok((outcome, kept))
    }

    /// What the engine is asked, with its tokens reserved.
    async fn prepare(&mut self, wanted: Wanted) -> Result<Prepared, Error> {
        let mut in_use = None;
        let (prompt, output, work, choices) = match wanted {
            Wanted::Generate { params, constraint } => {
                if let Some(source) = constraint {
                    in_use = Some(source.for_call(&self.run, self.model, self.context.model()).await?);
                }
                let constraint = in_use.as_ref().map(|in_use| in_use.constraint.clone());
                let prompt = self.sealed().await?;
                let room = self.context.model().context_length.saturating_sub(prompt.len()) as u64;
                let output = u64::from(params.max_tokens).min(room);
                (prompt, output, Work::Generate { params, constraint }, None)
            }
            Wanted::Select { choices, method } => {
                let cost = self.joint_cost(choices.len(), choices.iter().map(String::len).sum())?;
                let (joint, choices) = self
                    .tokenize(cost, move |context| context.choices(&choices).map(|joint| (joint, choices)))
                    .await??;
                let output = joint.tokens.iter().map(Vec::len).sum::<usize>() as u64;
                (joint.prompt, output, Work::Select { choices: joint.tokens, method }, Some(choices))
            }
            Wanted::Score { text } => {
                let cost = self.joint_cost(1, text.len())?;
                let joint = self.tokenize(cost, move |context| context.continuation(&text)).await?;
                let tokens = joint.tokens.into_iter().next().unwrap_or_default();
                (joint.prompt, tokens.len() as u64, Work::Score { tokens }, None)
            }
            Wanted::NextTokens { count } => (self.sealed().await?, 0, Work::NextTokens { count }, None),
        };
        let tokens = self.run.ledger.reserve_tokens(prompt.len() as u64, output)?;
        let (model, tenant, run) = (self.model, self.run.tenant.clone(), self.run.id);
        let (priority, deadline) = (self.run.priority, Some(self.run.deadline));
        let request = Request { model, tenant, run, priority, deadline, prompt, work };
        Ok(Prepared { request, choices, tokens, in_use })
    }

    /// The context's tokens, all of them.
    async fn sealed(&mut self) -> Result<Arc<[TokenId]>, Error> {
        let tokens = self.tokenize(self.unsealed_bytes, Context::seal).await?;
        self.unsealed_bytes = 0;
        Ok(tokens)
    }

    /// Bytes to tokenize for `count` continuations of `bytes` in all: each is tokenized with all pending text.
    fn joint_cost(&self, count: usize, bytes: usize) -> Result<usize, Error> {
        let cost = self.unsealed_bytes.saturating_mul(count).saturating_add(bytes);
        let max = limits::APPEND_BYTES_MAX;
        if cost > max {
            return Err(Error::limit(format!(
                "{count} choices after {} bytes of new text make {cost} bytes to tokenize; the limit is {max} \
                 (APPEND_BYTES_MAX); ask for the token count first, which settles that text, or give fewer choices",
                self.unsealed_bytes
            )));
        }
        Ok(cost)
    }

    /// Passes the engine's events on until the call ends.
    async fn follow(&self, ticket: &CallTicket, engine_call: &mut Call, delivered: &mut Delivered) -> End {
        loop {
            let event = tokio::select! {
                biased;
                () = ticket.cancelled() => return End::Failed(CallTicket::cancelled_error()),
                event = engine_call.events.recv() => event,
            };
            match event {
                Some(CallEvent::Delta(text)) => {
                    if let Err(error) = self.deliver(ticket, &text).await {
                        return End::Failed(error);
                    }
                    delivered.text.push_str(&text);
                    delivered.pieces += 1;
                }
                Some(CallEvent::Finished(outcome)) => return End::Finished(outcome),
                Some(CallEvent::Failed(error)) => return End::Failed(error),
                None => return End::Failed(Error::unavailable("the engine went away during the call; try again")),
            }
        }
    }

    /// Gives a piece of text to the run's reader, and then to the guest: either both have it or none.
    async fn deliver(&self, ticket: &CallTicket, text: &str) -> Result<(), Error> {
        let permit = tokio::select! {
            biased;
            () = ticket.cancelled() => return Err(CallTicket::cancelled_error()),
            permit = self.run.events.reserve() => permit.map_err(|_| CallTicket::cancelled_error())?,
        };
        self.shared.grow(text.len())?;
        permit.send(Event::CallDelta { call: ticket.0.id, context: self.id, text: text.to_owned() });
        ticket.deliver(text);
        Ok(())
    }

    async fn take_choice(
        &mut self,
        ticket: &CallTicket,
        outcome: &mut Outcome,
        choices: Vec<String>,
    ) -> Result<(), Error> {
        let choice = outcome.choice.and_then(|index| choices.into_iter().nth(index));
        let Some(choice) = choice else {
            return Err(Error::unavailable("the engine named no choice; this is a bug of the engine"));
        };
        self.deliver(ticket, &choice).await?;
        self.unsealed_bytes += choice.len();
        self.context.append(&choice);
        outcome.text = choice;
        Ok(())
    }

    /// A call's last event is sent even when the run is ending, as long as anyone reads.
    async fn last_event(&self, event: Event) {
        let _ = self.run.events.send(event).await;
    }
}

/// What a call delivered.
#[derive(Default)]
struct Delivered {
    text: String,
    pieces: u64,
}

/// Bytes that keeping an outcome takes.
fn size(outcome: &Outcome) -> usize {
    let logprobs = outcome.logprobs.len() + outcome.top_logprobs.iter().map(Vec::len).sum::<usize>();
    // The text twice: the call keeps what it delivered for readers to come.
    2 * outcome.text.len()
        + outcome.pending.len()
        + size_of_val(outcome.tokens.as_slice())
        + size_of_val(outcome.scores.as_slice())
        + logprobs * size_of::<TokenLogprob>()
}
