//! One `generate` as it grows: what to ask of the sampler, and what each token sampled means.

use std::{collections::BTreeMap, mem::take, sync::Arc, time::Duration};

use sglhost_core::{Error, FinishReason, SamplingParams, TokenId, TokenMask, Usage};
use sglhost_model::{RowRequest, RowResult, SampleRow};
use sglhost_text::{Constraint, ConstraintState, Detokenizer, StopKind, StopMatcher, Tokenizer};

use crate::{
    Outcome, TokenLogprob,
    masks::{Constrained, MaskPool},
};

/// A temperature below this is greedy, as SGLang has it: far below, its inverse is no number any more.
const GREEDY_BELOW: f32 = 1e-6;

/// The state of a `generate`.
#[derive(Debug)]
pub(crate) struct Generation {
    params: SamplingParams,
    tokenizer: Arc<Tokenizer>,
    /// Tokens that end the text (none if `ignore_eos`).
    end_tokens: Vec<TokenId>,
    /// The call's stop tokens, and the control tokens that its stop strings spell.
    stop_tokens: Vec<TokenId>,
    constraint: Option<Constrained>,
    /// Whether what the constraint forces is appended without being sampled.
    jumps: bool,
    detokenizer: Detokenizer,
    stops: StopMatcher,
    seed: u64,
    tokens: Vec<TokenId>,
    /// How many of `tokens` were not sampled.
    forced: usize,
    counts: BTreeMap<TokenId, u32>,
    /// Text of whole characters so far, held-back text included.
    text: String,
    /// `token_ends[i]`: bytes of text, incomplete characters included, after token i.
    token_ends: Vec<usize>,
    logprobs: Vec<TokenLogprob>,
    top_logprobs: Vec<Vec<TokenLogprob>>,
}

/// What a generation starts from.
pub(crate) struct Start<'a> {
    /// All tokens before it.
    pub(crate) prompt: &'a [TokenId],
    /// Tokens that end a text or a turn.
    pub(crate) end_tokens: &'a [TokenId],
    pub(crate) tokenizer: &'a Arc<Tokenizer>,
    /// For a call that names no seed.
    pub(crate) fallback_seed: u64,
    /// See `EngineLimits`.
    pub(crate) jump_forward: bool,
}

/// What a token led to.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Text that may be delivered.
    pub(crate) delta: String,
    /// Tokens that were forced, and are part of the output.
    pub(crate) forced: usize,
    /// Set when the call has ended.
    pub(crate) ending: Option<Ending>,
}

/// How a generation ended.
#[derive(Debug)]
pub(crate) struct Ending {
    reason: FinishReason,
    matched: Option<String>,
    /// Bytes of text that are part of the output.
    cut: usize,
}

impl Generation {
    /// A generation that has sampled nothing.
    ///
    /// # Errors
    /// A stop regex that does not compile.
    pub(crate) fn new(
        params: SamplingParams,
        constraint: Option<&Constraint>,
        start: &Start<'_>,
    ) -> Result<Self, Error> {
        let tokenizer = start.tokenizer;
        // A constraint that is satisfied has nothing else to offer than the end.
        let ignores_end = params.ignore_eos && constraint.is_none();
        // Control tokens are no text that a stop string could be found in.
        let spelt = params.stop.strings.iter().filter_map(|string| tokenizer.token_id(string));
        let spelt = spelt.filter(|&token| tokenizer.is_special(token));
        Ok(Self {
            stop_tokens: params.stop.tokens.iter().copied().chain(spelt).collect(),
            end_tokens: if ignores_end { Vec::new() } else { start.end_tokens.to_vec() },
            constraint: constraint.map(Constrained::new),
            // What is not sampled has no log-probability.
            jumps: start.jump_forward && params.top_logprobs.is_none(),
            detokenizer: Detokenizer::after(tokenizer.clone(), start.prompt.last().copied()),
            stops: StopMatcher::new(&params.stop)?,
            tokenizer: tokenizer.clone(),
            seed: params.seed.unwrap_or(start.fallback_seed),
            tokens: Vec::new(),
            forced: 0,
            counts: BTreeMap::new(),
            text: String::new(),
            token_ends: Vec::new(),
            logprobs: Vec::new(),
            top_logprobs: Vec::new(),
            params,
        })
    }

    /// Tokens of the output so far.
    pub(crate) fn output_tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Whether any of them was sampled.
    pub(crate) fn has_sampled(&self) -> bool {
        self.tokens.len() > self.forced
    }

    /// Tokens that the output may yet have.
    pub(crate) fn tokens_left(&self) -> usize {
        self.params.max_tokens as usize - self.tokens.len()
    }

    /// Whether the output can have no token.
    pub(crate) fn wants_nothing(&self) -> bool {
        self.params.max_tokens == 0
    }

    /// Has the mask for the next token built beside the engine's thread.
    pub(crate) fn start_mask(&mut self, pool: &mut MaskPool) {
        if let Some(constraint) = &mut self.constraint {
            constraint.start(pool);
        }
    }

    /// Has the mask for the next token built: here, or only by workers, where there are some.
    pub(crate) fn build_mask(&mut self, pool: &mut MaskPool, here: bool) {
        if let Some(constraint) = &mut self.constraint {
            if !here {
                constraint.hand_over(pool);
            }
            if here || !pool.has_workers() {
                constraint.help(pool);
            }
        }
    }

    /// Whether the sampler can be asked for the next token, within `patience`: see [`Constrained::is_ready`].
    pub(crate) fn is_ready(&mut self, patience: Duration) -> bool {
        self.constraint.as_mut().is_none_or(|constraint| constraint.is_ready(patience))
    }

    /// Whether a mask that was late is there: see [`Constrained::has_come`].
    pub(crate) fn late_mask_has_come(&mut self, pool: &MaskPool, patience: Duration) -> bool {
        self.constraint.as_mut().is_none_or(|constraint| constraint.has_come(pool, patience))
    }

    /// What to ask of the sampler for the next token.
    ///
    /// # Errors
    /// The constraint admits no token of this vocabulary.
    pub(crate) fn row(&mut self, vocabulary: usize) -> Result<RowRequest, Error> {
        let params = &self.params;
        let counted =
            params.frequency_penalty != 0.0 || params.presence_penalty != 0.0 || params.repetition_penalty != 1.0;
        let mask = self.mask(vocabulary)?;
        let params = &self.params;
        Ok(RowRequest::Sample(Box::new(SampleRow {
            temperature: if params.temperature < GREEDY_BELOW { 0.0 } else { params.temperature },
            top_k: u32::try_from(params.top_k).unwrap_or(0),
            top_p: params.top_p,
            min_p: params.min_p,
            frequency_penalty: params.frequency_penalty,
            presence_penalty: params.presence_penalty,
            repetition_penalty: params.repetition_penalty,
            counts: if counted {
                self.counts.iter().map(|(&token, &count)| (token, count)).collect()
            } else {
                Vec::new()
            },
            bias: params.logit_bias.clone(),
            mask,
            seed: self.seed,
            position: self.tokens.len() as u64,
            top_logprobs: params.top_logprobs,
        })))
    }

    /// The tokens allowed next, if not all are: the constraint's, less what would end the text before `min_tokens`.
    fn mask(&mut self, vocabulary: usize) -> Result<Option<Arc<TokenMask>>, Error> {
        let constrained = self.constraint.as_mut().map(Constrained::mask).transpose()?;
        if self.tokens.len() >= self.params.min_tokens as usize {
            return Ok(constrained);
        }
        let mut mask = constrained.as_ref().map_or_else(|| TokenMask::all(vocabulary), |mask| (**mask).clone());
        for &token in self.end_tokens.iter().chain(&self.stop_tokens) {
            mask.forbid(token);
        }
        // A constraint that admits nothing but the end outranks `min_tokens`.
        Ok(if mask.is_empty() { constrained } else { Some(Arc::new(mask)) })
    }

    /// Takes over a sampled token and, if that does not end the call, what the constraint forces after it. `sequence` is
    /// all tokens before it, and takes those that others may follow.
    ///
    /// # Errors
    /// The constraint ran into a limit.
    pub(crate) fn extend(
        &mut self,
        sampled: &RowResult,
        sequence: &mut Vec<TokenId>,
        context_length: usize,
    ) -> Result<Progress, Error> {
        let mut progress = self.push(sampled, sequence.len() + 1 < context_length)?;
        if progress.ending.is_none() {
            sequence.push(sampled.token);
            let forced = self.jump(sequence, context_length)?;
            progress.delta += &forced.delta;
            (progress.forced, progress.ending) = (forced.forced, forced.ending);
        }
        Ok(progress)
    }

    /// Appends what the constraint forces after `sequence`, as if it had been sampled.
    ///
    /// # Errors
    /// The constraint ran into a limit.
    pub(crate) fn jump(&mut self, sequence: &mut Vec<TokenId>, context_length: usize) -> Result<Progress, Error> {
        let mut progress = Progress::default();
        let Some(constraint) = self.constraint.as_mut().filter(|_| self.jumps) else { return Ok(progress) };
        for token in constraint.state().forced_tokens(sequence) {
            let before = self.tokens.len();
            let forced = RowResult { token, ..RowResult::default() };
            let Some(step) = self.try_push(&forced, sequence.len() + 1 < context_length)? else { break };
            progress.forced += self.tokens.len() - before;
            progress.delta += &step.delta;
            progress.ending = step.ending;
            if progress.ending.is_some() {
                break;
            }
            sequence.push(token);
        }
        self.forced += progress.forced;
        Ok(progress)
    }

    /// Takes over a sampled token. `room` says whether the context can hold another one after it.
    ///
    /// # Errors
    /// The constraint ran into a limit.
    fn push(&mut self, result: &RowResult, room: bool) -> Result<Progress, Error> {
        // A constraint that contradicts its own mask is no reason to fail others' calls, too.
        self.try_push(result, room)?.ok_or_else(|| Error::unavailable("the constraint failed inside the host"))
    }

    /// None, and no change, if the constraint does not admit the token.
    fn try_push(&mut self, result: &RowResult, room: bool) -> Result<Option<Progress>, Error> {
        let token = result.token;
        if self.end_tokens.contains(&token) {
            return Ok(Some(self.end_at(result, FinishReason::EndOfText, None)));
        }
        if self.stop_tokens.contains(&token) {
            let matched = String::from_utf8_lossy(self.tokenizer.token_bytes(token)).into_owned();
            return Ok(Some(self.end_at(result, FinishReason::Stop, Some(matched))));
        }
        if let Some(constraint) = &mut self.constraint {
            let state = constraint.state();
            if !state.advance(token) {
                return state.failure().map_or(Ok(None), |failure| Err(failure.clone()));
            }
        }
        let piece = self.keep(result);
        let step = self.stops.push(&piece);
        if let Some(found) = step.matched {
            // A regex's match is part of the output as it is.
            let keeps = self.params.no_stop_trim && found.kind == StopKind::String;
            let cut = found.cut_at + if keeps { found.text.len() } else { 0 };
            let delta = step.emit + &self.text[found.cut_at..cut];
            let ending = Ending { reason: FinishReason::Stop, matched: Some(found.text), cut };
            return Ok(Some(Progress { delta, ending: Some(ending), forced: 0 }));
        }
        let finished = |constraint: &mut Constrained| ConstraintState::is_finished(constraint.state());
        let mut progress = if self.constraint.as_mut().is_some_and(finished) {
            self.end(FinishReason::Stop, None)
        } else if self.tokens.len() >= self.params.max_tokens as usize || !room {
            self.end(FinishReason::Length, None)
        } else {
            Progress::default()
        };
        progress.delta.insert_str(0, &step.emit);
        Ok(Some(progress))
    }

    /// Makes a token part of the output; gives the text that it adds.
    fn keep(&mut self, result: &RowResult) -> String {
        let token = result.token;
        self.tokens.push(token);
        if self.params.top_logprobs.is_some() {
            self.logprobs.push(TokenLogprob { token, logprob: result.logprob });
            let top = result.top.iter().map(|&(token, logprob)| TokenLogprob { token, logprob });
            self.top_logprobs.push(top.collect());
        }
        *self.counts.entry(token).or_default() += 1;
        let hidden = self.params.skip_special_tokens && self.tokenizer.is_special(token);
        let piece = if hidden { String::new() } else { self.detokenizer.push(token) };
        self.text.push_str(&piece);
        self.token_ends.push(self.text.len() + self.detokenizer.pending().len());
        piece
    }

    /// Ends at a token that ends a call, which is part of the output only if the call says so.
    fn end_at(&mut self, result: &RowResult, reason: FinishReason, matched: Option<String>) -> Progress {
        let piece = if self.params.no_stop_trim { self.keep(result) } else { String::new() };
        let mut progress = self.end(reason, matched);
        progress.delta.push_str(&piece);
        progress
    }

    /// Ends with all whole characters, held-back text included.
    fn end(&mut self, reason: FinishReason, matched: Option<String>) -> Progress {
        let ending = Ending { reason, matched, cut: self.text.len() };
        Progress { delta: self.stops.finish(), ending: Some(ending), forced: 0 }
    }

    /// The outcome after [`Generation::extend`] or [`Generation::jump`] reported an ending; leaves the generation empty. Usage is the caller's to fill in.
    pub(crate) fn outcome(&mut self, ending: Ending) -> Outcome {
        self.text.truncate(ending.cut);
        // Tokens wholly before the cut stay as sampled. If the last of them ends inside a character, that character is
        // pending text as a whole.
        let mut kept = self.token_ends.partition_point(|&end| end <= ending.cut);
        while kept > 0 && !self.text.is_char_boundary(self.token_ends[kept - 1]) {
            kept -= 1;
        }
        let kept_bytes = if kept == 0 { 0 } else { self.token_ends[kept - 1] };
        Outcome {
            pending: self.text[kept_bytes..].to_owned(),
            text: take(&mut self.text),
            usage: Usage { completion_tokens: self.tokens.len() as u64, ..Usage::default() },
            tokens: take(&mut self.tokens),
            forced_tokens: take(&mut self.forced),
            kept_tokens: kept,
            finish_reason: Some(ending.reason),
            matched: ending.matched,
            logprobs: take(&mut self.logprobs),
            top_logprobs: take(&mut self.top_logprobs),
            ..Outcome::default()
        }
    }

    /// The outcome of a call that may sample nothing.
    pub(crate) fn empty_outcome(&mut self) -> Outcome {
        self.outcome(Ending { reason: FinishReason::Length, matched: None, cut: 0 })
    }
}

#[cfg(test)]
mod tests;
